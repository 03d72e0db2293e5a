"""``skindualgen plan`` as a user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from skimage.color import lab2rgb
from typer.testing import CliRunner

from skindualgen.cli import CommandGroup
from skindualgen.cli.plan import plan
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.metrics.skin_tone import category, skin_tone
from skindualgen.planning.plan import read_plan
from skindualgen.planning.tones import measure_tones

app = typer.Typer(cls=CommandGroup)
app.callback()(lambda: None)
app.command("plan")(plan)


def run(data: Path, out: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["plan", "--data", str(data), "--out", str(out), *arguments])


def data_folder(root: Path, **numbers: int) -> Path:
    """Metadata with ``nevus_male=3`` pairs of a kind, one nevus of unknown sex, and one pair to validate."""
    kinds: list[dict[str, Any]] = [
        {"diagnosis": name.split("_")[0], "sex": name.split("_")[1]} for name, n in numbers.items() for _ in range(n)
    ]
    kinds += [{"diagnosis": "angioma", "split": "val"}, {"diagnosis": "nevus"}]
    records = [PairRecord(file_name=f"images/{i}.png", isic_id=f"{i}", **kind) for i, kind in enumerate(kinds)]
    write_dataset(root, records, made_by={})
    return root


def numbers(output: str, first: str) -> list[str]:
    """Cells of the line of the table that begins with a group."""
    (line,) = [line for line in output.splitlines() if line.strip().startswith(first)]
    return line.strip().removeprefix(first).split()


def test_counts_now_and_after(tmp_path: Path) -> None:
    data, out = data_folder(tmp_path, nevus_male=29, melanoma_male=4), tmp_path / "my plan.csv"
    done = run(data, out)
    assert done.exit_code == 0, done.output
    assert numbers(done.output, "melanoma") == ["4", "20", "24", "5.00", "6", "short"]
    assert numbers(done.output, "nevus") == ["30", "0", "30", "0.00"]
    assert numbers(done.output, "all") == ["34", "20", "54"]
    assert "6 pairs short of the target: --max-ratio 5" in done.output
    assert f"Next: skindualgen generate --plan '{out}' --out NEW_FOLDER" in done.output
    assert "angioma" not in done.output and "synthetic training" not in done.output
    assert "Caution: all of nevus stay real while other diagnoses get generated pairs." in " ".join(done.output.split())
    even = run(data, out, "--target", "uniform", "--count", "8")
    assert even.exit_code == 0 and "stay real" not in even.output
    run(data, out)
    made = read_plan(out)
    assert made.pairs == 20 and f"20 pairs in {made.rows} rows" in done.output


def test_joint_groups_say_who_is_left_out(tmp_path: Path) -> None:
    data, out = data_folder(tmp_path, nevus_male=3, nevus_female=3, melanoma_male=1), tmp_path / "plan.csv"
    done = run(data, out, "--by", "diagnosis,sex")
    assert "1 real training pairs without a known diagnosis or sex form no group." in done.output
    assert "Left out, without a real pair (1; --allow-novel plans them): melanoma, female" in done.output
    assert not any(request.extrapolation for request in read_plan(out).requests())
    done = run(data, out, "--by", "diagnosis,sex", "--allow-novel")
    assert "extrapolation" in done.output and "Left out" not in done.output
    assert {request.attributes["diagnosis"] for request in read_plan(out).requests() if request.extrapolation} == {
        "melanoma"
    }


def test_synthetic_pairs_in_the_folder_are_said(tmp_path: Path) -> None:
    records = [
        PairRecord(file_name=f"images/{i}.png", isic_id=f"{i}", diagnosis=name, origin=origin)  # type: ignore[arg-type]
        for i, (name, origin) in enumerate(
            [("nevus", "real")] * 9 + [("melanoma", "real")] * 2 + [("melanoma", "synthetic")] * 3
        )
    ]
    write_dataset(tmp_path, records, made_by={})
    done = run(tmp_path, tmp_path / "plan.csv")
    assert "3 synthetic training pairs in the folder count as there already." in done.output
    assert numbers(done.output, "melanoma") == ["2", "3", "4", "9", "3.50"]


def test_nothing_to_add(tmp_path: Path) -> None:
    data, out = data_folder(tmp_path, nevus_male=2, melanoma_male=3), tmp_path / "plan.csv"
    done = run(data, out)
    assert done.exit_code == 0 and "no plan was written" in done.output and not out.exists()


def test_other_targets_and_templates(tmp_path: Path) -> None:
    data, out = data_folder(tmp_path, nevus_male=4, melanoma_male=4), tmp_path / "plan.csv"
    assert run(data, out, "--target", "uniform", "--count", "8").exit_code == 0
    assert read_plan(out).pairs == 8
    (tmp_path / "ratio.toml").write_text("[diagnosis]\nmelanoma = 1.5\n")
    assert run(data, out, "--target", str(tmp_path / "ratio.toml")).exit_code == 0
    assert {request.attributes["diagnosis"] for request in read_plan(out).requests()} == {"melanoma"}
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "light.txt").write_text("warm light\n")
    (tmp_path / "mine.txt").write_text("{diagnosis}, __light__\n")
    done = run(
        data,
        out,
        "--target",
        "uniform",
        "-n",
        "2",
        "--templates",
        str(tmp_path / "mine.txt"),
        "--wildcards",
        str(tmp_path / "lines"),
    )
    assert done.exit_code == 0, done.output
    assert {request.prompt for request in read_plan(out).requests()} == {"nevus, warm light", "melanoma, warm light"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "uniform"], "--target uniform without --count"),
        (["--count", "5"], "--count 5 with --target balanced"),
        (["--target", "ballanced"], "balanced, uniform, or a ratio file"),
        (["--by", "colour"], "'colour'"),
        (["--by", "site"], "none of which has site"),
        (["--max-ratio", "0"], "--max-ratio 0"),
        (["--wildcards", "."], "--wildcards without --templates"),
        (["--templates", "none.txt"], "none.txt"),
        (["--data", "none"], "none without metadata.jsonl"),
        (["--out", "none/plan.csv"], "mkdir -p none"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(data_folder(tmp_path, nevus_male=2, melanoma_male=1), tmp_path / "plan.csv", *arguments)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "plan.csv").exists()


def test_a_file_that_is_no_plan_is_kept(tmp_path: Path) -> None:
    data = data_folder(tmp_path, nevus_male=2)
    done = run(data, data / "metadata.jsonl", "--target", "uniform", "-n", "1")
    assert done.exit_code == 2 and "which is no plan" in done.stderr


def photograph(root: Path, name: str, lab: tuple[float, float, float], *, mask: bool = True) -> PairRecord:
    """Skin of one colour, textured, around a dark square lesion, larger than the side at which tones are measured."""
    lesion = np.zeros((300, 300), bool)
    lesion[110:190, 110:190] = True
    colours = np.array(lab) + np.random.default_rng(0).normal(size=(300, 300, 3))
    picture = lab2rgb(colours)
    picture[lesion] = 0.3, 0.17, 0.1
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(root / "images" / f"{name}.png")
    Image.fromarray((lesion * 255).astype(np.uint8)).save(root / "masks" / f"{name}.png")
    return PairRecord(
        file_name=f"images/{name}.png",
        mask_file_name=f"masks/{name}.png" if mask else None,
        isic_id=name,
        diagnosis="nevus",
    )


def tone_of(image: NDArray[np.uint8], lesion: NDArray[np.bool_]) -> str | None:
    degrees = skin_tone(image, lesion).ita_degrees
    return None if degrees is None else category(degrees)


def test_tones_are_measured_where_they_are_not_known(tmp_path: Path) -> None:
    pale = photograph(tmp_path, "pale", (75, 10, 15))  # ITA 59 degrees
    dark = photograph(tmp_path, "dark", (35, 10, 14))  # ITA -47 degrees
    told = photograph(tmp_path, "told", (75, 10, 15)).model_copy(update={"skin_tone": "tan"})
    bare = photograph(tmp_path, "bare", (75, 10, 15), mask=False)
    records = [pale, dark, told, bare]
    reports: list[tuple[int, int]] = []
    measured = measure_tones(tmp_path, records, tone_of, lambda *numbers: reports.append(numbers))
    assert [record.skin_tone for record in measured] == ["very light", "dark", "tan", None]
    assert reports[0] == (0, 4) and reports[-1] == (4, 4)
    write_dataset(tmp_path, records, made_by={})
    done = run(tmp_path, tmp_path / "plan.csv", "--by", "tone", "--target", "uniform", "-n", "6")
    assert done.exit_code == 0, done.output
    assert "Caution: prompts state the skin tone" in done.output
    assert "1 real training pairs without a known tone form no group." in done.output
    prompts = [request.prompt for request in read_plan(tmp_path / "plan.csv").requests()]
    assert sorted(prompt.rsplit(", ")[-1] for prompt in prompts) == sorted(
        ["very light skin", "dark skin", "tan skin"] * 2
    )


def test_tones_of_broken_pictures(tmp_path: Path) -> None:
    record = photograph(tmp_path, "a", (75, 10, 15))
    Image.new("L", (20, 20)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match=r"a: \(300, 300\) with a mask of \(20, 20\) px"):
        measure_tones(tmp_path, [record], tone_of)
    (tmp_path / "masks" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"masks/a\.png: not_an_image"):
        measure_tones(tmp_path, [record], tone_of)
