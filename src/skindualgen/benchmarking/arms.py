"""The arms of a comparison: what each of them trains on. Steps, schedule and network are the same for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from skindualgen.contracts import InputError

Task = Literal["segment", "classify"]
ClassAllocation = Literal["balance", "match", "even"]

CLASS_ALLOCATIONS: dict[Task, ClassAllocation] = {"segment": "match", "classify": "balance"}
"""How the diagnoses of generated pairs are chosen by default: like the real ones, or the rare ones first."""

RATIOS = (0.25, 0.5, 1, 2, 5)
PRETRAIN_SHARE = 0.5
"""Share of the steps that the arm "pretrain" spends on generated pairs."""
TUNED, SELF_TRAINED = "augment-tuned", "self-train"
"""Names of controls that run where they are named."""
Mix = Literal["mixup", "cutmix"]
MIXES: dict[Mix, str] = {"mixup": "MixUp", "cutmix": "CutMix"}
"""What mixes the photographs of a batch -> its name in texts."""


class Arm(BaseModel):
    """What one arm trains on. The name is for tables, options and files; nothing is decided by it.

    Attributes:
        name, title, definition: for people.
        uses_real, uses_synthetic: whether real and generated pairs are trained on.
        repeat_real: the pairs that are added to the real ones are repeats of these.
        ratio: pairs, generated or repeated, for each real one; None adds none.
        class_allocation: diagnoses of these pairs. "match": in the proportions of the real ones; "balance": each of the
            class that is rarest by then, so that classes become as equal as they can; "even": as many of each class,
            each drawn equally often with the same share of generated pairs, so that to be generated says nothing about
            the diagnosis, as it does in a pool whose rare classes alone are filled up.
        equal_classes: what makes the classes of the real pairs count alike, weights in the loss or the draws.
        augment: classical augmentation, the same for all arms that have it.
        pretrain: share of the steps, the first ones, that draw generated pairs alone; the others then draw real ones
            alone. 0 mixes them in every batch.
        replacement: chance that a real pair of a batch is replaced by a generated one of its diagnosis, by one that was
            made from it where there is any. It takes the place of a ratio.
        own_masks: the generated pairs' pictures with masks that the arm's own network gives them, once it has learnt
            the real pairs with the same budget; a second network then learns both.
        separate_norms: real and generated pictures of a batch are normalised by statistics of their own (BatchNorm),
            and those of real ones are kept for the test. Source: Xie et al., CVPR 2020, whose second norms also have
            weights of their own.
        mix: what mixes the photographs of a batch, and their diagnoses.
        tuned: the augmentation is chosen on the validation part, of `augmentation.candidates`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    definition: str
    uses_real: bool = True
    uses_synthetic: bool = False
    repeat_real: bool = False
    ratio: float | None = None
    class_allocation: ClassAllocation | None = None
    equal_classes: Literal["loss", "draws"] | None = None
    augment: bool = True
    pretrain: float = 0.0
    replacement: float = 0.0
    own_masks: bool = False
    separate_norms: bool = False
    mix: Mix | None = None
    tuned: bool = False

    @property
    def combines(self) -> bool:
        """Whether it learns from real and generated pairs."""
        return self.uses_real and self.uses_synthetic and not self.own_masks

    @property
    def is_hybrid(self) -> bool:
        """Whether it is of the series over ratios: real and generated pairs mixed in every batch."""
        return self.combines and self.ratio is not None and not self.pretrain and not self.separate_norms


def arms_of(
    task: Task,
    ratios: Sequence[float] = RATIOS,
    class_allocation: ClassAllocation | None = None,
    replacements: Sequence[float] = (),
) -> list[Arm]:
    """Return the arms of a task that run unless others are named, in the order of the tables.

    Args:
        task: reweighting and oversampling are for classification alone, where classes are what is learnt.
        ratios: generated pairs for each real one, a hybrid arm each. Repeated real pairs and the arms that see
            generated ones apart are made for ratio 1, or for the largest if 1 is not among them.
        class_allocation: see `Arm`; the task's own of `CLASS_ALLOCATIONS` if not given.
        replacements: see `Arm.replacement`, an arm each.

    Raises:
        InputError: no ratio, one that is not above 0, a replacement outside (0, 1], or a number twice.
    """
    if (
        not ratios
        or not all(0 < ratio < math.inf for ratio in ratios)
        or len({f"{ratio:g}" for ratio in ratios}) < len(ratios)
    ):
        raise InputError(f"ratios {list(ratios)}", "different numbers above 0", "use for example 0.25 0.5 1 2 5")
    if not all(0 < chance <= 1 for chance in replacements) or len({f"{chance:g}" for chance in replacements}) < len(
        replacements
    ):
        raise InputError(f"replacements {list(replacements)}", "different numbers in (0, 1]", "use for example 0.1 0.5")
    reference = _reference(ratios)
    allocation = class_allocation or CLASS_ALLOCATIONS[task]

    def arm(name: str, title: str, definition: str, *, ratio: float | None = None, **what: Any) -> Arm:
        added: dict[str, Any] = {"ratio": ratio, "class_allocation": allocation if ratio else None}
        return Arm(name=name, title=title, definition=definition, **added, **what)

    plain = [
        arm("real", "real", "The real pairs as they are, without augmentation.", augment=False),
        arm("augment", "real + augmentation", "The real pairs with classical augmentation; so is every arm below."),
    ]
    weighed = [
        arm(
            "reweight",
            "real, reweighted",
            "Each photograph's loss is weighted by the inverse of its class's frequency.",
            equal_classes="loss",
        ),
        arm(
            "oversample",
            "real, oversampled",
            "Photographs are drawn so that each class is drawn equally often.",
            equal_classes="draws",
        ),
    ]
    controls = [
        arm(
            "replay",
            "real + real replay",
            f"The real pairs and as many repeats of them as hybrid-{reference:g} has generated pairs, of the same "
            "diagnoses: the control for another balance of classes without new pictures.",
            ratio=reference,
            repeat_real=True,
        ),
        arm(
            "synthetic",
            "synthetic only",
            f"Generated pairs alone, {reference:g} for each real one that the other arms have.",
            ratio=reference,
            uses_real=False,
            uses_synthetic=True,
        ),
        arm(
            "pretrain",
            "synthetic, then real",
            f"Generated pairs alone, {reference:g} for each real one, for the first {PRETRAIN_SHARE:.0%} of the steps, "
            "and the real pairs alone for the others.",
            ratio=reference,
            uses_synthetic=True,
            pretrain=PRETRAIN_SHARE,
        ),
    ]
    hybrids = [
        arm(
            f"hybrid-{ratio:g}",
            f"real + {ratio:g} x synthetic",
            f"The real pairs and {ratio:g} generated ones for each of them.",
            ratio=float(ratio),
            uses_synthetic=True,
        )
        for ratio in sorted(ratios)
    ]
    replacing = [
        Arm(
            name=f"replace-{chance:g}",
            title=f"synthetic in place of {chance:.0%}",
            definition=f"Real pairs, each replaced with a chance of {chance:g} by a generated one of its diagnosis, "
            "and by one that was made from it where there is any.",
            uses_synthetic=True,
            replacement=float(chance),
        )
        for chance in sorted(replacements)
    ]
    return [*plain, *(weighed if task == "classify" else []), *controls, *hybrids, *replacing]


def arms_on_request(
    task: Task,
    ratios: Sequence[float] = RATIOS,
    class_allocation: ClassAllocation | None = None,
    replacements: Sequence[float] = (),
) -> list[Arm]:
    """Return the arms of a task that run only where they are named; arguments and errors as of `arms_of`."""
    mixing = [arm for arm in arms_of(task, ratios, class_allocation, replacements) if arm.is_hybrid or arm.replacement]
    apart = [
        arm.model_copy(
            update={
                "name": f"{arm.name}-norms",
                "title": f"{arm.title}, norms apart",
                "definition": f"{arm.definition} In a batch both are normalised apart, and the statistics of real "
                "photographs are kept.",
                "separate_norms": True,
            }
        )
        for arm in mixing
    ]
    tuned = Arm(
        name=TUNED,
        title="real + tuned augmentation",
        definition="The real pairs with the augmentation whose network is best on the validation part: none, weaker, "
        "the usual, elastic, stronger colour or, to classify, RandAugment. As many trainings as there are choices.",
        tuned=True,
    )
    if task == "classify":
        mixes = [
            Arm(
                name=name,
                title=f"real, {title}",
                definition=f"The real pairs with augmentation; {title} mixes photographs and diagnoses of each batch.",
                mix=name,
            )
            for name, title in MIXES.items()
        ]
        return [tuned, *mixes, *apart]
    reference = _reference(ratios)
    own = Arm(
        name=SELF_TRAINED,
        title="real + own masks",
        definition=f"The pairs of hybrid-{reference:g}, but the masks of the generated ones come from a segmenter that "
        "was trained on the real ones with the same steps: what their own masks add shows beside it.",
        uses_synthetic=True,
        own_masks=True,
        ratio=reference,
        class_allocation=class_allocation or CLASS_ALLOCATIONS[task],
    )
    return [tuned, own, *apart]


def _reference(ratios: Sequence[float]) -> float:
    """The ratio for which the controls are made."""
    return 1.0 if 1 in ratios else float(max(ratios))
