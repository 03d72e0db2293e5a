"""How many pairs each group gets, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.labels import TONES
from skindualgen.metrics.skin_tone import CATEGORIES
from skindualgen.planning.targets import (
    Group,
    GroupPlan,
    Target,
    balanced,
    group_of,
    parse_by,
    plan_groups,
    read_ratio_file,
    uniform,
)

REAL: dict[Group, int] = {("nevus",): 90, ("melanoma",): 30, ("angioma",): 4}
JOINT: dict[Group, int] = {("nevus", "female"): 9, ("nevus", "male"): 5, ("melanoma", "male"): 2}


def planned(
    target: Target,
    real: dict[Group, int] = REAL,
    synthetic: dict[Group, int] | None = None,
    *,
    novel: bool = False,
    max_ratio: float = 5,
) -> dict[Group, tuple[int, int]]:
    """Requested and planned pairs of each group."""
    groups = plan_groups(real, synthetic or {}, target, max_ratio=max_ratio, novel=novel)
    assert [group.group for group in groups] == sorted(group.group for group in groups)
    return {group.group: (group.requested, group.planned) for group in groups}


def ratio(folder: Path, text: str, *by: str) -> Target:
    path = folder / "ratio.toml"
    path.write_text(text)
    return read_ratio_file(path, by or ("diagnosis",))


def test_balanced_fills_up_to_the_largest_within_the_limit() -> None:
    assert planned(balanced) == {("nevus",): (0, 0), ("melanoma",): (60, 60), ("angioma",): (86, 20)}
    assert planned(balanced, max_ratio=1.5)[("melanoma",)] == (60, 45)
    assert planned(balanced, max_ratio=100)[("angioma",)] == (86, 86)


def test_synthetic_pairs_that_are_there_count() -> None:
    found = planned(balanced, synthetic={("melanoma",): 40, ("angioma",): 15})
    assert found == {("nevus",): (0, 0), ("melanoma",): (20, 20), ("angioma",): (71, 5)}
    assert planned(balanced, synthetic={("angioma",): 33})[("angioma",)] == (53, 0), "already above 5 : 1"


def test_after_is_real_and_synthetic_and_planned() -> None:
    (group,) = plan_groups({("a",): 4}, {("a",): 2}, uniform(3), max_ratio=5, novel=False)
    assert group == GroupPlan(("a",), real=4, synthetic=2, requested=3, planned=3)
    assert (group.now, group.after) == (6, 9)


def test_uniform_gives_each_group_as_many() -> None:
    assert planned(uniform(32)) == {("angioma",): (11, 11), ("melanoma",): (11, 11), ("nevus",): (10, 10)}
    assert sum(requested for requested, _ in planned(uniform(32)).values()) == 32


def test_combinations_without_a_real_pair() -> None:
    assert planned(balanced, JOINT)[("melanoma", "female")] == (0, 0)
    found = planned(balanced, JOINT, novel=True)
    assert found[("melanoma", "female")] == (9, 9), "not above what the smallest group may have: 5 x 2"
    assert planned(balanced, JOINT, novel=True, max_ratio=3)[("melanoma", "female")] == (9, 6)
    assert set(found) == {(d, s) for d in ("nevus", "melanoma") for s in ("female", "male")}


def test_measures_of_a_ratio_file(tmp_path: Path) -> None:
    target = ratio(tmp_path, "[diagnosis]\nMEL = 2.5\nnevus = {total = 100}\nangioma = {synthetic = 18}\n")
    assert planned(target) == {("melanoma",): (75, 75), ("nevus",): (10, 10), ("angioma",): (18, 18)}
    there = {("melanoma",): 70, ("nevus",): 20, ("angioma",): 10}
    assert planned(target, synthetic=there) == {("melanoma",): (5, 5), ("nevus",): (0, 0), ("angioma",): (8, 8)}


def test_groups_that_a_ratio_file_does_not_name_get_nothing(tmp_path: Path) -> None:
    assert planned(ratio(tmp_path, "[diagnosis]\nmelanoma = 1\n")) == {
        ("melanoma",): (30, 30),
        ("nevus",): (0, 0),
        ("angioma",): (0, 0),
    }


def test_shares_are_those_of_the_data_set_afterwards(tmp_path: Path) -> None:
    found = planned(ratio(tmp_path, "[diagnosis]\nmelanoma = {share = 0.5}\n"))
    assert found[("melanoma",)] == (64, 64), "30 + 64 of 188, the other 94 being nevi and angiomas"
    every = "[diagnosis]\nmelanoma = {share = 0.3}\nnevus = {share = 0.6}\nangioma = {share = 0.1}\n"
    assert planned(ratio(tmp_path, every)) == {("nevus",): (0, 0), ("melanoma",): (15, 15), ("angioma",): (11, 11)}
    mixed = "[diagnosis]\nmelanoma = {share = 0.4}\nangioma = {total = 10}\n"
    assert planned(ratio(tmp_path, mixed))[("melanoma",)] == (37, 37), "67 of 167, nevi 90, angiomas 10"


@pytest.mark.parametrize(
    "shares",
    ["melanoma = {share = 0.5}\nnevus = {share = 0.5}", "melanoma = {share = 0.9}\nnevus = {share = 0.9}"],
)
def test_shares_that_cannot_be_had(tmp_path: Path, shares: str) -> None:
    with pytest.raises(InputError, match="4 pairs of groups without a share"):
        planned(ratio(tmp_path, f"[diagnosis]\n{shares}\n"))


def test_joint_groups_of_a_ratio_file(tmp_path: Path) -> None:
    text = '[[group]]\nsex = "male"\ndiagnosis = "melanoma"\ntimes = 3\n'
    found = planned(ratio(tmp_path, text, "diagnosis", "sex"), JOINT)
    assert found[("melanoma", "male")] == (6, 6) and sum(requested for requested, _ in found.values()) == 6
    with pytest.raises(InputError, match=r"by sex,diagnosis.*--by sex,diagnosis"):
        ratio(tmp_path, text, "diagnosis")


def test_a_ratio_file_that_names_what_is_not_there(tmp_path: Path) -> None:
    target = ratio(tmp_path, "[diagnosis]\nmelonoma = 2.0\n")
    with pytest.raises(InputError, match=r"'melonoma'.*no real training pair; expected.*'melanoma'"):
        planned(target)
    novel = ratio(tmp_path, "[diagnosis]\ndermatofibroma = {synthetic = 30}\n")
    assert planned(novel, novel=True)[("dermatofibroma",)] == (30, 20), "5 x the 4 angiomas"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without any group"),
        ("[diagnosis\n", "expected a TOML file"),
        ("colour = 3\n", "'colour'; expected tables"),
        ("[sex]\nmale = 1\n", "by sex, and --by diagnosis"),
        ("[diagnosis]\nmelanoma = -1\n", "melanoma = -1; expected|a number, 0 or more"),
        ("[diagnosis]\nmelanoma = nan\n", "a number, 0 or more"),
        ("[diagnosis]\nmelanoma = true\n", "expected a number, or one of times"),
        ('[diagnosis]\nmelanoma = "many"\n', "expected a number, or one of times"),
        ("[diagnosis]\nmelanoma = {totl = 3}\n", "one of times, synthetic, total, share"),
        ("[diagnosis]\nmelanoma = {total = 3, times = 2}\n", "one of times"),
        ("[diagnosis]\nmelanoma = {total = 3.5}\n", "a whole number"),
        ("[diagnosis]\nmelanoma = {share = 1.5}\n", "a share above 0 and below 1"),
        ("[diagnosis]\nmelanoma = 1\nMEL = 2\n", "melanoma twice"),
        ("[diagnosis]\nunknown = 1\n", "a term in quotes"),
        ("[[group]]\ndiagnosis = 3\ntimes = 1\n", "a term in quotes"),
        ('[[group]]\ndiagnosis = "nevus"\n', "one of times"),
        ('[[group]]\ndiagnosis = "nevus"\ncolour = "red"\ntimes = 1\n', "by diagnosis,colour"),
    ],
)
def test_faulty_ratio_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ratio(tmp_path, text)


def test_a_ratio_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="balanced, uniform, or a ratio file"):
        read_ratio_file(tmp_path / "ballanced", ("diagnosis",))
    (tmp_path / "latin.toml").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="TOML"):
        read_ratio_file(tmp_path / "latin.toml", ("diagnosis",))


def test_groups_of_records() -> None:
    record = PairRecord(
        file_name="images/a.png", isic_id="a", diagnosis="MEL", sex="Female", anatom_site_general="unknown"
    )
    assert group_of(record, ("sex", "diagnosis")) == ("female", "melanoma")
    assert group_of(record, ("diagnosis", "site")) is None
    assert parse_by("diagnosis, site") == ("diagnosis", "site")
    for wrong, message in (("age", "'age'"), ("sex,sex", "twice"), ("", "''")):
        with pytest.raises(InputError, match=message):
            parse_by(wrong)


def test_tones_are_those_that_are_measured() -> None:
    """The planning room must not import the judges, so it holds their names once more."""
    assert TONES == CATEGORIES


@pytest.mark.parametrize("number", ["1e308", "1e7001", "99999999999999999999", "nan", "-inf", "{total = 10000001}"])
def test_number_that_no_plan_can_have_is_one_line(tmp_path: Path, number: str) -> None:
    """Guards against a traceback where the product is infinite."""
    with pytest.raises(InputError, match=r"melanoma = .*at most 10,000,000"):
        ratio(tmp_path, f"[diagnosis]\nmelanoma = {number}\n")
