"""How good a cell is: the papers' recipes, on one device or several, for images and language."""
