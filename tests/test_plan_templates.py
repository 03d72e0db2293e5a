"""Templates of one's own: fields are the data's, choices are dynamicprompts'."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from skindualgen.contracts import InputError, PairRecord
from skindualgen.planning.sampling import plan_pairs
from skindualgen.planning.targets import uniform
from skindualgen.planning.templates import DynamicTemplates, read_templates

RECORDS = [
    PairRecord(
        file_name=f"images/{name}.png",
        isic_id=name,
        diagnosis=name,
        sex=sex,
        anatom_site_general="head/neck",
        benign_malignant="benign" if name == "nevus" else "malignant",
    )
    for name, sex in (("nevus", "male"), ("melanoma", None))
]


def templates(folder: Path, text: str, **wildcards: str) -> DynamicTemplates:
    for name, values in wildcards.items():
        (folder / f"{name}.txt").write_text(values)
    (folder / "mine.prompts").write_text(text)
    return read_templates(folder / "mine.prompts")


def samples(found: DynamicTemplates, seed: int = 0, count: int = 200) -> set[str]:
    return {next(stream) for stream in found.streams(seed) for _ in range(count)}


def prompts(found: DynamicTemplates, by: tuple[str, ...] = ("diagnosis",)) -> dict[str, set[str]]:
    """Prompts of a plan, by diagnosis."""
    rows = plan_pairs(RECORDS, uniform(120), by=by, max_ratio=100, templates=found).rows
    return {name: {row.prompt for row in rows if row.attributes["diagnosis"] == name} for name in ("nevus", "melanoma")}


def test_choices_around_fields(tmp_path: Path) -> None:
    found = templates(tmp_path, "# mine\n\n{a|the} {photo|image} of {a_diagnosis}[ on {site}]\n")
    assert samples(found) == {
        f"{article} {what} of {{a_diagnosis}}[ on {{site}}]" for article in ("a", "the") for what in ("photo", "image")
    }
    assert prompts(found)["nevus"] == {
        f"{article} {what} of a nevus on the head/neck" for article in ("a", "the") for what in ("photo", "image")
    }


def test_several_choices_weights_and_variables(tmp_path: Path) -> None:
    found = templates(
        tmp_path, "{2$$ and $$sharp|round} {0::never|always}, ${tone=!{warm|cold}}${tone} ${tone} {lesion}"
    )
    ways = {text.strip() for text in samples(found)}
    assert len({text.split(",")[0] for text in ways}) == 2 and all("always" in text for text in ways)
    assert {text.split(", ")[1].strip() for text in ways} <= {"warm warm {lesion}", "cold cold {lesion}"}


def test_wildcards_hold_fields_choices_and_wildcards(tmp_path: Path) -> None:
    found = templates(
        tmp_path,
        "{diagnosis}, __light__",
        light="# of the room\n{warm|cold} light\n{site} in __colour__\n",
        colour="red\n",
    )
    assert samples(found) == {
        "{diagnosis}, warm light",
        "{diagnosis}, cold light",
        "{diagnosis}, {site} in red",
    }
    assert "melanoma, head/neck in red" not in prompts(found)["melanoma"]
    assert "melanoma, the head/neck in red" in prompts(found)["melanoma"]
    several = templates(tmp_path, "{diagnosis}, {2$$ or $$__light__}", light="warm\ncold\n")
    assert samples(several) == {"{diagnosis}, warm or cold", "{diagnosis}, cold or warm"}


def test_samples_are_a_function_of_the_seed(tmp_path: Path) -> None:
    found = templates(tmp_path, "{a|b|c|d} {diagnosis} __x__", x="1\n2\n3\n")
    runs = [[next(stream) for _ in range(30)] for seed in (1, 1, 2) for stream in found.streams(seed)]
    assert runs[0] == runs[1] != runs[2]


def test_a_template_is_used_only_where_it_fits(tmp_path: Path) -> None:
    found = templates(tmp_path, "a mole of {patient}\n{sex} with {a_diagnosis}\ndermoscopy, {diagnosis}\n")
    assert prompts(found) == {
        "nevus": {"a mole of a man", "male with a nevus", "dermoscopy, nevus"},
        "melanoma": {"dermoscopy, melanoma"},
    }


def test_no_template_states_what_is_grouped_by(tmp_path: Path) -> None:
    found = templates(tmp_path, "dermoscopy of {a_diagnosis}\n")
    with pytest.raises(InputError, match=r"states its diagnosis (nevus|melanoma), site head/neck"):
        prompts(found, by=("diagnosis", "site"))


def test_a_prompt_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CLIP tokens"):
        prompts(templates(tmp_path, "{diagnosis} " + "dermoscopic " * 20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "without any template"),
        ("{a_diagnosi}", r"line 1: \{a_diagnosi\}, which is no field.*write \{a_diagnosis\}"),
        ("fine {diagnosis}\n{} {diagnosis}", r"line 2: \{\}, which is no field"),
        ("{a|b {diagnosis}", "line 1: .*dynamicprompts' syntax"),
        ("costs $5 {diagnosis}", "line 1: .*dynamicprompts' syntax"),
        ("${mood} {diagnosis}", "line 1: .*Variable mood is not defined"),
        ("{diagnosis} {lesion}", "diagnosis stated twice"),
        ("{diagnosis}[ on {site}", "brackets that nest or do not close"),
        ("{diagnosis} __none__", r"line 1: the wildcard __none__, and no file .*none\.txt"),
        ("{diagnosis} __li*__", "line 1: '__' that is no wildcard"),
        ("{diagnosis} __empty__", r"empty\.txt without any value"),
        ("{diagnosis} __loop__", "__loop__, which holds itself"),
        ("{diagnosis} __slip__", r"slip\.txt, line 2: \{sit\}, which is no field"),
    ],
)
def test_faulty_templates(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        templates(tmp_path, text, empty="#\n", loop="a\n{b|__loop__}\n", slip="a\n{sit}\n")


def test_templates_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="readable UTF-8"):
        read_templates(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"n\xe9vus")
    with pytest.raises(InputError, match="readable UTF-8"):
        read_templates(tmp_path / "latin.txt")


def test_the_optional_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamicprompts", None)
    with pytest.raises(InputError, match=r"pip install 'skindualgen\[templates\]'"):
        templates(tmp_path, "{diagnosis}")


def test_words_of_ones_own_do_not_contradict_the_record(tmp_path: Path) -> None:
    """Grouped by sex, a template need not state the diagnosis; but "a mole" must not be drawn from a melanoma."""
    found = templates(tmp_path, "a mole of {patient}\n{patient} under a dermatoscope\n")
    men = [record.model_copy(update={"sex": "male"}) for record in RECORDS]
    rows = plan_pairs(men, uniform(60), by=("sex",), max_ratio=100, templates=found).rows
    labels = {row.prompt: row.attributes for row in rows}
    assert labels == {
        "a mole of a man": {"diagnosis": "nevus", "benign_malignant": "benign", "sex": "male"},
        "a man under a dermatoscope": {"sex": "male"},
    }
    counts = {row.prompt: row.count for row in rows}
    assert counts["a mole of a man"] < counts["a man under a dermatoscope"], (
        "the melanoma has one template, the nevus two"
    )
