"""Leak-safe splits: properties that must hold for any links, and small cases worked by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skindualgen.contracts import InputError
from skindualgen.data.splits import assign_splits, carve_validation, connected_components, crossing_components

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}
LINKS = st.lists(
    st.lists(st.tuples(st.sampled_from(["patient_id", "lesion_id"]), st.integers(0, 12)), max_size=2), max_size=40
)
SPLIT_RATIOS = st.fixed_dictionaries({name: st.integers(0, 5) for name in RATIOS}).filter(lambda r: sum(r.values()) > 0)


def slow_components(links: list[list[tuple[str, int]]]) -> set[frozenset[int]]:
    """Merge sets until nothing changes: an independent, quadratic implementation."""
    groups = [({index}, set(item)) for index, item in enumerate(links)]
    merged = True
    while merged:
        merged = False
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                if groups[i][1] & groups[j][1]:
                    groups[i] = (groups[i][0] | groups[j][0], groups[i][1] | groups[j][1])
                    del groups[j]
                    merged = True
                    break
            if merged:
                break
    return {frozenset(members) for members, _ in groups}


def test_links_join_through_others_and_kinds_do_not_mix() -> None:
    links = [[("patient_id", 1)], [("lesion_id", 1)], [("patient_id", 1), ("lesion_id", 2)], [("lesion_id", 2)], []]
    assert connected_components(links) == [[0, 2, 3], [1], [4]]


@given(links=LINKS)
def test_components_agree_with_a_slow_implementation(links: list[list[tuple[str, int]]]) -> None:
    components = connected_components(links)
    assert {frozenset(component) for component in components} == slow_components(links)
    assert sorted(index for component in components for index in component) == list(range(len(links)))


@given(links=LINKS, ratios=SPLIT_RATIOS, seed=st.integers(0, 3), data=st.data())
def test_no_component_crosses_and_shares_are_met(
    links: list[list[tuple[str, int]]], ratios: dict[str, int], seed: int, data: st.DataObject
) -> None:
    components = connected_components(links)
    ids = [f"id{index}" for index in range(len(links))]
    diagnosis_of = {index: data.draw(st.sampled_from(["nevus", "melanoma", None])) for index in range(len(components))}
    diagnoses: list[str | None] = [None] * len(links)
    for index, component in enumerate(components):
        for item in component:
            diagnoses[item] = diagnosis_of[index]
    splits = assign_splits(ids, components, diagnoses, ratios, seed=seed)
    assert crossing_components(components, splits) == []
    assert set(splits) <= {name for name, share in ratios.items() if share > 0}
    for diagnosis in set(diagnoses):
        members = [item for item in range(len(ids)) if diagnoses[item] == diagnosis]
        largest = max(len(component) for component in components if diagnoses[component[0]] == diagnosis)
        got = Counter(splits[item] for item in members)
        for name, share in ratios.items():
            # Whole components, the largest first: no split gets more than its share and one component beyond.
            assert got[name] <= share / sum(ratios.values()) * len(members) + largest


@given(links=LINKS, data=st.data())
def test_assignment_does_not_depend_on_the_order_of_the_input(
    links: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    ids = [f"id{index}" for index in range(len(links))]
    diagnoses: list[str | None] = [("nevus", "melanoma")[index % 2] for index in range(len(links))]
    order = data.draw(st.permutations(range(len(links))))

    def by_id(order: list[int]) -> dict[str, str]:
        shuffled = [links[index] for index in order]
        names = [ids[index] for index in order]
        splits = assign_splits(names, connected_components(shuffled), [diagnoses[i] for i in order], RATIOS, seed=1)
        return dict(zip(names, splits, strict=True))

    assert by_id(list(range(len(links)))) == by_id(list(order))


def test_hundred_single_items_of_two_classes_meet_the_ratios_exactly() -> None:
    ids = [str(index) for index in range(100)]
    diagnoses: list[str | None] = ["melanoma"] * 20 + ["nevus"] * 80
    splits = assign_splits(ids, [[index] for index in range(100)], diagnoses, RATIOS)
    assert Counter(splits[:20]) == {"train": 14, "val": 3, "test": 3}
    assert Counter(splits[20:]) == {"train": 56, "val": 12, "test": 12}


def test_seed_changes_the_assignment_and_nothing_else_does() -> None:
    ids = [str(index) for index in range(60)]
    single = [[index] for index in range(60)]
    first = assign_splits(ids, single, [None] * 60, RATIOS, seed=0)
    assert first == assign_splits(ids, single, [None] * 60, RATIOS, seed=0)
    assert first != assign_splits(ids, single, [None] * 60, RATIOS, seed=1)


def test_fixed_members_pull_their_component_and_are_counted() -> None:
    ids = [str(index) for index in range(10)]
    components = [[0, 1], *[[index] for index in range(2, 10)]]
    splits = assign_splits(ids, components, ["nevus"] * 10, {"train": 0.8, "test": 0.2}, fixed={1: "test"})
    assert splits[:2] == ["test", "test"]
    assert splits.count("test") == 2  # the share of test was used up by the official part


def test_component_fixed_to_two_splits_is_refused() -> None:
    with pytest.raises(InputError, match="one component"):
        assign_splits(["a", "b"], [[0, 1]], [None, None], RATIOS, fixed={0: "train", 1: "test"})


@pytest.mark.parametrize("ratios", [{"train": 0.0}, {"train": 1.0, "val": -0.5}])
def test_impossible_ratios_are_refused(ratios: dict[str, float]) -> None:
    with pytest.raises(InputError, match="split ratios"):
        assign_splits(["a"], [[0]], [None], ratios)


def test_crossing_components_are_named() -> None:
    assert crossing_components([[0, 2], [1]], ["train", "val", "test"]) == [[0, 2]]


def test_validation_is_carved_from_train_only_in_whole_components() -> None:
    ids = [str(index) for index in range(20)]
    components = [[index, index + 1] for index in range(0, 20, 2)]
    splits = ["train"] * 16 + ["test"] * 4
    carved = carve_validation(ids, components, [None] * 20, splits, 0.25)
    assert carved[16:] == ["test"] * 4
    assert Counter(carved[:16]) == {"train": 12, "val": 4}
    assert crossing_components(components, carved) == []
    with pytest.raises(InputError, match="validation share"):
        carve_validation(ids, components, [None] * 20, splits, 1.0)
