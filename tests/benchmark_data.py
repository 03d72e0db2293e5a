"""Small folders, pictures and pools for the tests of the benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.benchmarking.arms import Arm
from skindualgen.benchmarking.pools import Trial
from skindualgen.benchmarking.trials import Recipe, TaskData
from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.data.phantom import draw_phantom
from skindualgen.judges.networks import Network
from skindualgen.judges.pictures import PictureSet
from skindualgen.judges.training import Budget

SIZE_PX = 32
TINY = Network("test_efficientnet", "random")
CLASSES = ("melanoma", "nevus")


def write_folder(root: Path, seeds: range, *, split: dict[str, int], origin: str = "real") -> Path:
    """Write phantoms of two classes in turn, the first ``split["train"]`` of them in train and so on."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    splits = [name for name, count in split.items() for _ in range(count)]
    records = []
    for seed, part in zip(seeds, splits, strict=True):
        phantom = draw_phantom(seed, size=SIZE_PX, diagnosis=CLASSES[seed % 2])
        name = f"{origin}_{seed:04d}"
        Image.fromarray(phantom.image).save(root / f"images/{name}.png")
        Image.fromarray(phantom.mask).save(root / f"masks/{name}.png")
        fields: dict[str, Any] = {"diagnosis": phantom.diagnosis, "split": part, "origin": origin}
        records.append(
            PairRecord(file_name=f"images/{name}.png", mask_file_name=f"masks/{name}.png", isic_id=name, **fields)
        )
    write_dataset(root, records, made_by={})
    return root


def pictures(count: int, *, classes: int = 2, seed: int = 0) -> PictureSet:
    """Plain pictures whose every pixel of item i is i."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, SIZE_PX, SIZE_PX, 3))
    diagnoses = [f"class {i % classes}" for i in range(count)]
    found = PictureSet.of_arrays(images.copy(), diagnoses, np.zeros((count, SIZE_PX, SIZE_PX), bool))
    columns = {"ids": "i{i}", "digests": "{seed}-{i}", "groups": "g{i}"}
    return known(found, **{name: [text.format(seed=seed, i=i) for i in range(count)] for name, text in columns.items()})


def known(found: PictureSet, **columns: Any) -> PictureSet:
    """The same pictures, of which other things are known than their records say."""
    changed = replace(found)
    vars(changed).update(columns)
    return changed


def trial_of(real: list[int], synthetic: list[int], *, seed: int = 0, **fields: Any) -> Trial:
    """A trial of plain draws; fields of the arm (without augmentation if not given) or of the trial."""
    of_arm = {name: fields.pop(name) for name in list(fields) if name in Arm.model_fields}
    plain: dict[str, Any] = {"name": "x", "title": "", "definition": "", "augment": False}
    count = len(real) + len(synthetic)
    weights = fields.pop("weights", np.full(count, 1 / count))
    positions = np.array(real, np.int64), np.array(synthetic, np.int64)
    return Trial("classify", Arm(**(plain | of_arm)), seed, len(real), *positions, weights, **fields)


def plain_data(train: int = 10, generated: int = 10, *, recipe: Recipe | None = None) -> TaskData:
    parts = {"train": pictures(train), "generated": pictures(generated, seed=1), "test": pictures(4, seed=2)}
    return TaskData("classify", **parts, classes=["class 0", "class 1"], recipe=recipe or recipe_of())


def recipe_of(steps: int = 2, batch_size: int = 4) -> Recipe:
    return Recipe(TINY, Budget(steps=steps, batch_size=batch_size), SIZE_PX, bfloat16=False)
