"""Train on generated, test on real: equal to scikit-learn done by hand, and right on sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from skindualgen.contracts import InputError
from skindualgen.metrics.teaching import INVERSE_PENALTY, teaching

CLASSES = ("melanoma", "nevus", "seborrheic keratosis")


def blobs(per_class: int, *, seed: int, distance: float = 4.0, labels=CLASSES):
    """Gaussian clouds of features, one a class, ``distance`` apart; labels may name them otherwise."""
    random = np.random.default_rng(seed)
    centres = np.eye(3, 8) * distance
    features = np.concatenate([centre + random.normal(size=(per_class, 8)) for centre in centres])
    return features.astype(np.float32), [label for label in labels for _ in range(per_class)]


def test_pictures_of_the_same_kind_teach_as_much_as_real_ones():
    found = teaching(generated=blobs(40, seed=1), train=blobs(60, seed=2), held_out=blobs(50, seed=3))
    assert found.real.value > 0.95 and found.share.value == pytest.approx(1, abs=0.05)
    assert found.classes == sorted(CLASSES) and found.per_class == 40 and found.n_test == 150
    assert found.generated.low <= found.generated.value <= found.generated.high


def test_pictures_without_content_teach_nothing_and_exchanged_labels_less_than_nothing():
    train, held_out = blobs(60, seed=2), blobs(200, seed=3)
    empty = teaching(generated=blobs(60, seed=1, distance=0.0), train=train, held_out=held_out)
    assert abs(empty.share.value) < 0.25
    turned = blobs(60, seed=1, labels=("nevus", "seborrheic keratosis", "melanoma"))
    assert teaching(generated=turned, train=train, held_out=held_out).share.value < -0.4


def test_it_is_scikit_learns_balanced_accuracy():
    """With as many photographs of each class as there are, all draws are the whole set."""
    generated, train, held_out = (
        blobs(20, seed=1, distance=1),
        blobs(20, seed=2, distance=1),
        blobs(30, seed=3, distance=1),
    )
    found = teaching(generated=generated, train=train, held_out=held_out)
    for part, mine in ((generated, found.generated), (train, found.real)):
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000).fit(*part)
        expected = balanced_accuracy_score(held_out[1], model.predict(held_out[0]))
        assert mine.value == pytest.approx(expected, abs=1e-9)


def test_classes_that_a_set_lacks_are_left_out_and_one_alone_is_refused():
    generated, train, held_out = blobs(20, seed=1), blobs(20, seed=2), blobs(20, seed=3)
    without = (generated[0], [None if label == "nevus" else label for label in generated[1]])
    found = teaching(generated=without, train=train, held_out=held_out)
    assert found.classes == ["melanoma", "seborrheic keratosis"] and found.per_class == 20 and found.n_test == 40
    assert found.chance == 0.5
    one = (generated[0], ["nevus"] * 60)
    with pytest.raises(InputError, match="1 diagnoses"):
        teaching(generated=one, train=train, held_out=held_out)
