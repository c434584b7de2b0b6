"""Λ-DARTS: differentiable architecture search with harmonized cells.

The modules, in the order in which data flows through them: :mod:`~ldarts_lib.spaces.genotype`,
:mod:`~ldarts_lib.spaces.space`, :mod:`~ldarts_lib.networks.operations`, :mod:`~ldarts_lib.networks.supernet`,
:mod:`~ldarts_lib.bilevel.alignment`, :mod:`~ldarts_lib.bilevel.regularizers`,
:mod:`~ldarts_lib.bilevel.protocols`,
:mod:`~ldarts_lib.bilevel.search`, :mod:`~ldarts_lib.runs.directory`; data come from
:mod:`~ldarts_lib.datasets`.
"""

__version__ = "0.1.0"
