"""What the micro model's study measures, each as numbers with sizes and intervals. Nothing here knows the generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from skindualgen.contracts import InputError
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.novelty import Novelty
from skindualgen.judges.segmenter import Segmenter
from skindualgen.metrics.fidelity import (
    Features,
    SetDistance,
    frechet_distance,
    kernel_distance,
    manifold_scores,
)
from skindualgen.metrics.intervals import Estimate, bootstrap, difference_of_means, mean_of_means
from skindualgen.metrics.masks import agreement, shape_statistics

Masks = Sequence[NDArray[np.bool_]] | NDArray[np.bool_]


@dataclass(frozen=True)
class Photographs:
    """One set of pairs at the study's size: images [n, s, s, 3] uint8, masks [n, s, s] bool, a diagnosis for each."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    diagnoses: list[str]

    def __getitem__(self, chosen: NDArray[np.int64]) -> Photographs:
        """Return the pairs at these positions."""
        return Photographs(self.images[chosen], self.masks[chosen], [self.diagnoses[i] for i in chosen])


def class_matched(diagnoses: Sequence[str], like: Sequence[str], *, seed: int) -> NDArray[np.int64]:
    """Choose the largest part of a set that has the class proportions of another, so that like is compared with like.

    Returns:
        Ascending positions in ``diagnoses``.

    Raises:
        InputError: a class of ``like`` is absent.
    """
    available, wanted = Counter(diagnoses), Counter(like)
    scale = min(available[name] / count for name, count in wanted.items())
    if scale == 0:
        raise InputError(f"classes {sorted(available)}", f"all of {sorted(wanted)}", "generate every diagnosis")
    random = np.random.default_rng(seed)
    chosen = []
    for name, count in sorted(wanted.items()):
        members = np.flatnonzero(np.asarray(diagnoses) == name)
        chosen.append(random.permutation(members)[: round(scale * count)])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def mask_scores(predicted: Masks, truth: Masks) -> list[dict[str, float]]:
    """Return Dice, IoU, HD95 and boundary F of each pair of masks."""
    return [agreement(p, t) for p, t in zip(predicted, truth, strict=True)]


def summary(scores: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the mean of each score with its interval, and its median."""
    table: dict[str, Any] = {"n": len(scores)}
    for name in scores[0]:
        values = np.array([score[name] for score in scores])
        table[name] = {"mean": asdict(bootstrap([values], mean_of_means)), "median": float(np.median(values))}
    return table


def segmenter_agreement(segmenter: Segmenter, generated: Photographs, val: Photographs) -> dict[str, Any]:
    """Compare the masks of generated and of real unseen pairs with those of an independent segmenter."""
    on_generated = mask_scores(segmenter.masks(generated.images), generated.masks)
    on_val = mask_scores(segmenter.masks(val.images), val.masks)
    dices = [np.array([score["dice"] for score in scores]) for scores in (on_val, on_generated)]
    gap = bootstrap(dices, difference_of_means)
    return {"generated": summary(on_generated), "real": summary(on_val), "dice_gap": asdict(gap)}


def class_fidelity(classifier: Classifier, photographs: Photographs) -> dict[str, Any]:
    """Read the diagnoses of photographs with an independent classifier; rows of the confusion are the true classes."""
    predicted = np.array(classifier.diagnoses(photographs.images))
    truth = np.asarray(photographs.diagnoses)
    right = [(predicted[truth == name] == name).astype(float) for name in classifier.classes]
    return {
        "n": len(truth),
        "balanced_accuracy": asdict(bootstrap(right, mean_of_means)),
        "recall": dict(zip(classifier.classes, (float(r.mean()) for r in right), strict=True)),
        "classes": classifier.classes,
        "confusion": [
            [int(((truth == row) & (predicted == column)).sum()) for column in classifier.classes]
            for row in classifier.classes
        ],
    }


def real_to_real(
    features: Features, sizes: tuple[int, int], distance: SetDistance, *, repeats: int = 20, seed: int = 0
) -> NDArray[np.float64]:
    """Return the distance between random disjoint parts of a real set, ``repeats`` times: the floor of that distance.

    Args:
        features: [n, d] of real photographs.
        sizes: photographs in the part that plays "generated" and in the one that plays "real"; together n or fewer.
        distance: for example :func:`frechet_distance`.

    Returns:
        [repeats].

    Raises:
        InputError: the two parts need more photographs than there are.
    """
    if sum(sizes) > len(features):
        raise InputError(f"sizes {sizes} of {len(features)} photographs", "disjoint parts", "ask for smaller parts")
    values = []
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(len(features))
        played, rest = features[order[: sizes[0]]], features[order[sizes[0] : sum(sizes)]]
        values.append(distance(real=rest, generated=played))
    return np.array(values)


def jackknife_error(
    distance: Callable[..., float], *, real: Features, generated: Features, groups: int = 20, seed: int = 0
) -> float:
    """Return the standard error of a distance by the grouped jackknife over both sets.

    The bootstrap is no use here: its repeated photographs add a bias to both the Frechet and the kernel distance.

    Args:
        distance: takes ``real`` and ``generated``.
        groups: random parts of each set that are left out in turn.

    Raises:
        InputError: a set has fewer members than groups.

    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 11; Busing et al., 1999 (groups).
    """
    sets = {"real": np.asarray(real), "generated": np.asarray(generated)}
    variance = 0.0
    for position, (name, features) in enumerate(sets.items()):
        if len(features) < groups:
            raise InputError(f"{len(features)} {name} photographs", f"{groups} or more", "ask for fewer groups")
        group = np.random.default_rng([seed, position]).permutation(np.arange(len(features)) % groups)
        without = [distance(**sets | {name: features[group != left_out]}) for left_out in range(groups)]
        variance += (groups - 1) * float(np.var(without))
    return float(np.sqrt(variance))


def set_distances(*, real: Features, generated: Features, pool: Features, seed: int) -> dict[str, Any]:
    """Return kernel and Frechet distance with standard errors, beside the floor of real sets of the same two sizes.

    Args:
        real: features of the real set compared with.
        generated: features of a class-matched generated set.
        pool: features of all real photographs, from which the floor's disjoint parts are drawn.
    """
    table: dict[str, Any] = {"n_generated": len(generated), "n_real": len(real)}
    distances: dict[str, SetDistance] = {"kernel": kernel_distance, "frechet": frechet_distance}
    for name, distance in distances.items():
        value = distance(real=real, generated=generated)
        floor = real_to_real(pool, (len(generated), len(real)), distance, seed=seed)
        table[name] = {
            "value": value,
            "standard_error": jackknife_error(distance, real=real, generated=generated, seed=seed),
            "floor_mean": float(floor.mean()),
            "floor_low": float(floor.min()),
            "floor_high": float(floor.max()),
            "floor_repeats": len(floor),
        }
    # the kernel distance's floor is 0 in expectation: no ratio to it means anything
    table["frechet"]["ratio_to_floor"] = table["frechet"]["value"] / table["frechet"]["floor_mean"]
    return table


def fidelity(
    extractor: FeatureExtractor, *, train: Photographs, val: Photographs, generated: Photographs, seed: int
) -> dict[str, Any]:
    """Compare class-matched generated photographs with the unseen val part and with the train part.

    Raises:
        InputError: fewer generated photographs than the val part has.
    """
    if len(generated.images) < len(val.images):
        raise InputError(f"{len(generated.images)} class-matched", f"{len(val.images)} or more", "generate more pairs")
    train_features, val_features = extractor(train.images), extractor(val.images)
    matched = extractor(generated.images)
    pool = np.concatenate([train_features, val_features])
    random = np.random.default_rng(seed)
    as_many_as_val = random.permutation(matched)[: len(val_features)]
    train_as_many_as_val = random.permutation(train_features)[: len(val_features)]
    return {
        "extractor": extractor.name,
        "preprocessing": extractor.preprocessing,
        "against_unseen": set_distances(real=val_features, generated=matched, pool=pool, seed=seed),
        "against_train": set_distances(real=train_features, generated=as_many_as_val, pool=pool, seed=seed),
        "manifold": asdict(manifold_scores(real=val_features, generated=as_many_as_val)),
        "manifold_floor": asdict(manifold_scores(real=val_features, generated=train_as_many_as_val)),
    }


def mask_shapes(generated: Photographs, real: Photographs) -> dict[str, Any]:
    """Compare the shapes of generated and real masks: medians and the Kolmogorov-Smirnov distance (0 to 1)."""
    columns = [[shape_statistics(mask).as_dict() for mask in masks] for masks in (generated.masks, real.masks)]
    table: dict[str, Any] = {"n_generated": len(generated.masks), "n_real": len(real.masks)}
    for name in columns[0][0]:
        made, there = (np.array([row[name] for row in rows]) for rows in columns)
        made, there = made[np.isfinite(made)], there[np.isfinite(there)]
        table[name] = {
            "generated_mean": float(made.mean()),
            "real_mean": float(there.mean()),
            "ks_distance": float(stats.ks_2samp(made, there).statistic),
        }
    return table


def memorisation(result: Novelty) -> dict[str, Any]:
    """Return the numbers of a novelty result."""

    def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
        return {f"p{p}": float(np.percentile(values, p)) for p in (0, 5, 50, 95)}

    rates: dict[str, Estimate] = {"near_copy_rate": result.near_copy_rate, "duplicate_rate": result.duplicate_rate}
    rates["held_out_duplicate_rate"] = result.held_out_duplicate_rate
    return {
        "n_generated": len(result.generated.features.index),
        "n_held_out": len(result.held_out.features.index),
        "threshold": result.threshold,
        "fit_threshold": result.fit_threshold,
        "expected_rate": result.expected_rate,
        "closer_than_held_out": result.closer_than_held_out,
        "fits_better_than_held_out": result.fits_better_than_held_out,
        "feature_distance": {
            "generated": quantiles(result.generated.features.distance),
            "held_out": quantiles(result.held_out.features.distance),
        },
        "hash_bits": {
            "generated": quantiles(result.generated.bits.distance),
            "held_out": quantiles(result.held_out.bits.distance),
        },
        **{name: asdict(value) for name, value in rates.items()},
    }
