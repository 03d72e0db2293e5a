"""The page's looks: one theme in the colours of the reports (``theme.json``), with the system's own fonts."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from gradio.themes.utils.colors import Color

CSS_FILE = Path(__file__).with_name("style.css")
SCRIPT_FILE = Path(__file__).with_name("page.js")
THEME_FILE = Path(__file__).with_name("theme.json")
"""Two palettes, light to dark: clay, the accent, and stone, paper, lines and inks; values of Gradio's variables."""
FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def studio_theme() -> gr.themes.Base:
    """Return the theme; nothing in it is fetched from elsewhere."""
    looks = json.loads(THEME_FILE.read_text(encoding="utf-8"))
    palettes = {name: Color(**shades, name=name) for name, shades in looks["palettes"].items()}
    theme = gr.themes.Base(
        primary_hue=palettes["clay"],
        secondary_hue=palettes["clay"],
        neutral_hue=palettes["stone"],
        font=FONT,
        font_mono=MONO,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    )
    return theme.set(**looks["values"])


def head() -> str:
    """What goes into the page's head: its script, and that it may be shown on small screens."""
    script = SCRIPT_FILE.read_text(encoding="utf-8")
    return f'<meta name="color-scheme" content="light dark"><script>{script}</script>'
