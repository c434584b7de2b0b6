"""The remedies by the name of their method; to add one takes its module and a line here."""

from ldarts_lib.bilevel.remedies.beta_darts import BetaDarts
from ldarts_lib.bilevel.remedies.darts_minus import DartsMinus
from ldarts_lib.bilevel.remedies.drnas import DrNas
from ldarts_lib.bilevel.remedies.fair_darts import FairDarts
from ldarts_lib.bilevel.remedies.gdas import Gdas
from ldarts_lib.bilevel.remedies.remedy import Remedy
from ldarts_lib.bilevel.remedies.sdarts_adv import SdartsAdv
from ldarts_lib.bilevel.remedies.sdarts_rs import SdartsRs

REMEDIES: dict[str, type[Remedy]] = {
    "sdarts-rs": SdartsRs,
    "sdarts-adv": SdartsAdv,
    "darts-minus": DartsMinus,
    "beta-darts": BetaDarts,
    "drnas": DrNas,
    "gdas": Gdas,
    "fair-darts": FairDarts,
}
"""Of each method its remedy; the name is that of the module."""
