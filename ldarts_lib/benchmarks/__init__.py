"""Tabular benchmarks: architectures whose accuracy is known, looked up instead of trained."""
