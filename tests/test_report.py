"""The report: what it shows is what it was given, in one file that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from skindualgen.contracts import InputError
from skindualgen.data.phantom import draw_phantom
from skindualgen.metrics.intervals import Estimate
from skindualgen.report.figures import figure_style, figure_svg, new_figure
from skindualgen.report.page import (
    Chart,
    Column,
    Curve,
    Group,
    Headline,
    Outline,
    Plot,
    Report,
    Section,
    Step,
    Table,
    Tile,
)
from skindualgen.report.render import chart_geometry, nice_ticks, outline_path, picture_data, render, write_report

VOID = {"meta", "img", "rect", "path", "line", "br"}


def points(path: str) -> np.ndarray:
    """The vertices [n, 2] (x, y) of every subpath."""
    return np.array([[float(x) for x in pair.split()] for pair in re.findall(r"[\d.]+ [\d.]+", path)])


def small_report() -> Report:
    phantom = draw_phantom(1, size=64)
    outline = Outline(Image.fromarray(phantom.mask), "drawn with the picture")
    tile = Tile(Image.fromarray(phantom.image), "a phantom", [outline], "cap", "0.93", {"Seed": "7"})
    section = Section(
        "pairs",
        "Pairs",
        "Lead.",
        [Group("nevus", [tile], quote='a "quoted" <prompt>')],
        badge_label="agreement",
        tables=[
            Table("Class", [Column("Agreement", "dice", best=1.0, unit="%")], [("nevus", [0.5]), ("x", [float("nan")])])
        ],
        chart=Chart("step", "loss", [Curve("raw", [0, 1, 2], [3.0, 2.0, 1.5])]),
    )
    return Report(
        title="Two & three",
        subtitle="Sub.",
        hero=[tile],
        headlines=[Headline("24", "pairs", "dice")],
        sections=[section],
        definitions={"dice": ("Dice", "Overlap.")},
        next_steps=[Step("Go", "Text.", "make demo DATA=path && echo")],
        record={"Seed": "0"},
    )


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values[name] for name in ("src", "href") if values.get(name)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_file_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_report(small_report(), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    parser = _Balance()
    parser.feed(html)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith(("data:image/", "#")) for link in parser.links)
    assert {link[1:] for link in parser.links if link.startswith("#")} <= set(parser.ids)
    assert "http" not in re.sub(r'base64,[^"]*', "", html)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_text_is_escaped_and_not_a_number_is_a_dash() -> None:
    html = render(small_report())
    assert "Two &amp; three" in html
    assert "&#34;quoted&#34; &lt;prompt&gt;" in html
    assert "make demo DATA=path &amp;&amp; echo" in html
    assert '<td>0.50 <span class="unit">%</span><span class="meter"><i style="width:50.0%">' in html
    assert "<td>–<span" in html
    assert "nan" not in re.sub(r'base64,[^"]*', "", html).lower()


def test_a_small_picture_is_kept_to_the_pixel_and_a_large_one_reduced() -> None:
    image = Image.fromarray(draw_phantom(3, size=64).image)
    data = picture_data(image)
    decoded = Image.open(io.BytesIO(base64.b64decode(data["uri"].split(",")[1])))
    assert np.array_equal(np.asarray(decoded), np.asarray(image))
    large = picture_data(Image.new("RGBA", (2048, 1024), "red"))
    assert (large["width"], large["height"]) == (512, 256)
    assert large["uri"].startswith("data:image/jpeg")


def test_the_outline_encloses_the_mask_in_the_pictures_coordinates() -> None:
    mask = Image.fromarray(draw_phantom(5, size=128).mask)
    path = outline_path(Outline(mask, "m"), 256, 256)
    vertices = points(path) / 2
    drawn = polygon2mask((128, 128), vertices[:, ::-1] - 0.5)
    truth = np.asarray(mask) > 0
    assert 2 * (drawn & truth).sum() / (drawn.sum() + truth.sum()) > 0.97


def test_the_outline_of_a_square_lies_on_its_pixel_edges() -> None:
    """Guards against a shift of half a pixel: rows and columns 4..11 have their edges at 4 and 12."""
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 255
    vertices = points(outline_path(Outline(Image.fromarray(mask), "m"), 16, 16))
    assert vertices.min(0) == pytest.approx([4, 4], abs=0.05)
    assert vertices.max(0) == pytest.approx([12, 12], abs=0.05)


def test_an_empty_mask_has_no_outline_and_a_full_one_runs_along_the_edge() -> None:
    assert outline_path(Outline(Image.new("L", (8, 8), 0), "m"), 8, 8) == ""
    vertices = points(outline_path(Outline(Image.new("L", (8, 8), 255), "m"), 8, 8))
    assert vertices.min() == 0
    assert vertices.max() == 8


def test_a_mask_of_another_aspect_is_refused() -> None:
    with pytest.raises(InputError, match="same aspect"):
        outline_path(Outline(Image.new("L", (10, 8)), "m"), 100, 100)


def test_every_term_used_is_defined() -> None:
    with pytest.raises(InputError, match="dice"):
        render(replace(small_report(), definitions={}))


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(InputError, match="2 cells"):
        Table("Class", [Column("a"), Column("b")], [("nevus", [1.0])])


def test_chart_maps_the_extremes_to_the_corners() -> None:
    plot = chart_geometry(Chart("step", "loss", [Curve("raw", [0, 10], [4.0, 0.0])]))
    assert plot["lines"][0]["points"] == "0.0,0.0 640.0,220.0"
    assert plot["y_ticks"][0] == (220.0, "0")


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0]])
def test_a_curve_that_cannot_be_drawn_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="loss"):
        chart_geometry(Chart("step", "loss", [Curve("raw", [0, 1] if values else [], values)]))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.5, 1.0]),
        (0.0, 100.0, [0, 50, 100]),
        (0.31, 1.49, [0, 0.5, 1.0, 1.5]),
        (2.0, 2.0, [1.5, 2.0, 2.5]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_an_estimate_shows_its_interval_and_a_row_its_definition() -> None:
    table = Table(
        "Measure", [Column("Value", digits=3)], [("kid", [Estimate(0.0784, 0.07, 0.0861)])], "Fidelity", {"kid": "dice"}
    )
    html = render(replace(small_report(), sections=[Section("f", "Fidelity", "Lead.", tables=[table])]))
    assert "0.078" in html and "0.070 to 0.086" in html and 'popovertarget="term-dice"' in html


def test_an_undefined_term_of_a_row_or_a_plot_is_refused() -> None:
    plot = Plot("<svg></svg>", "nothing", "caption", term="unheard")
    with pytest.raises(InputError, match="unheard"):
        render(replace(small_report(), sections=[Section("f", "Fidelity", "Lead.", plots=[plot])]))


def test_a_figure_takes_the_page_s_colours_and_loads_nothing() -> None:
    with figure_style():
        figure = new_figure()
        axes = figure.add_subplot(title="title")
        axes.plot([0, 1], [0, 1], label="line")
        axes.legend()
    svg = figure_svg(figure, "one")
    assert svg.startswith("<svg") and "var(--accent)" in svg and "#0100" not in svg
    assert not re.search(r"<svg[^>]* width=", svg) and "viewBox" in svg
    assert ">title</text>" in svg  # text stays text
    assert svg == figure_svg(figure, "one")
    html = render(replace(small_report(), sections=[Section("f", "F", "Lead.", plots=[Plot(svg, "a line", "A line")])]))
    assert "<svg" in html and not re.search(r"(?:src|href)=\"http", html)
