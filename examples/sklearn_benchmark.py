"""Do generated pictures help to tell diagnoses apart? The idea of `skindualgen benchmark` in a page of scikit-learn.

python examples/sklearn_benchmark.py --real data --generated pairs

Features of a network trained on ImageNet, a logistic regression on them, and balanced accuracy on real photographs
that neither it nor the generator has seen. `skindualgen benchmark` trains whole networks, several times, and gives
intervals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skindualgen import Dataset
from skindualgen.data.training_items import read_training_items
from skindualgen.judges.extractors import extractor_named
from skindualgen.judges.leaks import find_leaks, refuse_leaks


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare classifiers of real, generated, and both kinds of pictures.")
    parser.add_argument("--real", type=Path, required=True, help="data set folder with the splits train and test")
    parser.add_argument("--generated", type=Path, required=True, help="data set folder of generated pairs")
    parser.add_argument("--size", type=int, default=224, help="side in px at which pictures are read")
    parser.add_argument("--features", default="efficientnet-lite0", help="an extractor of `evaluate`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def named(folder: Path, split: str) -> Dataset:
        return Dataset.open(folder, split).where(lambda record: record.diagnosis is not None)

    real, test, generated = named(options.real, "train"), named(options.real, "test"), named(options.generated, "train")
    seen = read_training_items(options.generated)
    refuse_leaks(find_leaks(test=test, train=real, generated=generated, generator_items=seen), known=False)
    extract = extractor_named(options.features)
    features = {data: extract(data.images(options.size)) for data in (real, test, generated)}
    diagnoses = {data: np.array([record.diagnosis for record in data]) for data in (real, test, generated)}

    arms = {"real": [real], "generated": [generated], "both": [real, generated]}
    print(f"balanced accuracy on {len(test)} real photographs; chance is {1 / len(set(diagnoses[test])):.3f}")
    for name, parts in arms.items():
        inputs = np.concatenate([features[part] for part in parts])
        labels = np.concatenate([diagnoses[part] for part in parts])
        # A class counts the same however many pictures it has, so that arms do not differ by their proportions.
        classifier = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000, random_state=options.seed)
        )
        classifier.fit(inputs, labels)
        score = balanced_accuracy_score(diagnoses[test], classifier.predict(features[test]))
        print(f"{name:>10}: {score:.3f} after {len(labels)} pictures")


if __name__ == "__main__":
    main()
