"""What the cells of a search want: who pulls hard, and who has its way."""

from __future__ import annotations

from torch import Tensor

from ldarts_book.studies.theory import cells, copies, drawn, searched
from ldarts_lib.bilevel.protocols import SearchProtocol


def first_gradients(settings: SearchProtocol) -> Tensor:
    """g of a search before its first step, on a batch of α: [cells, edges×operations]."""
    state = searched(settings)
    supernet = state.bilevel.supernet
    return cells(supernet, drawn(state.validation), copies(supernet, state.bilevel.alphas)).flatten(1)
