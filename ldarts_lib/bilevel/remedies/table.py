"""The remedies by the name of their method; to add one takes its module and a line here."""

from ldarts_lib.bilevel.remedies.beta_darts import BetaDarts
from ldarts_lib.bilevel.remedies.remedy import Remedy

REMEDIES: dict[str, type[Remedy]] = {
    "beta-darts": BetaDarts,
}
"""Of each method its remedy; the name is that of the module."""
