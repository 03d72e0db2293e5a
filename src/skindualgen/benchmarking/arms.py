"""The arms of a comparison: what each of them trains on. Steps, schedule and network are the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from skindualgen.contracts import InputError

Task = Literal["segment", "classify"]
RATIOS = (0.25, 0.5, 1, 2, 5)
PRETRAIN_SHARE = 0.5
"""share of the steps that the arm "pretrain" spends on generated pairs"""


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: as in tables and file names.
        title, definition: for people.
        uses_synthetic: whether generated pairs are trained on.
        ratio: generated pairs, or their real replacements, for each real one; None without either.
        augment: classical augmentation, the same for all arms that have it.
    """

    name: str
    title: str
    definition: str
    uses_synthetic: bool
    ratio: float | None
    augment: bool


def arms_of(task: Task, ratios: Sequence[float] = RATIOS) -> list[Arm]:
    """Return the arms of a task in the order of the tables.

    Args:
        task: reweighting and oversampling are for classification alone, where classes are what is learnt.
        ratios: generated pairs for each real one, a hybrid arm each. Replay and the arm without real pairs are made for
            ratio 1, or for the largest if 1 is not among them.

    Raises:
        InputError: no ratio, one that is not above 0, or one twice.
    """
    if not ratios or min(ratios) <= 0 or len({f"{ratio:g}" for ratio in ratios}) < len(ratios):
        raise InputError(f"ratios {list(ratios)}", "different numbers above 0", "use for example 0.25 0.5 1 2 5")
    reference = 1.0 if 1 in ratios else float(max(ratios))
    arms = [
        Arm("real", "real", "The real pairs as they are, without augmentation.", False, None, False),
        Arm(
            "augment", "real + augmentation",
            "The real pairs with classical augmentation; so is every arm below.", False, None, True,
        ),
    ]  # fmt: skip
    if task == "classify":
        arms += [
            Arm(
                "reweight", "real, reweighted",
                "Each photograph's loss is weighted by the inverse of its class's frequency.", False, None, True,
            ),
            Arm(
                "oversample", "real, oversampled",
                "Photographs are drawn so that each class is drawn equally often.", False, None, True,
            ),
        ]  # fmt: skip
    arms += [
        Arm(
            "replay", "real + real replay",
            f"The real pairs and as many repeats of them as hybrid-{reference:g} has generated pairs, of the same "
            "diagnoses: the control for another balance of classes without new pictures.",
            False, reference, True,
        ),
        Arm(
            "synthetic", "synthetic only",
            f"Generated pairs alone, {reference:g} for each real one that the other arms have.", True, reference, True,
        ),
    ]  # fmt: skip
    arms.append(
        Arm(
            "pretrain", "synthetic, then real",
            f"Generated pairs alone, {reference:g} for each real one, for the first {PRETRAIN_SHARE:.0%} of the steps, "
            "and the real pairs alone for the others.",
            True, reference, True,
        )
    )  # fmt: skip
    return arms + [
        Arm(
            f"hybrid-{ratio:g}", f"real + {ratio:g} x synthetic",
            f"The real pairs and {ratio:g} generated ones for each of them.", True, float(ratio), True,
        )
        for ratio in sorted(ratios)
    ]  # fmt: skip
