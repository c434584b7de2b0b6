"""Figures: one style sheet, one look of a method, one figure of intervals, one of curves."""
