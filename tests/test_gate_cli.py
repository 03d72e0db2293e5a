"""``skindualgen gate``: the real adapter's reading, the commands, and the report of what a gate did."""

import csv
import json
import shutil
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from typer.testing import CliRunner

from gate_data import SIDE_PX, TRAIN, VAL, darkness, write_pairs, write_real
from skindualgen.cli import CommandGroup
from skindualgen.cli.gate import app as gate_app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.data.phantom import draw_phantom
from skindualgen.gate.application import apply_gate, keep_accepted
from skindualgen.gate.calibration import calibrate
from skindualgen.gate.diversity import diversity
from skindualgen.gate.gate import load_gate, read_gate_file
from skindualgen.gate.real_pairs import CalibrateOptions
from skindualgen.judges.pictures import PictureSet
from skindualgen.report.gate import claim_folder, gate_report, real_pictures
from skindualgen.sample.reading import mask_predictor

PAIRS = 30


class Thumbnails:
    """Features that are quick: the photograph at 6 x 6 px."""

    name, preprocessing, dim = "thumbnails", "antialiased resize to 6 x 6 px", 3 * 6 * 6

    def __call__(self, images):
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        return F.interpolate(pixels, (6, 6), mode="bicubic", antialias=True).flatten(1).numpy()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Real pairs, and as many made-up ones, the first of which has an empty and the second a foreign mask."""
    root = tmp_path_factory.mktemp("gate_cli")
    write_real(root / "real")
    write_pairs(root / "pairs", range(700, 700 + PAIRS), ["train"] * PAIRS, origin="synthetic")
    masks = sorted((root / "pairs" / "masks").iterdir())
    Image.fromarray(np.zeros((SIDE_PX, SIDE_PX), np.uint8)).save(masks[0])
    corner = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    corner[:14, :14] = 255
    Image.fromarray(corner).save(masks[1])
    (root / "pairs" / "trained_on.json").write_text("{}")
    return root


@pytest.fixture(scope="module")
def application(root):
    calibrate(CalibrateOptions(root / "real", SIDE_PX, 0.9), root / "dark", read_masks=darkness, adapter={})
    return apply_gate(load_gate(root / "dark", darkness), root / "pairs")


def run(*arguments: object):
    command = typer.Typer(cls=CommandGroup)
    command.add_typer(gate_app, name="gate")
    command.command("other")(lambda: None)
    return CliRunner().invoke(command, ["gate", *map(str, arguments)])


def test_a_reading_is_a_function_of_its_picture(pipe):
    images = np.stack([draw_phantom(seed, size=SIDE_PX).image for seed in range(3)])
    read = mask_predictor(pipe)
    fields = read(images)
    assert fields.shape == (3, SIDE_PX, SIDE_PX) and fields.dtype == np.float32
    assert all(np.array_equal(mask_predictor(pipe)(images[i : i + 1])[0], fields[i]) for i in range(3))
    assert not np.array_equal(fields[0], fields[1])
    _, masks = pipe(
        image=Image.fromarray(images[1]),
        num_inference_steps=1,
        output_type="np",
        clean=False,
        generator=torch.Generator().manual_seed(0),
        return_dict=False,
    )
    assert np.array_equal(fields[1] > 0, np.asarray(masks).reshape(SIDE_PX, SIDE_PX) > 0.5)


def test_a_picture_of_another_size_is_read_at_the_models_own(pipe):
    image = draw_phantom(0, size=SIDE_PX).image
    large = np.asarray(Image.fromarray(image).resize((SIDE_PX + 20, SIDE_PX + 20), Image.Resampling.BICUBIC))
    field = mask_predictor(pipe)(large[None])[0]
    assert field.shape == (SIDE_PX + 20, SIDE_PX + 20)
    assert np.isfinite(field).all()


def test_reading_does_not_disturb_a_drawing_in_another_thread(pipe):
    images = np.stack([draw_phantom(seed, size=SIDE_PX).image for seed in range(2)])
    read = mask_predictor(pipe)

    def draw():
        drawn = pipe("nevus", num_inference_steps=4, generator=torch.Generator().manual_seed(1), output_type="np")
        return drawn.images

    alone, fields, beside = draw(), read(images), []
    thread = threading.Thread(target=lambda: beside.append(draw()))
    thread.start()
    again = read(images)
    thread.join()
    assert np.array_equal(beside[0], alone)
    assert np.array_equal(again, fields)


def test_calibrate_and_apply_with_an_adapter(root, tiny_adapter, tmp_path):
    made = run(
        "calibrate",
        "--real",
        root / "real",
        "--out",
        tmp_path / "gate",
        "--adapter",
        tiny_adapter,
        "--accept",
        0.9,
        *"--without exposure --without mask_typicality".split(),
    )
    assert made.exit_code == 0, made.output
    assert f"of {VAL} real pairs" in made.stdout
    content = json.loads((tmp_path / "gate" / "gate.json").read_text())
    assert [rule["score"] for rule in content["rules"]] == ["self_agreement", "novelty", "sharpness", "saturation"]
    assert content["size_px"] == SIDE_PX and len(content["adapter"]["adapter_sha256"]) == 64
    done = run(
        "apply",
        "--gate",
        tmp_path / "gate" / "gate.json",
        "--pairs",
        root / "pairs",
        "--out",
        tmp_path / "report",
        "--keep",
        tmp_path / "kept",
        "--adapter",
        tiny_adapter,
    )
    assert done.exit_code == 0, done.output
    assert "lesion_area: 1 refused" in done.stdout
    results = json.loads((tmp_path / "report" / "gate_report.json").read_text())
    assert results["accepted"]["n"] == PAIRS and results["diversity"] == []
    kept = read_metadata(tmp_path / "kept")
    assert len(kept) == round(results["accepted"]["value"] * PAIRS)
    other = run("apply", "--gate", tmp_path / "gate", "--pairs", root / "pairs", "--out", tmp_path / "report")
    assert other.exit_code == 2
    assert "the adapter that the gate was calibrated with" in other.stderr


def test_mistakes_are_one_line_each(root, tiny_adapter, tmp_path):
    fixed = ("--real", root / "real", "--out", tmp_path / "gate", "--adapter", tiny_adapter)
    for more, message in (
        (("--split", "train"), "the split 'train'"),
        (("--split", "test"), "the test split"),
        (("--accept", "0"), "an acceptance of 0"),
        (("--size", "128"), "64 px for a gate of 128 px"),
        (("--segmenter", tmp_path / "none"), "a trained segmenter"),
    ):
        result = run("calibrate", *fixed, *more)
        assert result.exit_code == 2, result.output
        assert message in result.stderr and "Traceback" not in result.output
        assert not (tmp_path / "gate").exists()


def test_the_report_tells_scores_reasons_and_variety(root, application, tmp_path):
    real = real_pictures(root / "real", application.gate.file)
    assert len(real) == TRAIN + VAL
    with claim_folder(tmp_path / "report"):
        pass
    results, page = gate_report(application, tmp_path / "report", real=real, extractor=Thumbnails())
    names = {"report.html", "gate_report.json", "gate.csv", "rejected.jsonl"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == names
    assert json.loads((tmp_path / "report" / "gate_report.json").read_text()) == results.model_dump(mode="json")
    text = page.read_text()
    assert "Refused pairs" in text and "What the gate does to variety" in text
    assert "http://" not in text.replace("http://www.w3.org", "") and '<img src="data:' in text.replace("'", '"')
    rejected = [json.loads(line) for line in (tmp_path / "report" / "rejected.jsonl").read_text().splitlines()]
    refused = sum(not verdict.accepted for verdict in application.verdicts)
    assert len(rejected) == refused == PAIRS - round(results.accepted.value * PAIRS) >= 2
    assert rejected[0]["isic_id"] == "SDG_0700" and "lesion_area 0 <= 0" in rejected[0]["reasons"]
    with (tmp_path / "report" / "gate.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["isic_id"] for row in rows if row["accepted"] == "0"] == [each["isic_id"] for each in rejected]
    by_score = {each.score: each for each in results.reasons}
    assert by_score["lesion_area"].refused == 1
    assert by_score["self_agreement"].refused >= 1
    assert all(each.alone <= each.refused for each in results.reasons)
    assert sum(each.alone for each in results.reasons) <= refused
    assert sum(share.n for share in results.by_diagnosis.values()) == PAIRS
    with claim_folder(tmp_path / "report"):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda gate: gate["rules"][0].update(threshold=float("nan")), "rules.0.threshold"),
        (lambda gate: gate["rules"][-1].update(of_diagnosis={"nevus": float("inf")}), "rules.1.of_diagnosis"),
        (lambda gate: gate["real"].update(value=float("-inf")), "real.value"),
        (lambda gate: gate.update(rules=gate["rules"] * 2), "two rules of one score"),
        (lambda gate: gate.update(size_px=0), "size_px"),
        (lambda gate: gate.update(accept=-1), "accept"),
    ],
)
def test_a_gate_file_whose_numbers_mean_nothing_is_refused(root, application, tmp_path, change, message):
    """Guards against a threshold of NaN, which refuses no pair, and against counting a refusal twice."""
    folder = tmp_path / "gate"
    shutil.copytree(root / "dark", folder)
    gate = json.loads((folder / "gate.json").read_text())
    gate["rules"] = gate["rules"][:2]
    change(gate)
    (folder / "gate.json").write_text(json.dumps(gate))
    with pytest.raises(InputError, match=message):
        read_gate_file(folder)


def test_a_gate_file_of_a_windows_editor_is_read_and_one_with_a_name_twice_is_not(root, application, tmp_path):
    folder = tmp_path / "gate"
    shutil.copytree(root / "dark", folder)
    path = folder / "gate.json"
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_gate_file(path)[0] == read_gate_file(root / "dark")[0]
    path.write_text(text.replace('"accept"', '"accept": 0.1, "accept"', 1))
    with pytest.raises(InputError, match="'accept' twice"):
        read_gate_file(path)


def test_accepted_pairs_are_not_written_into_the_folder_that_they_are_of(root, application):
    with pytest.raises(InputError, match="inside"):
        keep_accepted(application, root / "pairs" / "kept")
    assert not (root / "pairs" / "kept").exists()


@pytest.mark.parametrize("size_px", [0, -64])
def test_a_side_that_is_none_is_refused(root, size_px):
    with pytest.raises(InputError, match=f"a side of {size_px} px"):
        CalibrateOptions(root / "real", size_px)


def test_a_folder_with_other_things_is_no_place_for_a_report(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"), claim_folder(tmp_path):
        pass


def test_accepted_pairs_are_kept_with_their_scores_and_the_source_is_untouched(root, application, tmp_path):
    before = {path: path.read_bytes() for path in (root / "pairs").rglob("*") if path.is_file()}
    count = keep_accepted(application, tmp_path / "kept")
    assert {path: path.read_bytes() for path in before} == before
    records = read_metadata(tmp_path / "kept")
    assert count == len(records) == int(application.kept.sum())
    assert all({"self_agreement", "novelty", "lesion_area"} <= set(record.scores) for record in records)
    for record in records:
        for name in (record.file_name, record.mask_file_name):
            assert (tmp_path / "kept" / name).read_bytes() == (root / "pairs" / name).read_bytes()
    assert (tmp_path / "kept" / "trained_on.json").is_file()
    made_by = read_dataset_info(tmp_path / "kept")["made_by"]["gate"]
    assert made_by["judged"] == PAIRS and made_by["refused"] == PAIRS - count
    with pytest.raises(InputError, match="not empty"):
        keep_accepted(application, tmp_path / "kept")


def cloud(count: int, seed: int, spread: float) -> np.ndarray:
    """Plain pictures around a colour; the spread is the variety."""
    random = np.random.default_rng(seed)
    colours = np.clip(128 + spread * random.normal(size=(count, 1, 1, 3)), 0, 255)
    texture = random.normal(scale=4, size=(count, 12, 12, 3))
    return np.clip(colours + texture, 0, 255).astype(np.uint8)


def test_a_gate_that_keeps_the_middle_alone_loses_recall_and_one_that_chooses_blindly_does_not():
    real, pairs = (
        PictureSet.of_arrays(cloud(300, 0, 30), [None] * 300),
        PictureSet.of_arrays(cloud(400, 1, 30), [None] * 400),
    )
    middle = np.abs(pairs.images.mean((1, 2)) - 128).max(1) < 30
    blind = np.random.default_rng(2).random(400) < middle.mean()
    narrow, fair = (
        {row.measure: row for row in diversity(Thumbnails(), real=real, pairs=pairs, kept=kept)}
        for kept in (middle, blind)
    )
    assert narrow["recall"].after_high < narrow["recall"].before_low
    assert narrow["precision"].after == 1 > narrow["precision"].before
    assert narrow["recall"].n == middle.sum() and narrow["recall"].n_drawn == 400
    assert abs(fair["recall"].after - fair["recall"].before) < 0.05
    assert fair["recall"].before_low <= fair["recall"].before <= fair["recall"].before_high


def test_a_gate_that_keeps_everything_changes_nothing():
    real, pairs = (
        PictureSet.of_arrays(cloud(80, 0, 30), ["nevus"] * 80),
        PictureSet.of_arrays(cloud(80, 1, 30), ["nevus"] * 80),
    )
    rows = diversity(Thumbnails(), real=real, pairs=pairs, kept=np.ones(80, bool))
    assert {row.group for row in rows} == {"all", "nevus"}
    for row in rows:
        assert [row.before_low, row.before, row.before_high] == pytest.approx([row.after] * 3)


def test_too_few_accepted_pairs_have_no_numbers_but_the_reason():
    real, pairs = (
        PictureSet.of_arrays(cloud(80, 0, 30), [None] * 80),
        PictureSet.of_arrays(cloud(80, 1, 30), [None] * 80),
    )
    rows = diversity(Thumbnails(), real=real, pairs=pairs, kept=np.arange(80) < 10)
    assert all(row.after is None and "10 pictures" in row.caveat for row in rows)
