"""The whole of `prepare`: same bytes however it is run, splits kept or made without leaks, audit, command line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from picture_files import disc, good_folder, pixels, read_csv, save, write_csv
from processes import start_interruptible
from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data import journal
from skindualgen.data.audit import MAX_DISTANCE_BITS, audit, near_pairs
from skindualgen.data.manifest import read_dataset_info, read_metadata, write_dataset
from skindualgen.data.prepare import file_stems, prepare
from skindualgen.data.prepare_options import PrepareOptions, parse_ratios
from skindualgen.files import sha256_file

SMALL = PrepareOptions(size=32)


def tree_bytes(root: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def splits(out: Path) -> dict[str, str]:
    return {record.isic_id: record.split for record in read_metadata(out)}


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


# -- what is written


def test_records_hashes_and_reports(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 4, age="61", sex="m", site="Back", lesion_id="", dx_type="histo")
    (root / "images" / "bad.png").write_bytes(b"x")
    summary = prepare(root, tmp_path / "out", SMALL)
    assert summary.counts["records"] == summary.counts["with_mask"] == 4
    assert (dict(summary.rejected), dict(summary.adjusted)) == ({"not_an_image": 1}, {})
    record = read_metadata(tmp_path / "out")[0]
    assert (record.isic_id, record.diagnosis, record.age_approx, record.sex) == ("p00", "melanoma", 61, "male")
    assert record.anatom_site_general == "back"
    assert record.sha256 == sha256_file(tmp_path / "out" / "images" / "p00.png")
    assert record.mask_sha256 == sha256_file(tmp_path / "out" / "masks" / "p00.png")
    assert record.prompt is not None
    assert "melanoma" in record.prompt
    assert "histo" not in (tmp_path / "out" / "metadata.jsonl").read_text()
    info = read_dataset_info(tmp_path / "out")
    assert info["made_by"]["options"]["size"] == 32
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()
    files = {"adjusted.csv", "dataset.json", "images", "masks", "metadata.jsonl", "rejected.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files


def test_only_images_is_fine_and_said(tmp_path: Path) -> None:
    save(pixels("a"), tmp_path / "src" / "a.png")
    summary = prepare(tmp_path / "src", tmp_path / "out", SMALL)
    assert "no photograph has a mask" in summary.notes
    assert any("not known" in note for note in summary.notes)
    assert not list((tmp_path / "out" / "masks").iterdir())


def test_pictures_already_of_size_keep_every_pixel(tmp_path: Path) -> None:
    prepare(good_folder(tmp_path / "src", 1), tmp_path / "out", PrepareOptions(size=48))
    with Image.open(tmp_path / "out" / "images" / "p00.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels("p00"))


def test_own_templates_and_given_captions(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2, prompt="a caption of the source")
    prepare(root, tmp_path / "kept", SMALL)
    assert {record.prompt for record in read_metadata(tmp_path / "kept")} == {"a caption of the source"}
    prepare(root, tmp_path / "own", PrepareOptions(size=32, templates=("seen: {diagnosis}",)))
    assert [record.prompt for record in read_metadata(tmp_path / "own")] == ["seen: melanoma", "seen: nevus"]


def test_template_whose_words_contradict_labels_is_refused(tmp_path: Path) -> None:
    """Guards against melanomas that a training reads as nevi; narrower and vague words contradict nothing."""
    root = good_folder(tmp_path / "src", 2)  # a melanoma and a nevus
    for words in ("dermoscopy of a nevus", "a benign nevus[ in {patient}]"):
        with pytest.raises(InputError, match=r"diagnosis 'melanoma' with the prompt .* which says nevus"):
            prepare(root, tmp_path / "wrong", PrepareOptions(size=32, templates=(words,)))
        assert not (tmp_path / "wrong" / "metadata.jsonl").exists()
    prepare(root, tmp_path / "vague", PrepareOptions(size=32, templates=("a skin lesion",)))
    assert {record.prompt for record in read_metadata(tmp_path / "vague")} == {"a skin lesion"}


def test_caption_that_contradicts_labels_is_kept_and_reported(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2, prompt="a nevus on the back")
    assert prepare(root, tmp_path / "out", SMALL).adjusted["prompt_doubtful"] >= 1
    details = [row["detail"] for row in read_csv(tmp_path / "out" / "adjusted.csv")]
    assert any("diagnosis 'melanoma' with the prompt 'a nevus on the back', which says nevus" in d for d in details)


def test_caption_that_the_text_encoder_would_cut_is_kept_and_reported(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2, prompt="a long story " * 40)
    assert prepare(root, tmp_path / "out", SMALL).adjusted == {"prompt_long": 2}
    assert "77" in read_csv(tmp_path / "out" / "adjusted.csv")[0]["detail"]


class Paraphraser(BaseHTTPRequestHandler):
    """A chat endpoint that calls every lesion a melanoma."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "dermoscopy showing a melanoma"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def test_paraphrases_replace_templates_where_they_say_the_same(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)  # p00 melanoma, p01 nevus
    with ThreadingHTTPServer(("127.0.0.1", 0), Paraphraser) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        options = PrepareOptions(
            size=32,
            templates=("{diagnosis}",),
            llm_url=f"http://127.0.0.1:{server.server_port}/v1",
            llm_model="parrot",
            llm_cache=tmp_path / "cache",
        )
        summary = prepare(root, tmp_path / "out", options)
        server.shutdown()
    prompts = [record.prompt for record in read_metadata(tmp_path / "out")]
    assert prompts == ["dermoscopy showing a melanoma", "nevus"]
    assert summary.adjusted == {"paraphrase_dropped": 1}
    assert "1 of 2 prompts paraphrased by parrot" in summary.notes
    assert "127.0.0.1" not in (tmp_path / "out" / "dataset.json").read_text()


def test_own_licence_only_where_the_source_names_none(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    rows = [{"image_id": "p00", "license": "CC0-1.0"}, {"image_id": "p01", "license": ""}]
    write_csv(root / "metadata.csv", rows)
    prepare(root, tmp_path / "out", PrepareOptions(size=32, license="private"))
    assert [record.license for record in read_metadata(tmp_path / "out")] == ["CC0-1.0", "private"]


def test_prepared_folder_can_be_prepared_again(tmp_path: Path) -> None:
    prepare(good_folder(tmp_path / "src", 8, patient_id=""), tmp_path / "once", SMALL)
    summary = prepare(tmp_path / "once", tmp_path / "twice", SMALL)
    assert summary.layout == "imagefolder"
    assert splits(tmp_path / "twice") == splits(tmp_path / "once")
    assert [r.sha256 for r in read_metadata(tmp_path / "twice")] == [r.sha256 for r in read_metadata(tmp_path / "once")]


def test_labels_that_were_admitted_once_are_admitted_again(tmp_path: Path) -> None:
    for name in ("my_class/a.png", "nevus/b.png"):
        save(pixels(name), tmp_path / "src" / name)
    prepare(tmp_path / "src", tmp_path / "once", SMALL)
    assert dict(prepare(tmp_path / "once", tmp_path / "twice", SMALL).rejected) == {}
    assert [record.diagnosis for record in read_metadata(tmp_path / "twice")] == ["my class", "nevus"]


def test_loader_finds_every_pair_whatever_the_ids(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    ids = ["test_1", "val", "a train b", "evaluation.2", "plain"]
    for name in ids:
        save(pixels(name), tmp_path / "src" / "images" / f"{name}.png")
        save(disc(), tmp_path / "src" / "masks" / f"{name}.png")
    prepare(tmp_path / "src", tmp_path / "out", SMALL)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert sorted(loaded["train"]["isic_id"]) == sorted(ids)
    assert {"image", "mask", "prompt"} <= set(loaded["train"].column_names)


def test_stems_are_unique_without_regard_to_case() -> None:
    stems = file_stems(["A", "a", "a b", "a_b", "ok-1"])
    assert len({stem.casefold() for stem in stems.values()}) == 5
    assert stems["ok-1"] == "ok-1"


# -- the same bytes, however it is run


def test_workers_and_order_change_nothing(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 10)
    (root / "images" / "bad.png").write_bytes(b"x")
    prepare(root, tmp_path / "one", SMALL, workers=1)
    prepare(root, tmp_path / "two", SMALL, workers=2)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


class StoppedError(Exception):
    """Stands for whatever ends a run half-way."""


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = journal.process, iter(range(count))

    def process(task: journal.Task) -> journal.Result:
        if next(calls, None) is None:
            raise StoppedError
        return original(task)

    monkeypatch.setattr(journal, "process", process)


def test_stopped_run_is_finished_by_the_same_command_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = good_folder(tmp_path / "src", 6)
    prepare(root, tmp_path / "whole", SMALL)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(StoppedError):
            prepare(root, tmp_path / "out", SMALL)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()
    # A killed process leaves a cut journal line, a temporary file and, after a power failure, a damaged picture.
    with (tmp_path / "out" / ".prepare" / "journal.jsonl").open("a") as file:
        file.write('{"isic_id": "p04"}\n[1]\n\0\0\n{"isic_id": "p0')
    (tmp_path / "out" / "images" / ".p05.png.x.tmp").write_bytes(b"half")
    (tmp_path / "out" / "images" / "p01.png").write_bytes(b"")
    with monkeypatch.context() as patch:
        stop_after(4, patch)  # p01 again, and the three that are missing
        prepare(root, tmp_path / "out", SMALL)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


def test_finished_folder_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = good_folder(tmp_path / "src", 3)
    first = prepare(root, tmp_path / "out", SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    stop_after(0, monkeypatch)
    assert prepare(root, tmp_path / "out", SMALL) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize("finished", [True, False])
def test_pictures_of_another_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool) -> None:
    root = good_folder(tmp_path / "src", 3)
    with monkeypatch.context() as patch:
        if not finished:
            stop_after(1, patch)
        try:
            prepare(root, tmp_path / "out", SMALL)
        except StoppedError:
            assert not finished
    with pytest.raises(InputError, match="size 32 instead of 40"):
        prepare(root, tmp_path / "out", PrepareOptions(size=40))


def test_finished_folder_of_a_source_that_changed_is_refused(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 3)
    prepare(root, tmp_path / "out", SMALL)
    save(pixels("new"), root / "images" / "p09.png")
    with pytest.raises(InputError, match="unchanged source"):
        prepare(root, tmp_path / "out", SMALL)


def test_interrupted_run_sees_what_changed_in_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = good_folder(tmp_path / "src", 4)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(StoppedError):
            prepare(root, tmp_path / "out", SMALL)
    save(pixels("new", width=56), root / "images" / "p00.png")
    save(disc(width=56), root / "masks" / "p00.png")
    (root / "images" / "p01.png").unlink()
    save(pixels("p09"), root / "images" / "p09.png")
    prepare(root, tmp_path / "out", SMALL)
    prepare(root, tmp_path / "whole", SMALL)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


def test_refused_run_goes_on_with_the_options_that_its_message_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, fixed = leaking_folder(tmp_path / "src"), PrepareOptions(size=32, ignore_official_split=True)
    with pytest.raises(InputError, match="choose another --layout"):
        prepare(root, tmp_path / "out", PrepareOptions(size=32, layout="isic2017"))
    with pytest.raises(InputError, match="--ignore-official-split"):
        prepare(root, tmp_path / "out", SMALL)
    prepare(root, tmp_path / "whole", fixed)
    stop_after(0, monkeypatch)  # no picture is decoded again
    prepare(root, tmp_path / "out", fixed)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


def test_strict_stops_at_a_finished_folder_too(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 3)
    (root / "images" / "bad.png").write_bytes(b"x")
    prepare(root, tmp_path / "out", SMALL)
    with pytest.raises(InputError, match="not_an_image"):
        prepare(root, tmp_path / "out", SMALL, strict=True)


def test_workers_end_when_the_command_is_killed(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 60)
    line = [sys.executable, "-m", "skindualgen", "prepare", str(root), str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("out/masks/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=120)
    for worker in alive:
        worker.kill()
    assert alive == []


def test_interrupt_of_the_command_leaves_a_folder_that_it_can_finish(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 60)
    prepare(root, tmp_path / "whole", PrepareOptions(size=256))
    arguments = ["prepare", str(root), str(tmp_path / "out"), "--size", "256", "--workers", "2"]
    line = [sys.executable, "-m", "skindualgen", *arguments]
    process = start_interruptible(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("out/masks/*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 130, messages
    assert "Traceback" not in messages
    assert 0 < len(list(tmp_path.glob("out/images/*.png"))) < 60
    prepare(root, tmp_path / "out", PrepareOptions(size=256))
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


# -- folders that are refused


def test_out_with_other_files_or_inside_the_source_is_refused(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="other files"):
        prepare(root, tmp_path / "full", SMALL)
    with pytest.raises(InputError, match="inside SRC"):
        prepare(root, root / "out", SMALL)
    with pytest.raises(InputError, match="which is a file"):
        prepare(root, tmp_path / "full" / "thesis.txt", SMALL)
    with pytest.raises(InputError, match="no folder"):
        prepare(tmp_path / "none", tmp_path / "out", SMALL)
    prepare(root, tmp_path / "out", SMALL)
    (tmp_path / "out" / "rejected.csv").unlink()
    with pytest.raises(InputError, match="part of a data set"):
        prepare(root, tmp_path / "out", SMALL)


def test_journal_whose_beginning_is_lost_is_begun_anew(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    (tmp_path / "out" / ".prepare").mkdir(parents=True)
    (tmp_path / "out" / ".prepare" / "journal.jsonl").write_bytes(b"\xff\0\0\0")
    assert prepare(root, tmp_path / "out", SMALL).counts["records"] == 2


@pytest.mark.parametrize(
    "options",
    [
        PrepareOptions(size=0),
        PrepareOptions(size=100_000),
        PrepareOptions(crop="middle"),  # type: ignore[arg-type]
        PrepareOptions(split="80/20"),
        PrepareOptions(split="a/b/c"),
        PrepareOptions(split="0/0/0"),
        PrepareOptions(split="-1/1/1"),
        PrepareOptions(split="nan/1/1"),
        PrepareOptions(val_from_train=1.0),
        PrepareOptions(max_pixels=0),
        PrepareOptions(llm_url="http://localhost:1"),
        PrepareOptions(llm_model="m"),
        PrepareOptions(templates=("{unknown_field}",)),
        PrepareOptions(split_file=Path("x.csv"), keep_split=True),
        PrepareOptions(split_file=Path("x.csv")),
    ],
)
def test_impossible_options_are_refused_before_anything_is_written(tmp_path: Path, options: PrepareOptions) -> None:
    with pytest.raises(InputError):
        prepare(good_folder(tmp_path / "src", 1), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_paraphrases_without_their_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skindualgen.data.prepare_options.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install skindualgen\[paraphrase\]"):
        PrepareOptions(llm_url="http://localhost:1", llm_model="m").check()


def test_ratios() -> None:
    assert parse_ratios("70/15/15") == {"train": 70, "val": 15, "test": 15}
    assert parse_ratios("1/0/0.5") == {"train": 1, "val": 0, "test": 0.5}


# -- splits


def test_patients_lesions_groups_and_pictures_stay_on_one_side(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 24)
    rows = [
        {
            "image_id": f"p{index:02d}",
            "diagnosis": "nevus",
            "patient_id": f"patient{index // 4}" if index < 8 else "",
            "lesion_id": f"lesion{index // 2}" if 8 <= index < 16 else "",
            "split_group": "g" if index in (0, 8) else "",
        }
        for index in range(24)
    ]
    write_csv(root / "metadata.csv", rows)
    # p20 and p21 are one picture: p21 is rejected, and what p21 shares with p22 still binds p20.
    save(pixels("p20"), root / "images" / "p21.png")
    rows[21]["lesion_id"] = rows[22]["lesion_id"] = "shared"
    write_csv(root / "metadata.csv", rows)
    for seed in range(4):
        out = tmp_path / f"out{seed}"
        prepare(root, out, PrepareOptions(size=32, seed=seed, split="50/25/25"))
        found = splits(out)
        assert "p21" not in found
        groups = [["p00", "p01", "p02", "p03", "p08", "p09"], ["p04", "p05", "p06", "p07"], ["p20", "p22"]]
        for group in groups:
            assert len({found[isic_id] for isic_id in group}) == 1
        assert audit(out).crossing == []


def test_official_split_is_kept(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 4)
    names = ["training", "validation", "test", ""]
    rows = [{"image_id": f"p0{i}", "diagnosis": "nevus", "split": name} for i, name in enumerate(names)]
    write_csv(root / "metadata.csv", rows)
    summary = prepare(root, tmp_path / "out", SMALL)
    found = splits(tmp_path / "out")
    assert (found["p00"], found["p01"], found["p02"]) == ("train", "val", "test")
    assert any("kept" in note and "3 of 4" in note for note in summary.notes)


def test_split_column_with_one_value_is_no_split_unless_asked(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 20, split="train")
    summary = prepare(root, tmp_path / "anew", SMALL)
    assert set(splits(tmp_path / "anew").values()) == {"train", "val", "test"}
    assert any("names only 'train'" in note for note in summary.notes)
    prepare(root, tmp_path / "kept", PrepareOptions(size=32, keep_split=True))
    assert set(splits(tmp_path / "kept").values()) == {"train"}


def leaking_folder(root: Path) -> Path:
    good_folder(root, 4)
    rows = [
        {"image_id": f"p0{i}", "split": name, "lesion_id": lesion}
        for i, (name, lesion) in enumerate((("train", "L1"), ("test", "L1"), ("train", "L2"), ("val", "")))
    ]
    write_csv(root / "metadata.csv", rows)
    return root


def test_official_split_that_parts_a_lesion_is_refused_and_can_be_ignored(tmp_path: Path) -> None:
    root = leaking_folder(tmp_path / "src")
    with pytest.raises(InputError, match=r"1 groups .* p00 \(train\), p01 \(test\).*--ignore-official-split"):
        prepare(root, tmp_path / "out", SMALL)
    prepare(root, tmp_path / "anew", PrepareOptions(size=32, ignore_official_split=True))
    found = splits(tmp_path / "anew")
    assert found["p00"] == found["p01"]


def test_split_file_decides_what_is_used_and_where(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 4)
    rows = [{"isic_id": f"p0{i}", "split": name} for i, name in ((0, "val"), (1, "train"), (2, "train"), (9, "test"))]
    path = write_csv(tmp_path / "split.csv", rows)
    summary = prepare(root, tmp_path / "out", PrepareOptions(size=32, split_file=path))
    assert splits(tmp_path / "out") == {"p00": "val", "p01": "train", "p02": "train"}
    assert dict(summary.rejected) == {"not_in_split_file": 1}
    assert any("1 ids of the split file" in note for note in summary.notes)
    write_csv(path, [{"isic_id": "p00", "split": "val"}, {"isic_id": "p00", "split": "test"}])
    with pytest.raises(InputError, match="two splits"):
        prepare(root, tmp_path / "other", PrepareOptions(size=32, split_file=path))


def test_validation_from_an_official_train_part(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 20)
    rows = [{"image_id": f"p{i:02d}", "split": "train" if i < 16 else "test"} for i in range(20)]
    write_csv(root / "metadata.csv", rows)
    assert "no item in the split val" in prepare(root, tmp_path / "plain", SMALL).notes
    prepare(root, tmp_path / "out", PrepareOptions(size=32, val_from_train=0.25))
    found = list(splits(tmp_path / "out").values())
    assert [found.count(name) for name in ("train", "val", "test")] == [12, 4, 4]


# -- audit


def test_audit_names_what_crosses(tmp_path: Path) -> None:
    prepare(good_folder(tmp_path / "src", 4, lesion_id=""), tmp_path / "out", SMALL)
    assert audit(tmp_path / "out").crossing == []
    sides = ("train", "test", "train", "train")
    edited = [
        record.model_copy(update={"split": split, "lesion_id": "L" if record.isic_id in ("p00", "p01") else None})
        for record, split in zip(read_metadata(tmp_path / "out"), sides, strict=True)
    ]
    write_dataset(tmp_path / "out", edited, made_by={})
    assert [[record.isic_id for record in component] for component in audit(tmp_path / "out").crossing] == [
        ["p00", "p01"]
    ]
    rows = [row for row in read_csv(tmp_path / "out" / "audit.csv") if row["kind"] == "crossing"]
    assert [(row["isic_id"], row["split"], row["other_isic_id"], row["other_split"]) for row in rows] == [
        ("p00", "train", "p01", "test")
    ]
    assert "lesion_id L" in rows[0]["detail"]


def test_audit_finds_the_same_file_and_the_same_look_without_stored_hashes(tmp_path: Path) -> None:
    root = tmp_path / "set"
    save(pixels("a", width=96, height=96), root / "images" / "a.png")
    save(pixels("a", width=96, height=96), root / "images" / "b.png")
    smaller = Image.fromarray(pixels("a", width=96, height=96)).resize((64, 64))
    smaller.save(root / "images" / "c.jpg", quality=80)
    save(pixels("other", width=96, height=96), root / "images" / "d.png")
    sides = {"a.png": "train", "b.png": "val", "c.jpg": "test", "d.png": "test"}
    records = [PairRecord(file_name=f"images/{n}", isic_id=n[0], split=s) for n, s in sides.items()]  # type: ignore[arg-type]
    write_dataset(root, records, made_by={})
    findings = audit(root)
    assert [[record.isic_id for record in component] for component in findings.crossing] == [["a", "b"]]
    assert {(pair.first, pair.second) for pair in findings.near} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert all(pair.across for pair in findings.near)


def test_near_pairs_agree_with_counting_bits_one_by_one() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**63, (700, 2), dtype=np.uint64)
    hashes[500] = hashes[3] ^ np.array([7, 1], np.uint64)  # 4 bits away, in another block
    expected = [
        (i, j, bits)
        for i in range(700)
        for j in range(i + 1, 700)
        if (bits := sum((int(a) ^ int(b)).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True))) <= 40
    ]
    assert (3, 500, 4) in expected
    assert sorted(near_pairs(hashes, 40)) == expected


def test_ten_thousand_hashes_are_compared_in_seconds() -> None:
    hashes = np.random.default_rng(1).integers(0, 2**63, (10_000, 8), dtype=np.uint64)
    start = time.process_time()
    assert near_pairs(hashes, MAX_DISTANCE_BITS) == []
    assert time.process_time() - start < 60


def test_audit_refuses_what_it_cannot_check(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 to 512"):
        audit(tmp_path, max_distance=513)
    write_dataset(tmp_path, [PairRecord(file_name="images/a.png", isic_id="a")], made_by={})
    with pytest.raises(InputError, match="which is not in"):
        audit(tmp_path)
    save(pixels("a"), tmp_path / "images" / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"images/a\.png.*not_an_image"):
        audit(tmp_path)
    record = PairRecord(file_name="images/a.png", isic_id="a", perceptual_hash="xyz")  # type: ignore[call-arg]
    write_dataset(tmp_path, [record], made_by={})
    save(pixels("a"), tmp_path / "images" / "a.png")
    assert audit(tmp_path).near == []


# -- command line


def test_command_prepares_audits_and_says_what_it_did(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 6)
    (root / "images" / "bad.png").write_bytes(b"x")
    options = ["--size", "32", "--workers", "1", "--column", "diagnosis=diagnosis", "--label", "x=nevus", "--audit"]
    done = command(root, tmp_path / "out", *options)
    assert done.exit_code == 0, done.stderr
    assert "6 photographs, 6 masks" in done.stdout
    assert "not_an_image 1" in done.stdout
    assert "no patient, lesion or picture is in two splits" in done.stdout
    assert (tmp_path / "out" / "audit.csv").is_file()
    assert len(read_metadata(tmp_path / "out")) == 6


def test_command_ends_with_two_where_a_lesion_crosses(tmp_path: Path) -> None:
    records = [
        PairRecord(file_name=f"images/{split}.png", isic_id=split, split=split, lesion_id="L")  # type: ignore[arg-type]
        for split in ("train", "test")
    ]
    for record in records:
        save(pixels(record.isic_id), tmp_path / record.file_name)
    write_dataset(tmp_path, records, made_by={})
    done = command(tmp_path, "--audit")
    assert done.exit_code == 2
    assert "1 group of the same patient, lesion or picture in two splits" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SRC"], "name the new folder"),
        (["SRC", "OUT", "--column", "diagnosis"], "LEFT=RIGHT"),
        (["SRC", "OUT", "--label", "a=b", "--label", "a=c"], "twice"),
        (["NONE", "OUT"], "no folder"),
        (["SRC", "OUT", "--strict"], "no rejected item"),
    ],
)
def test_command_turns_wrong_input_into_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    root = good_folder(tmp_path / "SRC", 2)
    (root / "images" / "bad.png").write_bytes(b"x")
    done = command(*(str(tmp_path / a) if a.isupper() else a for a in arguments), *(["--workers", "1"]))
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# -- real photographs


@pytest.mark.real_data
def test_real_photographs(real_data: Path, tmp_path: Path) -> None:
    names = [path.stem for path in sorted((real_data / "images").iterdir())[:24]]
    rows = [row for row in read_csv(real_data / "metadata.csv") if row["image_id"] in names]
    for name in names:
        for folder, ending in (("images", "jpg"), ("masks", "png")):
            target = tmp_path / "src" / folder / f"{name}.{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(real_data / folder / target.name, target)
    write_csv(tmp_path / "src" / "metadata.csv", rows)
    summary = prepare(tmp_path / "src", tmp_path / "out", PrepareOptions(size=128), with_audit=True)
    assert (summary.counts["with_mask"], dict(summary.rejected)) == (24, {})
    assert summary.audit is not None
    assert summary.audit.crossing == []
    for record in read_metadata(tmp_path / "out"):
        with Image.open(tmp_path / "out" / str(record.mask_file_name)) as mask:
            assert mask.size == (128, 128)
            share = np.asarray(mask).mean() / 255
        stated = next(float(row["mask_area_fraction"]) for row in rows if row["image_id"] == record.isic_id)
        assert share == pytest.approx(stated, abs=0.01)
