"""The code that only the book needs: studies, figures, published numbers, the grid, one module per
chapter."""
