"""How a training went, as a page in its run folder: curves, pairs drawn, what was seen, settings, parts."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console

from skindualgen.data.training_items import TrainingItems, read_training_items
from skindualgen.files import PNG_KEY
from skindualgen.report.page import Chart, Column, Curve, Group, Headline, Outline, Report, Section, Table, Tile
from skindualgen.sample.sheet import pairs_of_row
from skindualgen.training.progress import METRICS_FILE, grids, parts, read_rows

if TYPE_CHECKING:
    from skindualgen.config import TrainConfig
    from skindualgen.training.loop import Hopeless

HTML_FILE = "report.html"
POINTS = 400
"""Points of a curve on a page; more are averaged in groups."""
CHARTS: Sequence[tuple[str, Mapping[str, str], str]] = (
    ("Loss", {"loss": "training", "val_loss": "validation"}, "Loss over steps"),
    ("Dice of masks read from validation photographs", {"val_dice_read": "validation"}, "Dice over steps"),
)
"""Title, name of the number -> name of its curve, and what is said to those who cannot see it."""
MAX_VALIDATIONS, MAX_GRIDS = 40, 5
"""Shown of each, evenly over the run, the last one included."""
DEFINITIONS = {
    "loss": (
        "Loss",
        "Denoising errors of image and mask and the mask's terms, each times its weight. Lower is better.",
    ),
    "val_loss": (
        "Validation loss",
        "The loss on fixed pairs of the split val with fixed noise, by the moving average.",
    ),
    "val_dice_read": (
        "Dice of read masks",
        "Agreement of masks that one step reads from validation photographs with the experts' ones: 0 none, 1 all.",
    ),
    "seen": (
        "Pairs drawn",
        "Steps times pairs of a step. A pair that is drawn again has another view, prompt and noise.",
    ),
}


def train_with_report(
    config: TrainConfig, *, console: Console | None = None, hopeless: Hopeless = lambda step, row: False
) -> Path:
    """Train as `skindualgen.training.loop.train`, and write ``report.html``, also of a run that ends before its time.

    Returns:
        The run folder.

    Raises:
        InputError, TrainingStopped, TrainingPruned, NonFiniteLossError: as there; after all but the first there is a
            page.
    """
    with (console or Console(quiet=True)).status("Loading the libraries ..."):
        from skindualgen.training.loop import train
        from skindualgen.training.stopping import TrainingPruned, TrainingStopped
        from skindualgen.training.trainer import NonFiniteLossError

    try:
        train(config, console=console, hopeless=hopeless)
    except (TrainingStopped, TrainingPruned, NonFiniteLossError):
        _write(config.out)
        raise
    _write(config.out)
    return config.out


def _write(run: Path) -> None:
    from accelerate import PartialState

    from skindualgen.report.render import write_report

    if PartialState().is_main_process:
        write_report(training_report(run), run / HTML_FILE)


def training_report(run: Path) -> Report:
    """Arrange what a run folder holds: nothing else is read, so the page is the same whenever it is made."""
    from skindualgen.model.adapter import ADAPTER_DIR
    from skindualgen.training.checkpoint import PREFIX, complete_checkpoints
    from skindualgen.training.run_folder import CHECKPOINT_DIR, CONFIG_FILE

    config = json.loads((run / CONFIG_FILE).read_text(encoding="utf-8"))
    settings, began, metrics = config["settings"], parts(run), run / METRICS_FILE
    rows = read_rows(metrics) if metrics.is_file() else []
    checkpoints = complete_checkpoints(run / CHECKPOINT_DIR)
    steps = [int(path.name.removeprefix(PREFIX)) for path in checkpoints[-1:]] + [row["step"] for row in rows[-1:]]
    step, wanted = max(steps, default=0), settings["max_train_steps"]
    items = read_training_items(run / ADAPTER_DIR)
    state = f"stopped at step {step:,} of {wanted:,}; the same command goes on"
    if step >= wanted:
        state = f"finished after {step:,} steps"
    elif items is not None:
        state = f"ended at step {step:,} of {wanted:,}, as {settings['patience']} validations were not better"
    headlines = [Headline(f"{step:,}", f"of {wanted:,} steps")]
    if began:
        headlines.append(Headline(f"{step * began[-1]['step_pairs']:,}", "pairs drawn", "seen"))
    for name, best in (("val_loss", min), ("val_dice_read", max)):
        values = [(row[name], row["step"]) for row in rows if _finite(row, name)]
        if values:
            value, at = best(values)
            headlines.append(Headline(f"{value:.3f}", f"{DEFINITIONS[name][0].lower()}, best at step {at:,}", name))
    flat = dict(_flat(settings))
    if flat.get("init_adapter"):
        flat["init_adapter"] = Path(flat["init_adapter"]).name
    return Report(
        title=f"Training of {run.resolve().name}",
        subtitle=f"{Path(settings['base']).name}, adapted to image-mask pairs: {state}.",
        hero=(),
        headlines=headlines,
        sections=[*_curves(rows), *_pictures(grids(run)), _seen(began, step, items), _parts(began)],
        definitions=DEFINITIONS,
        next_steps=(),
        record={name: str(value) for name, value in flat.items()} | {"platform": config["run"]["platform"]},
    )


def curve_of(rows: Sequence[Mapping[str, Any]], name: str, label: str, *, emphasis: bool = True) -> Curve | None:
    """The curve of a logged number, without what is not finite; None where it was never logged."""
    points = [(row["step"], row[name]) for row in rows if _finite(row, name)]
    size = -(-len(points) // POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), max(size, 1))]
    means = [tuple(sum(each) / len(group) for each in zip(*group, strict=True)) for group in groups]
    if not means:
        return None
    return Curve(label, [step for step, _ in means], [value for _, value in means], emphasis)


def _finite(row: Mapping[str, Any], name: str) -> bool:
    return isinstance(row.get(name), int | float) and math.isfinite(row[name])


def _curves(rows: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    """A chapter for each chart that there are numbers for; the last has the table of the validations."""
    validations = _spread([row for row in rows if _finite(row, "val_loss")], MAX_VALIDATIONS)
    names = [name for name in (validations[-1] if validations else {}) if name.startswith("val_")]
    columns = [Column(name.removeprefix("val_"), name if name in DEFINITIONS else "", 4) for name in names]
    cells = [(f"{row['step']:,}", [row.get(name, math.nan) for name in names]) for row in validations]
    tables = [Table("Step", columns, cells, "Validations, term by term")] if cells else []
    for title, curves, _ in CHARTS:
        drawn = [curve for name, label in curves.items() if (curve := curve_of(rows, name, label)) is not None]
        if drawn:
            anchor = next(iter(curves))
            yield Section(anchor, title, DEFINITIONS[anchor][1], chart=Chart("step", title, drawn), tables=tables)
            tables = []


def _pictures(found: Sequence[Path]) -> Iterator[Section]:
    """Pairs drawn at validations, the newest first; pictures of earlier versions say not how to take them apart."""
    groups = []
    for path in reversed(_spread(found, MAX_GRIDS)):
        with Image.open(path) as sheet:
            record = json.loads(sheet.info.get(PNG_KEY, "{}"))
            if not record:
                continue
            prompts = record["prompts"]
            pairs = pairs_of_row(sheet.convert("RGB"), record["size"], len(prompts))
        step = int(path.stem.removeprefix("step-"))
        tiles = [
            Tile(image, f"Pair drawn at step {step} from: {prompt}", [Outline(mask, "its mask")], prompt)
            for (image, mask), prompt in zip(pairs, prompts, strict=True)
        ]
        groups.append(Group(f"Step {step:,}", tiles))
    if groups:
        lead = "One pass makes photograph and mask. Prompts and noise are the same at every validation."
        yield Section("samples", "Pairs drawn on the way", lead, groups)


def _seen(began: Sequence[Mapping[str, Any]], step: int, items: TrainingItems | None) -> Section:
    rows = []
    if began:
        train, drawn = began[-1]["train_pairs"], step * began[-1]["step_pairs"]
        rows = [("pairs to train on", [f"{train:,}"]), ("pairs to validate on", [f"{began[-1]['val_pairs']:,}"])]
        rows += [("times that a pair was drawn, on average", [f"{drawn / train:,.1f}"])]
    if items is not None:
        rows += [("photographs, with those of base and adapter before", [f"{len(items.items):,}"])]
        rows += [(f"not recorded: {name}", ["-"]) for name in items.unrecorded]
    lead = "trained_on.json beside the weights lists every photograph; a benchmark refuses a test part of them."
    return Section("seen", "What was seen", lead, tables=[Table("What", [Column("How many")], rows)])


def _parts(began: Sequence[Mapping[str, Any]]) -> Section:
    columns = [Column(title) for title in ("went on from step", "shown in", "version", "command")]
    rows = [
        (
            part["date_utc"],
            [
                f"{part['from_step']:,}",
                f"{part['track']}: {part['tracked_as']}" if part["track"] else "TensorBoard",
                part["versions"]["skindualgen"],
                shlex.join(part["command"]),
            ],
        )
        for part in began
    ]
    return Section(
        "parts",
        "Parts",
        "Each time that the command was given. A step is a function of settings, seed and its number: parts end where "
        "one run in one piece would have.",
        tables=[Table("Began (UTC)", columns, rows)],
    )


def _spread(things: Sequence[Any], most: int) -> list[Any]:
    """At most so many, evenly, the first and the last among them."""
    places = {round(place * (len(things) - 1) / (most - 1)) for place in range(most)}
    return [things[place] for place in sorted(places)] if len(things) > most else list(things)


def _flat(settings: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{table}{name}.")
        else:
            yield table + name, value
