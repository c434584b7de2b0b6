"""Accuracies of cells, looked up in Digits-201 and NAS-Bench-201, or estimated in the DARTS space."""
