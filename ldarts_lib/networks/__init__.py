"""Modules that compute: operations, macro, reference supernet, discrete, recurrent, sizes."""
