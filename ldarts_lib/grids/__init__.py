"""Grids of searches and evaluations: what they contain, what they cost, how they run."""
