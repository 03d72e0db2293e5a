"""The pages as a site: each has its place, and links lead to pages or say where in the repository a file is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_every_page_has_a_place_in_the_site() -> None:
    listed = "\n".join((DOCS / name).read_text() for name in ("index.md", "tables.md"))
    entries = re.findall(r"^([a-z][\w/*-]+)$", listed, re.M)
    found = [page for entry in entries for page in DOCS.glob(f"{entry}.md")]
    assert {*found, DOCS / "index.md"} == {*DOCS.rglob("*.md")}


def test_links_of_the_site_stay_within_it() -> None:
    on_the_site = runpy.run_path(str(DOCS / "conf.py"))["on_the_site"]
    text = "[a](docs/api.md#one-pair) ![b](docs/images/x.jpg) [c](examples/fsdp.yaml) [d](https://e.org/f.md) [g](#h)"
    wanted = "[a](api.md#one-pair) ![b](images/x.jpg) c (`examples/fsdp.yaml` in the repository) "
    assert on_the_site(text, DOCS.parent, DOCS) == wanted + "[d](https://e.org/f.md) [g](#h)"
    text, folder = "[a](../api.md) [b](micro.md)", DOCS / "results"
    assert on_the_site(text, folder, folder) == text
