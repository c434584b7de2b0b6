"""The whole book in a browser: every page of ``make book-offline``, from a folder, without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from filelock import FileLock

from ldarts_lib import open_table

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("book")]
TOC = (Path(__file__).parents[2] / "_toc.yml").read_text()
PAGES = re.findall(r"book/(\w+)$", TOC, re.MULTILINE)
WORDS = {
    "perturbation": "regularizers",
    "theorem": "why",
    "curvature": "why",
    "perplexity": "ptb",
    "ImageNet": "imagenet_transfer",
    "collapse": "watching",
    "Λ-DARTS": "quickstart",
    "custom dataset": "own_images",
    "Slurm": "cluster",
    "ONNX": "model_file",
}
"""What somebody looks for, and a page that must be found."""
WIDE = ".output, pre, table, .pst-scrollable-table-container, mjx-container[display]"
AXE = {
    "light": "{rules: {region: {enabled: false}},",
    "dark": "{runOnly: ['color-contrast', 'link-in-text-block'],",
}
"""The dark scheme differs in colours alone; text outside of landmarks is a moderate fault, which may pass."""
MARK_TEXTS = """() => {  // of thousands of texts that look the same, three
    const behind = new Map([[null, ""]]), seen = new Map();
    for (const each of document.querySelectorAll("*")) {
        const style = getComputedStyle(each);
        const own = [style.backgroundColor, style.backgroundImage, style.opacity].join();
        const clear = own === "rgba(0, 0, 0, 0),none,1";
        behind.set(each, behind.get(each.parentElement) + (clear ? "" : own + ";"));
        each.removeAttribute("data-text");
        const said = [...each.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
        if (!said || each.offsetWidth < 2) continue;
        const kind = [style.color, style.fontSize, style.fontWeight, behind.get(each)].join();
        seen.set(kind, (seen.get(kind) ?? 0) + 1);
        if (seen.get(kind) <= 3) each.setAttribute("data-text", "");
    }
    axe.configure({rules: [{id: "color-contrast", selector: "[data-text]"}]});
}"""


@pytest.fixture(scope="module")
def offline(repository: Path, whole_book: Path) -> Path:
    """The book on a stick; its packages come from npm."""
    if not shutil.which("npm"):
        pytest.skip("needs npm")
    made, run = repository / "_build" / "offline", os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with FileLock(repository / "_build" / "tests.lock"):  # by one worker, for all
        stamp = made / "made-in"
        if not stamp.exists() or stamp.read_text() != run:
            subprocess.run([sys.executable, "scripts/offline.py"], cwd=repository, check=True)
            stamp.write_text(run)
    return made


@contextmanager
def opened(browser: Any, path: Path, query: str = "") -> Iterator[Any]:
    """A page with its formulas, which gives no error and asks for nothing but files."""
    faults: list[str] = []
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.on("console", lambda said: said.type == "error" and faults.append(f"{said.text} {said.location}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.goto(path.as_uri() + query)
    page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
    yield page
    context.close()
    assert not faults


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read(browser: Any, repository: Path, offline: Path, name: str) -> None:
    """Light, dark and as narrow as a phone. axe meets the first formula: all are marked up alike."""
    with opened(browser, offline / "book" / f"{name}.html") as page:
        formulas = page.locator(".math").count()
        assert page.locator("mjx-container").count() >= formulas
        assert page.locator("mjx-merror, .math:not(:has(mjx-container))").count() == 0
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        cut = """each => each.filter(e => e.scrollWidth > e.clientWidth + 2 && e.clientWidth)
            .map(e => `${e.scrollWidth} > ${e.clientWidth}: ${e.innerText.slice(0, 60)}`)"""
        assert page.locator(".bd-article").locator(WIDE).evaluate_all(cut) == []
        still = page.locator(".bd-sidebar-primary").evaluate("e => getComputedStyle(e).transitionDuration")
        assert still == "0s"  # what slides in is wider for a while
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.locator("main").evaluate("main => main.scrollWidth") <= width
        page.locator("mjx-container").evaluate_all("each => each.slice(1).forEach(e => e.textContent = 'x')")
        page.add_script_tag(path=repository / "_build/npm/node_modules/axe-core/axe.min.js")
        for scheme, options in AXE.items():
            page.evaluate("scheme => document.documentElement.dataset.theme = scheme", scheme)
            page.evaluate(MARK_TEXTS)
            found = page.evaluate(f"axe.run({options} resultTypes: ['violations'], preload: false}})")
            serious = [fault for fault in found["violations"] if fault["impact"] in ("serious", "critical")]
            assert {fault["id"]: [node["html"][:200] for node in fault["nodes"]] for fault in serious} == {}


@pytest.mark.parametrize(("word", "name"), WORDS.items())
def test_the_search_finds(browser: Any, offline: Path, word: str, name: str) -> None:
    with opened(browser, offline / "search.html", f"?q={word}") as page:
        page.locator(f"#search-results a[href*='book/{name}.html']").first.wait_for()


def test_every_link_inside_the_book_leads_somewhere(offline: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in offline.rglob("*.html")}
    anchors = {path: {*re.findall(r'\b(?:id|name)="([^"]+)"', text)} for path, text in pages.items()}
    broken = set()
    for path, text in pages.items():
        for link in re.findall(r'<a\b[^>]*?\bhref="(?!\w+:)([^"]*)"', text):
            file, _, anchor = unescape(unquote(link)).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            if not target.exists() or (anchor and target in anchors and anchor not in anchors[target]):
                broken.add((path.name, link))
    assert not broken


def test_a_page_weighs_less_than_a_megabyte_without_its_pictures(offline: Path) -> None:
    for path in offline.glob("book/*.html"):
        assert len(re.sub(r"data:[^\"']+", "", path.read_text(encoding="utf-8"))) < 1_000_000, path.name


def test_the_film_of_a_search_answers_to_keys_and_says_the_accuracy(browser: Any, offline: Path) -> None:
    with opened(browser, offline / "book" / "watching.html") as page:
        slider = page.locator("[data-scrubber] input").first
        slider.focus()
        said = []
        for key in ("Home", "ArrowRight", "End"):
            page.keyboard.press(key)
            said.append(slider.get_attribute("aria-valuetext"))
        for epoch, words in zip((1, 2, 80), said, strict=True):
            assert re.fullmatch(rf"epoch {epoch} of 80; accuracy of this cell 0\.\d+ ± .*", words)
        assert page.locator("[data-scrubber] button").first.inner_text() == "▶ play"


def test_the_cell_builder_answers_to_menus_and_keys(browser: Any, offline: Path) -> None:
    with opened(browser, offline / "book" / "index.html") as page:
        for menu in page.locator("#cell-builder select").all():
            menu.select_option("a 3×3 convolution")
        row = open_table("nasbench201").query("333333")
        said = page.locator("#cell-builder [aria-live]")
        whole = f"accuracy {row['cifar10_test']:.1f} %, place {row['place']:,} of 15,625"
        assert whole in said.inner_text()
        page.locator("#cell-builder select").first.press("ArrowUp")
        assert whole not in said.inner_text()
        slider = page.get_by_role("slider", name="epoch")
        before = slider.get_attribute("aria-valuetext")
        slider.press("Home")
        after = slider.get_attribute("aria-valuetext")
        assert before.startswith("epoch 80; DARTS: Digits-201") and after.startswith("epoch 1; DARTS")
        page.get_by_role("button", name="play").press("Enter")
        page.wait_for_function("document.querySelector('#cell-builder [type=range]').value > 3")
