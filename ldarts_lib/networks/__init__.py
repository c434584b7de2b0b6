"""Modules that compute: operations, macro networks, the reference supernet, discrete networks, recurrent
cells."""
