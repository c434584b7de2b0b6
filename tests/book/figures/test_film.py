"""Frames show the cell and the epoch that they are asked for; the slider shows every frame, offline."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from PIL import Image

from ldarts_book.figures import Film, cell_alt_text, key_frames, play
from ldarts_book.figures.film import draw_frame, frame_alt_texts, scrubber
from ldarts_lib.spaces.genotype import Cell
from ldarts_lib.spaces.notations import parse

FIRST = parse(
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"
).normal
LAST = parse("|skip_connect~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|skip_connect~1|avg_pool_3x3~2|").normal
COLOURS = ("#ff0000", "#00ff00", "#0000ff")
SPOKEN = ["accuracy 0.1", "accuracy 0.2", "accuracy 0.3"]
TEXTS = [["red"], ['green & "quoted"'], ["blue </script>"]]


def equal(cell: Cell, weight: float = 0.5) -> dict[tuple[int, int], float]:
    return {(edge.target, edge.source): weight for edge in cell.edges}


FILM = Film(
    cells=[FIRST, FIRST, LAST],
    weights=[equal(cell, weight) for cell, weight in zip([FIRST, FIRST, LAST], (0.1, 0.5, 0.9), strict=True)],
    accuracies=[0.7, 0.8, 0.4],
    std=[0.01, 0.02, 0.03],
    losses=[2.0, 1.0, 1.5],
    best=0.82,
    random=0.74,
)


def render(fig: Figure) -> None:
    fig.savefig(io.BytesIO(), format="png")


def marks(ax: Axes) -> list[tuple[float, float]]:
    return [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]


def widths(ax: Axes) -> list[float]:
    return [patch.get_linewidth() for patch in ax.patches if type(patch) is PathPatch]


def test_a_frame_shows_the_cell_with_its_weights_and_accuracy() -> None:
    weights = equal(FIRST) | {(2, 1): 0.9, (3, 0): 0.1}
    left, _ = draw_frame(replace(FILM, weights=[weights] * 3), 2)
    (ax,) = left.axes
    edges = [(edge.target, edge.source) for edge in FIRST.edges]
    assert np.argmax(widths(ax)) == edges.index((2, 1)) and np.argmin(widths(ax)) == edges.index((3, 0))
    assert left.texts[1].get_text() == "accuracy of this cell 0.800 ± 0.020, best 0.820"


def test_a_frame_marks_its_epoch_on_whole_curves() -> None:
    _, right = draw_frame(FILM, 2)
    upper, lower = right.axes
    assert marks(upper) == [(2, 0.8)] and marks(lower) == [(2, 1.0)]
    for ax, values in ((upper, FILM.accuracies), (lower, FILM.losses)):
        (curve,) = (line for line in ax.lines if line.get_label() == "search")
        assert list(curve.get_xdata()) == [1, 2, 3] and list(curve.get_ydata()) == values
    level = {line.get_ydata()[0]: line.get_linestyle() for line in upper.lines if len(line.get_xdata()) == 2}
    assert (level[0.82], level[0.74]) == ("--", ":")
    assert [text.get_text() for text in upper.texts] == ["best", "random"]
    corners = upper.collections[0].get_paths()[0].vertices
    assert {0.37, 0.43} <= set(corners[corners[:, 0] == 3, 1].round(9))


def test_nothing_moves_from_frame_to_frame() -> None:
    def places(epoch: int) -> list[Any]:
        found = []
        for fig in draw_frame(FILM, epoch):
            render(fig)
            found += [fig.get_size_inches().tolist(), fig.get_layout_engine()]
            found += [(ax.get_position().bounds, ax.get_xlim(), ax.get_ylim()) for ax in fig.axes]
        return found

    assert places(1) == places(3)


def test_texts_of_a_frame_are_inside_and_apart() -> None:
    for fig in draw_frame(FILM, 1):
        render(fig)
        texts = [*fig.texts, *(text for ax in fig.axes for text in [*ax.texts, ax.title, ax._left_title])]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        for i, box in enumerate(boxes):
            assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1 and box.y0 >= 0 and box.y1 <= fig.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]


def test_descriptions_say_what_the_panels_show() -> None:
    cell, curves = frame_alt_texts(FILM, 3)
    assert cell == f"Epoch 3 of 3. {cell_alt_text(LAST)}"
    for part in ("3 epochs", "epoch 3", "0.400 ± 0.030", "best 0.820", "random 0.740", "is 1.500"):
        assert part in curves


def test_eighty_frames_are_light() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.uniform(0.1, 0.8, 80), [0.02] * 80, rng.uniform(0.7, 2, 80)
    long = Film([FIRST] * 80, [equal(FIRST, 0.01 * e) for e in range(80)], *numbers, best=0.82, random=0.74)
    some = (20, 60)
    page = scrubber((draw_frame(long, epoch) for epoch in some), (frame_alt_texts(long, e) for e in some))
    assert len(page.data) * 80 / (len(some) + 1) < 2_000_000  # the first stands in the page twice


def test_a_film_has_a_frame_per_epoch() -> None:
    frames = script_frames(play(FILM).data)
    texts = [list(frame_alt_texts(FILM, epoch)) for epoch in (1, 2, 3)]
    assert [[panel["alt"] for panel in panels] for panels in frames] == texts
    sizes = [picture(panel["src"]).size for panel in frames[0]]
    assert sizes == [tuple(round(120 * i) for i in f.get_size_inches()) for f in draw_frame(FILM, 1)]


def test_key_frames_show_their_cells_and_mark_their_epochs() -> None:
    fig = key_frames(FILM, [1, 3])
    render(fig)
    first, last, upper, lower = fig.axes
    titles = [ax.get_title(loc="left") for ax in (first, last)]
    assert titles == ["epoch 1: accuracy 0.700", "epoch 3: accuracy 0.400"]
    assert max(widths(first)) < min(widths(last))
    assert marks(upper) == [(1, 0.7), (3, 0.4)] and marks(lower) == [(1, 2.0), (3, 1.5)]
    assert plt.get_fignums() == []
    assert len(key_frames(FILM, [1, 2, 3]).axes) == 5  # none is empty


@pytest.mark.parametrize("epoch", [0, 4])
def test_epochs_are_counted_from_one(epoch: int) -> None:
    for draw in (draw_frame, frame_alt_texts, lambda film, epoch: key_frames(film, [1, epoch])):
        with pytest.raises(ValueError, match=f"from 1 to 3, got {epoch}"):
            draw(FILM, epoch)


def test_missing_data_are_errors() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        key_frames(FILM, [])
    with pytest.raises(ValueError, match="'cells': 2, 'weights': 3"):
        replace(FILM, cells=[FIRST] * 2)
    with pytest.raises(ValueError, match="'cells': 0"):
        Film([], [], [], [], [], 0.82, 0.74)


def figure(colour: str, size: tuple[float, float] = (2.0, 1.5)) -> Figure:
    return Figure(figsize=size, facecolor=colour)


def three() -> str:
    return scrubber([[figure(colour)] for colour in COLOURS], TEXTS, SPOKEN).data


def script_frames(page: str) -> list[list[dict[str, str]]]:
    return json.loads(re.search(r"const frames = (.*);", page)[1])


def picture(src: str) -> Image.Image:
    kind, data = src.split(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def still(page: str) -> list[tuple[str, str]]:
    """Source and description of the pictures that stand in the HTML itself."""
    found = re.findall(r'<img src="([^"]*)" alt="([^"]*)"', page.partition("<script>")[0])
    return [(src, html.unescape(alt)) for src, alt in found]


def test_every_frame_is_a_picture_of_its_figure() -> None:
    frames = script_frames(three())
    assert [[panel["alt"] for panel in panels] for panels in frames] == TEXTS
    for colour, [panel] in zip(COLOURS, frames, strict=True):
        image = picture(panel["src"])
        assert image.size == (240, 180)
        assert "#{:02x}{:02x}{:02x}".format(*image.convert("RGB").getpixel((100, 100))) == colour


def test_without_script_the_first_picture_remains() -> None:
    page = three()
    [(src, alt)] = still(page)
    assert (src, alt) == (script_frames(page)[0][0]["src"], "red")
    assert ">epoch 1 of 3<" in page
    assert re.search(
        r'<div hidden[^>]*>\s*<button [^>]*>▶ play</button>\s*<input type="range" min="1" max="3"', page
    )
    assert page.count("</script>") == 1


@pytest.mark.parametrize(
    "frames, texts, message",
    [
        (0, [], "nothing to show"),
        (2, [["a"]], r"\[1, 1\] pictures, \[1\] descriptions"),
        (2, [["a"], [""]], r"\[1, 1\] pictures, \[1, 1\] descriptions"),
        (1, [["a", "b"]], r"\[1\] pictures, \[2\] descriptions"),
    ],
)
def test_missing_frames_and_descriptions_are_errors(frames: int, texts: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scrubber([[figure("red")] for _ in range(frames)], texts)


@contextmanager
def opened(browser: Any, path: Path, body: str, width: int = 1000, **options: Any) -> Iterator[Any]:
    """A page that may load nothing but itself."""
    path.write_text(f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><body>{body}</body></html>')
    requests: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, **options)
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


def state(page: Any, place: int = 0) -> tuple[str, str, str, str]:
    root = page.locator("[data-scrubber]").nth(place)
    slider, image = root.get_by_role("slider"), root.locator("img")
    return (
        slider.input_value(),
        root.locator("p").inner_text(),
        slider.get_attribute("aria-valuetext"),
        image.get_attribute("alt"),
    )


@pytest.mark.browser
def test_arrow_keys_move_through_the_frames(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", three() * 2) as page:
        assert page.get_by_role("slider", name="epoch").first.is_visible()
        page.keyboard.press("Tab")  # the button
        page.keyboard.press("Tab")
        seen = [state(page)]
        for key in ("ArrowRight", "ArrowUp", "ArrowRight", "ArrowLeft", "Home", "End"):
            page.keyboard.press(key)
            seen.append(state(page))
        numbers = [1, 2, 3, 3, 2, 1, 3]
        captions = [f"epoch {number} of 3" for number in numbers]
        assert seen == [
            (str(n), c, f"{c}; accuracy 0.{n}", TEXTS[n - 1][0])
            for n, c in zip(numbers, captions, strict=True)
        ]
        assert state(page, 1)[1] == "epoch 1 of 3"  # another film of the page does not move
        shown = page.locator("img").first.evaluate(
            "async image => { await image.decode();"
            "const context = document.createElement('canvas').getContext('2d');"
            "context.drawImage(image, 0, 0); return [...context.getImageData(50, 50, 1, 1).data]; }"
        )
        assert shown == [0, 0, 255, 255]


@pytest.mark.browser
def test_the_button_plays_all_frames_and_pauses(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", three()) as page:
        page.clock.install(time=0)
        page.clock.pause_at(1000)  # a machine may be slower than the film
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.get_by_role("button").inner_text() == "❚❚ pause"
        page.clock.run_for(250)
        assert state(page)[0] == "2"
        page.clock.run_for(1000)
        assert state(page)[0] == "3" and page.get_by_role("button").inner_text() == "▶ play"
        page.keyboard.press("Space")  # from the beginning
        assert state(page)[0] == "1"
        page.keyboard.press("Space")
        page.clock.run_for(1000)
        assert state(page)[0] == "1" and page.get_by_role("button").inner_text() == "▶ play"


@pytest.mark.browser
@pytest.mark.parametrize("width, beside", [(390, False), (1000, True)])
def test_panels_wrap_where_the_page_is_narrow(browser: Any, tmp_path: Path, width: int, beside: bool) -> None:
    panels = [figure("red", (3.7, 2.4)), figure("blue", (3.7, 2.9))]
    with opened(browser, tmp_path / "page.html", scrubber([panels], [("a", "b")]).data, width) as page:
        first, second = (page.get_by_alt_text(alt).bounding_box() for alt in "ab")
        assert (second["x"] >= first["x"] + first["width"]) == beside
        assert (second["y"] >= first["y"] + first["height"]) == (not beside)
        for box, height in ((first, 2.4), (second, 2.9)):
            assert 0.85 * 3.7 * 96 <= box["width"] <= 3.7 * 96 + 1
            assert box["height"] / box["width"] == pytest.approx(height / 3.7, rel=0.01)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
