"""The page's looks: one theme in the colours of the reports, with the system's own fonts."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils.colors import Color

CSS_FILE = Path(__file__).with_name("style.css")
SCRIPT_FILE = Path(__file__).with_name("page.js")

CLAY = Color(
    c50="#fbf3ef", c100="#f3e6e0", c200="#ead0c6", c300="#dda996", c400="#f0876a", c500="#c65b3f", c600="#b4492f",
    c700="#963b25", c800="#74301f", c900="#4a221a", c950="#33221c", name="clay",
)  # fmt: skip
"""The accent of the reports, light to dark."""
STONE = Color(
    c50="#faf8f5", c100="#f6f4f1", c200="#e2ddd6", c300="#cfc8bf", c400="#a49d95", c500="#7d766f", c600="#67625c",
    c700="#4a4540", c800="#34302d", c900="#1d1b1a", c950="#131211", name="stone",
)  # fmt: skip
"""The paper, lines and inks of the reports."""
FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def studio_theme() -> gr.themes.Base:
    """Return the theme; nothing in it is fetched from elsewhere."""
    theme = gr.themes.Base(
        primary_hue=CLAY, secondary_hue=CLAY, neutral_hue=STONE, font=FONT, font_mono=MONO,
        radius_size=gr.themes.sizes.radius_lg, spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    )  # fmt: skip
    return theme.set(
        body_background_fill="#f6f4f1", body_background_fill_dark="#131211",
        body_text_color="#1b1a19", body_text_color_dark="#f1eeea",
        body_text_color_subdued="#67625c", body_text_color_subdued_dark="#a49d95",
        background_fill_primary="#ffffff", background_fill_primary_dark="#1d1b1a",
        background_fill_secondary="#faf8f5", background_fill_secondary_dark="#181615",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_border_width_dark="0px", block_shadow="none", block_padding="0px",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_label_border_width="0px", block_label_text_color="#67625c", block_label_text_color_dark="#a49d95",
        block_title_text_color="#3d3935", block_title_text_color_dark="#d6d0c8", block_title_text_weight="550",
        block_title_text_size="*text_sm", block_info_text_color="#67625c", block_info_text_color_dark="#a49d95",
        border_color_primary="#e2ddd6", border_color_primary_dark="#34302d",
        border_color_accent="#b4492f", border_color_accent_dark="#f0876a",
        color_accent="#b4492f", color_accent_soft="#f3e6e0", color_accent_soft_dark="#33221c",
        panel_background_fill="transparent", panel_background_fill_dark="transparent", panel_border_width="0px",
        input_background_fill="#ffffff", input_background_fill_dark="#181615",
        input_border_color="#d3ccc3", input_border_color_dark="#403b37",
        input_border_color_focus="#b4492f", input_border_color_focus_dark="#f0876a",
        input_border_width="1px", button_border_width="1px", input_shadow="none",
        input_shadow_focus="0 0 0 3px rgb(180 73 47 / .16)", input_radius="10px",
        input_placeholder_color="#7d766f", input_placeholder_color_dark="#918a82",
        button_large_radius="12px", button_small_radius="9px", button_medium_radius="10px",
        button_transition="background .15s, border-color .15s, color .15s",
        button_primary_background_fill="#b4492f", button_primary_background_fill_hover="#963b25",
        button_primary_background_fill_dark="#f0876a", button_primary_background_fill_hover_dark="#f59d84",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#1b1a19",
        button_primary_border_color="transparent", button_primary_border_color_dark="transparent",
        button_secondary_background_fill="#ffffff", button_secondary_background_fill_hover="#f3e6e0",
        button_secondary_background_fill_dark="#262322", button_secondary_background_fill_hover_dark="#33221c",
        button_secondary_text_color="#1b1a19", button_secondary_text_color_dark="#f1eeea",
        button_secondary_border_color="#d3ccc3", button_secondary_border_color_dark="#403b37",
        button_cancel_background_fill="#ffffff", button_cancel_background_fill_dark="#262322",
        button_cancel_text_color="#963b25", button_cancel_text_color_dark="#f0876a",
        slider_color="#b4492f", slider_color_dark="#f0876a",
        checkbox_background_color_selected="#b4492f", checkbox_background_color_selected_dark="#f0876a",
        checkbox_label_background_fill="#ffffff", checkbox_label_background_fill_dark="#262322",
        checkbox_label_background_fill_selected="#f3e6e0", checkbox_label_background_fill_selected_dark="#33221c",
        checkbox_label_text_color_selected="#1b1a19", checkbox_label_text_color_selected_dark="#f1eeea",
        link_text_color="#963b25", link_text_color_dark="#f0876a",
        link_text_color_hover="#74301f", link_text_color_hover_dark="#f59d84",
        link_text_color_visited="#963b25", link_text_color_visited_dark="#f0876a",
        error_background_fill="#fbf3ef", error_background_fill_dark="#33221c",
        error_text_color="#74301f", error_text_color_dark="#f3cfc3", error_border_color="#dda996",
        error_border_color_dark="#74301f", error_icon_color="#b4492f", error_icon_color_dark="#f0876a",
    )  # fmt: skip


def head() -> str:
    """What goes into the page's head: its script, and that it may be shown on small screens."""
    script = SCRIPT_FILE.read_text(encoding="utf-8")
    return f'<meta name="color-scheme" content="light dark"><script>{script}</script>'
