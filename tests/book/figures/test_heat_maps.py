"""Heat maps hold every pair of every method; images stand with their labels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from ldarts_book.figures import heat_maps, show_images


def cosines(epochs: int = 8, cells: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (epochs, cells, cells)).astype(np.float32)


def drawn(values: dict[str, np.ndarray], label: str = "cosine") -> Figure:
    fig = heat_maps(values, label=label)
    fig.savefig(io.BytesIO(), format="png")
    return fig


def test_heat_maps_hold_every_pair_of_every_method() -> None:
    searches = {"darts": cosines(seed=1), "lambda": cosines(epochs=5, seed=2)}
    *maps, bar = drawn(searches, "cosine (α batches)").axes
    assert [ax.get_title(loc="left") for ax in maps] == ["DARTS", "Λ-DARTS"]
    for ax, values in zip(maps, searches.values(), strict=True):
        (image,) = ax.images
        for row, (first, second) in enumerate([(0, 1), (0, 2), (1, 2)]):
            assert np.array_equal(image.get_array()[row], values[:, first, second])
        assert image.get_clim() == (-1, 1)
        assert image.get_extent() == [0.5, len(values) + 0.5, 2.5, -0.5]
    assert [tick.get_text() for tick in maps[0].get_yticklabels()] == ["1, 2", "1, 3", "2, 3"]
    assert bar.get_ylabel() == "cosine (α batches)"


def test_positive_and_negative_cosines_differ_in_colour_and_zero_is_pale() -> None:
    image = drawn({"darts": cosines()}).axes[0].images[0]
    low, zero, high = (image.to_rgba(np.array([[value]]))[0, 0] for value in (-0.8, 0.0, 0.8))
    assert low[2] > low[0] + 0.3 and high[0] > high[2] + 0.3 and min(zero) > 0.9


def test_numbers_in_the_map_are_means_over_quarters() -> None:
    values = cosines(epochs=8)
    texts = drawn({"darts": values}).axes[0].texts
    assert len(texts) == 12
    for text in texts:
        x, row = text.get_position()
        first, second = [(0, 1), (0, 2), (1, 2)][row]
        block = values[int(x - 1.5) : int(x + 0.5), first, second]
        assert len(block) == 2
        assert float(text.get_text().replace("−", "-")) == pytest.approx(block.mean(), abs=0.0051)


def test_many_cells_give_a_map_without_numbers() -> None:
    ax = drawn({"darts": cosines(cells=15)}).axes[0]
    assert ax.images[0].get_array().shape == (105, 8) and not ax.texts
    ticks = [tick.get_text() for tick in ax.get_yticklabels()]
    assert ticks[:2] == ["1, 2", "2, 3"] and len(ticks) == 14


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "nothing to draw"),
        ({"darts": cosines(epochs=0)}, "nothing to draw"),
        ({"darts": cosines(), "lambda": cosines(cells=4)}, "'lambda': 4"),
        ({"darts": cosines(cells=1)}, "at least two"),
    ],
)
def test_what_cannot_be_drawn_is_named(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        heat_maps(values, label="cosine")


def test_images_are_shown_with_their_labels() -> None:
    images = np.random.default_rng(0).uniform(size=(12, 1, 4, 4))
    fig = show_images(images, np.arange(12), count=10)
    assert [ax.get_title() for ax in fig.axes] == [str(label) for label in range(10)]
    assert np.array_equal(fig.axes[9].images[0].get_array(), images[9, 0])
