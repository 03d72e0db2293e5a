"""Candidates of a pair: the one that shows its diagnosis best is kept, under the seed that draws it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from producer import BATCH, DiscSampler, PictureGate
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata
from skindualgen.files import sha256_file
from skindualgen.gate.scores import CLASS_PROBABILITY
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.training import bundled_file
from skindualgen.planning.requests import PairRequest, requests_from_prompts
from skindualgen.production.best_of import BestOf
from skindualgen.production.chunk import Choice, ChunkSettings, Decode, Decoded
from skindualgen.production.drawing import attempt_seed, make_chunk
from skindualgen.production.generate import generate_pairs
from skindualgen.production.sampler import PipelineFactory
from skindualgen.sample.pipeline import SkinDualGenPipeline

KNOWN = [("a nevus", {"diagnosis": "nevus"}), ("a melanoma", {"diagnosis": "melanoma"})]
MIXED = [*KNOWN, ("a lesion", {}), ("a dermatofibroma", {"diagnosis": "dermatofibroma"})]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """The bundled one, which knows melanoma, nevus and seborrheic keratosis."""
    return Classifier(bundled_file("classifier"))


class Counting(DiscSampler):
    """Counts what it draws."""

    drawn = 0

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        self.drawn += len(requests)
        return super().sample(requests)


def chosen(
    sampler: DiscSampler, classifier: Classifier, requests: Sequence[PairRequest], count: int, threshold: float = 1.0
) -> Decoded:
    return Decoded(*BestOf(sampler, classifier, count, threshold).sample(requests)())


def test_the_best_candidate_is_kept_under_its_seed(classifier: Classifier) -> None:
    requests = requests_from_prompts(KNOWN, 6, 0)
    images, masks, readings, choices = chosen(DiscSampler(), classifier, requests, 4)
    assert readings is None and choices is not None
    others = 0
    for request, image, mask, choice in zip(requests, images, masks, choices, strict=True):
        again = PairRequest(request.index, request.prompt, choice.seed)
        (drawn,), (outline,) = DiscSampler().sample([again])()
        assert drawn == image and outline == mask
        found = classifier.probability(np.asarray(image), request.attributes["diagnosis"])
        assert found is not None and choice.scores == {CLASS_PROBABILITY: round(found, 4)}
        others += choice.seed != request.seed
    assert others > 0
    two = chosen(DiscSampler(), classifier, requests, 2).choices or ()
    for few, many in zip(two, choices, strict=True):  # more candidates begin with the same ones
        assert many.scores[CLASS_PROBABILITY] >= few.scores[CLASS_PROBABILITY]


def test_what_the_classifier_does_not_know_is_drawn_once(classifier: Classifier) -> None:
    sampler, requests = Counting(), requests_from_prompts(MIXED, 4, 0)
    _, _, _, choices = chosen(sampler, classifier, requests, 3)
    assert sampler.drawn == 4 + 2 * 2
    assert choices is not None and choices[2:] == [Choice(request.seed, {}) for request in requests[2:]]
    unknown = Counting()
    chosen(unknown, classifier, requests[2:], 3)
    assert unknown.drawn == 2


def test_above_the_threshold_no_further_candidate_is_drawn(classifier: Classifier) -> None:
    """Each pair is then its first candidate that reaches it, or the best of all where none does."""
    requests = requests_from_prompts(MIXED, 12, 0)
    each = [chosen(DiscSampler(), classifier, requests, count).choices or () for count in (1, 2, 3, 4)]
    firsts = sorted(choice.scores[CLASS_PROBABILITY] for choice in each[0] if choice.scores)
    threshold = firsts[len(firsts) // 2]
    expected, drawn = [], 0
    for counted in zip(*each, strict=True):
        enough = [choice.scores.get(CLASS_PROBABILITY, 1.0) >= threshold for choice in counted]
        number = enough.index(True) if True in enough else len(enough) - 1
        expected.append(counted[number])
        drawn += number + 1
    sampler = Counting()
    found = chosen(sampler, classifier, requests, 4, threshold)
    assert found.choices == expected and sampler.drawn == drawn
    assert len(requests) < drawn < 4 * len(requests)
    for request, image, choice in zip(requests, found.images, expected, strict=True):
        (again,), _ = DiscSampler().sample([PairRequest(request.index, request.prompt, choice.seed)])()
        assert again == image
    alone = [Decoded(*BestOf(DiscSampler(), classifier, 4, threshold).sample([request])()) for request in requests]
    assert [(each.choices or ())[0] for each in alone] == expected  # whatever the batch


def test_a_gate_judges_what_was_chosen(classifier: Classifier) -> None:
    """Each attempt has candidates of its own, and the record names the one that it is."""
    settings = ChunkSettings(2, 2.0, batch_size=BATCH, attempts=3, further_guidance={"best_of": 2})
    requests = requests_from_prompts(KNOWN, 8, 0)
    result = make_chunk(BestOf(DiscSampler(), classifier, 2), PictureGate(), 0, requests, settings)
    assert {pair.record.attempt for pair in result.pairs} >= {0, 1}
    for pair in result.pairs:
        request = requests[int(pair.record.isic_id[4:])]
        first = attempt_seed(request.seed, pair.record.attempt or 0)
        asked = PairRequest(request.index, request.prompt, first, request.attributes)
        (choice,) = chosen(DiscSampler(), classifier, [asked], 2).choices or ()
        assert pair.record.seed == choice.seed and choice.scores.items() <= (pair.record.scores or {}).items()
        assert pair.record.model_extra == {"best_of": 2}


def test_the_command_chooses_and_records_it(tiny_v_adapter: Path, tmp_path: Path, classifier: Classifier) -> None:
    out = tmp_path / "out"
    command = ["generate", "--adapter", str(tiny_v_adapter), "--steps", "2", "--out", str(out), "-n", "3"]
    asked = [*command, "--prompt", "a melanoma", "--prompt", "a lesion", "--best-of", "3"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "1 of them were drawn once: they name no diagnosis that the classifier knows" in done.output
    said = json.loads((out / "generate.json").read_text())
    assert said["best_of"] == 3 and said["classifier_sha256"] == sha256_file(bundled_file("classifier"))
    records = read_metadata(out)
    assert [CLASS_PROBABILITY in (record.scores or {}) for record in records] == [True, False, True]
    pipe = SkinDualGenPipeline.from_adapter(tiny_v_adapter)
    for record in records:  # the record's own seed and prompt make the picture, one draw
        made = pipe(
            record.prompt, generator=torch.Generator().manual_seed(record.seed or 0), num_inference_steps=2
        ).images[0]
        with Image.open(out / record.file_name) as kept:
            difference = np.asarray(made).astype(int) - np.asarray(kept)
        assert np.abs(difference).max() <= 1  # batches of other sizes: one grey level
    again = CliRunner().invoke(app, [*asked[:-1], "2"])
    assert again.exit_code == 2 and "best_of: 3 there, 2 now" in again.stderr


def test_an_adapter_may_have_a_number_of_candidates(v_pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    requests = requests_from_prompts(KNOWN, 2, 0)
    v_pipe.register_to_config(default_best_of=2, default_best_of_threshold=0.5)
    try:
        by_default = generate_pairs(v_pipe, requests, tmp_path / "default", num_inference_steps=1)
        once = generate_pairs(v_pipe, requests, tmp_path / "once", num_inference_steps=1, best_of=1)
        every = generate_pairs(v_pipe, requests, tmp_path / "every", num_inference_steps=1, best_of=2)
    finally:
        v_pipe.register_to_config(default_best_of=1, default_best_of_threshold=1.0)
    chooser = sha256_file(bundled_file("classifier"))
    assert [record.model_extra for record in by_default] == [
        {"best_of": 2, "best_of_threshold": 0.5, "classifier_sha256": chooser}
    ] * 2
    assert [record.model_extra for record in every] == [{"best_of": 2, "classifier_sha256": chooser}] * 2
    assert [record.model_extra for record in once] == [{}] * 2
    assert [record.seed for record in once] == [request.seed for request in requests]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"best_of": 0}, "the best of 0; expected 1 to 64"),
        ({"best_of": 65}, "the best of 65"),
        ({"best_of": 1, "classifier": Path("judge.safetensors")}, "a classifier without candidates"),
        ({"classifier": Path("judge.safetensors")}, "a classifier without candidates"),
        ({"best_of": 2, "best_of_threshold": 0.0}, "a threshold of 0.0; expected a probability above 0, up to 1"),
        ({"best_of": 2, "best_of_threshold": 1.5}, "a threshold of 1.5"),
        ({"best_of_threshold": 0.5}, "a threshold without candidates"),
    ],
)
def test_what_cannot_be_chosen_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PipelineFactory(**options)  # type: ignore[arg-type]


def test_photographs_that_are_read_have_no_candidates(tmp_path: Path) -> None:
    asked = ["generate", "--read", str(tmp_path), "--best-of", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2 and "photographs that are read" in done.stderr


def test_a_file_that_is_no_classifier_leaves_no_folder(tiny_v_adapter: Path, tmp_path: Path) -> None:
    asked = ["generate", "--adapter", str(tiny_v_adapter), "--prompt", "a nevus", "--best-of", "2", "--steps", "1"]
    for file, told in ((bundled_file("segmenter"), "a segmenter model"), (tmp_path / "none", "no file")):
        done = CliRunner().invoke(app, [*asked, "--classifier", str(file), "--out", str(tmp_path / "out")])
        assert done.exit_code == 2 and told in done.stderr and not (tmp_path / "out").exists()
