"""The data set folders of the registered study: real pairs of a regime, its parts, and the pairs made for each part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from downstream_runs import lesion_of
from downstream_sets import link_pairs
from micro_judges import CLASSES
from micro_quality import run_command
from registered_plan import WAYS, Regime

from skindualgen.benchmarking.plan import real_parts
from skindualgen.benchmarking.subsets import nested_subset
from skindualgen.contracts import DATASET_FILE, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata
from skindualgen.data.terms import diagnosis_term
from skindualgen.data.training_items import read_training_items, write_training_items
from skindualgen.judges.pictures import PictureSet, in_terms

TERMS = {diagnosis_term(name) for name in CLASSES}
MADE_BY = {"study": "registered"}


@dataclass(frozen=True)
class Effort:
    """What everything is done with; the defaults are registered.

    Attributes:
        parts, repeats: parts of the real pairs (all of them are one, drawn from so often), trainings on each.
        steps: of each training, equal in all arms.
        adapter_steps, adapter_batch: of an adapter that is trained on a part.
        config: settings of these adapters.
        adapter: of the regimes with all pairs.
        network, weights: of the trainings, as the benchmark takes them.
        cores, device: see the options.
    """

    parts: int = 5
    repeats: int = 2
    steps: int = 400
    adapter_steps: int = 1600
    adapter_batch: int = 8
    config: Path = Path("scripts/micro_adapter.toml")
    adapter: str = "builtin"
    network: str = "tf_efficientnet_lite0"
    weights: str = "imagenet"
    cores: int = 1
    device: str = "cpu"


def real_folder(regime: Regime, data: Path, folder: Path) -> Path:
    """The pairs of the three diagnoses; of two clinics the second one's, whose lesions the first one has not."""
    records = _pairs(data)
    if regime.shared:
        elsewhere = {lesion_of(record) for record in _first_clinic(records)}
        records = [record for record in records if record.split != "train" or lesion_of(record) not in elsewhere]
    return link_pairs(data, records, folder / "real", made_by=MADE_BY)


def _pairs(data: Path) -> list[PairRecord]:
    return [r for r in read_metadata(data) if r.mask_file_name and diagnosis_term(r.diagnosis) in TERMS]


def _first_clinic(records: list[PairRecord]) -> list[PairRecord]:
    """Half of the training pairs, lesions whole but for one a class."""
    train = [record for record in records if record.split == "train"]
    described = [record.diagnosis for record in train], [record.isic_id for record in train]
    half = nested_subset(*described, count=len(train) // 2, groups=[lesion_of(record) for record in train])
    return [train[position] for position in half]


def part_folder(regime: Regime, real: Path, folder: Path, number: int, parts: int) -> Path:
    """The real pairs of a part alone: those of the benchmark's seed of that number."""
    train = in_terms(Dataset.open(real, "train"))
    if regime.amount is None:
        return real
    blank = np.zeros((len(train), 1, 1, 3), np.uint8)
    evenly = regime.task == "classify"
    count = regime.amount * (len(TERMS) if evenly else 1)
    chosen = real_parts(PictureSet(train, blank, blank[..., 0] > 0), count, parts, evenly=evenly)[number]
    records = [train.records[position] for position in chosen]
    return link_pairs(real, records, folder / f"part_{number}", made_by=MADE_BY)


def generated_folder(regime: Regime, way: str, data: Path, real: Path, folder: Path, effort: Effort) -> Path:
    """The pairs of a way: a draw for each part, by an adapter that has seen that part alone, in one data set folder."""
    root, made = folder / way, []
    if (root / DATASET_FILE).is_file():
        return root
    for number in range(effort.parts):
        part = part_folder(regime, real, folder, number, effort.parts)
        places = {"part": str(part), "count": str(len(read_metadata(part, "train")))}
        if way == "read":
            places["photographs"] = str(_photographs(regime, data, folder / "photographs"))
        draw = folder / "draws" / f"{way}_{number}"
        asked = [word.format(**places) for word in WAYS[way]]
        adapter = _adapter(regime, data, part, folder, number, effort)
        named = ["--seed", str(number), "--id-prefix", f"D{number}", "--out", str(draw)]
        run_command("generate", "--adapter", adapter, *asked, *named, "--workers", str(effort.cores))
        made += [_of_draw(record, draw.name, number) for record in read_metadata(draw)]
    items = {path.name: read_training_items(path) for path in sorted((folder / "draws").glob(f"{way}_*"))}
    root.mkdir(parents=True, exist_ok=True)
    write_training_items(root, [], earlier=items)
    return link_pairs(folder / "draws", made, root, made_by=MADE_BY)


def _of_draw(record: PairRecord, draw: str, number: int) -> PairRecord:
    """The record with its files' places seen from the folder of all draws, and the part that it serves."""
    fields = {"file_name", "mask_file_name", "ignore_file_name"}
    places = {field: f"{draw}/{name}" for field in fields if (name := getattr(record, field, None)) is not None}
    return record.model_copy(update={**places, "draw": number})


def _photographs(regime: Regime, data: Path, root: Path) -> Path:
    """The training photographs without a mask; the first of two clinics has kept those of its lesions."""
    bare = [r for r in read_metadata(data, "train") if not r.mask_file_name and diagnosis_term(r.diagnosis) in TERMS]
    elsewhere = {lesion_of(record) for record in _first_clinic(_pairs(data))} if regime.shared else set()
    return link_pairs(data, [r for r in bare if lesion_of(r) not in elsewhere], root, made_by=MADE_BY)


def _adapter(regime: Regime, data: Path, part: Path, folder: Path, number: int, effort: Effort) -> str:
    """The adapter of a part; the bundled one where it has all pairs, the first clinic's where that one shares it."""
    if regime.amount is None:
        return effort.adapter
    trained_on, run = part, folder / f"run_{number}"
    if regime.shared:
        trained_on, run = folder / "first_clinic", folder / "run_first_clinic"
        link_pairs(data, _first_clinic(_pairs(data)), trained_on, made_by=MADE_BY)
        number = 0
    return _trained(trained_on, run, number, effort)


@cache
def _trained(data: Path, run: Path, seed: int, effort: Effort) -> str:
    """Train an adapter, or go on with it; once a process."""
    settings = {"max_train_steps": effort.adapter_steps, "train_batch_size": effort.adapter_batch, "seed": seed}
    settings |= {"threads": effort.cores} | ({"mixed_precision": "fp32"} if effort.device == "cpu" else {})
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run_command("train", "--config", str(effort.config), "--data", str(data), "--out", str(run), *options)
    return str(run)
