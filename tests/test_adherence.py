"""Adherence: hand-counted accuracies, scikit-learn's numbers, and planted generators that follow or ignore prompts."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.prompts import TEMPLATES, prompt_for
from skindualgen.data.terms import ATTRIBUTE_WORDS
from skindualgen.metrics.adherence import (
    LEAST_PHOTOGRAPHS,
    ORDERED_WORDS,
    attribute_hits,
    balanced_rate,
    compare_adherence,
    stated_word,
    word_adherence,
)
from skindualgen.metrics.masks import ShapeStatistics

SITES = ["head/neck", "lower extremity", "posterior torso"]


def scores_for(predicted: list[str]) -> np.ndarray:
    return np.array([[0.8 if name == site else 0.1 for site in SITES] for name in predicted])


def test_every_scored_word_is_in_the_vocabulary_and_every_measure_exists():
    vocabulary = ", ".join(ATTRIBUTE_WORDS).split(", ")
    for words in ORDERED_WORDS.values():
        assert set(words.words) <= set(vocabulary)
        assert words.measure == "ita_degrees" or words.measure in ShapeStatistics.__dataclass_fields__


def test_prompts_from_metadata_state_none_of_them():
    record = PairRecord(
        file_name="-",
        isic_id="-",
        diagnosis="nevus",
        benign_malignant="benign",
        sex="male",
        age_approx=40,
        anatom_site_general="lower extremity",
    )
    prompts = [prompt_for(record, templates=[template]) for template in TEMPLATES]
    assert {stated_word(prompt, words.words) for prompt in prompts for words in ORDERED_WORDS.values()} == {None}


@pytest.mark.parametrize(
    ("prompt", "words", "expected"),
    [
        ("a small nevus", ("small", "large"), "small"),
        ("Large melanoma on dark skin", ("dark skin", "light skin"), "dark skin"),
        ("a smallish nevus", ("small", "large"), None),
        ("a small nevus beside a large one", ("small", "large"), None),
        ("a nevus, not small", ("small", "large"), None),
        ("asymmetric melanoma", ("symmetric", "asymmetric"), "asymmetric"),
        ("irregular border", ("regular border", "irregular border"), "irregular border"),
        (None, ("small", "large"), None),
    ],
)
def test_stated_word(prompt, words, expected):
    assert stated_word(prompt, words) == expected


def test_concordance_of_two_words_is_the_area_under_the_roc_curve():
    random = np.random.default_rng(0)
    large = random.random(60) < 0.5
    values = np.round(random.normal(size=60) + large, 1)  # rounding makes ties
    prompts = ["a large nevus" if yes else "a small nevus" for yes in large]
    found = word_adherence(prompts, values, ("small", "large"))
    assert found.counts == {"small": int((~large).sum()), "large": int(large.sum())}
    assert found.concordance.value == pytest.approx(roc_auc_score(large, values))
    assert 0.5 < found.concordance.low < found.concordance.value < found.concordance.high


def test_concordance_of_three_words_is_the_mean_over_their_couples():
    words = ("dark skin", "medium skin", "light skin")
    values = np.repeat([30.0, 10.0, 50.0], LEAST_PHOTOGRAPHS)  # dark against medium is the wrong way round
    prompts = np.repeat([f"a nevus on {word}" for word in words], LEAST_PHOTOGRAPHS).tolist()
    assert word_adherence(prompts, values, words).concordance.value == pytest.approx((0 + 1 + 1) / 3)


def test_a_generator_that_ignores_the_word_is_at_chance():
    values = np.random.default_rng(1).normal(size=200)
    prompts = ["a small nevus", "a large nevus"] * 100
    concordance = word_adherence(prompts, values, ("small", "large")).concordance
    assert concordance.low < 0.5 < concordance.high


def test_words_that_are_too_rare_or_not_measured_are_not_scored():
    prompts = ["a small nevus"] * 12 + ["a large nevus"] * 12
    values = np.arange(24.0)
    values[:3] = np.nan
    found = word_adherence(prompts, values, ("small", "large"))
    assert (found.counts, found.concordance) == ({"small": 9, "large": 12}, None)
    assert word_adherence(["a nevus"] * 24, values, ("small", "large")).counts == {"small": 0, "large": 0}
    with pytest.raises(InputError, match="match them"):
        word_adherence(prompts[1:], values, ("small", "large"))


def test_balanced_accuracy_is_counted_by_class_and_equals_scikit_learns():
    truth = ["head/neck"] * 20 + ["lower extremity"] * 10 + ["posterior torso"] * 3 + [None] * 2 + ["scalp"]
    predicted = (
        ["head/neck"] * 15 + ["lower extremity"] * 5 + ["lower extremity"] * 4 + ["head/neck"] * 6 + ["head/neck"] * 6
    )
    hits = attribute_hits(truth=truth, predicted_scores=scores_for(predicted), names=SITES)
    assert {name: row.mean() for name, row in hits.items()} == {"head/neck": 15 / 20, "lower extremity": 4 / 10}
    found = balanced_rate(hits)
    assert found.value == pytest.approx((15 / 20 + 4 / 10) / 2)
    assert found.value == pytest.approx(balanced_accuracy_score(truth[:30], predicted[:30]))
    assert found.low < found.value < found.high


def test_a_guess_without_looking_is_at_chance():
    truth = SITES * 40
    constant = attribute_hits(truth=truth, predicted_scores=scores_for(["head/neck"] * 120), names=SITES)
    assert balanced_rate(constant).value == pytest.approx(1 / 3)
    random = np.random.default_rng(0).random((120, 3))
    drawn = balanced_rate(attribute_hits(truth=truth, predicted_scores=random, names=SITES))
    assert drawn.low < 1 / 3 < drawn.high


def test_a_generator_that_ignores_the_site_falls_behind_held_out_real():
    truth = SITES * 30
    real = attribute_hits(truth=truth, predicted_scores=scores_for(truth), names=SITES)
    ignored = scores_for(np.random.default_rng(0).permutation(truth).tolist())
    generated = attribute_hits(truth=truth, predicted_scores=ignored, names=SITES)
    gap = compare_adherence(real=real, generated=generated)
    assert gap.value == pytest.approx(balanced_rate(generated).value - 1)
    assert gap.high < 0
    assert compare_adherence(real=generated, generated=generated).low < 0


def test_only_classes_of_both_sets_are_compared():
    truth = SITES * 10
    real = attribute_hits(truth=truth, predicted_scores=scores_for(truth), names=SITES)
    generated = attribute_hits(
        truth=truth[:20] + ["head/neck", "lower extremity"] * 5,
        predicted_scores=scores_for(truth[:20] + ["head/neck"] * 10),
        names=SITES,
    )
    assert set(generated) == {"head/neck", "lower extremity"}  # 6 of "posterior torso" are too few
    # of "lower extremity" 5 of 12 are now read as another site
    assert compare_adherence(real=real, generated=generated).value == pytest.approx((1 + 7 / 12) / 2 - 1)


def test_too_few_classes_and_shapes_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="two classes"):
        attribute_hits(truth=["head/neck"] * 20, predicted_scores=scores_for(["head/neck"] * 20), names=SITES)
    with pytest.raises(InputError, match="own classes"):
        attribute_hits(truth=SITES, predicted_scores=np.zeros((3, 2)), names=SITES)
