"""Where a judge errs on val, by diagnosis and by clusters of pictures that look alike, and the training pairs there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.extractors import OFFLINE_DEFAULT
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.pictures import PictureSet, in_terms, read_pictures
from skindualgen.judges.segmenter import Segmenter
from skindualgen.judges.trained import cached_extractor, default_cache, refuse_seen
from skindualgen.metrics.masks import compared, dice
from skindualgen.planning.sampling import PlannedSet
from skindualgen.planning.templates import DynamicTemplates
from skindualgen.planning.weak import WeakFor, WeakGroup, plan_weak

LEAST_PROBABILITY = 1e-3
"""Probability below which a classifier's error counts no more: a loss of 6.9 at most."""
DEFAULT_CLUSTERS = 4
"""of a diagnosis, at most"""
CLUSTER_OF = 10
"""Photographs of val that a cluster has at least, in the mean of its diagnosis."""
REMEDY = "give a judge that was trained on the real training split of this folder alone"


@dataclass(frozen=True)
class Weakness:
    """What a judge is bad at.

    Attributes:
        groups: by diagnosis and cluster.
        left_out: photographs of val on which the judge has no loss: without a mask, or of a diagnosis that it does
            not know.
    """

    groups: list[WeakGroup]
    left_out: int


def find_weakness(
    data: Path, task: WeakFor, judge_file: Path, extractor: FeatureExtractor, *, clusters: int, seed: int = 0
) -> Weakness:
    """Measure a judge's loss on the real photographs of val, and find the training pairs that are like them.

    The loss is the cross-entropy of a photograph's diagnosis for ``classify``, 1 - Dice for ``segment``. Photographs of
    each diagnosis fall into clusters by k-means on frozen features, one for each :data:`CLUSTER_OF` of them; training
    pairs of the diagnosis belong to the nearest cluster, and one that is nearest to no real pair is dissolved.

    Args:
        data: data set folder with the splits train and val.
        task: what the judge does.
        judge_file: of a segmenter or a classifier that was trained on the real training split.
        extractor: of the features.
        clusters: of a diagnosis, at most.
        seed: of k-means.

    Raises:
        InputError: no real photograph in train or val, a judge of another task, one that was trained on other
            photographs than the real ones of train, or nothing on val that it can be judged by.
    """
    judge = Segmenter(judge_file) if task == "segment" else Classifier(judge_file)
    everything = Dataset.open(data, rejected=True)
    _refuse_other_training(judge, everything)
    in_use = in_terms(Dataset.open(data))
    train, val = in_use.split("train"), in_use.split("val").where(lambda record: record.origin == "real")
    if not len(val):
        raise InputError(
            f"{data} without real pairs of the split val",
            "a val part, which the judge has not seen and where its loss is measured",
            "prepare the data with one (`skindualgen prepare --split`, `--val-from-train`)",
        )
    judged = val.with_masks() if isinstance(judge, Segmenter) else _known_to(judge, val)
    if not len(judged):
        missing = "a mask" if task == "segment" else "a diagnosis that the judge knows"
        raise InputError(f"{data}, of which no photograph of val has {missing}", "one at least", "give other data")
    side = judge.header["size_px" if isinstance(judge, Segmenter) else "image_size_px"]
    pictures = read_pictures(judged, side)
    losses = mask_losses(judge, pictures) if isinstance(judge, Segmenter) else diagnosis_losses(judge, pictures)
    groups = weak_groups(pictures, losses, read_pictures(train, side), extractor, clusters=clusters, seed=seed)
    return Weakness(groups, len(val) - len(judged))


def plan_for_judge(
    data: Path,
    task: WeakFor,
    judge_file: Path,
    *,
    count: int | None = None,
    clusters: int | None = None,
    max_ratio: float = 5.0,
    seed: int = 0,
    templates: DynamicTemplates | None = None,
    looks: bool = True,
) -> tuple[Weakness, PlannedSet]:
    """Plan pairs for what a judge is bad at, by features that every installation has.

    Args:
        data, task, judge_file: see `find_weakness`.
        count: pairs in all, before limits; as many as real training pairs if not given.
        clusters: of a diagnosis, at most; `DEFAULT_CLUSTERS` if not given.
        max_ratio, seed, templates, looks: see `plan_weak`.

    Raises:
        InputError: see `find_weakness` and `plan_weak`.
    """
    extractor = cached_extractor(OFFLINE_DEFAULT, default_cache())
    found = find_weakness(data, task, judge_file, extractor, clusters=clusters or DEFAULT_CLUSTERS, seed=seed)
    pairs = count or sum(len(group.records) for group in found.groups)
    planned = plan_weak(found.groups, pairs, max_ratio=max_ratio, seed=seed, templates=templates, looks=looks)
    return found, planned


def diagnosis_losses(judge: Classifier, pictures: PictureSet) -> NDArray[np.float64]:
    """Return the cross-entropy [n] of photographs whose diagnoses the judge knows, over its mean of eight views."""
    places = [judge.terms.index(str(name)) for name in pictures.diagnoses]
    own = judge.probabilities(pictures.images)[np.arange(len(places)), places]
    return -np.log(np.maximum(own, LEAST_PROBABILITY, dtype=np.float64))


def mask_losses(judge: Segmenter, pictures: PictureSet) -> NDArray[np.float64]:
    """Return 1 - Dice [n] of the judge's masks with those of the photographs; ignored pixels do not count."""
    ignored = [None] * len(pictures) if pictures.ignored is None else pictures.ignored
    pairs = zip(judge.masks(pictures.images), pictures.masks, ignored, strict=True)
    return np.array([1 - dice(*compared(predicted, truth, left_out)[0]) for predicted, truth, left_out in pairs])


def weak_groups(
    val: PictureSet,
    losses: NDArray[np.float64],
    train: PictureSet,
    extractor: FeatureExtractor,
    *,
    clusters: int,
    seed: int = 0,
) -> list[WeakGroup]:
    """Divide the photographs of val, with their losses [n], into groups, and give them the training pairs near them."""
    of_val, of_train = val.features(extractor), train.features(extractor)
    groups = []
    for diagnosis in [*val.named_diagnoses, *([None] if None in val.diagnoses else [])]:
        own, others = np.flatnonzero(val.of_diagnosis(diagnosis)), np.flatnonzero(train.of_diagnosis(diagnosis))
        records = [train.data[int(place)] for place in others]
        real = np.array([record.origin == "real" for record in records], np.bool_)
        count = max(1, min(clusters, len(own) // CLUSTER_OF))
        centres = KMeans(count, n_init=10, random_state=seed).fit(of_val[own]).cluster_centers_
        if real.any():
            centres = centres[np.unique(pairwise_distances_argmin(of_train[others[real]], centres))]
        near = pairwise_distances_argmin(of_val[own], centres)
        near_train = pairwise_distances_argmin(of_train[others], centres) if len(others) else others
        for cluster in np.unique(near):
            here = near_train == cluster
            found = [records[int(place)] for place in np.flatnonzero(here & real)]
            of_cluster = losses[own[near == cluster]].tolist()
            groups.append(WeakGroup(diagnosis, int(cluster) + 1, of_cluster, found, int(here.sum()) - len(found)))
    return groups


def _known_to(judge: Classifier, val: Dataset) -> Dataset:
    return val.where(lambda record: record.diagnosis in judge.terms)


def _refuse_other_training(judge: Segmenter | Classifier, everything: Dataset) -> None:
    """Refuse a judge that has seen anything but real training photographs of these records."""
    refuse_seen(judge, [record.isic_id for record in everything if record.split != "train"], REMEDY)
    train = {record.isic_id for record in everything.split("train") if record.origin == "real"}
    if foreign := sorted(set(judge.header["train_ids"]) - train):
        raise InputError(
            f"a {judge.header['kind']} that was trained on {len(foreign)} photographs which are no real training pairs "
            f"of {everything.root}, first {foreign[0]}",
            "one of this folder's real training split: what others held out is not known",
            REMEDY,
        )
