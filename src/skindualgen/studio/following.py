"""What a training run shows while it runs: its curves and its grids of pairs, read from its folder."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from skindualgen.data.images import ItemError, load_photograph
from skindualgen.studio.pictures import JPEG_QUALITY
from skindualgen.studio.pieces import data_uri, line_chart, note
from skindualgen.studio.workspace import RUNS_DIR, Workspace
from skindualgen.training.progress import METRICS_FILE, grids, read_rows

MAX_METRICS_BYTES = 64 << 20
MAX_GRID_PIXELS = 40_000_000
EARLIER_GRIDS = 5


def runs(workspace: Workspace) -> list[str]:
    """Names of the training runs, the newest first."""
    folders = [path for path in (workspace.root / RUNS_DIR).iterdir() if path.is_dir() and not path.is_symlink()]
    return [workspace.name(path) for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)]


def stamp(folder: Path) -> tuple[Any, ...]:
    """What changes when there is something new to show of a run."""
    metrics = folder / METRICS_FILE
    size = metrics.stat().st_size if metrics.is_file() else 0
    return size, tuple(path.name for path in grids(folder))


def read_metrics(workspace: Workspace, run: str) -> list[dict[str, Any]]:
    """Rows of a run's ``metrics.jsonl``; a line that is being written, or is none, is left out.

    Raises:
        InputError: the file leads out of the workspace.
    """
    if not (workspace.path(run) / METRICS_FILE).exists():
        return []
    path = workspace.path(f"{run}/{METRICS_FILE}")
    if not path.is_file() or path.stat().st_size > MAX_METRICS_BYTES:
        return []
    return read_rows(path)


def curves_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Charts of the numbers that a run has logged."""
    from skindualgen.report.page import Chart
    from skindualgen.report.training import CHARTS, curve_of

    charts = []
    for title, names, alt in CHARTS:
        curves = [curve for name, label in names.items() if (curve := curve_of(rows, name, label)) is not None]
        if curves:
            charts.append(line_chart(Chart("step", title, curves), alt=alt))
    return f'<div class="sdg-charts">{"".join(charts)}</div>' if charts else note("No step is logged yet.")


def grids_html(workspace: Workspace, run: str) -> str:
    """The newest grid of a validation, and some earlier ones.

    Raises:
        InputError: the run is not in the workspace.
    """
    found = grids(workspace.path(run))
    if not found:
        return note("No validation yet: pictures appear with the first one.")
    places = {round(place * (len(found) - 2) / (EARLIER_GRIDS - 1)) for place in range(EARLIER_GRIDS)}
    earlier = [found[place] for place in sorted(places, reverse=True)] if len(found) > 1 else []
    shown = "".join(_figure(path) for path in earlier)
    rest = f'<details class="sdg-details"><summary>Earlier validations</summary>{shown}</details>' if shown else ""
    return f'<div class="sdg-grids">{_figure(found[-1])}{rest}</div>'


def _figure(path: Path) -> str:
    step = path.stem.removeprefix("step-").lstrip("0") or "0"
    try:
        uri = _picture(path, path.stat().st_mtime_ns)
    except (ItemError, OSError):
        return note(f"The picture of step {step} is being written.")
    alt = f"Generated pairs at step {step}: photographs, the same with the outline of their mask, and the mask"
    caption = f"Pairs drawn at step {html.escape(step)}; below each, its mask's outline and the mask"
    return f'<figure><img src="{uri}" alt="{html.escape(alt)}"><figcaption>{caption}</figcaption></figure>'


@lru_cache(64)
def _picture(path: Path, _modified_ns: int) -> str:
    return data_uri(load_photograph(path, max_pixels=MAX_GRID_PIXELS).image, quality=JPEG_QUALITY)
