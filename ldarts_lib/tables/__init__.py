"""Accuracies of all cells of a space, looked up: Digits-201 and NAS-Bench-201."""
