"""The scrubber shows every frame with its description, by keyboard, on any width, without other hosts."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from ldarts_book.figures.scrubber import scrubber

COLOURS = ("#ff0000", "#00ff00", "#0000ff")
TEXTS = ["red", 'green & "quoted"', "blue </script>"]


def figure(colour: str, size: tuple[float, float] = (2.0, 1.5)) -> Figure:
    return Figure(figsize=size, facecolor=colour)


def three(**options: Any) -> str:
    return scrubber([figure(colour) for colour in COLOURS], TEXTS, **options).data


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
    assert [panels[0]["alt"] for panels in frames] == TEXTS
    for colour, [panel] in zip(COLOURS, frames, strict=True):
        image = picture(panel["src"])
        assert image.size == (240, 180)
        assert "#{:02x}{:02x}{:02x}".format(*image.convert("RGB").getpixel((100, 100))) == colour


def test_without_script_the_picture_of_the_start_remains() -> None:
    page = three(start=2)
    [(src, alt)] = still(page)
    assert alt == TEXTS[1]
    assert src == script_frames(page)[1][0]["src"]
    assert ">epoch 2 of 3<" in page
    assert re.search(r'<input type="range" min="1" max="3" value="2" [^>]*hidden', page)
    assert page.count("</script>") == 1


def test_the_unit_can_be_another() -> None:
    page = three(unit="step <t>")
    assert "step &lt;t&gt; 1 of 3" in page and 'aria-label="step &lt;t&gt;"' in page


def test_frames_may_have_several_panels_and_come_one_by_one() -> None:
    frames = ((figure("red"), figure("blue", (1.0, 1.5))) for _ in range(2))
    page = scrubber(frames, iter([("a", "b"), ("c", "d")])).data
    assert [[panel["alt"] for panel in panels] for panels in script_frames(page)] == [["a", "b"], ["c", "d"]]
    assert [alt for _, alt in still(page)] == ["a", "b"]
    assert [picture(panel["src"]).size for panel in script_frames(page)[0]] == [(240, 180), (120, 180)]


def test_a_figure_is_left_as_it_was() -> None:
    one = Figure(dpi=71)
    scrubber([one], ["white"])
    assert one.dpi == 71


@pytest.mark.parametrize(
    "frames, texts, start, message",
    [
        (0, [], 1, "nothing to show"),
        (2, ["a", "b"], 0, "from 1 to 2, got 0"),
        (2, ["a", "b"], 3, "from 1 to 2, got 3"),
        (2, ["a"], 1, "2 pictures in 2 frames, 1 descriptions in 1"),
        (2, ["a", ""], 1, "2 pictures in 2 frames, 1 descriptions in 2"),
        (1, [("a", "b")], 1, "1 pictures in 1 frames, 2 descriptions in 1"),
    ],
)
def test_missing_frames_and_descriptions_are_errors(
    frames: int, texts: list[Any], start: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scrubber([figure("red") for _ in range(frames)], texts, start=start)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


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
    with opened(browser, tmp_path / "page.html", three()) as page:
        assert page.get_by_role("slider", name="epoch").is_visible()
        page.keyboard.press("Tab")
        seen = [state(page)]
        for key in ("ArrowRight", "ArrowUp", "ArrowRight", "ArrowLeft", "Home", "End"):
            page.keyboard.press(key)
            seen.append(state(page))
        numbers = [1, 2, 3, 3, 2, 1, 3]
        captions = [f"epoch {number} of 3" for number in numbers]
        assert seen == [(str(n), c, c, TEXTS[n - 1]) for n, c in zip(numbers, captions, strict=True)]
        shown = page.locator("img").evaluate(
            "async image => { await image.decode();"
            "const context = document.createElement('canvas').getContext('2d');"
            "context.drawImage(image, 0, 0); return [...context.getImageData(50, 50, 1, 1).data]; }"
        )
        assert shown == [0, 0, 255, 255]


@pytest.mark.browser
def test_two_scrubbers_of_a_page_do_not_disturb_each_other(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", three() + three() + three(unit="step")) as page:
        for place in (1, 2):
            page.get_by_role("slider").nth(place).focus()
            page.keyboard.press("ArrowRight")
        assert [state(page, place)[1] for place in range(3)] == [
            "epoch 1 of 3",
            "epoch 2 of 3",
            "step 2 of 3",
        ]


@pytest.mark.browser
def test_where_scripts_do_not_run_only_the_still_picture_is_shown(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", three(start=2), java_script_enabled=False) as page:
        assert not page.locator("input").is_visible()
        assert page.get_by_alt_text(TEXTS[1]).is_visible()
        assert page.get_by_text("epoch 2 of 3").is_visible()


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
