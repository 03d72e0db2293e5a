"""What a plan asks for: attributes of real training pairs, each used equally often, and prompts that state them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.labels import contradiction, states
from skindualgen.planning.rows import SEEDS_OF_A_ROW, PlanRow
from skindualgen.planning.sampling import PlannedSet, plan_pairs
from skindualgen.planning.targets import BY, RatioFile, balanced, uniform
from skindualgen.planning.templates import read_templates

PEOPLE: list[dict[str, Any]] = [
    {
        "diagnosis": "nevus",
        "benign_malignant": "benign",
        "sex": "female",
        "age_approx": 30,
        "anatom_site_general": "posterior torso",
        "skin_tone": "light",
    },
    {
        "diagnosis": "nevus",
        "benign_malignant": "benign",
        "sex": "male",
        "age_approx": 45,
        "anatom_site_general": "head/neck",
        "skin_tone": "tan",
    },
    {
        "diagnosis": "nevus",
        "benign_malignant": "benign",
        "sex": "male",
        "age_approx": None,
        "anatom_site_general": "lower extremity",
        "skin_tone": "light",
    },
    {
        "diagnosis": "melanoma",
        "benign_malignant": "malignant",
        "sex": "male",
        "age_approx": 70,
        "anatom_site_general": "head/neck",
        "skin_tone": "very light",
    },
]


def records(people: Sequence[dict[str, Any]] = PEOPLE, **changes: Any) -> list[PairRecord]:
    return [
        PairRecord(file_name=f"images/{i}.png", isic_id=str(i), **(person | changes)) for i, person in enumerate(people)
    ]


def by_group(planned: PlannedSet) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for row in planned.rows:
        counts[tuple(str(row.attributes[BY[name]]) for name in planned.by)] += row.count
    return counts


def came_from(row: PlanRow, people: Sequence[PairRecord]) -> list[str]:
    """Records that have all labels of a row."""
    return [
        person.isic_id
        for person in people
        if all(getattr(person, name) == value for name, value in row.attributes.items())
    ]


@pytest.mark.parametrize("by", [("diagnosis",), ("diagnosis", "sex"), ("site",), ("diagnosis", "tone"), tuple(BY)])
def test_rows_are_real_combinations_and_say_what_they_are_grouped_by(by: tuple[str, ...]) -> None:
    people = records()
    planned = plan_pairs(people, uniform(400), by=by, max_ratio=1000)
    assert by_group(planned) == {group.group: group.planned for group in planned.groups if group.planned}
    assert planned.pairs == sum(row.count for row in planned.rows) == 400
    for row in planned.rows:
        assert row.extrapolation is False and came_from(row, people), row
        assert all(states(row.prompt, BY[name], row.attributes[BY[name]]) for name in by), row
        for name, value in row.attributes.items():
            assert contradiction(row.prompt, name, value) is None
            assert name == "benign_malignant" or states(row.prompt, name, value), row
        if "tone" in by:
            assert row.prompt.endswith(f", {row.attributes['skin_tone']} skin")


def test_each_record_is_used_equally_often(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{age_approx} year old with {a_diagnosis}\n")
    people = records([PEOPLE[0] | {"age_approx": age} for age in range(20, 50)])
    planned = plan_pairs(people, uniform(65), templates=read_templates(tmp_path / "mine.txt"))
    counts = {row.attributes["age_approx"]: row.count for row in planned.rows}
    assert sorted(counts) == list(range(20, 50)), "65 draws of 30 records: two rounds and five more"
    assert Counter(counts.values()) == {2: 25, 3: 5}
    assert {age for age, count in counts.items() if count == 3} != set(range(20, 25)), "the five are not the first ones"


def test_rows_are_disjoint_merged_and_reproducible() -> None:
    planned = plan_pairs(records(), uniform(400), max_ratio=1000, seed=3)
    keys = [(row.prompt, tuple(row.attributes.items())) for row in planned.rows]
    assert len(set(keys)) == len(keys) < 400
    assert [row.row for row in planned.rows] == list(range(len(keys)))
    first = planned.rows[0].seed_first
    assert [row.seed_first for row in planned.rows] == [first + i * SEEDS_OF_A_ROW for i in range(len(keys))]
    assert plan_pairs(records(), uniform(400), max_ratio=1000, seed=3) == planned
    other = plan_pairs(records(), uniform(400), max_ratio=1000, seed=4)
    assert other.rows[0].seed_first != first and [row.prompt for row in other.rows] != [key[0] for key in keys]


def test_a_group_does_not_depend_on_what_others_get() -> None:
    def prompts(melanoma: int) -> list[tuple[str, int]]:
        numbers = {("nevus",): ("synthetic", 9), ("melanoma",): ("synthetic", melanoma)}
        planned = plan_pairs(records(), RatioFile(numbers, path=Path("ratio.toml")), max_ratio=9)
        return [(row.prompt, row.count) for row in planned.rows if row.attributes["diagnosis"] == "nevus"]

    assert prompts(2) == prompts(5)


def test_only_the_training_split_is_read() -> None:
    held_out = [
        PairRecord(file_name=f"images/v{split}.png", isic_id=split, diagnosis="angioma", split=split)
        for split in ("val", "test")
    ]
    planned = plan_pairs([*records(), *held_out], balanced)
    assert {group.group for group in planned.groups} == {("nevus",), ("melanoma",)}
    assert planned.rows[0].attributes["diagnosis"] == "melanoma" and planned.pairs == 2


def test_synthetic_records_count_but_are_not_drawn_from() -> None:
    made = [
        PairRecord(
            file_name=f"images/s{i}.png", isic_id=f"s{i}", diagnosis="melanoma", sex="female", origin="synthetic"
        )
        for i in range(3)
    ]
    planned = plan_pairs([*records(), *made], uniform(60), by=("diagnosis",), max_ratio=1000)
    melanoma = planned.groups[0]
    assert (melanoma.real, melanoma.synthetic, melanoma.planned) == (1, 3, 30)
    assert {row.attributes.get("sex") for row in planned.rows if row.attributes["diagnosis"] == "melanoma"} <= {
        "male",
        None,
    }


def test_records_without_the_attribute_form_no_group() -> None:
    people = [*records(), *records(PEOPLE[:2], sex=None), *records(PEOPLE[:1], sex="unknown")]
    planned = plan_pairs(people, balanced, by=("sex",))
    assert planned.ungrouped == 3 and {group.group for group in planned.groups} == {("female",), ("male",)}


def test_unseen_combinations_are_planned_only_on_request_and_marked() -> None:
    by = ("diagnosis", "sex")
    assert ("melanoma", "female") not in by_group(plan_pairs(records(), uniform(12), by=by))
    planned = plan_pairs(records(), uniform(12), by=by, allow_novel=True)
    marked = [row for row in planned.rows if row.extrapolation]
    assert {(row.attributes["diagnosis"], row.attributes["sex"]) for row in marked} == {("melanoma", "female")}
    assert sum(row.count for row in marked) == 3
    for row in marked:  # everything else is as in the one melanoma that there is
        assert row.attributes["benign_malignant"] == "malignant"
        assert row.attributes.get("age_approx", 70) == 70
        assert row.attributes.get("anatom_site_general", "head/neck") == "head/neck"


def test_a_diagnosis_that_is_nowhere() -> None:
    target = RatioFile({("dermatofibroma",): ("synthetic", 5)}, path=Path("ratio.toml"))
    planned = plan_pairs(records(), target, allow_novel=True)
    assert by_group(planned) == {("dermatofibroma",): 5}
    assert all(row.extrapolation and "benign_malignant" not in row.attributes for row in planned.rows)
    misspelt = RatioFile({("dermatofibrom",): ("synthetic", 5)}, path=Path("ratio.toml"))
    with pytest.raises(InputError, match="write 'dermatofibroma'"):
        plan_pairs(records(), misspelt, allow_novel=True)


def test_a_class_of_ones_own() -> None:
    planned = plan_pairs(records(PEOPLE[:1], diagnosis="Porokeratosis"), uniform(5))
    assert {row.attributes["diagnosis"] for row in planned.rows} == {"porokeratosis"}
    assert all("porokeratosis" in row.prompt for row in planned.rows)


def test_what_cannot_be_planned() -> None:
    with pytest.raises(InputError, match="4 real training pairs, none of which has diagnosis and sex"):
        plan_pairs(records(sex=None), balanced, by=("diagnosis", "sex"))
    with pytest.raises(InputError, match="0 real training pairs"):
        plan_pairs(records(origin="synthetic"), balanced)
    for ratio in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="--max-ratio"):
            plan_pairs(records(), balanced, max_ratio=ratio)
    with pytest.raises(InputError, match="a plan of 20,000,000 pairs"):
        plan_pairs(records(), uniform(20_000_000), max_ratio=1e9)
