"""The drawing of the idea says what the numbers behind its arrows say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldarts_book import figures
from ldarts_book.figures.idea import WANTS
from ldarts_lib import layer_alignment


@pytest.mark.parametrize(("method", "alignment"), [("darts", 0.0), ("lambda", 0.95)])
def test_arrows_are_as_aligned_as_their_title_says(method: str, alignment: float) -> None:
    lengths, angles = np.array(WANTS[method]).T
    arrows = torch.tensor(
        np.stack((lengths * np.cos(np.radians(angles)), lengths * np.sin(np.radians(angles)))).T
    )
    assert layer_alignment(arrows).item() == pytest.approx(alignment, abs=0.005)


def test_the_idea_has_a_row_for_each_method() -> None:
    assert [ax.texts[-2].get_text()[:5] for ax in figures.draw_idea().axes] == ["Λ ≈ 0", "Λ ≈ 1"]
