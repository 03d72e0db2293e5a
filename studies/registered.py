"""The registered study, docs/preregistration.md: every candidate on val, the choice, and only then the test part.

    python studies/registered.py val    --data ../pairs --work ../registered     # every candidate, judged on val
    python studies/registered.py choose --work ../registered                     # at most six; commit the file
    python studies/registered.py test   --data ../pairs --work ../registered     # these alone, judged on test

Every command can be stopped and run again; each goes through the ordinary commands of skindualgen. The data folder is
the real pairs as prepared by scripts/train_micro.py, with the splits train, val and test of micro2_split.csv.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import typer
from downstream_options import RESULTS, CoresOption, DataOption, OutOption, WorkOption
from downstream_runs import compare
from registered_plan import (
    REGIMES,
    REPLACED,
    Found,
    adjusted,
    arms_of_way,
    candidates,
    choose,
    controls_of,
    ways_of,
)
from registered_sets import Effort, generated_folder, real_folder
from study_text import table

from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_json, atomic_write_text, run_record

app = typer.Typer(add_completion=False, no_args_is_help=True)
CHOICE_FILE = "registered_choice.json"
Part = Literal["val", "test"]

RegimesOption = Annotated[str, typer.Option(help="names with commas, all if not given; processes can share them out")]
WaysOption = Annotated[str, typer.Option(help="ways of making pairs, with commas; all of the task's if not given")]
LeftOutOption = Annotated[
    list[str] | None, typer.Option(help="family that there was no time for; once for each of them")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, or cuda: of adapters, pairs and trainings")]


@app.command()
def val(
    data: DataOption,
    work: WorkOption,
    out: OutOption = RESULTS,
    regimes: RegimesOption = "",
    ways: WaysOption = "",
    cores: CoresOption = 1,
    device: DeviceOption = "cpu",
) -> None:
    """Judge the candidates on val, and write what is there so far."""
    effort = _effort(cores, device)
    for name in _named(regimes, REGIMES):
        for way in _named(ways, ways_of(REGIMES[name].task)):
            run(name, way, data, work, effort, part="val", arms=arms_of_way(REGIMES[name], way))
            write_val(work, out)


@app.command(name="choose")
def choose_arms(work: WorkOption, out: OutOption = RESULTS, left_out: LeftOutOption = None) -> None:
    """Choose the arms that are confirmed, at most one a family, once every candidate has been judged on val.

    Raises:
        InputError: a candidate is missing, a family to be left out is unknown, or the choice was made before.
    """
    families, absent = {regime.family for regime in REGIMES.values()}, sorted(set(left_out or ()))
    if unknown := set(absent) - families:
        raise InputError(f"the families {sorted(unknown)}", f"some of {sorted(families)}", "correct --left-out")
    if absent and set(absent) == families:
        raise InputError("all families left out", "one at least to choose in", "correct --left-out")
    expected = {
        (name, way) for name, regime in REGIMES.items() if regime.family not in absent for way in ways_of(regime.task)
    }
    found = results(work, "val")
    if missing := sorted(expected - {(each.regime, each.way) for each in found}):
        got = f"{len(missing)} of {len(expected)} candidates that were not judged on val: {missing[0]} and so on"
        raise InputError(got, "all of them", "run `registered.py val` to its end first, or leave whole families out")
    if (path := out / CHOICE_FILE).is_file():
        raise InputError(f"{path} from before", "no choice yet: it is made once", "go on with `registered.py test`")
    chosen = choose(found, absent)
    record = run_record(
        chosen={family: None if each is None else each.to_json() for family, each in chosen.items()}, left_out=absent
    )
    atomic_write_json(path, record)


@app.command(name="test")
def on_test(
    data: DataOption, work: WorkOption, out: OutOption = RESULTS, cores: CoresOption = 1, device: DeviceOption = "cpu"
) -> None:
    """Judge the chosen arms on the test part."""
    confirm(data, work, out, _effort(cores, device))


def confirm(data: Path, work: Path, out: Path, effort: Effort) -> list[Found]:
    """Judge the chosen arms on the test part, with Holm's adjustment over them; write registered.md and .json.

    Raises:
        InputError: nothing was chosen yet.
    """
    path = out / CHOICE_FILE
    if not path.is_file():
        raise InputError(f"{path}, which is not there", "the arms that val has chosen", "run `registered.py choose`")
    choice = json.loads(path.read_text())
    chosen = [Found.from_json(each) for each in choice["chosen"].values() if each is not None]
    found = []
    for each in chosen:
        made = run(each.regime, each.way, data, work, effort, part="test", arms=[each.arm])
        found += [result for result in candidates(each.regime, each.way, made) if result.arm == each.arm]
    found = adjusted(found)
    absent = choice.get("left_out", [])
    atomic_write_json(out / "registered.json", run_record(found=[each.to_json() for each in found], left_out=absent))
    atomic_write_text(out / "registered.md", page("The registered study, on the test part", found, absent))
    return found


def run(name: str, way: str, data: Path, work: Path, effort: Effort, *, part: Part, arms: list[str]) -> BenchmarkResult:
    """Make the pairs of a way in a regime, train and judge the arms, and keep what the benchmark found."""
    regime = REGIMES[name]
    folder = work / (name if regime.amount is not None else "all")  # the same pairs for both tasks
    real = real_folder(regime, data, folder)
    pairs = generated_folder(regime, way, data, real, folder, effort)
    compared = [*controls_of(regime, part=part), *arms]
    options = ["--arms", ",".join(compared), "--replace", REPLACED.removeprefix("replace-")]
    options += ["--class-allocation", "match", "--repeats", str(effort.repeats), "--test-split", part]
    options += ["--devices", effort.device, "--network", effort.network, "--weights", effort.weights]
    if regime.amount is not None:
        amount = "--real-count" if regime.task == "segment" else "--real-per-class"
        options += [amount, str(regime.amount)]
    trials, ratios = folder / "trials", f"1,{regime.read_ratio:g}" if regime.read_ratio != 1 else "1"
    drawn = {"seeds": effort.parts, "cores": effort.cores}
    compare(real, pairs, trials, regime.task, ratios, effort.steps, *options, **drawn)
    kept = work / f"{name}_{way}_{part}.json"
    shutil.copyfile(trials / "benchmark.json", kept)
    return read_result(kept)


def read_result(path: Path) -> BenchmarkResult:
    """Read what a benchmark found."""
    return BenchmarkResult.model_validate(json.loads(path.read_text(encoding="utf-8")))


def results(work: Path, part: Part) -> list[Found]:
    """All candidates that were judged so far."""
    found = []
    for name, regime in REGIMES.items():
        for way in ways_of(regime.task):
            if (path := work / f"{name}_{way}_{part}.json").is_file():
                found += candidates(name, way, read_result(path))
    return found


def write_val(work: Path, out: Path) -> None:
    """Write what the candidates reached on val so far."""
    found = results(work, "val")
    atomic_write_json(out / "registered_val.json", run_record(found=[each.to_json() for each in found]))
    atomic_write_text(out / "registered_val.md", page("The candidates of the registered study, on val", found))


def page(title: str, found: list[Found], left_out: Collection[str] = ()) -> str:
    """Each arm against the control that it beats least, and the families that nothing was measured of."""
    rows = [
        [
            *(each.regime, each.way, each.arm, each.control),
            f"{each.gain:+.3f} ({each.low:+.3f} to {each.high:+.3f})",
            *(f"{p:.3g}" if p == p else "-" for p in (each.p_value, each.p_holm)),
            "yes" if each.confirmed else "no",
        ]
        for each in found
    ]
    heads = ["regime", "pairs", "arm", "control", "gain", "p, all controls", "Holm", "confirmed"]
    said = (
        "Dice, or balanced accuracy, of an arm minus that of the control that it beats least, 95 % over parts, "
        "trainings and photographs, by `studies/registered.py`: [what is registered](../preregistration.md)."
    )
    absent = [f"Left out before the choice, for want of time: {', '.join(sorted(left_out))}.", ""] if left_out else []
    return "\n".join([f"# {title}", "", said, "", *table(heads, rows), "", *absent])


def _effort(cores: int, device: str) -> Effort:
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # of the commands that take the fastest device that there is
    return Effort(cores=cores, device=device)


def _named(text: str, known: Collection[str]) -> list[str]:
    names = text.split(",") if text else list(known)
    if unknown := [name for name in names if name not in known]:
        raise InputError(", ".join(unknown), f"some of {', '.join(known)}", "correct the names")
    return names


if __name__ == "__main__":
    app()
