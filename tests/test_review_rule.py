"""A reviewer's decision counts everywhere: rejected pairs are not used, and accepting one changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from benchmark_data import write_folder
from exchange_data import write_exchange_data
from release_data import write_generated
from skindualgen.benchmarking.results import BenchmarkResult
from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.audit import audit
from skindualgen.data.manifest import manifest_sha256, read_dataset_info, read_metadata, write_dataset
from skindualgen.data.pairs import read_pairs
from skindualgen.data.review import count_rejected, decision_of, left_out_line, read_used, used
from skindualgen.data.training_items import read_training_items
from skindualgen.evaluation.inputs import read_inputs
from skindualgen.exchange.merge import merge
from skindualgen.planning.requests import requests_like
from skindualgen.planning.sampling import plan_pairs
from skindualgen.planning.targets import balanced
from skindualgen.release.contents import read_contents
from skindualgen.training.loop import train
from skindualgen.verify.folder import verify_folder
from tiny import tiny_config, write_phantom_data

RECORDS = [
    PairRecord(
        file_name="images/a.png",
        mask_file_name="masks/a.png",
        isic_id="a",
        prompt="a nævus",
        diagnosis="nevus",
        sha256="0" * 64,
        scores={"dice": 0.5},
    ),
    PairRecord.model_validate(
        {"file_name": "images/b.png", "isic_id": "b", "split": "val", "lesion_id": "L1", "device": "dermatoscope"}
    ),
]
BEFORE_REVIEWS = "775441b8f9d4abc2ce468ff9d6bd614415ea9f3e3ad8c7ed7407750e631a21f4"
"""The hash that these records had when no record could hold a review."""


def reviewed(record: PairRecord, decision: str, **more: str) -> PairRecord:
    review = {"decision": decision, "date": "2030-01-31T09:30:00+00:00", **more}
    return PairRecord.model_validate({**record.model_dump(), "review": review})


def decide(root: Path, **decisions: str) -> None:
    """Write decisions as the studio does."""
    made_by = read_dataset_info(root)["made_by"]
    records = [reviewed(r, decisions[r.isic_id]) if r.isic_id in decisions else r for r in read_metadata(root)]
    write_dataset(root, records, made_by=made_by)


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(argument) for argument in arguments])


# --- the hash ---


def test_old_manifests_keep_their_hash() -> None:
    assert manifest_sha256(RECORDS) == BEFORE_REVIEWS


@pytest.mark.parametrize("decision", ["accepted", "rejected", "perhaps"])
def test_a_decision_does_not_change_the_hash_of_all_records(decision: str) -> None:
    assert manifest_sha256([reviewed(RECORDS[0], decision, reviewer="AB"), RECORDS[1]]) == BEFORE_REVIEWS


def test_the_hash_of_what_is_used_follows_rejections_alone() -> None:
    accepted, rejected = reviewed(RECORDS[0], "accepted"), reviewed(RECORDS[0], "rejected")
    assert manifest_sha256(used([accepted, RECORDS[1]])) == BEFORE_REVIEWS
    assert manifest_sha256(used([rejected, RECORDS[1]])) == manifest_sha256(RECORDS[1:]) != BEFORE_REVIEWS


def test_a_reviewed_folder_is_still_what_it_was(tmp_path: Path) -> None:
    """Its description keeps the hash, `read_metadata` gives all records, and a verification looks at all."""
    write_exchange_data(tmp_path / "real", synthetic=0)
    before = read_dataset_info(tmp_path / "real")
    found = [str(deviation) for deviation in verify_folder(tmp_path / "real")]
    decide(tmp_path / "real", ISIC_0000001="rejected", ISIC_0000002="accepted")
    assert read_dataset_info(tmp_path / "real") == before
    assert len(read_metadata(tmp_path / "real")) == 6
    assert [str(deviation) for deviation in verify_folder(tmp_path / "real")] == found


# --- the rule ---


def test_rejected_records_are_not_used(tmp_path: Path) -> None:
    records = [reviewed(RECORDS[0], "rejected"), RECORDS[1]]
    write_dataset(tmp_path, records, made_by={})
    assert [decision_of(record) for record in records] == ["rejected", "undecided"]
    assert [record.isic_id for record in read_used(tmp_path)] == ["b"] and count_rejected(records) == 1
    assert read_used(tmp_path, "val") == read_metadata(tmp_path, "val")
    with pytest.raises(InputError, match=r"1 pairs of the split 'train' in .* all of them rejected in review"):
        read_used(tmp_path, "train")
    with pytest.raises(InputError, match="one of train, val"):
        read_used(tmp_path, "test")


def test_what_was_left_out_is_one_line() -> None:
    assert left_out_line({"a": 0}) is None
    assert left_out_line({"a": 1, "b": 0, "c": 2}) == "Left out, as rejected in review: 1 pair of a, 2 pairs of c"


# --- who follows it ---


def test_training(tmp_path: Path, tiny_v_base: Path) -> None:
    """Accepting lets a run go on; rejecting makes another one of it, which has not seen the pair."""
    data = write_phantom_data(tmp_path / "data", train=6, val=2)
    chosen: dict[str, Any] = {"max_train_steps": 2, "train_batch_size": 2, "validation_steps": 2}
    train(tiny_config(data, tmp_path / "run", tiny_v_base, **chosen), stop_after=1)
    first, second = (record.isic_id for record in read_pairs(data, "train")[:2])
    decide(data, **{first: "accepted"})
    train(tiny_config(data, tmp_path / "run", tiny_v_base, **chosen))
    assert read_training_items(tmp_path / "run" / "adapter").manifest_sha256 == manifest_sha256(
        read_used(data, "train")
    )
    decide(data, **{second: "rejected"})
    with pytest.raises(InputError, match=r"run of other settings \(train_manifest_sha256\)"):
        train(tiny_config(data, tmp_path / "run", tiny_v_base, **chosen))
    console = Console(record=True, width=120)
    train(tiny_config(data, tmp_path / "other", tiny_v_base, **chosen), console=console)
    seen = {item.isic_id for item in read_training_items(tmp_path / "other" / "adapter").items}
    assert second not in seen and first in seen
    assert console.export_text().count("Left out, as rejected in review: 1 pair of train") == 1
    assert read_training_items(tmp_path / "other" / "adapter").manifest_sha256 == manifest_sha256(
        record for record in read_metadata(data, "train") if record.isic_id != second
    )


def test_benchmark(tmp_path: Path) -> None:
    real = write_folder(tmp_path / "real", range(14), split={"train": 8, "val": 6})
    generated = write_folder(tmp_path / "generated", range(100, 108), split={"train": 8}, origin="synthetic")
    decide(real, real_0000="rejected", real_0008="rejected", real_0009="accepted")
    decide(generated, synthetic_0100="rejected", synthetic_0101="rejected")
    done = run(
        "benchmark",
        "--real",
        real,
        "--generated",
        generated,
        "--out",
        tmp_path / "out",
        *(
            "--task segment --size 32 --network test_efficientnet --weights random --precision fp32 "
            "--batch-size 2 --threads 1 --devices cpu --steps 1 --seeds 1 --arms augment"
        ).split(),
    )
    assert done.exit_code == 0, done.output
    assert done.stderr.count("Left out, as rejected in review: 2 pairs of real, 2 pairs of generated") == 1
    task = BenchmarkResult.model_validate_json((tmp_path / "out" / "benchmark.json").read_text()).tasks[0]
    assert (task.test_items, task.generated_items, task.regimes[0].real_pairs) == (5, 6, 7)


def test_evaluation(tmp_path: Path) -> None:
    real = write_folder(tmp_path / "real", range(24), split={"train": 12, "test": 12})
    generated = write_folder(tmp_path / "generated", range(100, 112), split={"train": 12}, origin="synthetic")
    decide(real, real_0000="rejected", real_0012="rejected", real_0013="accepted")
    decide(generated, synthetic_0100="rejected")
    inputs = read_inputs(real, generated)
    assert (len(inputs.train), len(inputs.held_out), len(inputs.generated)) == (11, 11, 11)
    assert "synthetic_0100" not in inputs.generated.ids
    assert inputs.generated_info.manifest_sha256 == manifest_sha256(read_used(generated))
    assert inputs.left_out == "Left out, as rejected in review: 2 pairs of real, 1 pair of generated"
    assert f"{inputs.left_out}." in inputs.caveats


def test_merge(tmp_path: Path) -> None:
    real, generated = tmp_path / "real", tmp_path / "generated"
    write_exchange_data(real, synthetic=0)
    write_exchange_data(generated, real=False)
    decide(generated, SDG_0000001="rejected", SDG_0000000="accepted")
    done = run("merge", real, generated, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"Left out, as rejected in review: 1 pair of {generated}\n" in done.stdout
    records = {record.isic_id: record for record in read_metadata(tmp_path / "out")}
    assert len(records) == 8 and "SDG_0000001" not in records
    assert decision_of(records["SDG_0000000"]) == "accepted"
    info = read_dataset_info(tmp_path / "out")["made_by"]["merged"]
    assert [(part["name"], part["rejected"], part["manifest_sha256"]) for part in info] == [
        (root.name, rejected, manifest_sha256(read_used(root))) for root, rejected in ((real, 0), (generated, 1))
    ]
    decide(generated, **dict.fromkeys(("SDG_0000000", "SDG_0000001", "SDG_0000002"), "rejected"))
    done = run("merge", real, generated, "--out", tmp_path / "none")
    assert done.exit_code == 2 and "nothing but pairs that were rejected in review" in done.stderr


def test_export(tmp_path: Path) -> None:
    write_exchange_data(tmp_path / "data")
    decide(tmp_path / "data", ISIC_0000001="rejected", test_4="rejected")
    done = run("export-data", tmp_path / "data", tmp_path / "out", "--format", "imagefolder", "--split", "train")
    assert done.exit_code == 0, done.output
    assert f"Left out, as rejected in review: 1 pair of {tmp_path / 'data'}\n" in done.stdout
    assert "ISIC_0000001" not in {record.isic_id for record in read_metadata(tmp_path / "out")}
    decide(tmp_path / "data", **{record.isic_id: "rejected" for record in read_metadata(tmp_path / "data")})
    done = run("export-data", tmp_path / "data", tmp_path / "none", "--format", "imagefolder")
    assert done.exit_code == 2 and "but 9 that were rejected in review" in done.stderr


def test_plan_and_prompts_like_others(tmp_path: Path) -> None:
    kinds = ["nevus"] * 4 + ["melanoma"] * 3
    records = [PairRecord(file_name=f"images/{i}.png", isic_id=str(i), diagnosis=k) for i, k in enumerate(kinds)]
    write_dataset(tmp_path, records, made_by={})
    decide(tmp_path, **{"5": "rejected", "6": "rejected"})
    done = run("plan", "--data", tmp_path, "--out", tmp_path / "plan.csv")
    assert done.exit_code == 0, done.output
    assert f"Left out, as rejected in review: 2 pairs of {tmp_path}\n" in done.stdout
    assert "3 pairs in" in done.stdout
    (group,) = [g for g in plan_pairs(read_metadata(tmp_path), balanced).groups if g.group == ("melanoma",)]
    assert (group.real, group.planned) == (1, 3)  # the studio plans from all records
    likes = [request.attributes["diagnosis"] for request in requests_like(tmp_path, 50, 0)]
    assert likes.count("melanoma") == 10


def test_near_duplicates(tmp_path: Path) -> None:
    """To reject one of two copies fixes a set."""
    write_folder(tmp_path / "data", range(4), split={"train": 2, "val": 2})
    records = read_metadata(tmp_path / "data")
    for folder in ("images", "masks"):
        source = tmp_path / "data" / folder / "real_0000.png"
        (tmp_path / "data" / folder / "real_0003.png").write_bytes(source.read_bytes())
    assert [len(component) for component in audit(tmp_path / "data", max_distance=0).crossing] == [2]
    decide(tmp_path / "data", **{records[3].isic_id: "rejected"})
    findings = audit(tmp_path / "data", max_distance=0)
    assert (findings.crossing, findings.near, findings.rejected) == ([], [], 1)


def test_release_refuses_rejected_pairs_and_takes_what_merge_leaves(tmp_path: Path) -> None:
    root = write_generated(tmp_path / "generated")
    records = read_metadata(root)
    decide(root, **{records[0].isic_id: "rejected"})
    with pytest.raises(InputError, match=f"1 of {len(records)} pairs .* rejected"):
        read_contents(root)
    merge([root], tmp_path / "used")
    assert len(read_contents(tmp_path / "used").records) == len(records) - 1
