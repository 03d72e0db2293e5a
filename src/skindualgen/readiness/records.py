"""Problems that the records of a data set show: no file is read that has its hash in its record."""

from __future__ import annotations

from collections.abc import Callable

from skindualgen.data.audit import crossing_groups, crossing_text
from skindualgen.data.dataset import Dataset
from skindualgen.data.prompts import MAX_CLIP_TOKENS, clip_token_bound
from skindualgen.readiness.results import Problem, Purpose, some

LEAST_OF_CLASS = 10
"""Photographs of a diagnosis in a split below which little can be learnt or said of it: a share of ten is known to 26
points at best (Wilson)."""


def record_problems(
    data: Dataset, purpose: Purpose, count_tokens: Callable[[str], int] = clip_token_bound
) -> list[Problem]:
    """Return what is wrong with splits, classes, masks that are not there, and prompts.

    Args:
        data: the records in use.
        purpose: what they are for.
        count_tokens: of a prompt, start and end included; asked only where `clip_token_bound` is too much.

    Raises:
        InputError: a photograph without a recorded hash is missing.
    """
    train, tested = data.split("train"), "test" if "test" in data.splits else "val"
    found = _splits(data, purpose)
    if crossing := crossing_groups(data):
        remedy = "split anew: skindualgen prepare SRC NEW --ignore-official-split"
        ids = tuple(record.isic_id for group in crossing for record in group)
        found.append(Problem("crossing", "stop", crossing_text(crossing), remedy, ids))
    for split in [name for name in data.splits if name == "train" or (purpose == "benchmark" and name == tested)]:
        counts = data.counts["diagnosis"][split]
        few = [f"{name} {counts.get(name, 0)}" for name in data.diagnoses if counts.get(name, 0) < LEAST_OF_CLASS]
        remedy = "add photographs, or join diagnoses: skindualgen prepare SRC NEW --label LABEL=DIAGNOSIS"
        text = f"fewer than {LEAST_OF_CLASS} photographs of a diagnosis in {split}: {', '.join(few)}"
        found += [Problem("few_of_class", "fix", text, remedy)] if few else []
    without = [record.isic_id for record in data if record.mask_file_name is None]
    remedy = "leave them out: skindualgen prepare SRC NEW --require-masks; or read masks: skindualgen generate --read"
    none = purpose == "train" and len(train) > 0 and not train.with_masks()
    found += some("no_mask", "photographs without a mask", without, len(data), remedy, "stop" if none else "fix")
    if purpose == "train":
        prompts = {record.isic_id: record.prompt or "" for record in data}
        bounded = [name for name, text in prompts.items() if clip_token_bound(text) > MAX_CLIP_TOKENS]
        long = [name for name in bounded if count_tokens(prompts[name]) > MAX_CLIP_TOKENS]
        what = f"prompts of more than {MAX_CLIP_TOKENS} CLIP tokens, whose end is not read"
        remedy = "shorten captions in SRC, or have prompts made of labels: skindualgen prepare SRC NEW --template ..."
        found += some("long_prompt", what, long, len(data), remedy)
    return found


def _splits(data: Dataset, purpose: Purpose) -> list[Problem]:
    remedy = "split anew: skindualgen prepare SRC NEW --split 70/15/15"
    found = []
    if "train" not in data.splits:
        found.append(Problem("no_train_split", "stop", "no photograph is in the split train", remedy))
    if purpose == "train" and "val" not in data.splits:
        text = "no photograph is in the split val: how well a training goes is not measured"
        found.append(Problem("no_val_split", "fix", text, remedy))
    if purpose == "benchmark" and "test" not in data.splits:
        text = "no photograph is in the split test"
        if "val" not in data.splits:
            found.append(Problem("no_test_split", "stop", f"{text}, nor in val", remedy))
        else:
            text += ": the test would be on val, by which generators are chosen"
            found.append(Problem("no_test_split", "fix", text, remedy))
    return found
