"""A method looks the same in the whole book, and nothing else looks like it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ldarts_book import figures
from ldarts_book.figures import style
from ldarts_book.studies.study import METHODS as NAMES
from ldarts_lib.bilevel.methods import METHODS, PLAIN_METHODS
from ldarts_lib.spaces.genotype import ACTIVATION_NAMES, OPERATION_NAMES

REST = [*style.OTHERS, style.PLAIN, *style.SOURCES.values()]
PALETTES = {
    "methods": [look.colour for look in style.METHODS.values()],
    "all else": sorted({look.colour for look in REST}),
    "operations": [operation.colour for operation in style.OPERATIONS.values()],
}


def distance(one: str, other: str) -> float:
    """How far two colours are apart in CIE L*a*b* (ΔE 1976); 2 is just visible side by side."""

    def lab(colour):
        c = np.array(to_rgb(colour))
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    return float(np.linalg.norm(lab(one) - lab(other)))


def test_every_method_has_a_name_and_a_look_of_its_own():
    assert set(NAMES) == set(METHODS) >= set(style.METHODS) >= set(PLAIN_METHODS)
    looks = list(style.METHODS.values())
    assert [look.label for look in looks] == [NAMES[method] for method in style.METHODS]
    for part in ("colour", "marker"):
        assert len({getattr(look, part) for look in looks}) == len(looks), part
    assert not {look.marker for look in looks} & {look.marker for look in REST}


def test_nothing_else_has_the_colour_of_a_method():
    methods = PALETTES["methods"]
    rest = [*PALETTES["all else"], style.GREY, style.ACCENT]
    assert min(distance(one, other) for one in methods for other in rest if one != other) > 15
    assert not set(methods) & {*rest, *PALETTES["operations"]}


@pytest.mark.parametrize("palette", ["methods", "all else"])
def test_colours_of_one_figure_can_be_told_apart(palette):
    colours = PALETTES[palette]
    pairs = [(one, other) for place, one in enumerate(colours) for other in colours[:place]]
    assert min(distance(*pair) for pair in pairs) > 12


def test_looks_differ_in_more_than_colour():
    looks = figures.style.looks([*style.METHODS, *"abcdefg"]).values()
    assert len({(look.marker, look.line) for look in looks}) == len(looks)
    ordered = style.ordered_looks("abcd").values()
    assert len({look.line for look in ordered}) == len({look.colour for look in ordered}) == 4


def test_a_method_is_called_by_its_key_or_its_label():
    looks = style.looks(["mine", "lambda", "DARTS", "yours"])
    assert looks["lambda"] is style.METHODS["lambda"] and looks["DARTS"] is style.METHODS["darts"]
    assert (looks["mine"].label, looks["yours"].label) == ("mine", "yours")
    assert [looks[name].colour for name in ("mine", "yours")] == [look.colour for look in style.OTHERS[:2]]
    assert style.known_look("mine") is None


def test_every_operation_has_its_own_readable_look():
    assert set(style.OPERATIONS) == {*OPERATION_NAMES, *ACTIVATION_NAMES}
    operations = list(style.OPERATIONS.values())
    for part in ("label", "words", "colour"):
        assert len({getattr(one, part) for one in operations}) == len(operations), part
    for one in operations:
        channels = np.array(to_rgb(one.colour))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5, one.label  # contrast on white


@pytest.mark.parametrize(
    "column, label",
    [
        ("valid_alignment", "layer alignment Λ (α batches)"),
        ("skips", "skip connections in the genotype"),
        ("valid_loss", r"validation loss $\mathcal{L}_\mathrm{val}$"),
        ("train_norm_0", r"gradient norm $\|g_{0}\|$ (ω batches)"),
        ("accuracy", "accuracy of the derived cell"),
        ("valid_perplexity", "valid perplexity"),
        ("other", "other"),
    ],
)
def test_columns_are_named_in_words(column, label):
    assert style.column_label(column) == label


def test_pyplot_keeps_no_figure_and_no_setting():
    before = dict(plt.rcParams)
    figures.lines({"one": {"a": ([0, 1], [0, 1])}}, x=["x"])
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before
