"""What the extension adds to a page: names that do not break, pictures with a size, a preview."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docutils.core import publish_doctree


@pytest.fixture
def finished(repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A page as the theme gets it."""
    monkeypatch.syspath_prepend(str(repository / "book" / "_ext"))
    config = SimpleNamespace(html_baseurl="https://book.example/")
    app = SimpleNamespace(confdir=str(repository), srcdir=str(repository), config=config, env=None)
    picture = '<img src="../_static/idea.png" alt="Λ-DARTS">'
    body = f"<h1>Λ-DARTS</h1><p>R-DARTS and <code>Λ-DARTS</code> {picture}</p>"
    context = {"body": body, "title": "<em>Λ</em>-DARTS"}
    doctree = publish_doctree('Title\n=====\n\nAgreement, "Λ", and more.')
    importlib.import_module("page").finish(app, "book/chapter", "page.html", context, doctree)
    return context


def test_names_do_not_break_in_text_only(finished):
    body = finished["body"]
    assert body.count("no-break") == 2 and "<code>Λ-DARTS</code>" in body and 'alt="Λ-DARTS"' in body


def test_pictures_have_their_size_and_stay_legible(finished):
    assert 'width="1260" height="820" style="min-width: 371px"' in finished["body"]


def test_a_shared_link_says_what_the_page_is(finished):
    assert 'content="https://book.example/book/chapter.html"' in finished["metatags"]
    assert '"og:title" content="Λ-DARTS"' in finished["metatags"]
    assert 'content="https://book.example/_static/idea.png"' in finished["metatags"]
