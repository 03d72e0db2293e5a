"""From counts to prompts: rows of a plan with the attributes of real training pairs, drawn without bias."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.labels import LABELS, TONE, check_labels, contradiction, label_value, stated, states
from skindualgen.data.prompts import MAX_CLIP_TOKENS, TEMPLATES, clip_token_bound, fields_of, parse_template, prompt_for
from skindualgen.data.review import used
from skindualgen.planning.looks import with_looks
from skindualgen.planning.rows import MAX_PAIRS, PlanRow, seed_of_row
from skindualgen.planning.targets import BY, Group, GroupPlan, Target, group_of, plan_groups
from skindualgen.planning.templates import DynamicTemplates

Labels = tuple[tuple[str, Any], ...]
"""Names and values of what a pair is labelled with."""


@dataclass(frozen=True)
class PlannedSet:
    """A plan and what it was made from.

    Attributes:
        by: attributes that were grouped by.
        rows: the plan, group by group; pairs with the same prompt and labels are one row.
        groups: what each group has, and gets.
        ungrouped: real training pairs that lack one of the attributes, and so count in no group.
    """

    by: tuple[str, ...]
    rows: list[PlanRow]
    groups: list[GroupPlan]
    ungrouped: int

    @property
    def pairs(self) -> int:
        """Pairs of the plan."""
        return sum(group.planned for group in self.groups)


def plan_pairs(
    records: Sequence[PairRecord],
    target: Target,
    *,
    by: tuple[str, ...] = ("diagnosis",),
    max_ratio: float = 5.0,
    seed: int = 0,
    allow_novel: bool = False,
    templates: DynamicTemplates | None = None,
) -> PlannedSet:
    """Plan synthetic pairs for the training split of a data set; its other splits are not looked at.

    Each pair takes the attributes of one real training record of its group; all records are used equally often, but
    for one. Its prompt states every attribute that is grouped by, and its labels are what its prompt states, with the
    behaviour (benign, malignant) that goes with the diagnosis: nothing else is known of a generated photograph.

    Args:
        records: of a data set folder. Real ones are drawn from; synthetic ones count as there already; those that a
            reviewer has rejected do neither.
        target: how many pairs each group shall get.
        by: attributes to group by, keys of ``BY``.
        max_ratio: synthetic pairs for each real one of a group, at most.
        seed: another one draws other records and prompts, and gives the pairs other seeds.
        allow_novel: plan for combinations without a real pair too, and mark them as extrapolation. Attributes that are
            not grouped by come from a real record, one of the same diagnosis if there is any.
        templates: in place of the built-in ones.

    Raises:
        InputError: no real training record with these attributes, a plan that is too large, no template that states
            them, or a label that no plan can hold.
    """
    if not 0 < max_ratio < float("inf"):
        raise InputError(f"--max-ratio {max_ratio}", "a number above 0", "try 5")
    train = [record for record in used(records) if record.split == "train"]
    members: dict[Group | None, list[PairRecord]] = {}
    for record in train:
        if record.origin == "real":
            members.setdefault(group_of(record, by), []).append(record)
    ungrouped = len(members.pop(None, []))
    if not members:
        got = f"{ungrouped} real training pairs, none of which has {' and '.join(by)}"
        remedy = "group by other attributes (--by), or prepare the data with them"
        raise InputError(got, "one that has these attributes", remedy)
    real = {group: len(found) for group, found in members.items() if group is not None}
    synthetic = Counter(
        group for record in train if record.origin == "synthetic" and (group := group_of(record, by)) is not None
    )
    groups = plan_groups(real, synthetic, target, max_ratio=max_ratio, novel=allow_novel)
    if (total := sum(group.planned for group in groups)) > MAX_PAIRS:
        raise InputError(f"a plan of {total:,} pairs", f"at most {MAX_PAIRS:,}", "lower the target or --max-ratio")
    drawn = [
        (*key, not group.real, count)
        for group in groups
        if group.planned
        for key, count in draw_prompts(
            group.group,
            group.planned,
            members.get(group.group) or _donors(group.group, members, by),
            by,
            seed,
            templates,
        ).items()
    ]
    return PlannedSet(by, numbered_rows(drawn, seed), groups, ungrouped)


def numbered_rows(drawn: Iterable[tuple[str, Labels, bool, int]], seed: int) -> list[PlanRow]:
    """Rows of a plan from prompts, labels, whether they extrapolate, and counts; their seeds follow from ``seed``."""
    return [
        PlanRow(row, prompt, count, seed_of_row(seed, row), dict(labels), extrapolation)
        for row, (prompt, labels, extrapolation, count) in enumerate(drawn)
    ]


def draw_prompts(
    group: Group,
    count: int,
    records: Sequence[PairRecord],
    by: tuple[str, ...],
    seed: int,
    templates: DynamicTemplates | None,
    *,
    looks: bool = False,
) -> Counter[tuple[str, Labels]]:
    """Prompts and labels of a group's pairs, in the order of their first draw.

    The group's own random numbers: what other groups get does not change it.

    Args:
        group: its name, of which the random numbers are a function.
        count: pairs.
        records: whose attributes they take, all equally often but for one.
        by: attributes that each prompt states.
        seed: of the plan.
        templates: in place of the built-in ones.
        looks: let each prompt go on with the measured words for its record's looks.

    Raises:
        InputError: see `plan_pairs`.
    """
    digest = hashlib.sha256(f"group:{seed}:{group}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    writer = _Writer(by, templates, rng)
    drawn: Counter[tuple[str, Labels]] = Counter()
    for _ in range(0, count, len(records)):
        for place in rng.permutation(len(records))[: count - drawn.total()].tolist():
            prompt, labels = writer.write(records[place])
            if looks:
                prompt = with_looks(prompt, records[place])
            drawn[prompt, labels] += 1
    return drawn


def _donors(group: Group, members: dict[Group | None, list[PairRecord]], by: tuple[str, ...]) -> list[PairRecord]:
    """Real records with the group's attributes in place of their own; those of its diagnosis, if there are any."""
    own: dict[str, str | None] = {BY[name]: value for name, value in zip(by, group, strict=True)}
    every = [record for found in members.values() for record in found]
    same = [record for record in every if label_value("diagnosis", record.diagnosis) == own.get("diagnosis")]
    if "diagnosis" in own and not same:  # a diagnosis that is nowhere: how it behaves is not known
        own["benign_malignant"] = None
    return [record.model_copy(update=own) for record in (same if "diagnosis" in own and same else every)]


@dataclass
class _Writer:
    """Writes the prompt of a record: one of the templates that fit it, each as likely, and the labels it states."""

    by: tuple[str, ...]
    templates: DynamicTemplates | None
    rng: np.random.Generator
    streams: list[Iterator[str]] = field(init=False)
    written: dict[tuple[str, ...], tuple[str, Labels] | None] = field(init=False)

    def __post_init__(self) -> None:
        seed = int(self.rng.integers(2**63))
        self.streams = self.templates.streams(seed) if self.templates else []
        self.written = {}

    def write(self, record: PairRecord) -> tuple[str, Labels]:
        """Prompt and labels.

        Raises:
            InputError: no template states what is grouped by.
        """
        own = tuple(str(getattr(record, name)) for name in LABELS)
        for template in self._candidates():
            key = (template, *own)
            if key not in self.written:
                self.written[key] = _written(record, template, self.by)
            if (found := self.written[key]) is not None:
                return found
        have = ", ".join(f"{name} {getattr(record, BY[name])}" for name in self.by)
        got = f"no template that fits {record.isic_id} and states its {have}"
        remedy = "name the fields in a template, those that may be missing in [brackets], or leave them out of --by"
        raise InputError(got, f"one that states {' and '.join(self.by)}", remedy)

    def _candidates(self) -> Iterable[str]:
        if self.templates is None:
            return (TEMPLATES[place] for place in self.rng.permutation(len(TEMPLATES)).tolist())
        return (next(self.streams[place]) for place in self.rng.permutation(len(self.streams)).tolist())


def _written(record: PairRecord, template: str, by: tuple[str, ...]) -> tuple[str, Labels] | None:
    """Prompt and labels that a template makes of a record; None if it does not fit, or does not state what it must."""
    if not _fits(record, template):
        return None
    prompt = prompt_for(record, templates=[template])
    if "tone" in by:
        prompt = f"{prompt}, {label_value(TONE, record.skin_tone)} skin"
    known = {name: value for name in LABELS if (value := label_value(name, getattr(record, name))) is not None}
    labels = {name: value for name, value in known.items() if states(prompt, name, value)}
    if not all(BY[name] in labels for name in by):
        return None
    behaviour = known.get("benign_malignant")
    if "diagnosis" in labels and behaviour is not None and stated(str(behaviour))["benign_malignant"]:
        labels["benign_malignant"] = behaviour
    if any(contradiction(prompt, name, value) for name, value in known.items()):
        return None  # words of the template's own, such as "a mole" for a melanoma
    check_labels(prompt, labels)
    if (tokens := clip_token_bound(prompt)) > MAX_CLIP_TOKENS:
        raise InputError(f"a prompt that may need {tokens} CLIP tokens: {prompt!r}", f"{MAX_CLIP_TOKENS}", "shorten it")
    return prompt, tuple((name, labels[name]) for name in LABELS if name in labels)


def _fits(record: PairRecord, template: str) -> bool:
    """Whether a template's fields are known of a record, and anything is left of it without those that are not."""
    values = fields_of(record)
    parts = parse_template(template)
    filled = [part for part in parts if all(name in values for name in part.fields)]
    return all(part.optional or part in filled for part in parts) and any(part.text.strip(" ,;") for part in filled)
