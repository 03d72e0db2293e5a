"""Plans on disk: what is written is read back, streams, and every fault is named with its line and column."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skindualgen.contracts import InputError
from skindualgen.data.labels import check_labels, contradiction, own_term, stated_labels, states
from skindualgen.planning.plan import check_plan_path, read_plan, write_plan
from skindualgen.planning.requests import PairRequest
from skindualgen.planning.rows import COLUMNS, MAX_PAIRS, SEEDS_OF_A_ROW, PlanRow, read_rows, seed_of_row

FULL = {
    "diagnosis": "melanoma",
    "benign_malignant": "malignant",
    "age_approx": 55,
    "sex": "female",
    "anatom_site_general": "posterior torso",
    "skin_tone": "light",
}


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        PlanRow(0, "a melanoma on the back of a 55 year old woman, light skin", 3, 10, FULL, False),
        PlanRow(1, 'a "nevus", é', 1, 13, {"diagnosis": "nevus"}, True),
    ]
    path = tmp_path / "plan.csv"
    write_plan(path, rows)
    assert path.read_text(encoding="utf-8").split("\n")[:2] == [
        ",".join(COLUMNS),
        '"a melanoma on the back of a 55 year old woman, light skin",melanoma,malignant,55,female,posterior torso,'
        "light,3,10,12,false",
    ]
    assert [row for _, row in read_rows(path)] == rows
    plan = read_plan(path)
    assert (plan.rows, plan.pairs, plan.own_diagnoses) == (2, 4, ())
    assert plan.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(plan.requests()) == [
        PairRequest(0, rows[0].prompt, 10, FULL, 0, False),
        PairRequest(1, rows[0].prompt, 11, FULL, 0, False),
        PairRequest(2, rows[0].prompt, 12, FULL, 0, False),
        PairRequest(3, rows[1].prompt, 13, {"diagnosis": "nevus"}, 1, True),
    ]


@settings(max_examples=60)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), start=st.integers(0, 12), length=st.integers(0, 12))
def test_any_stretch_of_requests_is_cut_from_all(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], start: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("stretch") / "plan.csv"
    write_plan(path, [PlanRow(i, "a nevus", n, seed_of_row(3, i)) for i, n in enumerate(counts)])
    plan = read_plan(path)
    whole = list(plan.requests())
    assert [request.index for request in whole] == list(range(sum(counts)))
    assert len({request.seed for request in whole}) == len(whole)
    assert list(plan.requests(start, start + length)) == whole[start : start + length]
    assert list(plan.requests(start)) == whole[start:]


def test_seeds_are_a_function_of_plan_seed_and_row() -> None:
    firsts = [seed_of_row(5, row) for row in range(4)]
    assert [b - a for a, b in itertools.pairwise(firsts)] == [SEEDS_OF_A_ROW] * 3
    assert SEEDS_OF_A_ROW > MAX_PAIRS, "a row of the largest plan would run into the next one's seeds"
    assert seed_of_row(5, 0) != seed_of_row(6, 0)
    assert all(0 <= seed_of_row(seed, MAX_PAIRS) < 2**63 - SEEDS_OF_A_ROW for seed in range(200))


def test_prompt_and_count_are_enough(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffcount,prompt\n2,a mole on the leg of a 40 year old man\n\n1,something brown\n")
    first, second, third = read_plan(path).requests()
    assert first.attributes == {
        "diagnosis": "nevus",
        "age_approx": 40,
        "sex": "male",
        "anatom_site_general": "lower extremity",
    }
    assert (first.seed, second.seed, third.seed) == (seed_of_row(0, 0), seed_of_row(0, 0) + 1, seed_of_row(0, 1))
    assert (third.attributes, third.plan_row, third.extrapolation) == ({}, 1, None)
    longer = written(tmp_path, "count,prompt\n9,a mole on the leg of a 40 year old man\n1,something brown\n")
    assert list(read_plan(longer).requests())[-1].seed == third.seed, "another row's count changed this pair"


def test_labels_are_normalised(tmp_path: Path) -> None:
    path = written(
        tmp_path, "prompt,count,diagnosis,sex,age_approx,anatom_site_general\na lesion,1,BCC,Female,,unknown\n"
    )
    assert next(read_plan(path).requests()).attributes == {"diagnosis": "basal cell carcinoma", "sex": "female"}


def test_a_class_of_ones_own_is_taken_where_its_prompt_names_it(tmp_path: Path) -> None:
    path = written(tmp_path, "prompt,count,diagnosis\ndermoscopy of a porokeratosis,2,Porokeratosis\na nevus,1,nevus\n")
    assert read_plan(path).own_diagnoses == ("porokeratosis",)
    with pytest.raises(InputError, match=r"line 2, diagnosis: 'porokeratosis', which is not known"):
        read_plan(written(tmp_path, "prompt,count,diagnosis\ndermoscopy of a lesion,2,porokeratosis\n"))


FAULTS: list[tuple[str, str]] = [
    ("", "empty file"),
    ("prompt,count\n", "without any row"),
    ("prompt\na nevus\n", "without the column count"),
    ("count\n3\n", "without the column prompt"),
    ("prompt;count\na nevus;3\n", "column 'prompt;count'; expected columns out of .* parted by commas"),
    ("prompt,count,age\na nevus,3,50\n", "column 'age'.*name it 'age_approx'"),
    ("prompt,count,count\na nevus,3,3\n", "'count' twice"),
    ("prompt,count\na nevus,3\na nevus, brown,3\n", "line 3: 3 values for 2 columns"),
    ("prompt,count\na nevus,3\n  ,3\n", "line 3, prompt: no prompt"),
    ('prompt,count\n"a\nnevus",3\n', "line 3, prompt: a line break"),
    ('prompt,count\n"a nevus"x,3\n', "line 2: .*expected a CSV"),
    ("prompt,count\na nevus,-3\n", "line 2, count: -3"),
    ("prompt,count\na nevus,0\n", "line 2, count: 0"),
    ("prompt,count\na nevus,\n", "line 2, count: nothing"),
    ("prompt,count\na nevus,3.0\n", r"line 2, count: '3\.0'; expected a whole number"),
    ("prompt,count\na nevus,three\n", "line 2, count: 'three'"),
    ("prompt,count\na nevus,1_000\n", "line 2, count: '1_000'"),
    (f"prompt,count\na nevus,{'9' * 5000}\n", "line 2, count: '999"),
    ("prompt,count\na nevus,10000001\n", "line 2, count: 10000001; expected 1 to 10,000,000 pairs"),
    ("prompt,count\na nevus,9000000\na nevus,9000000\n", "line 3, count: more than 10,000,000 pairs up to here"),
    ("prompt,count,seed_first,seed_last\na nevus,3,1,4\n", "line 2, seed_last: 4 seeds, 1 to 4, for 3 pairs"),
    ("prompt,count,seed_last\na nevus,3,4\n", "line 2, seed_first: nothing, with a seed_last"),
    ("prompt,count,seed_first\na nevus,3,-1\n", "line 2, seed_first: -1"),
    ("prompt,count,seed_first\na nevus,3,9223372036854775807\n", r"9223372036854775807; expected 0 to 2\^63"),
    ("prompt,count,seed_first\na nevus,3,1\na nevus,3,4\na nevus,1,3\n", "line 4, seed_first: seeds that line 2 has"),
    ("prompt,count,seed_first\na nevus,3,1\na nevus,1,3\n", "line 3, seed_first: seeds that line 2 has too"),
    ("prompt,count,seed_first\na nevus,1,50\na nevus,9,45\n", "line 3, seed_first: seeds that line 2 has too"),
    ("prompt,count,diagnosis\na melonoma,3,melonoma\n", "line 2, diagnosis: 'melonoma'.*write 'melanoma'"),
    ("prompt,count,diagnosis\na lesion,3,wolf\n", "line 2, diagnosis: 'wolf', which is not known.*of your own"),
    ("prompt,count,diagnosis\na melanoma,3,nevus\n", "line 2, diagnosis: 'nevus' with.*asks for melanoma"),
    ("prompt,count,sex\na nevus of a woman,3,male\n", "line 2, sex: 'male' with.*asks for female"),
    ("prompt,count,sex\na nevus,3,femal\n", "line 2, sex: 'femal'.*write 'female'"),
    ("prompt,count,age_approx\na nevus,3,old\n", "line 2, age_approx: invalid literal"),
    ("prompt,count,age_approx\na nevus,3,130\n", "line 2, age_approx: 130 is not from 0 to 120"),
    ("prompt,count,age_approx\na 50 year old man,3,60\n", "line 2, age_approx: 60 with.*asks for 50"),
    ("prompt,count,anatom_site_general\na nevus on the back,3,anterior torso\n", "asks for posterior torso"),
    ('prompt,count,skin_tone\n"a nevus, very light skin",3,light\n', "line 2, skin_tone: 'light' with.*very light"),
    ("prompt,count,skin_tone\na nevus,3,lihgt\n", "line 2, skin_tone: 'lihgt'.*write 'light'"),
    ("prompt,count,extrapolation\na nevus,3,perhaps\n", "line 2, extrapolation: 'perhaps'"),
    (f"prompt,count\n{'a very long nevus ' * 20},3\n", "line 2, prompt: a prompt which may need .* CLIP tokens"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS, ids=[message[:40] for _, message in FAULTS])
def test_faulty_plans(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_plan(written(tmp_path, text))


def test_plans_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv \(No such file"):
        read_plan(tmp_path / "none.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_plan(tmp_path)
    (tmp_path / "plan.csv").write_bytes(b"prompt,count\na n\xe9vus,3\n")
    with pytest.raises(InputError, match=r"line 2: .*UTF-8"):
        read_plan(tmp_path / "plan.csv")


def test_a_tokenizer_has_the_last_word(tmp_path: Path) -> None:
    path = written(tmp_path, f"prompt,count\n{'dermoscopic ' * 20},1\n")
    assert read_plan(path, count_tokens=lambda text: 2 + 3 * len(text.split())).rows == 1
    with pytest.raises(InputError, match="a prompt of 102 CLIP tokens"):
        read_plan(path, count_tokens=lambda text: 2 + 5 * len(text.split()))


def test_a_plan_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "prompt,count\na nevus,3\n")
    plan = read_plan(path)
    path.write_text("prompt,count\na nevus,33\n")
    with pytest.raises(InputError, match="changed since it was checked"):
        next(plan.requests())


@pytest.mark.no_cover
def test_memory_does_not_grow_with_the_plan(tmp_path: Path) -> None:
    def peak_bytes(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        write_plan(path, (PlanRow(i, f"a nevus in a {i % 90} year old man", 2, seed_of_row(0, i)) for i in range(rows)))
        tracemalloc.start()
        plan = read_plan(path)
        assert sum(1 for _ in plan.requests()) == 2 * rows
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(200)  # fills the caches of parsed prompts
    small, large = peak_bytes(200), peak_bytes(3000)
    assert large < small + 40_000, "3000 rows were kept, of 100 bytes or more each"


def test_only_a_plan_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    check_plan_path(path)
    write_plan(path, [PlanRow(0, "a nevus", 1, 0)])
    check_plan_path(path)
    path.write_text("my,photographs\n")
    with pytest.raises(InputError, match="no plan"):
        check_plan_path(path)
    with pytest.raises(InputError, match="no plan"):
        check_plan_path(tmp_path)
    with pytest.raises(InputError, match="mkdir"):
        check_plan_path(tmp_path / "none" / "plan.csv")


@pytest.mark.parametrize(
    ("prompt", "name", "value", "other"),
    [
        ("a melanoma", "diagnosis", "nevus", "melanoma"),
        ("a melanoma, not a nevus", "diagnosis", "nevus", None),
        ("a nevus", "diagnosis", "atypical nevus", None),
        ("a blue nevus", "diagnosis", "nevus", None),
        ("a nevus", "diagnosis", "porokeratosis", "nevus"),
        ("skin cancer", "diagnosis", "melanoma", None),
        ("a benign keratosis", "benign_malignant", "malignant", None),
        ("a benign nevus", "benign_malignant", "malignant", "benign"),
        ("a nevus on the scalp", "anatom_site_general", "head/neck", None),
        ("a nevus on the back", "anatom_site_general", "back", None),
        ("a 4 mm nevus", "age_approx", 60, None),
        ("age: 55", "age_approx", 60, "55"),
        ("a fifty-five-year-old", "age_approx", 55, None),
        ("a fifty-five-year-old", "age_approx", 60, "55"),
        ("a nevus, light skin", "skin_tone", "dark", "light"),
    ],
)
def test_what_contradicts_a_label(prompt: str, name: str, value: Any, other: str | None) -> None:
    assert contradiction(prompt, name, value) == other


def test_what_a_prompt_states() -> None:
    assert states("a mole of a woman", "diagnosis", "nevus")
    assert states("a mole of a woman", "sex", "female")
    assert not states("a mole of a woman", "sex", "male")
    assert states("a nevus on acral skin", "anatom_site_general", "acral")
    assert states("a nevus, very light skin", "skin_tone", "very light")
    assert not states("a nevus, very light skin", "skin_tone", "light")
    assert stated_labels("a mole, dark skin") == {"diagnosis": "nevus", "skin_tone": "dark"}
    assert own_term("diagnosis", "porokeratosis") and not own_term("diagnosis", "hemangioma")
    check_labels("a hemangioma", {"diagnosis": "hemangioma"})
    check_labels("dermoscopy", {"benign_malignant": "indeterminate/benign"})
