"""Sphinx extension: what every page gets beside its text.

Names of methods that do not break after their hyphen (what is searched and copied stays as written), pictures
with their size and as wide as their labels ask on a phone, a description and a preview.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from textwrap import shorten
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

_SKIPPED = r"<(pre|code|script|style|svg|option|textarea)\b.*?</\1>"
_PARTS = re.compile(rf"{_SKIPPED}|(?P<image><img\b[^>]*>)|<[^>]*>|(?P<name>\b\w{{1,4}}-DARTS\b)", re.DOTALL)
_SOURCE = re.compile(r'src="\.\./(_(?:images|static)/[^"]+\.png)"')
_LEGIBLE = 9 * 72 / 11
"""Pixels to which an inch of a figure may shrink: labels of 11 points then have 9 pixels."""
_PREVIEW = "idea.png"


def finish(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document) -> None:
    """Rewrite the page's body, and tell what shares a link to the page what it says."""

    def rewrite(part: re.Match[str]) -> str:
        if part["name"]:
            return f'<span class="no-break">{part[0]}</span>'
        source = part["image"] and _SOURCE.search(part["image"])
        if not source or " width=" in part[0] or not (path := _file(app, source[1])).is_file():
            return part[0]
        with Image.open(path) as picture:
            (width, height), dots = picture.size, picture.info.get("dpi", (144, 144))[0]
        size = f'width="{width}" height="{height}" style="min-width: {round(width / dots * _LEGIBLE)}px"'
        return part[0].replace("<img", f"<img {size}", 1)

    if doctree is None:
        return
    context["body"] = _PARTS.sub(rewrite, context["body"])
    first = (text for text in doctree.findall(nodes.paragraph) if isinstance(text.parent, nodes.section))
    description = escape(shorten(next(first, nodes.paragraph()).astext(), 300, placeholder=" …"))
    home = app.config.html_baseurl.rstrip("/")
    properties = {
        "type": "article",
        "title": escape(re.sub("<[^>]*>", "", context["title"])),
        "description": description,
        "url": f"{home}/{page}.html",
        "image": f"{home}/_static/{_PREVIEW}",
    }
    tags = [f'<meta property="og:{name}" content="{text}">' for name, text in properties.items()]
    tags += [f'<meta name="description" content="{description}">']
    tags += ['<meta name="twitter:card" content="summary_large_image">']
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])


def _file(app: Sphinx, source: str) -> Path:
    """The file behind an address: the book's pictures are copied only after its pages are written."""
    folder, name = source.split("/", 1)
    if folder == "_static":
        return Path(app.confdir) / "book" / "_static" / name
    found = {name: path for path, (_, name) in app.env.images.items()}
    return Path(app.srcdir) / found.get(name, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension (called by Sphinx)."""
    app.connect("html-page-context", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
