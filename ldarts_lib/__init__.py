"""Λ-DARTS: differentiable architecture search with harmonized cells.

The modules, in the order in which data flows through them: :mod:`~ldarts_lib.genotype`,
:mod:`~ldarts_lib.spaces`, :mod:`~ldarts_lib.operations`, :mod:`~ldarts_lib.supernet`,
:mod:`~ldarts_lib.alignment`, :mod:`~ldarts_lib.regularizers`, :mod:`~ldarts_lib.protocols`,
:mod:`~ldarts_lib.search`, :mod:`~ldarts_lib.runs`; data come from :mod:`~ldarts_lib.datasets`.
"""

__version__ = "0.1.0"
