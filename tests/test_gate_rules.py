"""Thresholds: exact on the pairs that set them, fair to others, never undone by ties, small sets or missing scores."""

import numpy as np
import pytest

from skindualgen.contracts import InputError
from skindualgen.gate.rules import (
    FAR,
    LEAST_OF_DIAGNOSIS,
    Rule,
    ScoreTable,
    accepted,
    find_rules,
    held_back_acceptance,
    reasons,
)


def table(values, *, diagnoses=None, area=0.3, groups=None) -> ScoreTable:
    count = len(next(iter(values.values())))
    return ScoreTable(
        {name: np.asarray(column, float) for name, column in values.items()},
        np.full(count, area) if np.isscalar(area) else np.asarray(area, float),
        diagnoses or [None] * count,
        groups or [str(i) for i in range(count)],
    )


def drawn(count: int, seed: int) -> ScoreTable:
    """Scores that depend on each other, of one distribution whatever the seed."""
    random = np.random.default_rng(seed)
    common = random.normal(size=count)
    values = {name: np.exp(random.normal(size=count) + 0.7 * common) for name in ("novelty", "sharpness", "exposure")}
    return table(values | {"mask_typicality": -random.exponential(size=count)})


def test_three_scores_of_twenty_pairs_by_hand():
    """Two refusals: the lowest of the first score, then of the second; the third gets what is far off."""
    up = np.arange(1.0, 21.0)
    rules = {rule.score: rule for rule in find_rules(table({"a": up, "b": up[::-1], "c": np.roll(up, 10)}), 0.9)}
    assert rules["a"].threshold == 1 and rules["b"].threshold == 1
    assert rules["c"].threshold == 1 / FAR and rules["c"].tail == 0


@pytest.mark.parametrize("accept", [0.5, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_acceptance_is_the_asked_one_within_one_pair(accept):
    for count, seed in ((40, 0), (57, 1), (234, 2)):
        scores = drawn(count, seed)
        share = accepted(scores, find_rules(scores, accept)).mean()
        assert accept <= share < accept + 1 / count + 1e-9


def test_all_are_accepted_at_one_and_what_is_far_off_is_still_refused():
    scores = drawn(50, 3)
    rules = find_rules(scores, 1.0)
    assert accepted(scores, rules).all()
    low = scores.values["novelty"].min()
    assert reasons({"lesion_area": 0.2, "novelty": low / 3}, rules, None)
    assert not reasons({"lesion_area": 0.2, "novelty": low * 0.9}, rules, None)
    far = 3 * scores.values["mask_typicality"].min()
    assert reasons({"lesion_area": 0.2, "mask_typicality": far}, rules, None)


def test_others_of_the_same_kind_are_accepted_at_about_that_rate():
    """Mean over 60 pairs of halves; the lowest accepted value as threshold would lose 4 pairs in 117 more."""
    shares = []
    for seed in range(60):
        both = drawn(234, 100 + seed)
        half = np.arange(234) < 117
        shares.append(accepted(both.take(~half), find_rules(both.take(half), 0.95)).mean())
    assert abs(np.mean(shares) - 0.95) < 0.012


def test_held_back_pairs_are_judged_without_their_lesion():
    """Each lesion is in the set twice: rules found without a lesion refuse both its worst pictures or none."""
    scores = drawn(120, 5)
    twice = table(
        {name: np.repeat(column, 2) for name, column in scores.values.items()}, groups=[str(i // 2) for i in range(240)]
    )
    good = held_back_acceptance(twice, 0.9)
    assert (good[::2] == good[1::2]).all()
    assert abs(good.mean() - 0.9) < 0.06
    assert not accepted(twice, find_rules(twice, 0.9)).all()


def test_a_tie_that_would_cost_too_much_leaves_the_other_scores_their_tails():
    tied = np.concatenate([np.zeros(20), np.arange(1.0, 81.0)])
    rules = {rule.score: rule for rule in find_rules(table({"a": tied, "b": np.arange(1.0, 101.0)}), 0.95)}
    assert rules["a"].threshold is None
    assert rules["b"].threshold == 5
    assert accepted(table({"a": tied, "b": np.arange(1.0, 101.0)}), list(rules.values())).mean() == 0.95


def test_a_pair_without_a_score_passes_its_rule():
    values = np.concatenate([np.full(10, np.nan), np.arange(1.0, 11.0)])
    scores = table({"class_probability": values})
    rules = find_rules(scores, 0.95)
    assert rules[0].threshold == 1
    assert accepted(scores, rules)[:10].all()
    assert not reasons({"lesion_area": 0.2}, rules, None)


def test_a_common_diagnosis_has_a_threshold_of_its_own_and_a_rare_one_the_common():
    common, rare = LEAST_OF_DIAGNOSIS, 20
    values = np.concatenate([np.linspace(0.5, 1.0, common), np.linspace(0.01, 0.6, rare)])
    diagnoses = ["nevus"] * common + ["melanoma"] * rare
    scores = table({"class_probability": values}, diagnoses=diagnoses)
    (rule,) = find_rules(scores, 0.95)
    assert set(rule.of_diagnosis) == {"nevus"}
    assert rule.limit("nevus") >= 0.5 > rule.limit("melanoma")
    assert rule.limit("another") == rule.limit("melanoma") == rule.threshold
    refused = ~accepted(scores, [rule])
    assert refused[:common].any() and refused[common:].any()


def test_only_the_classifier_is_surer_of_one_diagnosis():
    values = np.linspace(0.1, 1.0, 2 * LEAST_OF_DIAGNOSIS)
    scores = table({"sharpness": values}, diagnoses=["nevus", "melanoma"] * LEAST_OF_DIAGNOSIS)
    assert find_rules(scores, 0.95)[0].of_diagnosis == {}


def test_empty_and_full_masks_are_refused_without_a_rule_and_more_than_the_share_of_them_is_an_error():
    rules = [Rule(score="novelty", threshold=0.2)]
    assert reasons({"lesion_area": 0.0, "novelty": 0.5}, rules, None) == ("lesion_area 0 <= 0",)
    assert reasons({"lesion_area": 1.0, "novelty": 0.1}, rules, None) == (
        "lesion_area 1 >= 1",
        "novelty 0.1 <= 0.2",
    )
    area = np.full(20, 0.3)
    area[:2] = 0
    with pytest.raises(InputError, match=r"10\.0% of the real pairs with an empty or a full mask"):
        find_rules(table({"novelty": np.arange(1.0, 21.0)}, area=area), 0.95)
    assert not accepted(table({"novelty": np.arange(1.0, 21.0)}, area=area), rules)[:2].any()


def test_reasons_and_the_table_agree():
    scores = drawn(200, 9)
    rules = find_rules(scores, 0.8)
    one_by_one = [
        not reasons({"lesion_area": 0.3} | {name: column[i] for name, column in scores.values.items()}, rules, None)
        for i in range(200)
    ]
    assert one_by_one == accepted(scores, rules).tolist()
    assert 0 < sum(one_by_one) < 200
