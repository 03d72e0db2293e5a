"""An evaluation keeps its schema, leaves out what cannot be judged with the reason, and refuses what would mislead."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.evaluation.conditions import parse_condition
from skindualgen.evaluation.definitions import DEFINITIONS
from skindualgen.evaluation.diagnosis import Readings, measure_diagnoses
from skindualgen.evaluation.inputs import read_inputs
from skindualgen.evaluation.results import SECTIONS, EvaluationReport, evaluation_schema
from skindualgen.evaluation.run import EvaluateOptions, evaluate, section_names
from skindualgen.files import sha256_file
from skindualgen.judges.classifier import Classifier
from skindualgen.judges.segmenter import Segmenter
from skindualgen.judges.trained import JudgeRecipe, Judges, default_cache, why_not_bundled
from skindualgen.judges.training import bundled_file
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.measures import Measure, Reference, measure_key
from skindualgen.metrics.outcomes import ClassificationOutcome
from skindualgen.report.evaluation_tables import caveats_of, groups_table
from tiny import write_phantom_data

SIDE_PX = 64
RECIPE = JudgeRecipe(steps=2, size_px=SIDE_PX)


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    return write_phantom_data(tmp_path_factory.mktemp("real") / "data", train=24, val=15)


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """Synthetic records of 12 phantoms, all of them in the split "train", as generators write them."""
    root = write_phantom_data(tmp_path_factory.mktemp("made") / "made", train=12, val=0)
    rewrite(root, lambda record: record.model_copy(update={"isic_id": f"SDG_{record.isic_id}", "origin": "synthetic"}))
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def rewrite(root: Path, change) -> Path:
    write_dataset(root, [change(record) for record in read_metadata(root)], made_by={})
    return root


def copied(source: Path, target: Path, change) -> Path:
    """The same photographs under changed records."""
    target.mkdir()
    for folder in ("images", "masks"):
        (target / folder).symlink_to(source / folder)
    write_dataset(target, [change(record) for record in read_metadata(source)], made_by={})
    return target


def options(real, generated, cache, **changed) -> EvaluateOptions:
    return replace(EvaluateOptions(real, generated, judges=cache, recipe=RECIPE), **changed)


@pytest.fixture(scope="module")
def whole(real, generated, cache):
    """Every section, and the stages that were reported."""
    stages = []
    conditions = tuple(map(parse_condition, ["near_copy_rate>1", "frechet>0", "closer_than_held_out>=0"]))
    result = evaluate(options(real, generated, cache, conditions=conditions), lambda *stage: stages.append(stage))
    return result, stages


def test_the_report_fits_its_published_schema(whole):
    content = json.loads(json.dumps(whole[0].report.model_dump(mode="json"), allow_nan=False))
    schema = evaluation_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(content)
    assert EvaluationReport.model_validate(content) == whole[0].report
    content["fidelity"]["measures"][0]["value"] = "high"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(content)


def test_every_section_is_measured_and_every_number_is_defined(whole):
    report = whole[0].report
    left_out = {name: report.section(name).left_out for name in SECTIONS}
    assert "--site-classifier" in left_out.pop("adherence")  # the phantoms have no prompts
    assert not any(left_out.values())
    assert all(report.section(name).measures for name in left_out)
    assert {measure.name for measure in report.measures()} <= set(DEFINITIONS)
    for key in ("near_copy_rate", "near_copy_rate[melanoma]", "agreement_dice", "agreement_gap", "kid", "recall"):
        assert key in report.numbers()


def test_too_few_photographs_give_a_caveat_instead_of_a_distance(whole):
    frechet = next(measure for measure in whole[0].report.measures() if measure.key == "frechet")
    assert frechet.value is None and "photographs" in frechet.caveat
    assert any("Only 12 photographs" in caveat for caveat in whole[0].report.caveats)


def test_a_condition_without_a_number_fails_the_evaluation(whole):
    assert [outcome.failed for outcome in whole[0].report.conditions] == [False, True, True]


def test_every_generated_photograph_has_a_line_of_its_own(whole):
    evaluation = whole[0]
    rows = list(csv.DictReader(evaluation.evidence.pictures_csv(evaluation.inputs.generated).splitlines()))
    assert [row["isic_id"] for row in rows] == evaluation.inputs.generated.ids
    assert all(float(row["feature_distance"]) >= 0 and 0 <= float(row["segmenter_dice"]) <= 1 for row in rows)
    assert {row["read_diagnosis"] for row in rows} <= {"melanoma", "nevus", "seborrheic keratosis"}


def test_the_record_says_what_was_compared(whole, real, generated):
    report = whole[0].report
    assert (report.run.n_train, report.run.n_held_out, report.run.n_generated) == (24, 15, 12)
    assert (report.run.held_out, report.run.size_px) == ("val", SIDE_PX)
    assert report.run.judge_recipes["segmenter"]["train_photographs"] == 24
    assert report.real.manifest_sha256 != report.generated.manifest_sha256


def test_judges_come_from_the_cache_until_recipe_or_photographs_change(real, generated, cache, whole):
    def stages_of(train, recipe):
        stages = set()
        judges = Judges(train.data, [], recipe, SIDE_PX, cache, lambda stage, done, total: stages.add(stage))
        assert judges.segmenter.header["train_ids"] == sorted(train.ids)
        return stages

    assert "training the segmenter" in {stage for stage, _, _ in whole[1]}
    train = read_inputs(real, generated).train
    assert stages_of(train, RECIPE) == set()
    assert stages_of(train, replace(RECIPE, seed=1)) == {"training the segmenter"}
    assert stages_of(train.take(np.arange(24) < 20), RECIPE) == {"training the segmenter"}


def test_a_judge_that_has_seen_held_out_photographs_is_refused(real, generated, cache, whole):
    inputs = read_inputs(real, generated)
    file = next(cache.glob("segmenter-*.safetensors"))
    with pytest.raises(InputError, match=r"trained on .* held-out photographs, first PHANTOM"):
        Judges(inputs.train.data, inputs.train.ids, RECIPE, SIDE_PX, cache, print, segmenter_file=file).segmenter  # noqa: B018


def test_the_bundled_judges_judge_unless_they_cannot(real, generated, tmp_path):
    """Phantoms are 64 px; enlarged, they hold no less detail than the bundled judges were trained on."""
    trained = []
    chosen = options(real, generated, tmp_path, recipe=None, size_px=128, sections=("masks", "diagnosis"))
    report = evaluate(chosen, lambda stage, done, total: trained.append(stage)).report
    assert not [stage for stage in trained if "training" in stage]
    assert report.run.judge_recipes["segmenter"]["train_photographs"] > 1000
    assert report.run.judge_recipes["classifier"]["classes"] == ["melanoma", "nevus", "seborrheic_keratosis"]
    assert not [caveat for caveat in report.caveats if "bundled" in caveat]


def test_pairs_that_the_judge_itself_has_chosen_are_pointed_out(real, generated, tmp_path):
    by = {"best_of": 2, "classifier_sha256": sha256_file(bundled_file("classifier"))}
    chosen = copied(generated, tmp_path / "chosen", lambda record: PairRecord(**record.model_dump() | by))
    asked = options(real, chosen, tmp_path / "cache", recipe=None, size_px=128, sections=("diagnosis",))
    caveats = evaluate(asked, lambda *stage: None).report.diagnosis.caveats
    assert [each for each in caveats if each.startswith("12 generated photographs were chosen among candidates")]
    plain = evaluate(replace(asked, generated=generated), lambda *stage: None).report.diagnosis.caveats
    assert not [each for each in plain if "candidates" in each]


def test_why_a_bundled_judge_is_not_used_is_said(real, generated, tmp_path, monkeypatch):
    train = read_inputs(real, generated).train.data
    segmenter, classifier = Segmenter(bundled_file("segmenter")), Classifier(bundled_file("classifier"))
    seen = segmenter.header["train_ids"][:2]
    rare = Dataset(train.root, [train.records[0].model_copy(update={"diagnosis": "basal cell carcinoma"})])
    assert why_not_bundled(segmenter, train, [], 128) is None
    assert why_not_bundled(classifier, train, [], 256) is None
    assert "more detail (128 px)" in why_not_bundled(segmenter, train, [], 96)
    assert f"2 of the held-out photographs, first {seen[0]}" in why_not_bundled(segmenter, train, seen, 128)
    assert why_not_bundled(classifier, rare, [], 128) == "does not know basal cell carcinoma"
    assert why_not_bundled(segmenter, rare, [], 128) is None
    judges = Judges(train, [], None, SIDE_PX, tmp_path, lambda stage, done, total: None)
    monkeypatch.setattr(judges, "_trained", lambda kind, called, data: bundled_file(kind))
    assert judges.segmenter.header["kind"] == "segmenter" and not judges.recipes["segmenter"]["bundled"]
    assert "another was trained" in judges.not_bundled[0]


def test_prompted_sizes_and_sites_are_scored_where_there_are_enough(tmp_path, cache):
    """Lesion sizes are prompted as they are; sites are drawn by the last digit of the id."""
    real = write_phantom_data(tmp_path / "real", train=40, val=24)
    made = write_phantom_data(tmp_path / "made", train=24, val=0)
    areas = {r.isic_id: (np.asarray(Image.open(made / r.mask_file_name)) > 0).mean() for r in read_metadata(made)}
    middle = np.median(list(areas.values()))

    def described(record):
        site = ("head/neck", "palms/soles")[int(record.isic_id[-1]) % 2]
        words = (
            {"prompt": f"a {'large' if areas[record.isic_id] > middle else 'small'} mole"}
            if record.isic_id in areas
            else {}
        )
        return record.model_copy(update={"anatom_site_general": site, **words})

    for root in (real, made):
        rewrite(root, described)
    chosen = options(real, made, cache, sections=("adherence",), site_classifier=True)
    section = evaluate(chosen, lambda *_: None).report.adherence
    found = {measure.key: measure for measure in section.measures}
    assert found["adherence_lesion_size"].value == 1
    assert found["adherence_lesion_size"].reference.value == 0.5
    assert found["adherence_lesion_size"].n_generated == 24
    sites = found["site_balanced_accuracy"]
    assert (sites.n_generated, sites.n_real) == (24, 24)
    hits = [found[f"site_accuracy[{name}]"].value for name in ("head/neck", "palms/soles")]
    assert sites.value == pytest.approx(np.mean(hits))
    assert found["site_gap"].value == pytest.approx(sites.reference.value - sites.value)


def test_what_generated_pairs_do_not_have_is_left_out_with_the_reason(real, generated, cache, tmp_path):
    bare = copied(
        generated,
        tmp_path / "bare",
        lambda record: record.model_copy(update={"mask_file_name": None, "diagnosis": None}),
    )
    report = evaluate(options(real, bare, cache, sections=("masks", "diagnosis")), lambda *_: None).report
    assert "mask" in report.masks.left_out
    assert "diagnosis" in report.diagnosis.left_out
    assert report.fidelity.left_out == "Not asked for."
    assert not report.run.judge_recipes  # nothing was trained that nobody needs


def test_one_class_leaves_nothing_to_classify(real, generated, cache, tmp_path):
    one = copied(real, tmp_path / "one", lambda record: record.model_copy(update={"diagnosis": "nevus"}))
    report = evaluate(options(one, generated, cache, sections=("diagnosis",)), lambda *_: None).report
    assert "fewer than two diagnoses" in report.diagnosis.left_out


def test_two_spellings_of_a_diagnosis_are_one_class(real, generated, tmp_path):
    """Guards against comparing "seborrheic_keratosis" with "seborrheic keratosis" and finding nothing in common."""
    spelled = copied(
        generated,
        tmp_path / "spelled",
        lambda record: record.model_copy(update={"diagnosis": {"nevus": "NV"}.get(record.diagnosis, record.diagnosis)}),
    )
    assert read_inputs(real, spelled).groups == ["melanoma", "nevus", "seborrheic keratosis"]


def test_photographs_are_compared_at_the_smaller_side(tmp_path, generated):
    larger = write_phantom_data(tmp_path / "larger", train=10, val=10, size=96)
    inputs = read_inputs(larger, generated)
    assert inputs.train.images.shape == (10, SIDE_PX, SIDE_PX, 3)
    assert (inputs.real_info.side_px, inputs.generated_info.side_px) == (96, SIDE_PX)
    enlarged = read_inputs(larger, generated, size_px=96)
    assert any("enlarged" in caveat for caveat in enlarged.caveats)


def test_held_out_photographs_that_the_train_split_has_are_pointed_out(real, generated, tmp_path):
    def one_lesion(record):
        return record.model_copy(update={"lesion_id": "IL_1"})

    shared = copied(real, tmp_path / "shared", one_lesion)
    assert any("lesion_id" in caveat for caveat in read_inputs(shared, generated).caveats)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin": "synthetic"}, "synthetic records"),
        ({"split": "train"}, "splits"),
    ],
)
def test_folders_that_cannot_be_the_real_one_are_refused(real, generated, tmp_path, change, message):
    wrong = copied(real, tmp_path / "wrong", lambda record: record.model_copy(update=change))
    with pytest.raises(InputError, match=message):
        read_inputs(wrong, generated)


def test_a_named_held_out_split_must_be_there(real, generated):
    with pytest.raises(InputError, match="'test'"):
        read_inputs(real, generated, held_out="test")


def test_unknown_sections_and_conditions_are_refused_before_any_work(real, generated, cache):
    with pytest.raises(InputError, match="memorisation"):
        section_names(["copies"])
    assert section_names(["masks", "fidelity"]) == ("fidelity", "masks")
    with pytest.raises(InputError, match="near_copy_rate"):
        evaluate(options(real, generated, cache, conditions=(parse_condition("copies>0"),)), lambda *_: None)


def test_class_fidelity_on_paper():
    """Four nevi, two melanomas: three and one read right."""
    classes = ["melanoma", "nevus"]
    probabilities = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1], [0.35, 0.65]])
    outcome = ClassificationOutcome(classes, np.array([1, 1, 1, 1, 0, 0]), probabilities)
    readings = Readings(outcome, [f"G{i}" for i in range(6)], [f"G{i}" for i in range(6)])
    section = measure_diagnoses(held_out=readings, generated=readings, judge="judge", seed=0)
    found = {measure.key: measure for measure in section.measures}
    assert section.generated.counts == [[1, 1], [1, 3]]
    assert found["class_accuracy[nevus]"].value == 3 / 4
    assert found["class_accuracy[melanoma]"].value == 1 / 2
    assert found["class_balanced_accuracy"].value == 5 / 8
    # of the 8 pairs of a melanoma and a nevus, only (0.35, 0.6) is in the wrong order
    assert found["class_auroc[melanoma]"].value == found["class_auroc"].value == pytest.approx(7 / 8)
    assert all(measure.reference.value == measure.value for measure in section.measures)
    assert found["class_accuracy[nevus]"].n_generated == 4
    assert readings.probability_of_truth.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.4, 0.9, 0.35])


def found_measure(name: str, value: float | None, group: str | None = None, **more) -> Measure:
    more = {
        "n_generated": 8,
        "n_real": 4,
        "reference": Reference(kind="held-out real", value=0.5, low=0.4, high=0.6),
    } | more
    return Measure(key=measure_key(name, group), name=name, group=group, value=value, **more)


def test_a_table_puts_every_number_under_its_name_and_over_its_reference():
    measures = [
        found_measure("kid", 0.25, low=0.125, high=0.5),
        found_measure("recall", 0.75),
        found_measure("recall", None, "nevus", caveat="few", reference=None, n_generated=2),
    ]
    table = groups_table(measures, ["recall", "kid", "coverage"], DEFINITIONS, "title")
    assert [column.title for column in table.columns] == ["n", "Recall", "KID"]
    assert [column.term for column in table.columns] == ["", "recall", "kid"]
    (all_row, real_row, nevus_row, nevus_real) = table.rows
    assert all_row == ("all", ["8", 0.75, Estimate(0.25, 0.125, 0.5)])
    assert real_row[1] == ["4", Estimate(0.5, 0.4, 0.6), Estimate(0.5, 0.4, 0.6)]
    assert nevus_row[:1] == ("nevus",) and nevus_row[1][0] == "2"
    assert all(np.isnan(value) for value in [*nevus_row[1][1:], *nevus_real[1][1:]])


def test_caveats_of_many_measures_are_two_lines():
    measures = [
        found_measure("recall", None, "nevus", caveat="3 photographs"),
        found_measure("coverage", None, "nevus", caveat="3 photographs"),
        found_measure("recall", None, "melanoma", caveat="2 photographs"),
        found_measure("coverage", None, "melanoma", caveat="2 photographs"),
        found_measure("kid", 0.1, caveat="40 photographs"),
        found_measure("density", 1.0),
    ]
    assert caveats_of(measures, DEFINITIONS) == [
        "No number, as there are too few photographs: Recall, Coverage (nevus, melanoma).",
        "Uncertain, for few photographs: KID (all).",
    ]


def test_a_measure_has_a_value_or_says_why_not():
    with pytest.raises(ValidationError, match="neither a value nor a caveat"):
        Measure(key="kid", name="kid", value=float("nan"), n_generated=3)


def test_a_report_defines_its_measures_and_names_each_once(whole):
    content = whole[0].report.model_dump(mode="json")
    content["fidelity"]["measures"].append(content["fidelity"]["measures"][0])
    with pytest.raises(ValidationError, match="repeated keys"):
        EvaluationReport.model_validate(content)
    del content["fidelity"]["measures"][-1]
    del content["definitions"]["near_copy_rate"]
    with pytest.raises(ValidationError, match="without a definition"):
        EvaluationReport.model_validate(content)


def test_judges_see_no_more_detail_than_is_compared():
    assert JudgeRecipe(size_px=128).within(100).size_px == 96
    assert JudgeRecipe(size_px=128).within(512).size_px == 128
    assert JudgeRecipe(size_px=128).classifier.size_px == 160
    with pytest.raises(InputError, match="multiple of 32"):
        JudgeRecipe(size_px=100)


def test_the_cache_can_be_put_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SKINDUALGEN_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("SKINDUALGEN_CACHE")
    assert default_cache().is_absolute()
    assert "skindualgen" in default_cache().parts
