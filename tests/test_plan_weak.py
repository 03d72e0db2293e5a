"""``skindualgen plan --weak-for``: most requests go where a judge that was made bad at something is bad."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

import skindualgen
from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.labels import stated
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.phantom import draw_phantom
from skindualgen.judges.classifier import Classifier, ClassifierConfig, train_classifier
from skindualgen.judges.pictures import read_pictures
from skindualgen.judges.segmenter import Segmenter, SegmenterConfig, train_segmenter
from skindualgen.judges.training import Augmentation, Budget
from skindualgen.judges.weakness import diagnosis_losses, find_weakness, mask_losses, weak_groups
from skindualgen.metrics.masks import dice
from skindualgen.planning.plan import read_plan
from skindualgen.planning.requests import PairRequest
from skindualgen.planning.weak import SMOOTHING, WeakGroup, loss_shares, plan_weak

SIDE_PX = 32
KINDS = {"plain nevus": ("nevus", "female"), "striped nevus": ("nevus", "male"), "melanoma": ("melanoma", None)}
"""Kind of phantom -> its diagnosis, and the sex that its records state; melanomas are blue."""
STRIPE = 20
"""grey level"""
EACH = 12
"""pairs of a kind in train, and in val"""
WHOLE = Augmentation(zoom=0, shift=0, light=0, contrast=0, saturation=0, cast=0, blur=0)
BUDGET = Budget(steps=80, batch_size=12, learning_rate=3e-3)
CLASSIFIER = ClassifierConfig(
    "test_efficientnet", False, SIDE_PX, SIDE_PX, 0.0, 0.0, 0.0, budget=BUDGET, augmentation=WHOLE
)
SEGMENTER = SegmenterConfig(
    "test_efficientnet", False, SIDE_PX, budget=replace(BUDGET, learning_rate=1e-2), augmentation=WHOLE
)


class Stripes:
    """Features that are quick: the share of pixels that have the stripes' colour."""

    name, preprocessing, dim = "stripes", "none", 1

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (images == STRIPE).all(-1).mean((1, 2), dtype=np.float32)[:, None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve phantoms of each kind in train and in val, and two in test; read-only."""
    root = tmp_path_factory.mktemp("weak") / "data"
    records = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    places = [
        (kind, split) for split, n in (("train", EACH), ("val", EACH), ("test", 2)) for kind in KINDS for _ in range(n)
    ]
    for seed, (kind, split) in enumerate(places):
        phantom = draw_phantom(seed, size=SIDE_PX)
        image = phantom.image[..., ::-1].copy() if kind == "melanoma" else phantom.image.copy()
        if kind == "striped nevus":
            image[:, ::4] = STRIPE
        Image.fromarray(image).save(root / f"images/{seed:03d}.png")
        Image.fromarray(phantom.mask).save(root / f"masks/{seed:03d}.png")
        diagnosis, sex = KINDS[kind]
        described = {
            "split": split,
            "diagnosis": diagnosis,
            "sex": sex,
            "appearance": f"large, {kind.split()[0]} border",
        }
        records.append(
            PairRecord.model_validate(
                {
                    "file_name": f"images/{seed:03d}.png",
                    "mask_file_name": f"masks/{seed:03d}.png",
                    "isic_id": f"P{seed}",
                }
                | described
            )
        )
    write_dataset(root, records, made_by={})
    return root


@pytest.fixture(scope="module")
def judges(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two classifiers and a segmenter that were taught something wrong of one kind of picture."""
    folder = tmp_path_factory.mktemp("judges")
    train = Dataset.open(data, "train")

    striped = [
        record.model_copy(update={"diagnosis": "melanoma"}) if record.sex == "male" else record for record in train
    ]
    inverted = tmp_path_factory.mktemp("wrong") / "data"
    for name in ("images", "masks"):
        (inverted / name).mkdir(parents=True)
    for record in train:
        (inverted / record.file_name).write_bytes((data / record.file_name).read_bytes())
        mask = np.asarray(Image.open(data / str(record.mask_file_name)))
        Image.fromarray(255 - mask if record.sex == "male" else mask).save(inverted / str(record.mask_file_name))
    return {
        "striped": train_classifier(Dataset(data, striped), folder / "striped.safetensors", CLASSIFIER),
        "melanoma": train_classifier(_melanoma_called_nevus(train), folder / "melanoma.safetensors", CLASSIFIER),
        "segmenter": train_segmenter(Dataset(inverted, train.records), folder / "segmenter.safetensors", SEGMENTER),
    }


def _melanoma_called_nevus(train: Dataset) -> Dataset:
    """Melanomas as nevi, and some striped nevi as melanomas: a class that is known and was never seen."""
    changed = []
    for place, record in enumerate(train):
        wrong = (
            "nevus"
            if record.diagnosis == "melanoma"
            else "melanoma"
            if record.sex == "male" and place % 4 == 0
            else None
        )
        changed.append(record.model_copy(update={"diagnosis": wrong or record.diagnosis}))
    return Dataset(train.root, changed)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINDUALGEN_CACHE", str(tmp_path_factory.getbasetemp() / "weak_cache"))


def plan(data: Path, out: Path, *more: object) -> Result:
    line = ["plan", "--data", data, "--out", out, *more]
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(word) for word in line])


def kind_of(request: PairRequest) -> str:
    """The kind of training pair whose fields a request carries."""
    (kind,) = [kind for kind in KINDS if f"{kind.split()[0]} border" in request.prompt]
    return kind


def test_where_a_judge_errs_on_val(data: Path, judges: dict[str, Path]) -> None:
    """That the judges are as bad as they were made, and that losses are those of independent arithmetic."""
    val = read_pictures(Dataset.open(data, "val"), SIDE_PX)
    kinds = np.repeat(list(KINDS), EACH)
    for name in ("striped", "melanoma"):
        judge = Classifier(judges[name])
        losses = diagnosis_losses(judge, val)
        own = [judge.classes.index(str(diagnosis)) for diagnosis in val.diagnoses]
        expected = [
            -np.log(max(row[place], 1e-3)) for row, place in zip(judge.probabilities(val.images), own, strict=True)
        ]
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        bad = "striped nevus" if name == "striped" else "melanoma"
        assert losses[kinds == bad].mean() > 3 * losses[kinds == "plain nevus"].mean()
    segmenter = Segmenter(judges["segmenter"])
    losses = mask_losses(segmenter, val)
    assert losses[0] == pytest.approx(1 - dice(segmenter.masks(val.images)[0], val.masks[0]))
    assert losses[kinds == "striped nevus"].mean() > 2 * losses[kinds == "plain nevus"].mean()


@pytest.mark.parametrize(
    ("task", "judge", "bad"),
    [
        ("classify", "melanoma", "melanoma"),
        ("classify", "striped", "striped nevus"),
        ("segment", "segmenter", "striped nevus"),
    ],
)
def test_most_requests_go_where_the_judge_is_bad(
    data: Path, judges: dict[str, Path], tmp_path: Path, task: str, judge: str, bad: str
) -> None:
    """A class in the first case, a cluster inside of one in the others: with fields of the real pairs there."""
    out = tmp_path / "plan.csv"
    done = plan(data, out, "--weak-for", task, "--model", judges[judge], "-n", 40, "--max-ratio", 9)
    assert done.exit_code == 0, done.output
    made = read_plan(out)
    counts = Counter(map(kind_of, made.requests()))
    assert made.pairs == 40 and counts[bad] > 20, (counts, done.output)
    assert counts[bad] == max(counts.values())
    for request in made.requests():
        diagnosis, sex = KINDS[kind_of(request)]
        assert request.attributes["diagnosis"] == diagnosis and request.attributes.get("sex") in (sex, None)
        assert diagnosis in {*stated(request.prompt)["diagnosis"]}
    assert "100 %" in done.output and f"{3 * EACH}" in done.output


def test_plain_prompts_are_those_of_plan(data: Path, judges: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "plan.csv"
    done = plan(data, out, "--weak-for", "classify", "--model", judges["striped"], "--plain-prompts", "--clusters", 1)
    assert done.exit_code == 0, done.output
    assert read_plan(out).pairs == 3 * EACH, "as many as real training pairs, if not said"
    assert not any("border" in request.prompt for request in read_plan(out).requests())


def test_python_plans_what_the_command_does(data: Path, judges: dict[str, Path], tmp_path: Path) -> None:
    judge = judges["segmenter"]
    planned = skindualgen.plan(data, tmp_path / "own.csv", weak_for="segment", model=str(judge), count=9, clusters=2)
    done = plan(data, tmp_path / "plan.csv", "--weak-for", "segment", "--model", judge, "-n", 9, "--clusters", 2)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "own.csv").read_bytes() == (tmp_path / "plan.csv").read_bytes() and planned.pairs == 9


def test_clusters_of_a_diagnosis_and_who_is_near(data: Path) -> None:
    """k-means parts plain and striped nevi; training pairs go to the nearest, and generated ones only count."""
    val, train = (Dataset.open(data, split) for split in ("val", "train"))
    records = [
        record.model_copy(update={"origin": "synthetic"}) if place in (0, EACH) else record
        for place, record in enumerate(train)
    ]
    pictures, of_train = read_pictures(val, SIDE_PX), read_pictures(Dataset(data, records), SIDE_PX)
    losses = np.arange(len(val), dtype=np.float64)
    groups = weak_groups(pictures, losses, of_train, Stripes(), clusters=2)
    assert [group.group for group in groups] == [("melanoma", "1"), ("nevus", "1"), ("nevus", "2")]
    assert [(len(group.losses), len(group.records), group.synthetic) for group in groups] == [
        (EACH, EACH, 0),
        (EACH, EACH - 1, 1),
        (EACH, EACH - 1, 1),
    ]
    for group in groups[1:]:
        (sex,) = {record.sex for record in group.records}
        first = 0 if sex == "female" else EACH
        assert sorted(group.losses) == list(range(first, first + EACH))
    again = weak_groups(pictures, losses, of_train, Stripes(), clusters=2)
    assert again == groups


def test_a_cluster_without_training_pairs_joins_the_nearest(data: Path) -> None:
    """And a diagnosis without any is planned for nowhere, but counted."""
    val, train = (read_pictures(Dataset.open(data, split), SIDE_PX) for split in ("val", "train"))
    plain = train.take(np.array([record.sex == "female" for record in train.data]))
    groups = weak_groups(val, np.ones(len(val)), plain, Stripes(), clusters=2)
    assert [(len(group.losses), len(group.records)) for group in groups] == [(EACH, 0), (2 * EACH, EACH)]
    planned = plan_weak(groups, 30)
    assert [(plan.requested, plan.planned) for plan in planned.groups] == [(10, 0), (20, 20)]
    assert planned.pairs == sum(row.count for row in planned.rows) == 20


def test_shares_by_hand() -> None:
    """Two clusters of 10 and 5 photographs of one diagnosis, 5 of another; five of the wider mean are added to each."""
    groups = [
        WeakGroup("melanoma", 1, [1.0] * 10),
        WeakGroup("melanoma", 2, [4.0] * 5),
        WeakGroup("nevus", 1, [0.0] * 5),
    ]
    assert SMOOTHING == 5
    overall = 30 / 20
    melanoma, nevus = (30 + 5 * overall) / 20, (0 + 5 * overall) / 10
    weights = [10 * (10 + 5 * melanoma) / 15, 5 * (20 + 5 * melanoma) / 10, 5 * (0 + 5 * nevus) / 10]
    np.testing.assert_allclose(loss_shares(groups), np.array(weights) / sum(weights))
    record = PairRecord(file_name="a.png", isic_id="a", diagnosis="melanoma", sex="male")
    with_records = [WeakGroup(each.diagnosis, each.cluster, each.losses, [record]) for each in groups]
    planned = plan_weak(with_records[:2], 7, max_ratio=2)
    assert sum(plan.requested for plan in planned.groups) == 7
    assert [plan.planned for plan in planned.groups] == [2, 2]
    with pytest.raises(InputError, match="a judge without any loss"):
        loss_shares([WeakGroup("nevus", 1, [0.0])])
    with pytest.raises(InputError, match="--max-ratio nan"):
        plan_weak(with_records, 7, max_ratio=float("nan"))


def changed(data: Path, root: Path, **fields: object) -> Path:
    """The folder with other records of val, by hard links; ``split=None`` leaves these out."""
    for path in [*data.glob("images/*"), *data.glob("masks/*")]:
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / path.parent.name / path.name).hardlink_to(path)
    records = [record.model_copy(update=fields) if record.split == "val" else record for record in read_metadata(data)]
    write_dataset(root, [record for record in records if record.split], made_by={})
    return root


@pytest.mark.parametrize(
    ("task", "judge", "fields", "message"),
    [
        ("classify", "striped", {"split": "train"}, "without real pairs of the split val"),
        ("classify", "striped", {"origin": "synthetic"}, "without real pairs of the split val"),
        ("classify", "segmenter", {}, "a segmenter model; expected a classifier"),
        ("segment", "striped", {}, "a classifier model; expected a segmenter"),
        ("segment", "segmenter", {"mask_file_name": None}, "no photograph of val has a mask"),
        ("classify", "striped", {"diagnosis": "angioma"}, "has a diagnosis that the judge knows"),
        ("classify", "no judge", {}, "which is no file of a judge"),
        ("classify", "none", {}, "train one first"),
    ],
)
def test_what_cannot_be_is_refused(
    data: Path, judges: dict[str, Path], tmp_path: Path, task: str, judge: str, fields: dict[str, object], message: str
) -> None:
    (tmp_path / "text").write_text("no judge")
    file = {**judges, "no judge": tmp_path / "text", "none": tmp_path / "none"}[judge]
    root = changed(data, tmp_path / "data", **fields)
    done = plan(root, tmp_path / "plan.csv", "--weak-for", task, "--model", file)
    assert done.exit_code == 2 and message in " ".join(done.stderr.split()), done.output
    assert not (tmp_path / "plan.csv").exists()


@pytest.mark.parametrize(
    ("split", "message"),
    [("val", "trained on 36 held-out photographs"), ("test", "trained on 6 held-out photographs"), (None, "no real")],
)
def test_a_judge_that_has_seen_other_photographs_is_refused(
    data: Path, tmp_path: Path, split: str | None, message: str
) -> None:
    """Of val, of test, or of another data set, of which nobody knows what it held out."""
    records = Dataset.open(data, "train").records + (Dataset.open(data, split).records if split else [])
    if split is None:
        records[0] = records[0].model_copy(update={"isic_id": "ISIC_elsewhere"})
    once = ClassifierConfig(
        "test_efficientnet", False, SIDE_PX, SIDE_PX, budget=Budget(steps=1, batch_size=2), augmentation=WHOLE
    )
    file = train_classifier(Dataset(data, records), tmp_path / "judge.safetensors", once)
    with pytest.raises(InputError, match=message):
        find_weakness(data, "classify", file, Stripes(), clusters=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weak-for", "classify"], "one of --weak-for and --model"),
        (["--model", "judge"], "one of --weak-for and --model"),
        (["--clusters", "2"], "without --weak-for"),
        (["--plain-prompts"], "without --weak-for"),
        (["--weak-for", "classify", "--model", "judge", "--by", "sex"], "with --weak-for"),
        (["--weak-for", "classify", "--model", "judge", "--target", "uniform"], "with --weak-for"),
        (["--weak-for", "classify", "--model", "judge", "--allow-novel"], "with --weak-for"),
    ],
)
def test_options_that_say_nothing_together(data: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = plan(data, tmp_path / "plan.csv", *options)
    assert done.exit_code == 2 and message in " ".join(done.stderr.split())
