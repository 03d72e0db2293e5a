"""A release says what is in files and results, refuses what must not be published, and loads as its card says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from release_data import (
    TRAINING,
    add_real,
    write_benchmark,
    write_generated,
    write_real,
    write_report,
)
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.files import sha256_file
from skindualgen.marks.embed import image_png, read_embedded
from skindualgen.model.card import use_restrictions
from skindualgen.release.build import PAPERS, ReleaseOptions, build_release
from skindualgen.release.contents import read_contents
from skindualgen.release.licences import licence_chain
from skindualgen.release.marks import count_marks
from skindualgen.release.privacy import private_parts
from skindualgen.release.schema import features_of, size_category

MEDICAL = "To provide medical advice and medical results interpretation"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    return write_generated(tmp_path / "pairs")


def release(data: Path, **options: Any) -> tuple[Path, str]:
    """The data set's folder of a release and the text of its card."""
    out = data.parent / f"release{len(list(data.parent.iterdir()))}"
    build_release(ReleaseOptions(data=data, out=out, **options))
    return out / "dataset", (out / "dataset" / "README.md").read_text()


def edit_records(root: Path, **changes: Any) -> None:
    records = [record.model_copy(update=changes) for record in read_metadata(root)]
    write_dataset(root, records, made_by={"command": ["edit"]})


def test_release_holds_the_files_of_the_manifest_and_its_papers(generated: Path) -> None:
    (generated / ".generated.jsonl").write_text("")
    folder, _ = release(generated)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    pictures = {f"{kind}/SDG_{i:07d}.png" for kind in ("images", "masks") for i in range(6)}
    papers = {name for name in PAPERS if (generated / name).is_file()}
    assert names == pictures | papers | {"README.md", "LICENSE.md", "contact_sheet.png"}
    for name in pictures | papers:
        assert (folder / name).read_bytes() == (generated / name).read_bytes()
    assert (folder / "images/SDG_0000000.png").stat().st_ino == (generated / "images/SDG_0000000.png").stat().st_ino
    assert (folder / "metadata.jsonl").stat().st_ino != (generated / "metadata.jsonl").stat().st_ino


def test_pictures_are_copied_where_there_are_no_links(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    folder, _ = release(generated)
    picture = folder / "images/SDG_0000003.png"
    assert picture.stat().st_nlink == 1
    assert picture.read_bytes() == (generated / "images/SDG_0000003.png").read_bytes()


def test_front_matter_is_what_the_hub_reads(generated: Path) -> None:
    _, card = release(generated, licence="cc-by-4.0", title="Six pairs")
    data = DatasetCard(card).data.to_dict()
    assert (data["license"], data["pretty_name"], data["size_categories"]) == ("cc-by-4.0", "Six pairs", "n<1K")
    assert {"image-segmentation", "image-classification"} <= set(data["task_categories"])
    assert "synthetic" in data["tags"] and "mixed-real-and-synthetic" not in data["tags"]
    assert data["dataset_info"]["splits"][0]["num_examples"] == 6
    pictures = [*generated.glob("images/*"), *generated.glob("masks/*")]
    assert data["dataset_info"]["dataset_size"] == sum(path.stat().st_size for path in pictures)
    assert "&id" not in card  # YAML's references, which not every reader of front matter follows
    none_chosen = DatasetCard(release(generated)[1]).data.to_dict()
    assert (none_chosen["license"], none_chosen["license_link"]) == ("other", "LICENSE.md")


def test_the_cards_loading_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real client, and with a column whose values are all empty, which a guessing loader types as null."""
    datasets = pytest.importorskip("datasets")
    scores = {"mask_area_fraction": 0.25, "dice": 0.5}
    folder, card = release(write_generated(tmp_path / "odd", patient_id=None, scores=scores))
    (example,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names: dict[str, Any] = {}
    exec(example.replace('"OWNER/NAME"', repr(str(folder))), names)
    pairs = names["pairs"]
    assert pairs.num_rows == 6 and names["image"].size == names["mask"].size == (32, 32)
    assert (pairs[0]["patient_id"], pairs[1]["patient_id"], pairs[0]["seed"]) == (None, "P1", 2**62)
    assert pairs[0]["scores"] == scores and pairs[1]["scores"] == {"mask_area_fraction": 0.2, "dice": None}
    assert pairs["isic_id"] == [f"SDG_{i:07d}" for i in range(6)]
    assert {value for _, value in names["mask"].getcolors()} == {0, 255}


def test_splits_load_apart(generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a test split that a loader hands out as training data."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    add_real(generated, "test")
    folder, card = release(generated, with_held_out=True)
    (example,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example.replace('"OWNER/NAME"', repr(str(folder))), names)
    assert names["pairs"]["isic_id"] == [f"SDG_{i:07d}" for i in range(6)]
    assert names["test"]["isic_id"] == ["ISIC_test_0", "ISIC_test_1"]
    assert list(datasets.load_dataset(str(folder))) == ["train"]  # nothing held out comes unasked
    assert len(read_metadata(folder)) == 8  # the folder itself stays one data set


def test_without_results_nothing_is_claimed(generated: Path) -> None:
    _, card = release(generated)
    assert "Not measured for this release. Nothing is claimed of its quality." in card
    assert "nothing can be said of its skin tones" in card and "Not searched for in this release" in card
    assert "Fréchet" not in card and "Does it help?" not in card
    for said in ("not a medical device", "not to provide medical\nadvice", "no generated diagnosis is a finding"):
        assert said in card
    assert "| melanoma | 2 | 0 | 2 |" in card and "| nevus | 4 | 0 | 4 |" in card
    assert f"| adapter | sha256 {'a' * 64} |" in card and "| trained on | 3 photographs" in card


def test_numbers_are_those_of_the_report(generated: Path, tmp_path: Path) -> None:
    report = write_report(tmp_path / "report.json", generated)
    folder, card = release(generated, evaluation=report, benchmark=write_benchmark(tmp_path / "b.json"))
    assert "| Fréchet distance | 107 (102 to 113) | 45.6, real against real | 6, 12 | lite0 |" in card
    assert "not measured (too few photographs)" in card and "99" not in card.split("## Evaluation")[1].split("##")[0]
    assert "| Dark skin | 0 (0 to 0.4) | 0.01, held-out real | 2 real photographs: too thin |" in card
    assert "| Near-copies | 0.167 (0.01 to 0.5) | 0.01, unseen real, by definition | – |" in card
    assert "1 of 6 photographs count as near-copies" in card
    assert "* Left out, masks: no masks" in card and "* Only 12 held-out photographs." in card
    assert "* segment, 40 real pairs: By Dice, no hybrid beats both" in card
    assert (folder / "evaluation.json").read_bytes() == report.read_bytes()
    assert json.loads((folder / "benchmark.json").read_text())["seeds"] == 5


def test_an_evaluation_of_other_pairs_is_refused(generated: Path, tmp_path: Path) -> None:
    report = write_report(tmp_path / "report.json", generated)
    records = read_metadata(generated)
    write_dataset(generated, records[:-1], made_by={})
    with pytest.raises(InputError, match="an evaluation of other pairs"):
        read_contents(generated, evaluation=report)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InputError, match=r"broken\.json.*report\.json of"):
        read_contents(generated, evaluation=tmp_path / "broken.json")


def test_training_licences_are_counted_by_source(generated: Path, tmp_path: Path) -> None:
    contents = read_contents(generated, real=write_real(tmp_path / "real"))
    chain = licence_chain(contents)
    assert [(source.name, source.licence, source.count) for source in chain.training] == [
        ("ISIC 2018", "CC-BY-NC-4.0", 2),
        ("Own", "not stated", 1),
    ]
    assert (chain.training_items, chain.training_unknown) == (len(TRAINING), 0)
    assert [source.count for source in chain.non_commercial] == [2] and chain.attribution == ["CC-BY-NC-4.0"]
    _, card = release(generated, real=tmp_path / "real")
    assert "| learned from: ISIC 2018 | CC-BY-NC-4.0 | 2 |" in card and "exclude commercial use" in card
    _, unknown = release(generated)
    assert "| learned from: ids in `trained_on.json` | source and licence not stated here | 3 |" in unknown


@pytest.mark.parametrize(("base", "restricted"), [("sd2-base", True), ("sd1.5", True), ("micro", False)])
def test_restrictions_of_the_base_are_passed_on(tmp_path: Path, base: str, restricted: bool) -> None:
    folder, card = release(write_generated(tmp_path / "pairs", base_id=base))
    licence = (folder / "LICENSE.md").read_text()
    assert (use_restrictions() in card) is (MEDICAL in licence) is restricted
    assert ("binding for every recipient" in licence) is restricted
    assert (folder / "LICENSE-openrail-pp-m.txt").is_file() is (base == "sd2-base")


def test_real_photographs_keep_their_licence(generated: Path) -> None:
    add_real(generated, "train")
    with pytest.raises(InputError, match=r"other licences \(2 under cc-by-4\.0\)"):
        release(generated, licence="mit")
    _, card = release(generated, licence="cc-by-4.0")
    assert "| **in this folder, real:** ISIC 2019 | CC-BY-4.0 | 2 |" in card
    assert "mixed-real-and-synthetic" in card and "contact_sheet" not in card
    with pytest.raises(InputError, match="in small letters"):
        release(generated, licence="CC BY 4.0")


def test_the_licence_inside_the_files_is_that_of_the_card(tmp_path: Path) -> None:
    data = write_generated(tmp_path / "pairs", license="CC-BY-4.0", count=1)
    assert DatasetCard(release(data)[1]).data.license == "cc-by-4.0"
    with pytest.raises(InputError, match=r"other licences \(1 under cc-by-4\.0\)"):
        release(data, licence="mit")


def test_plan_gate_and_watermark_are_told_as_recorded(generated: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text("prompt,count\na nevus,6\n")
    settings = json.loads((generated / "generate.json").read_text())
    settings |= {"plan_sha256": sha256_file(plan), "watermark": True}
    (generated / "generate.json").write_text(json.dumps(settings))
    gate = {
        "refused": 3,
        "reasons": {"agreement": 2, "copy": 1},
        "unmet": 0,
    }
    write_dataset(generated, read_metadata(generated), made_by={"gate": gate})
    with pytest.raises(InputError, match="at least 64 px per side for the watermark"):
        release(generated, plan=plan)  # these pictures are too small for the watermark that is claimed
    settings["watermark"] = False
    (generated / "generate.json").write_text(json.dumps(settings))
    folder, card = release(generated, plan=plan)
    assert f"| plan | sha256 {sha256_file(plan)}, in `plan.csv` |" in card
    assert "| refused by the gate | 3 draws, in `rejected.jsonl`: agreement 2, copy 1 |" in card
    assert (folder / "plan.csv").read_bytes() == plan.read_bytes()
    plan.write_text("prompt,count\na nevus,7\n")
    with pytest.raises(InputError, match="unchanged"):
        release(generated, plan=plan)


@pytest.mark.parametrize("split", ["val", "test"])
def test_held_out_photographs_are_not_published_by_accident(generated: Path, split: str) -> None:
    add_real(generated, split)
    with pytest.raises(InputError, match=rf"2 real records .* first ISIC_{split}_0.*--with-held-out"):
        release(generated)
    assert "in this folder, real" in release(generated, with_held_out=True)[1]


def test_a_folder_without_generated_pairs_is_refused(generated: Path) -> None:
    edit_records(generated, origin="real")
    with pytest.raises(InputError, match="without generated pairs"):
        release(generated)


def test_read_photographs_alone_are_refused_with_the_reason(generated: Path) -> None:
    """Their record names the adapter that read the mask, the photograph is somebody's."""
    edit_records(generated, origin="real", mask_origin="model")
    with pytest.raises(InputError, match=r"of 6 real photographs \(6 with a mask that a model has read\)") as refused:
        release(generated)
    assert "their owners' terms" in str(refused.value) and "skindualgen merge" in str(refused.value)


def test_the_card_says_which_masks_no_expert_has_drawn(generated: Path) -> None:
    """Beside generated pairs, read photographs are published as the real ones that they are."""
    add_real(generated, "train")
    _, card = release(generated)
    assert "No expert has drawn or checked them" not in card
    records = read_metadata(generated)
    for record in records:
        if record.origin == "real":
            record.adapter_sha256 = "a" * 64
    write_dataset(generated, records, made_by={"command": ["merge"]})
    _, card = release(generated)
    assert "2 masks of real photographs were read by a model" in card and "in this folder, real" in card


def test_files_that_deviate_are_refused_and_nothing_is_left(generated: Path) -> None:
    picture = generated / "images/SDG_0000002.png"
    content = bytearray(picture.read_bytes())
    content[-20] ^= 1
    picture.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"deviations in .*SDG_0000002"):
        release(generated)
    assert [path.name for path in generated.parent.iterdir()] == ["pairs"]


def test_paths_of_the_machine_are_refused_wherever_they_stand(generated: Path) -> None:
    settings = json.loads((generated / "generate.json").read_text())
    (generated / "generate.json").write_text(json.dumps({**settings, "wildcards": "/home/anna/wildcards.txt"}))
    with pytest.raises(InputError, match=r"dataset/generate\.json: /home/anna/wildcards\.txt"):
        release(generated)
    assert [path.name for path in generated.parent.iterdir()] == ["pairs"]


def test_text_inside_pictures_is_looked_through(tmp_path: Path) -> None:
    """tEXt, zTXt and iTXt, before and after the pixels, and the metadata of a JPEG."""
    info = PngInfo()
    info.add_text("Software", "made at /home/anna/lab/run.py")
    info.add_text("zipped", "C:\\Users\\anna\\lab " * 40, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "see file:///mnt/lab/secret.png", zip=True)
    image = Image.new("L", (8, 8))
    image.save(tmp_path / "a.png", pnginfo=info)
    assert private_parts(tmp_path / "a.png") == [
        "/home/anna/lab/run.py",
        "C:\\Users\\anna",
        "file:///mnt/lab/secret.png",
    ]
    content = (tmp_path / "a.png").read_bytes()
    end = content.index(b"IEND") - 4
    chunk = b"tEXtComment\0/scratch/anna/x"
    (tmp_path / "b.png").write_bytes(
        content[:33]
        + content[content.index(b"IDAT") - 4 : end]
        + (len(chunk) - 4).to_bytes(4, "big")
        + chunk
        + b"\0" * 4
        + content[end:]
    )
    assert private_parts(tmp_path / "b.png") == ["/scratch/anna/x"]
    image.save(tmp_path / "c.jpg", comment=b"from /home/anna/photos/1.tif")
    assert private_parts(tmp_path / "c.jpg") == ["/home/anna/photos/1.tif"]
    (tmp_path / "d.png").write_bytes(content[:60])
    with pytest.raises(InputError, match=r"d\.png: it breaks off"):
        private_parts(tmp_path / "d.png")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--out=/data/lab/x and more", ["/data/lab/x"]),
        ('"base": "C:\\\\Users\\\\bob\\\\sd2"', ["C:\\\\Users\\\\bob"]),
        ("\\\\server\\share\\x", ["\\\\server\\share"]),
        ("written by anna", ["anna"]),
        ("written by annabel at https://huggingface.co/datasets/o/n, </a/b>, 1/2/3, palms/soles, and/or", []),
        ('"hash": "' + "ab/cd/ef+/" * 8 + "abcdef" + '=="', []),
        ("self#jumbf=/c2pa/urn:c2pa:1/c2pa.assertions/c2pa.hash.data", []),
    ],
)
def test_what_counts_as_private(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "a.json").write_text(text)
    assert private_parts(tmp_path / "a.json", frozenset({"anna"})) == found


def test_marks_are_counted_in_the_files(generated: Path) -> None:
    """Not taken from the records: a picture that a program wrote anew has lost its marks."""
    first, second = generated / "images/SDG_0000000.png", generated / "images/SDG_0000001.png"
    with Image.open(first) as image:
        image.load()
        image.save(first, pnginfo=PngInfo())
    with Image.open(second) as image:
        image.load()
        info = PngInfo()
        info.add_text("skindualgen", image.text["skindualgen"])
        image.save(second, pnginfo=info)
    content = (generated / "images/SDG_0000002.png").read_bytes()
    (generated / "images/SDG_0000002.png").write_bytes(content[:33] + b"\0\0\0\1caBXx\0\0\0\0" + content[33:])
    marks = count_marks(generated, read_metadata(generated))
    assert (marks.images, marks.png_text, marks.xmp, marks.c2pa, marks.unmarked) == (6, 5, 4, 1, 1)


def test_the_watermark_is_looked_for_in_the_pixels(tmp_path: Path) -> None:
    smooth = Image.radial_gradient("L").resize((128, 128)).convert("RGB")
    records = [
        PairRecord(file_name=f"{name}.png", isic_id=name, origin="synthetic", source="skindualgen 0.1.0")
        for name in ("marked", "plain")
    ]
    for record in records:
        data = image_png(smooth, record, watermark=record.isic_id == "marked")
        (tmp_path / record.file_name).write_bytes(data)
    assert count_marks(tmp_path, records, watermark=True).watermark == 1
    assert count_marks(tmp_path, records).watermark is None


def test_the_contact_sheet_is_marked_too(generated: Path) -> None:
    folder, card = release(generated)
    xmp = read_embedded(folder / "contact_sheet.png").xmp
    assert xmp is not None and xmp.marked_as_generated
    assert "(contact_sheet.png)" in card


def test_the_adapter_goes_along_with_its_numbers(tmp_path: Path, tiny_adapter: Path) -> None:
    digest = sha256_file(tiny_adapter / "adapter_model.safetensors")
    data = write_generated(tmp_path / "pairs", adapter=digest, base_id="base")
    out = tmp_path / "out"
    report = write_report(tmp_path / "report.json", data)
    leaky = tmp_path / "leaky.json"
    leaky.write_text(report.read_text().replace('"gen"', '"/home/anna/gen"'))
    with pytest.raises(InputError, match=r"dataset/evaluation\.json: /home/anna/gen"):
        build_release(ReleaseOptions(data=data, out=out, adapter=tiny_adapter, evaluation=leaky))
    assert not out.exists()
    build_release(ReleaseOptions(data=data, out=out, adapter=tiny_adapter, evaluation=report))
    card = ModelCard((out / "adapter" / "README.md").read_text())
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"frechet", "near_copy_rate"}  # what has a value, over all diagnoses
    assert results["frechet"].metric_value == 107.4 and results["frechet"].metric_args["low"] == 102.0
    assert results["frechet"].dataset_split == "val"
    assert "| Fréchet distance | 107 (102 to 113) |" in card.text and "not a medical device" in card.text
    assert "adapter_model.safetensors" in {path.name for path in (out / "adapter").iterdir()}


def test_an_adapter_that_did_not_draw_the_pairs_is_refused(generated: Path, tiny_adapter: Path) -> None:
    with pytest.raises(InputError, match=r"for pairs that were generated with aaaaaaaaaaaa"):
        release(generated, adapter=tiny_adapter)


def test_a_folder_with_something_in_it_is_refused(generated: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(InputError, match="not empty"):
        build_release(ReleaseOptions(data=generated, out=tmp_path / "full"))


def test_columns_and_sizes() -> None:
    assert [size_category(n) for n in (0, 999, 1000, 10**6, 10**13)] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "1M<n<10M",
        "n>1T",
    ]
    records = [
        PairRecord(file_name="a.png", isic_id="a", age_approx=3, notes=["x"], score=1),
        PairRecord(file_name="b.png", isic_id="b", score=0.5),
    ]
    features = {feature["name"]: feature for feature in features_of(records)}
    assert [features[name]["dtype"] for name in ("image", "mask", "isic_id", "age_approx", "score")] == [
        "image",
        "image",
        "string",
        "int64",
        "float64",
    ]
    assert features["notes"] == {"name": "notes", "list": "string"}
    with pytest.raises(InputError, match="a column of string and float64"):
        features_of([records[1], PairRecord(file_name="c.png", isic_id="c", score="high")][::-1])
