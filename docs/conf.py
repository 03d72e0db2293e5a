"""Sphinx: the pages of this folder as a site, README first, with a reference made of docstrings. See `make docs`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import skindualgen

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "SkinDualGen"
version = release = skindualgen.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"SkinDualGen {release}"
html_copy_source = False
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"

PAGES = Path(__file__).resolve().parent
REPOSITORY = PAGES.parent
START = "index"
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#:\s]+)(#[^)]*)?\)")


def on_the_site(text: str, folder: Path, page: Path) -> str:
    """Return a page's Markdown with links relative to ``page``; a file of the repository that is no page is named only.

    Args:
        text: Markdown, with links relative to ``folder``.
        folder: of the file that the text is from.
        page: folder of the page that shows it.
    """

    def placed(link: re.Match[str]) -> str:
        shown, path, anchor = link.groups(default="")
        target = (folder / path).resolve()
        if target.is_relative_to(PAGES):
            return f"{shown}({os.path.relpath(target, page)}{anchor})"
        return f"{shown[1:-1]} (`{target.relative_to(REPOSITORY)}` in the repository)"

    return LINK.sub(placed, text)


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Begin the site with the README, and keep links within it."""
    page = (PAGES / name).parent
    source[0] = on_the_site(source[0], page, page)
    if name == START:
        source[0] = on_the_site((REPOSITORY / "README.md").read_text(encoding="utf-8"), REPOSITORY, page) + source[0]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read_page)
