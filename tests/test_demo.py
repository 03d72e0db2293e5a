"""The show behind `make demo`: a whole one at tiny size, and the scores it prints."""

from __future__ import annotations

import io
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.data.phantom import write_phantom_folder
from skindualgen.demo import run
from skindualgen.demo.page import build_report
from skindualgen.demo.results import DrawnPair, Reading, Show, agreement, moving_average, variety
from skindualgen.demo.run import ShowOptions, run_show, spread


def console() -> Console:
    return Console(file=io.StringIO())


def square_mask(low: int, high: int, side: int = 32) -> Image.Image:
    mask = np.zeros((side, side), np.uint8)
    mask[low:high, low:high] = 255
    return Image.fromarray(mask)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path) -> Path:
    """A whole show on phantoms with the tiny model."""
    out = tmp_path_factory.mktemp("show") / "demo"
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "PHANTOMS", 18)
    run_show(ShowOptions(out, adapter=str(tiny_adapter), per_diagnosis=2, photographs=3, train_steps=10), console())
    patch.undo()
    return out


def test_the_report_shows_every_part(shown: Path) -> None:
    html = (shown / "report.html").read_text(encoding="utf-8")
    for anchor in ("pairs", "scores", "reading", "filling", "training", "next", "terms", "record"):
        assert f'id="{anchor}"' in html
    assert html.count("<figure>") == 3 + 6 + 3 + 2 * (1 + 3) + 3  # hero, pairs, read, filled, read again


def test_the_pairs_are_a_data_set(shown: Path) -> None:
    records = read_metadata(shown / "pairs")
    assert [record.diagnosis for record in records] == ["nevus"] * 2 + ["melanoma"] * 2 + ["seborrheic keratosis"] * 2
    assert all((shown / "pairs" / str(record.mask_file_name)).is_file() for record in records)
    assert len({record.seed for record in records}) == 6


def test_the_training_left_an_adapter_that_was_read_with(shown: Path) -> None:
    assert (shown / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert len(list((shown / "read_again" / "read" / "masks").glob("*.png"))) == 3


def test_what_is_read_was_kept_out_of_the_training(shown: Path) -> None:
    splits = {Path(record.file_name).name: record.split for record in read_metadata(shown / "data")}
    shown_names = [path.name for path in (shown / "read" / "photographs").iterdir()]
    assert len(shown_names) == 3
    assert all(splits[name] != "train" for name in shown_names)


def test_an_earlier_show_is_replaced_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / run.MARKER).touch()
    (tmp_path / "pairs").mkdir()
    (tmp_path / "report.html").write_text("old")
    (tmp_path / ".report.html.x.tmp").write_text("left by a killed demo")
    run._empty_own_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [run.MARKER]
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "pairs").mkdir()
    with pytest.raises(InputError, match=r"thesis\.tex"):
        run._empty_own_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.MARKER, "pairs", "thesis.tex"]


def test_photographs_of_the_user_are_never_removed(tmp_path: Path, tiny_adapter: Path) -> None:
    """Guards against losing them: their folder is called as one of the demo's own, and is its only neighbour."""
    write_phantom_folder(tmp_path / "data", 2, size=64)
    before = sorted(tmp_path.rglob("*"))
    for data in (tmp_path / "data", None):
        with pytest.raises(InputError):
            run_show(ShowOptions(tmp_path, data=data, adapter=str(tiny_adapter)), console())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_wrong_adapter_leaves_the_earlier_show(tmp_path: Path) -> None:
    (tmp_path / run.MARKER).touch()
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(InputError, match="nowhere"):
        run_show(ShowOptions(tmp_path, adapter=str(tmp_path / "nowhere")), console())
    assert (tmp_path / "report.html").read_text() == "old"


def test_own_photographs_without_masks_are_read_and_not_trained_on(tmp_path: Path, tiny_adapter: Path) -> None:
    source = tmp_path / "mine"
    write_phantom_folder(source, 4, size=64)
    shutil.rmtree(source / "masks")
    options = ShowOptions(
        tmp_path / "demo", data=source, adapter=str(tiny_adapter), per_diagnosis=1, photographs=2, train_steps=10
    )
    html = run_show(options, console()).read_text(encoding="utf-8")
    assert "No training: the folder holds no masks to learn from." in html
    assert 'id="training"' not in html
    assert "The photographs are from your folder mine." in html
    assert not (tmp_path / "demo" / "run").exists()


def test_a_folder_that_is_not_there_is_wrong_input(tmp_path: Path, tiny_adapter: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        run_show(ShowOptions(tmp_path / "demo", data=tmp_path / "nowhere", adapter=str(tiny_adapter)), console())


def test_the_command_refuses_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"Error: got {tmp_path}, which holds 'thesis.tex'; expected a new folder, or one of "
        "an earlier demo; give another --out"
    ]


def test_spread_takes_diagnoses_in_turn() -> None:
    named = [("a", "nevus"), ("b", "nevus"), ("c", "nevus"), ("d", "melanoma"), ("e", None)]
    records = [
        PairRecord(file_name=f"images/{name}.png", isic_id=name, diagnosis=diagnosis) for name, diagnosis in named
    ]
    assert [record.isic_id for record in spread(records[::-1], 4)] == ["a", "d", "e", "b"]
    assert len(spread(records, 99)) == 5


def test_agreement_brings_the_mask_to_the_size_of_the_truth() -> None:
    assert agreement(square_mask(8, 24), square_mask(16, 48, side=64)) == 1.0
    assert agreement(square_mask(0, 8), square_mask(8, 16)) == 0.0


def test_a_reading_without_a_given_mask_has_no_score() -> None:
    image = Image.new("RGB", (32, 32))
    assert math.isnan(Reading("a", image, square_mask(8, 24)).agreement)


def two_pieces() -> Image.Image:
    mask = np.asarray(square_mask(4, 12)).copy()
    mask[20:28, 20:28] = 255
    return Image.fromarray(mask)


@pytest.mark.parametrize(
    ("mask", "plausible"),
    [
        (square_mask(8, 24), True),
        (square_mask(0, 32), False),  # the whole picture
        (square_mask(0, 0), False),  # nothing
        (square_mask(15, 17), False),  # a speck of 0.4 %
        (two_pieces(), False),
    ],
)
def test_plausible_masks(mask: Image.Image, plausible: bool) -> None:
    pair = DrawnPair(Image.new("RGB", (32, 32)), mask, mask, "p", "nevus", 0)
    assert pair.plausible is plausible


def test_variety_is_nought_for_twins_and_large_for_noise() -> None:
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(4)]
    assert variety([noise[0], noise[0].copy()]) == 0
    assert variety(noise) > 15
    assert math.isnan(variety(noise[:1]))


def test_moving_average() -> None:
    assert moving_average([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]


def test_a_pair_without_a_lesion_does_not_count_as_agreement() -> None:
    empty = Image.new("L", (32, 32))
    assert DrawnPair(Image.new("RGB", (32, 32)), empty, empty, "a nevus", "nevus", 0).agreement == 0.0


def test_the_hero_is_the_pair_of_median_agreement() -> None:
    """Guards against showing the best one: three pairs that agree by 0, 1/2 and 1."""
    drawn = square_mask(0, 16)
    reread = [square_mask(16, 32), Image.fromarray(np.asarray(drawn) * (np.arange(32) < 8)), drawn]
    images = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (10, 20, 30)]
    pairs = [DrawnPair(image, drawn, again, "p", "nevus", 0) for image, again in zip(images, reread, strict=True)]
    show = Show(0, 20, 2.0, "Source.", pairs=pairs, seconds_per_pair=1.0)
    assert build_report(show).hero[0].image is images[1]
