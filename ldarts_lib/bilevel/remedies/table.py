"""The remedies by the name of their method; to add one takes its module and a line here."""

from ldarts_lib.bilevel.remedies.beta_darts import BetaDarts
from ldarts_lib.bilevel.remedies.darts_es import DartsEs
from ldarts_lib.bilevel.remedies.darts_minus import DartsMinus
from ldarts_lib.bilevel.remedies.drnas import DrNas
from ldarts_lib.bilevel.remedies.fair_darts import FairDarts
from ldarts_lib.bilevel.remedies.gdas import Gdas
from ldarts_lib.bilevel.remedies.oles import Oles
from ldarts_lib.bilevel.remedies.pc_darts import PcDarts
from ldarts_lib.bilevel.remedies.r_darts import RDarts
from ldarts_lib.bilevel.remedies.remedy import Remedy
from ldarts_lib.bilevel.remedies.sdarts_adv import SdartsAdv
from ldarts_lib.bilevel.remedies.sdarts_rs import SdartsRs

REMEDIES: dict[str, type[Remedy]] = {
    "darts-es": DartsEs,
    "r-darts": RDarts,
    "sdarts-rs": SdartsRs,
    "sdarts-adv": SdartsAdv,
    "darts-minus": DartsMinus,
    "beta-darts": BetaDarts,
    "pc-darts": PcDarts,
    "gdas": Gdas,
    "drnas": DrNas,
    "fair-darts": FairDarts,
    "oles": Oles,
}
"""Of each method its remedy; the name is that of the module."""
