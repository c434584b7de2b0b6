"""Λ, its regularizers, the two half-steps, the settings of a search, and the search itself."""
