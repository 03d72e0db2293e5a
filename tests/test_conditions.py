"""Conditions are read as written, judged by the value, and fail where nothing shows that the limit is kept."""

import pytest

from skindualgen.contracts import InputError
from skindualgen.evaluation.conditions import judge_conditions, parse_condition, refuse_unknown
from skindualgen.metrics.measures import Measure, measure_key


def measure(name: str, value: float | None, group: str | None = None) -> Measure:
    caveat = "too few photographs" if value is None else None
    return Measure(
        key=measure_key(name, group), name=name, group=group, value=value, n_generated=10, n_real=10, caveat=caveat
    )


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("near_copy_rate>0.01", True),
        ("near_copy_rate > 0.02", False),
        ("near_copy_rate>=.02", True),
        ("near_copy_rate<0.02", False),
        ("near_copy_rate<=2e-2", True),
        ("near_copy_rate>-1", True),
    ],
)
def test_a_condition_fails_where_its_comparison_holds(text, failed):
    outcome = judge_conditions([parse_condition(text)], [measure("near_copy_rate", 0.02)])[0]
    assert outcome.failed is failed
    assert (outcome.value, outcome.key) == (0.02, "near_copy_rate")


def test_a_condition_on_a_group_does_not_look_at_another_one():
    measures = [measure("recall", 0.9), measure("recall", 0.1, "seborrheic keratosis")]
    outcomes = judge_conditions(
        [parse_condition("recall[seborrheic keratosis]<0.5"), parse_condition("recall<0.5")], measures
    )
    assert [outcome.failed for outcome in outcomes] == [True, False]


def test_a_further_extractor_has_its_own_key():
    condition = parse_condition("kid[nevus]@inception.v3>0.1")
    assert condition.key == measure_key("kid", "nevus", "inception.v3")
    assert condition.outcome(measure("kid", 0.0, "nevus")).failed is False


def test_what_has_no_value_or_was_not_measured_fails_and_says_so():
    """Guards against a check in CI that passes because its section was left out."""
    empty, absent = judge_conditions(
        [parse_condition("frechet>100"), parse_condition("recall<0")], [measure("frechet", None)]
    )
    assert empty.failed and "too few photographs" in empty.reason
    assert absent.failed and "not measured" in absent.reason


@pytest.mark.parametrize("text", ["", "recall", "recall=1", "recall>", "recall>x", ">1", "recall>1 2", "recall[]>1"])
def test_other_forms_are_refused(text):
    with pytest.raises(InputError, match=r"near_copy_rate>0\.01"):
        parse_condition(text)


def test_unknown_names_and_groups_are_refused_with_the_known_ones():
    known = {"recall": 1, "kid": 2}
    refuse_unknown([parse_condition("recall[nevus]<1")], names=known, groups=["melanoma", "nevus"])
    with pytest.raises(InputError, match="kid, recall"):
        refuse_unknown([parse_condition("recal<1")], names=known, groups=[])
    with pytest.raises(InputError, match="melanoma, nevus"):
        refuse_unknown([parse_condition("recall[naevus]<1")], names=known, groups=["nevus", "melanoma"])
    with pytest.raises(InputError, match="no diagnosis"):
        refuse_unknown([parse_condition("recall[nevus]<1")], names=known, groups=[])
