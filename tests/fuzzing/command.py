"""``python tests/fuzzing``: try drawn and damaged inputs for some minutes, and keep what goes wrong.

Exit codes: 0 nothing was found, 3 there are finds, 2 wrong options.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli import errors_in_one_line
from skindualgen.contracts import InputError

EXIT_FINDS = 3


def fuzz(
    minutes: Annotated[float, typer.Option(min=0.01, help="How long.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first round; the same seed draws the same cases.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option(help="Kinds of inputs whose name holds this. Repeatable.  (default: all)")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that finds are written into.")] = Path("fuzz-finds"),
    replay: Annotated[Path | None, typer.Option(help="File of a find, which is tried again instead.")] = None,
    list_kinds: Annotated[bool, typer.Option("--list", help="Name the kinds of inputs and stop.")] = False,
) -> None:
    """Try inputs with a known truth, and damaged ones: each must give the right value or one clear error.

    A find is anything else: another value, another exception, no end within 20 s, more than 1 GiB, a crash. Each is
    written as a small file that --replay tries again.
    """
    with errors_in_one_line():
        _run(minutes, seed, only or [], out, replay, list_kinds)


def _run(minutes: float, seed: int, only: list[str], out: Path, replay: Path | None, list_kinds: bool) -> None:
    if importlib.util.find_spec("hypothesis") is None:
        raise InputError("no hypothesis", "the package that draws the inputs", "install it: pip install hypothesis")
    from fuzzing.targets import TARGETS

    names = [name for name in TARGETS if not only or any(part in name for part in only)]
    if not names:
        raise InputError(f"--only {', '.join(only)}", "a part of the name of a kind", "choose one of --list")
    if list_kinds:
        typer.echo("\n".join(names))
        return
    if replay is not None:
        typer.echo(_tried_again(replay))
        return
    _fuzz(names, minutes, seed, out)


def _fuzz(names: list[str], minutes: float, seed: int, out: Path) -> None:
    from fuzzing.rounds import Find, write_find
    from fuzzing.worker import fuzz as play

    told: set[tuple[str, str]] = set()

    def tell(find: Find) -> None:
        out.mkdir(parents=True, exist_ok=True)
        path = write_find(find, out)
        if (find.target, find.kind) not in told:
            told.add((find.target, find.kind))
            typer.echo(f"{find.target}: {find.kind}: {path}")

    tally = play(names, number=seed, seconds=minutes * 60, tell=tell)
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(tally.outcomes.items()))
    typer.echo(f"{tally.outcomes.total()} inputs tried ({counts or 'none'}), {len(tally.finds)} kinds of finds")
    if tally.finds:
        raise typer.Exit(EXIT_FINDS)


def _tried_again(path: Path) -> str:
    """The outcome of a find's case now; what it raises is not caught, as its traceback is what is wanted."""
    from fuzzing.rounds import check_alone, read_find
    from fuzzing.targets import TARGETS

    try:
        kept = read_find(path)
        target, case = TARGETS[kept["target"]], kept["case"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--replay {path} ({error})", "the file of a find", "check the path") from error
    return check_alone(target, case)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(fuzz)
