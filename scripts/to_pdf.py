"""Print the built book to ``_build/print/ldarts-book.pdf`` (run in a checkout; needs npm and Chromium).

The chapters follow each other on one page, which is printed; links to the library lead to its pages online.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import yaml
from offline import BUILD, copy, install
from playwright.sync_api import sync_playwright

FOLDER, BOOK = BUILD / "print", BUILD / "print" / "ldarts-book.pdf"
ARTICLE = re.compile(r'<article class="bd-article">(.*)</article>', re.DOTALL)
LINK = re.compile(r'href="(?:(\w+)\.html)?(?:#([^"]*))?"')
LOOK = "<style>.print-page { break-before: page } pre { white-space: pre-wrap }</style>"
NUMBER = '<p style="width: 100%; font-size: 8px; text-align: center" class="pageNumber"></p>'
PREPARE = """async () => {
  document.querySelectorAll("[data-scrubber] :is(button, input)").forEach(each => each.remove());
  document.querySelectorAll("img").forEach(each => each.loading = "eager");
  await window.MathJax?.startup?.promise;
}"""


def single(folder: Path) -> Path:
    """Write all chapters into one page beside them; what refers to another page refers to a place in this."""
    names = re.findall(r"book/(?!api)(\w+)$", Path("_toc.yml").read_text(encoding="utf-8"), re.MULTILINE)
    texts = {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in names}
    home, body = yaml.safe_load(Path("_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"], ""
    for name, text in texts.items():

        def place(link: re.Match[str], name: str = name) -> str:
            page, anchor = link[1] or name, link[2] or ""
            here, online = f"#{page}--{anchor}", f"{home}/book/{page}.html#{anchor}"
            return f'href="{here if page in texts else online}"'

        article = re.sub(r'\bid="', f'id="{name}--', ARTICLE.search(text)[1])
        body += f'<div class="print-page" id="{name}--">{LINK.sub(place, article)}</div>'
    head = texts[names[0]].partition("</head>")[0]
    path = folder / "print.html"
    path.write_text(
        f'{head}{LOOK}</head><body><main class="bd-article">{body}</main></body></html>', encoding="utf-8"
    )
    return path


def main() -> None:
    """Write the file."""
    install()
    copy(BUILD / "html", FOLDER / "pages")
    with sync_playwright() as playwright:
        found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
        path = next(filter(None, found), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(0)
        page.goto(single(FOLDER / "pages" / "book").resolve().as_uri())
        page.evaluate(PREPARE)
        page.pdf(
            path=BOOK,
            format="A4",
            margin=dict.fromkeys(("top", "bottom", "left", "right"), "16mm"),
            print_background=True,
            display_header_footer=True,
            header_template="<p></p>",
            footer_template=NUMBER,
            tagged=True,
            outline=True,
        )
        browser.close()
    print(f"{BOOK}: {BOOK.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
