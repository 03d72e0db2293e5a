"""What a report says: pictures with mask outlines, tables, plots, curves, definitions.

Plain inputs only (PIL pictures, numbers, strings, SVG text), so that it can show anybody's results.
:mod:`skindualgen.report.render` makes one HTML file of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.metrics.intervals import Estimate

Ink = Literal["model", "given"]
"""Colour and line of an outline: ``model`` = drawn by the model, ``given`` = the input or the expert's."""


@dataclass(frozen=True)
class Outline:
    """A mask to draw as an outline: ``mask`` is a PIL picture of any size with the tile's aspect, 0 = background."""

    mask: Image.Image
    label: str
    ink: Ink = "model"


@dataclass(frozen=True)
class Tile:
    """One picture with its outlines.

    Attributes:
        image: RGB photograph, or a mask on its own.
        outlines: drawn above it, in this order.
        badge: one short figure in the corner, such as ``"0.93"``.
        facts: shown when the tile is opened: name -> value.
    """

    image: Image.Image
    alt: str
    outlines: Sequence[Outline] = ()
    caption: str = ""
    badge: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A titled row of tiles; ``quote`` is the prompt they were drawn from."""

    title: str
    tiles: Sequence[Tile]
    quote: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: ``term`` is the key of its definition, ``best`` the value of a full bar (None = no bar)."""

    title: str
    term: str = ""
    digits: int = 2
    best: float | None = None
    unit: str = ""


Cell = float | str | Estimate
"""NaN means "not measured" and shows as a dash; an estimate shows its interval under its value."""


class Interval(Protocol):
    """A number with the ends of its interval, None where there is none: a measure, its reference, a share."""

    @property
    def value(self) -> float | None:
        """The number."""

    @property
    def low(self) -> float | None:
        """Lower end."""

    @property
    def high(self) -> float | None:
        """Upper end."""


def cell(of: Interval | None) -> Cell:
    """Return the cell of a number: an estimate where there is an interval, else the number, NaN for none."""
    if of is None or of.value is None:
        return float("nan")
    return of.value if of.low is None or of.high is None else Estimate(of.value, of.low, of.high)


@dataclass(frozen=True)
class Table:
    """Rows of a label and one cell for each column; ``terms`` gives labels the key of their definition."""

    head: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    title: str = ""
    terms: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, values in self.rows:
            if len(values) != len(self.columns):
                got = f"a row {label!r} of {len(values)} cells"
                raise InputError(got, f"{len(self.columns)} cells, one for each column", "complete the row")


@dataclass(frozen=True)
class Curve:
    """Values over training steps; ``emphasis`` marks the line to read (the other is drawn faint)."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    emphasis: bool = True


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes."""

    x_label: str
    y_label: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Plot:
    """A drawing as of :func:`skindualgen.report.figures.figure_svg`; ``term`` is the key of its definition.

    ``svg`` goes into the page as it is, so it must come from our own code.
    """

    svg: str
    alt: str
    caption: str = ""
    term: str = ""
    wide: bool = True


@dataclass(frozen=True)
class Section:
    """A chapter: lead, caveats, groups of tiles, plots, tables, a chart, a closing note, whichever there are.

    ``badge_label`` says what the figure in the tiles' corners is; plots that are not ``wide`` are put two in a row.
    """

    anchor: str
    title: str
    lead: str
    groups: Sequence[Group] = ()
    badge_label: str = ""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    chart: Chart | None = None
    note: str = ""
    caveats: Sequence[str] = ()


@dataclass(frozen=True)
class Headline:
    """One large figure at the top; ``term`` is the key of its definition."""

    value: str
    label: str
    term: str = ""


@dataclass(frozen=True)
class Step:
    """A next step with the command for it."""

    title: str
    text: str
    command: str = ""


@dataclass(frozen=True)
class Report:
    """Everything one report says.

    Attributes:
        hero: up to three tiles shown large at the top, half photograph, half mask (their first outline).
        definitions: term -> (name, explanation); every ``term`` used elsewhere must be here.
        record: how the results were made, name -> value, shown at the end.
    """

    title: str
    subtitle: str
    hero: Sequence[Tile]
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    definitions: Mapping[str, tuple[str, str]]
    next_steps: Sequence[Step]
    record: Mapping[str, str]
    eyebrow: str = "Image–mask pairs from a prompt"
    disclaimer: str = "Research software. Not a medical device; no picture here may guide a diagnosis or a treatment."
