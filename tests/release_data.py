"""Small folders to release: generated pairs with their marks, real pairs beside them, and results that judge them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import manifest_sha256, read_metadata, write_dataset
from skindualgen.data.terms import diagnosis_term
from skindualgen.data.training_items import write_training_items
from skindualgen.evaluation.definitions import DEFINITIONS
from skindualgen.files import atomic_write_json, sha256_bytes
from skindualgen.marks.embed import image_png, mask_png

SIDE_PX = 32
ADAPTER, BASE = "a" * 64, "b" * 64
DIAGNOSES = ("melanoma", "nevus", "nevus")
TRAINING = [
    PairRecord(file_name=f"images/R{i}.png", isic_id=f"R{i}", sha256=f"{i}" * 64, source=source, license=licence)
    for i, (source, licence) in enumerate([("ISIC 2018", "CC-BY-NC-4.0"), ("ISIC 2018", "CC-BY-NC-4.0"), ("Own", None)])
]


def write_generated(
    root: Path, *, count: int = 6, adapter: str = ADAPTER, base_id: str = "micro", **first: Any
) -> Path:
    """Write a folder as ``generate`` leaves it: marked pairs, settings, training items, a contact sheet.

    ``first`` are fields of the first record.
    """
    made = {"source": "skindualgen 0.1.0", "adapter_sha256": adapter, "base_sha256": BASE, "num_inference_steps": 20}
    made |= {"origin": "synthetic", "guidance_scale": 3.0}
    records = []
    for index in range(count):
        diagnosis = DIAGNOSES[index % len(DIAGNOSES)]
        fields = {"diagnosis": diagnosis, "prompt": f"a {diagnosis}", "seed": 2**62 + index, **made}
        fields |= {"patient_id": f"P{index}", "scores": {"mask_area_fraction": 0.2}}
        records.append(_write_pair(root, f"SDG_{index:07d}", index, **(fields if index else fields | first)))
    made_with = {"steps": 20, "guidance": 3.0, "batch_size": 8, "size": None, "base_id": base_id, "base_sha256": BASE}
    atomic_write_json(root / "generate.json", {**made_with, "adapter_sha256": adapter, "requests": [{"index": 0}]})
    write_training_items(root, TRAINING)
    Image.new("RGB", (64, 32), (180, 120, 90)).save(root / "contact_sheet.png")
    write_dataset(root, records, made_by={"command": ["generate"], "date_utc": "2026-11-24T10:00:00+00:00"})
    return root


def add_real(root: Path, split: str, *, licence: str | None = "CC-BY-4.0", count: int = 2) -> None:
    """Add real pairs of one split to a folder of ``write_generated``."""
    records = read_metadata(root)
    records += [
        _write_pair(
            root,
            f"ISIC_{split}_{i}",
            90 + i,
            origin="real",
            split=split,
            diagnosis="nevus",
            source="ISIC 2019",
            license=licence,
        )
        for i in range(count)
    ]
    write_dataset(root, records, made_by={"command": ["merge"]})


def write_real(root: Path) -> Path:
    """Write the metadata of the training data: licences are read of it, never pictures."""
    root.mkdir()
    write_dataset(root, [*TRAINING, PairRecord(file_name="images/V.png", isic_id="V", split="val")], made_by={})
    return root


def write_report(path: Path, root: Path, *, near_copies: int = 1) -> Path:
    """Write a ``report.json`` of hand-made numbers for the pairs of a folder."""
    records = [
        record.model_copy(update={"diagnosis": diagnosis_term(record.diagnosis)})
        for record in read_metadata(root)
        if record.origin == "synthetic"
    ]
    names = ("frechet", "near_copy_rate", "skin_dark", "skin_light", "kid")
    copies = [
        {
            "generated": "SDG_0000000",
            "other": "R0",
            "feature_distance": 0.1,
            "misfit_ratio": 0.2,
            "hash_bits": 3,
            "found_by": ["features"],
        }
    ]
    measures = {
        "fidelity": [
            _measure("frechet", 107.4, (102.0, 112.9), ("real against real", 45.6), judge="lite0"),
            _measure("kid", None, None, None, judge="lite0", caveat="too few photographs"),
            {**_measure("frechet", 99.0, None, None, judge="lite0"), "key": "frechet[nevus]", "group": "nevus"},
        ],
        "memorisation": [_measure("near_copy_rate", 0.1667, (0.01, 0.5), ("unseen real, by definition", 0.01))],
        "skin_tone": [
            _measure("skin_dark", 0.0, (0.0, 0.4), ("held-out real", 0.01), caveat="2 real photographs: too thin"),
            _measure("skin_light", 0.75, (0.4, 0.9), ("held-out real", 0.8)),
        ],
    }
    sections: dict[str, Any] = {name: {"measures": measures.get(name, [])} for name in measures}
    sections["memorisation"]["near_copies"] = copies * near_copies
    sections |= {"masks": {"left_out": "no masks"}, "diagnosis": {}, "adherence": {}}
    real = {"name": "derm", "manifest_sha256": "c" * 64, "side_px": 64, "counts": {}}
    run = {
        "command": ["evaluate"],
        "date_utc": "2026-11-25T08:00:00+00:00",
        "versions": {},
        "platform": "Linux",
        "seed": 0,
        "size_px": 32,
        "held_out": "val",
        "n_train": 20,
        "n_held_out": 12,
        "n_generated": len(records),
        "extractors": ["lite0"],
        "judge_recipes": {},
    }
    report = {
        "run": run,
        "real": real,
        "generated": {**real, "name": "gen", "manifest_sha256": manifest_sha256(records)},
        "caveats": ["Only 12 held-out photographs."],
        "definitions": {name: DEFINITIONS[name].model_dump() for name in names},
        **sections,
    }
    path.write_text(json.dumps(report))
    return path


def write_benchmark(path: Path) -> Path:
    """Write a ``benchmark.json`` with one verdict."""
    verdict = {
        "metric": "dice",
        "helped": False,
        "winners": [],
        "winners_holm": [],
        "closest": "hybrid",
        "text": "By Dice, no hybrid beats both real replay and classical augmentation.",
    }
    regime = {
        "real_pairs": 40,
        "whole": False,
        "diagnoses": {},
        "best": {},
        "arms": [],
        "left_out": [],
        "verdicts": [verdict],
    }
    task = {
        "task": "segment",
        "network": "unet",
        "weights": "imagenet",
        "parameters": 1,
        "precision": "fp32",
        "steps": 1,
        "batch_size": 1,
        "learning_rate": 1.0,
        "fill": "match",
        "classes": [],
        "test_items": 9,
        "test_groups": 9,
        "generated_items": 6,
        "metrics": [],
        "undefined": {},
        "caveats": [],
        "regimes": [regime],
    }
    result = {
        "real": "derm",
        "generated": "gen",
        "test_split": "test",
        "seeds": 5,
        "size_px": 64,
        "threads": 1,
        "devices": ["cpu"],
        "leaks": [],
        "caveats": [],
        "tasks": [task],
        "record": {},
    }
    path.write_text(json.dumps(result))
    return path


def _write_pair(root: Path, name: str, noise: int, **fields: Any) -> PairRecord:
    generator = np.random.default_rng(noise)
    pixels = generator.integers(60, 220, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[8:20, 10:24] = 255
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    record = PairRecord(file_name=f"images/{name}.png", mask_file_name=f"masks/{name}.png", isic_id=name, **fields)
    image = Image.fromarray(pixels)
    if record.origin == "synthetic":
        (root / record.file_name).write_bytes(image_png(image, record))
    else:
        image.save(root / record.file_name)
    (root / f"masks/{name}.png").write_bytes(mask_png(Image.fromarray(mask), name))
    record.sha256 = sha256_bytes((root / record.file_name).read_bytes())
    record.mask_sha256 = sha256_bytes((root / f"masks/{name}.png").read_bytes())
    return record


def _measure(
    name: str,
    value: float | None,
    interval: tuple[float, float] | None,
    reference: tuple[str, float] | None,
    *,
    judge: str | None = None,
    caveat: str | None = None,
) -> dict[str, Any]:
    low, high = interval or (None, None)
    found: dict[str, Any] = {"key": name, "name": name, "value": value, "low": low, "high": high, "judge": judge}
    found |= {"n_generated": 6, "n_real": 12, "caveat": caveat}
    return found if reference is None else {**found, "reference": {"kind": reference[0], "value": reference[1]}}
