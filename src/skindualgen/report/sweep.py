"""How a sweep went, as a page in its folder: a table of its trainings, and their curves."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from rich.console import Console

from skindualgen.report.page import Cell, Chart, Column, Headline, Report, Section, Step, Table
from skindualgen.report.render import write_report
from skindualgen.report.training import DEFINITIONS, HTML_FILE, curve_of, train_with_report
from skindualgen.training.progress import METRICS_FILE, read_rows
from skindualgen.training.sweep import BEST_FILE, DICE, Attempt, best_of, ranked, run_sweep
from skindualgen.training.sweep_settings import Sweep

NAMES = {
    DICE: DEFINITIONS[DICE],
    "agreement": (
        "Agreement",
        "Dice of generated masks with those that a segmenter, trained on the real training pairs alone, sees in the "
        "generated photographs: 0 none, 1 all.",
    ),
    "score": ("Score", "What decides: Dice of read masks plus, where it is measured, agreement. Higher is better."),
}


def sweep_with_report(sweep: Sweep, *, console: Console) -> list[Attempt]:
    """Run a sweep as `skindualgen.training.sweep.run_sweep`, each training with its page, and write its own page."""

    def done(attempts: list[Attempt]) -> None:
        write_report(sweep_report(sweep, attempts), sweep.config.out / HTML_FILE)

    attempts = run_sweep(sweep, train_with_report, console=console, done=done)
    done(attempts)
    return attempts


def sweep_report(sweep: Sweep, attempts: Sequence[Attempt]) -> Report:
    """Arrange the trainings of a sweep, the best first."""
    names, best = list(sweep.settings.search), best_of(attempts)
    columns = [Column("outcome"), Column("score", "score", 4), Column("Dice", DICE, 4)]
    columns += [Column("agreement", "agreement", 4), Column("step"), *map(Column, names)]
    rows: list[tuple[str, list[Cell]]] = []
    for each in ranked(attempts):
        numbers = [math.nan if value is None else value for value in (each.score, each.dice, each.agreement)]
        shown = [str(each.values.get(name, "")) for name in names]
        rows.append((each.folder.name, [each.outcome, *numbers, str(each.step or ""), *shown]))
    curves = [
        curve
        for each in attempts
        if (path := each.folder / METRICS_FILE).is_file()
        and (curve := curve_of(read_rows(path), DICE, each.folder.name, emphasis=each is best))
    ]
    headlines = [Headline(str(len(attempts)), f"of {sweep.settings.wanted} trainings")]
    steps = []
    if best is not None:
        headlines.append(Headline(f"{best.score:.3f}", f"best score, of {best.folder.name}", "score"))
        text = f"{BEST_FILE} holds its settings; its adapter is in {best.folder.name}."
        command = shlex.join(
            ["skindualgen", "generate", "--adapter", best.folder.name, "--prompt", "a prompt", "--out", "pairs"]
        )
        steps = [Step("Use the best", text, command)]
    title = "Dice of masks read from validation photographs"
    return Report(
        title=f"Sweep {sweep.config.out.resolve().name}",
        subtitle=f"{', '.join(names)}; chosen by {sweep.settings.sampler}, given up by {sweep.settings.pruner}.",
        hero=(),
        headlines=headlines,
        sections=[
            Section(
                "trials",
                "Trainings",
                NAMES["score"][1],
                tables=[Table("Training", columns, rows)],
                chart=Chart("step", title, curves) if curves else None,
            )
        ],
        definitions=NAMES,
        next_steps=steps,
        record={name: str(value) for name, value in sweep.settings.model_dump(mode="json").items()},
    )
