"""The study of the micro model compares like with like, and keeps its parts apart."""

import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

from micro_judges import real_records
from micro_measures import (
    Photographs,
    class_fidelity,
    class_matched,
    jackknife_error,
    mask_shapes,
    real_to_real,
    set_distances,
)
from micro_quality import wanted_records
from micro_report import Target, fill_overview
from micro_steps import COLUMNS, SOLVERS, STEPS, Row, draw, rows_of
from micro_steps import markdown as steps_page
from picture_sheets import closest_pairs_sheet, picture_grid
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.judges.neighbours import nearest
from skindualgen.metrics.fidelity import frechet_distance, kernel_distance, kernel_of_products, products
from skindualgen.sample.pipeline import SkinDualGenPipeline

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


def test_class_matched_part_is_the_largest_with_the_wanted_proportions():
    made = ["a"] * 10 + ["b"] * 10 + ["c"] * 3
    chosen = class_matched(made, ["a"] * 6 + ["b"] * 2, seed=0)
    assert Counter(made[i] for i in chosen) == {"a": 10, "b": 3}
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert class_matched(made, made, seed=0).tolist() == list(range(23))
    with pytest.raises(InputError, match="generate every diagnosis"):
        class_matched(made, ["a", "d"], seed=0)


def test_wanted_captions_cover_every_photograph_and_fill_rare_classes():
    val = [
        PairRecord(file_name=f"images/{i}.jpg", isic_id=f"I{i}", diagnosis="nevus" if i < 90 else "melanoma")
        for i in range(100)
    ]
    wanted = wanted_records(val)
    assert Counter(record.diagnosis for record in wanted) == {"nevus": 180, "melanoma": 110}
    assert len({record.isic_id for record in wanted}) == len({record.file_name for record in wanted}) == 290


def test_floor_stands_beside_the_distance_at_the_same_sizes():
    pool = np.random.default_rng(0).normal(size=(200, 4))
    shifted = np.random.default_rng(1).normal(1.0, size=(60, 4))
    table = set_distances(real=pool[:40], generated=shifted, pool=pool, seed=0)
    assert (table["n_generated"], table["n_real"]) == (60, 40)
    assert table["frechet"]["value"] == frechet_distance(real=pool[:40], generated=shifted)
    assert table["frechet"]["floor_low"] <= table["frechet"]["floor_mean"] <= table["frechet"]["floor_high"]
    assert table["frechet"]["ratio_to_floor"] > 5
    assert abs(table["kernel"]["floor_mean"]) < table["kernel"]["value"] / 10


def test_classifier_table_has_the_true_class_in_rows():
    class Fixed:
        classes = ("a", "b")

        def diagnoses(self, images):
            return ["a", "b", "b", "b", "b", "a"]

    truth = ["a", "a", "b", "b", "b", "b"]
    photographs = Photographs(np.zeros((6, 4, 4, 3), np.uint8), np.zeros((6, 4, 4), bool), truth)
    table = class_fidelity(Fixed(), photographs)
    assert table["confusion"] == [[1, 1], [1, 3]]
    assert table["recall"] == {"a": 0.5, "b": 0.75}
    assert table["balanced_accuracy"]["value"] == pytest.approx((0.5 + 0.75) / 2)


def test_mask_shapes_of_equal_sets_do_not_differ():
    masks = np.zeros((5, 16, 16), bool)
    for i in range(5):
        masks[i, 4 : 8 + i, 4:9] = True
    one = Photographs(np.zeros((5, 16, 16, 3), np.uint8), masks, ["a"] * 5)
    table = mask_shapes(one, one)
    assert {table[name]["ks_distance"] for name in ("area_fraction", "eccentricity", "compactness")} == {0.0}
    moved = mask_shapes(one, Photographs(one.images, np.ones((5, 16, 16), bool), one.diagnoses))
    assert moved["area_fraction"]["ks_distance"] == 1.0
    assert moved["touches_border"] == {"generated_mean": 0.0, "real_mean": 1.0, "ks_distance": 1.0}


def test_a_target_knows_its_direction():
    assert Target("Dice", 0.84, "", 0.84, True, "").reached
    assert not Target("Dice", 0.83, "", 0.84, True, "").reached
    assert Target("KID", 0.1, "", 0.1, False, "").reached
    assert not Target("KID", 0.2, "", 0.1, False, "").reached


def test_the_overview_and_the_readme_say_what_was_measured(tmp_path):
    """The table is what the last measurement wrote, and renewing it changes nothing else."""
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs" / "results" / "overview.md").read_text(encoding="utf-8")
    results = json.loads((root / "docs" / "results" / "micro.json").read_text())
    (tmp_path / "overview.md").write_text(page, encoding="utf-8")
    fill_overview(tmp_path / "overview.md", results)
    assert (tmp_path / "overview.md").read_text(encoding="utf-8") == page
    readme = (root / "README.md").read_text(encoding="utf-8")
    agreement = results["agreement"]
    for dice in (results["image_to_mask"], agreement["generated"], agreement["real"]):
        assert f"{dice['dice']['mean']['value']:.3f}" in readme
    results["speed"]["cpu_seconds_per_pair"] = 123.0
    results["classifier"]["generated"] |= {
        "recall": {"melanoma": 0.25, "nevus": 0.9, "seborrheic_keratosis": 0.5},
        "confusion": [[1, 0, 3], [1, 9, 0], [2, 3, 5]],
    }
    fill_overview(tmp_path / "overview.md", results)
    changed = (tmp_path / "overview.md").read_text(encoding="utf-8")
    assert (
        "weak spot is melanoma: the classifier recognises 25% of 4 pictures drawn for it, and takes 75% for seborr"
        in changed
    )
    assert "| 123.00 |" in changed and changed.count("\n") == page.count("\n")
    (tmp_path / "overview.md").write_text("no marks")
    with pytest.raises(InputError, match="both marks"):
        fill_overview(tmp_path / "overview.md", results)


@pytest.mark.real_data
def test_parts_of_the_split_share_no_photograph_and_no_lesion(real_data):
    parts = {name: real_records(real_data.parent, name, pairs=False) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 2401, "val": 234, "test": 300}
    assert [len(real_records(real_data.parent, name)) for name in parts] == [1617, 234, 300]
    for one, other in combinations(parts.values(), 2):
        assert not {record.isic_id for record in one} & {record.isic_id for record in other}
    lesions = {name: {r.lesion_id for r in part if r.lesion_id} for name, part in parts.items()}
    assert not (lesions["train"] | lesions["val"]) & lesions["test"]
    assert lesions["train"] & lesions["val"] == {"IL_2031122"}  # found when the base had been trained: the pages say so


def test_sheet_shows_the_closest_couple_first():
    side = 16
    generated, train = (np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8) for n in (3, 2))
    found = nearest([np.array([[5.0], [1.0], [3.0]])], np.array([[0.0], [100.0]]))
    sheet = closest_pairs_sheet(generated=generated, train=train, neighbours=found, pairs=2, columns=1)
    assert sheet.size == (2 * side + 4, 2 * side + 4)
    pixels = np.asarray(sheet)
    assert (pixels[:side, :side] == generated[1]).all()
    assert (pixels[:side, side + 4 :] == train[0]).all()
    assert (pixels[side + 4 :, :side] == generated[2]).all()


def test_grid_shows_masks_in_white_and_refuses_mixed_sizes():
    mask = np.zeros((8, 8), bool)
    mask[2:4] = True
    grid = picture_grid([[np.zeros((8, 8, 3), np.uint8), mask]], gap_px=1)
    assert isinstance(grid, Image.Image)
    pixels = np.asarray(grid)
    assert pixels.shape == (8, 17, 3)
    assert (pixels[2:4, 9:] == 255).all()
    assert (pixels[4:, 9:] == 0).all()
    assert (pixels[:, 8] == 255).all()
    with pytest.raises(InputError, match="one size"):
        picture_grid([[mask, mask[:4]]])


def gaussian(n: int, seed: int, *, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, 12))


def test_floor_uses_disjoint_parts_of_the_sizes_asked_for():
    seen = []

    def spy(*, real, generated):
        assert not set(map(float, real[:, 0])) & set(map(float, generated[:, 0]))
        seen.append((len(real), len(generated)))
        return frechet_distance(real=real, generated=generated)

    features = gaussian(50, 0)
    values = real_to_real(features, (20, 30), spy, repeats=4)
    assert seen == [(30, 20)] * 4
    assert len(set(values)) == 4
    assert (values == real_to_real(features, (20, 30), frechet_distance, repeats=4)).all()
    with pytest.raises(InputError, match="disjoint"):
        real_to_real(features, (20, 31), frechet_distance)


def test_jackknife_error_matches_the_spread_over_fresh_samples():
    values = [
        kernel_distance(real=gaussian(60, 2 * i), generated=gaussian(60, 2 * i + 1, shift=0.4)) for i in range(60)
    ]
    errors = [
        jackknife_error(kernel_distance, real=gaussian(60, 2 * i), generated=gaussian(60, 2 * i + 1, shift=0.4))
        for i in range(8)
    ]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)
    both = {"real": gaussian(20, 0), "generated": gaussian(25, 1, shift=0.5)}
    exact = kernel_of_products(products(**both)).standard_error
    assert exact == pytest.approx(jackknife_error(kernel_distance, **both), rel=0.5)


def test_found_timesteps_have_rows_where_a_solver_takes_them() -> None:
    rows = list(rows_of({"8": list(range(8)), "12": list(range(12))}))
    assert len(rows) == len(set(rows)) == len(SOLVERS) * len(STEPS) + 2
    assert [row.solver for row in rows if row.spacing == "found"] == ["DPM-Solver++ 2", "DPM-Solver++ 3"]
    assert all(row.spacing == "usual" for row in rows_of(None))
    measured = dict.fromkeys(COLUMNS, 0.0317) | {"pairs": 234}
    run = {"command": ["studies/micro_steps.py"], "date_utc": "2026-12-04", "platform": "Linux", "cores": 2}
    page = steps_page(dict.fromkeys(rows, measured), run)
    assert page.count("| found |") == 2 and "| DDIM | usual | 50 | 0.0317 | 0.03 |" in page


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # of diffusers' DEIS
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_each_solver_draws_in_few_steps(solver: str, v_pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    captions = tmp_path / "captions"
    captions.mkdir()
    records = [PairRecord(file_name=f"images/{i}.jpg", isic_id=f"I{i}", diagnosis="nevus") for i in range(2)]
    write_dataset(captions, records, made_by={"study": "micro_steps"})
    kept, schedules = v_pipe.scheduler, v_pipe.config.schedules
    try:
        for spacing in ("usual", "found") if solver.startswith("DPM") else ("usual",):
            draw(v_pipe, {"3": [900, 500, 100]}, Row(solver, spacing, 3), captions, tmp_path / spacing)
            assert [record.num_inference_steps for record in read_metadata(tmp_path / spacing)] == [3, 3]
            assert type(v_pipe.scheduler) is SOLVERS[solver][0]
            described = json.loads((tmp_path / spacing / "generate.json").read_text())
            assert ("[900, 500, 100]" in json.dumps(described)) == (spacing == "found")
    finally:
        v_pipe.scheduler = kept
        v_pipe.register_to_config(schedules=schedules)
