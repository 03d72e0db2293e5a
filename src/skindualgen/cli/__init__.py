"""The command line: a module for each command, registered here.

Exit codes: 0 done, 1 a defect or a training that diverged, 2 wrong input, 3 a condition of ``evaluate --fail-if``
holds, ``generate`` leaves pairs of the plan unmet, ``verify`` finds deviations or ``check`` something to fix, 130
interrupted. ``check`` also ends with 2 where a data set cannot be used as it is.

A command's module may import only what costs nothing (typer, pathlib); everything heavy is imported inside the
function, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from skindualgen.cli import (
    benchmark,
    check,
    demo,
    distill,
    doctor,
    evaluate,
    export,
    export_data,
    gate,
    generate,
    import_data,
    merge,
    picture,
    plan,
    prepare,
    queue,
    recipe,
    release,
    schedule,
    segment,
    train,
    ui,
    verify,
)

EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shells' convention

NO_ACCESS_OR_ROOM = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a file or folder that this user may not use, and of a full disk."""
NO_PATH = frozenset({errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ, errno.EIO})
"""Error numbers of what is not there, is damaged, or cannot be a name."""
NO_FOLDER = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR})
"""Error numbers of a file where a folder is needed, or the other way round."""

OF_TIMM = "`torch.jit.interface` is deprecated"
"""A FutureWarning that timm 1.0.22 meets with PyTorch 2.14, and that no user of the command line can act on."""
GARBAGE_AFTER = 10_000
"""New objects after which Python looks for garbage; with its own 700, importing the libraries takes a tenth longer."""
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "PYTHONWARNINGS": f"ignore:{OF_TIMM}:FutureWarning",  # for the processes that commands start
}
"""Environment of the libraries, unless the user set it: their bars and remarks would tear our progress display."""


class CommandGroup(TyperGroup):
    """The group of all commands, and the one place where an error becomes a message."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; a letter that the terminal's encoding lacks (LANG=C, a pipe on Windows) is written as its escape."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; wrong input ends in one line and exit code 2, Ctrl-C in one line and 130."""
        with errors_in_one_line():
            return super().invoke(ctx)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn what a command raises into one line on stderr and an exit code; a defect keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _say("Interrupted. What was finished is kept; where the command can resume, run it again.", typer.colors.YELLOW)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        from skindualgen.contracts import InputError, SkinDualGenError

        if isinstance(error, OSError) and error.errno in NO_FOLDER:
            error = InputError(f"{error.filename}: {error.strerror}", "a folder", "name another place")
        if isinstance(error, OSError) and error.errno in NO_ACCESS_OR_ROOM:
            got = f"{error.filename or 'a file'}: {error.strerror}"
            error = InputError(got, "access and free space", "fix its permissions, make room or name another place")
        if isinstance(error, FileNotFoundError) and error.filename is None:  # as tempfile says it
            error = InputError(str(error.strerror), "a folder for temporary files", "make room or set TMPDIR")
        if isinstance(error, OSError) and error.errno in NO_PATH:
            got = f"{error.filename or 'a path'}: {error.strerror}"
            error = InputError(got, "a file or folder that can be used", "fix the path or name another place")
        if not isinstance(error, SkinDualGenError):
            raise
        _say(f"Error: {' '.join(str(error).split())}", typer.colors.RED)
        raise typer.Exit(EXIT_WRONG_INPUT if isinstance(error, InputError) else 1) from None


def _say(line: str, colour: str) -> None:
    """Print one line on stderr, after whatever a progress display has left on the current one."""
    with suppress(OSError, AttributeError):  # a full disk or a closed stream, which may be what the line is about
        sys.stdout.flush()
    typer.secho(line, fg=colour, err=True)


app = typer.Typer(
    name="skindualgen",
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Dermoscopic image-mask pairs from a text prompt. Research software, not a medical device.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from skindualgen._version import __version__

        typer.echo(f"skindualgen {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Dermoscopic image-mask pairs from a text prompt. Research software, not a medical device."""
    gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", OF_TIMM, FutureWarning)


app.command("prepare")(prepare.prepare)
app.command("check")(check.check)
app.command("recipe")(recipe.recipe)
app.command("train")(train.train)
app.command("schedule")(schedule.schedule)
app.command("distill")(distill.distill)
app.command("plan")(plan.plan)
app.add_typer(gate.app, name="gate")
app.command("generate")(generate.generate)
app.command("segment")(segment.segment)
app.add_typer(picture.app, name="picture")
app.command("evaluate")(evaluate.evaluate)
app.command("benchmark")(benchmark.benchmark)
app.command("export")(export.export)
app.command("export-data")(export_data.export_data)
app.command("import-data")(import_data.import_data)
app.command("merge")(merge.merge)
app.command("verify")(verify.verify)
app.command("release")(release.release)
app.add_typer(queue.app, name="queue")
app.command("doctor")(doctor.doctor)
app.command("ui")(ui.ui)
app.command("demo")(demo.demo)
