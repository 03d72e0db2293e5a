"""What is asked of the generator: seeds by place, labels from prompts, attributes as in real records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.prompts import prompt_for
from skindualgen.planning.prompt_files import read_prompts
from skindualgen.planning.requests import (
    SEED_BITS,
    PairRequest,
    labels_of,
    pair_seed,
    requests_from_prompts,
    requests_like,
)


def labelled(path: Path) -> list[tuple[str, dict[str, object]]]:
    """Prompts of a file with their labels."""
    return [(row.prompt, row.labels) for row in read_prompts(path).rows]


@settings(max_examples=100)
@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_seeds_are_a_function_of_their_place(run_seed: int, index: int) -> None:
    seed = pair_seed(run_seed, index)
    assert seed == pair_seed(run_seed, index)
    assert 0 <= seed < 2**SEED_BITS
    assert seed not in {pair_seed(run_seed, index + 1), pair_seed(run_seed + 1, index)}


def test_no_two_places_share_a_seed() -> None:
    assert len({pair_seed(run, index) for run in range(20) for index in range(500)}) == 10_000


def test_prompts_are_taken_in_turn() -> None:
    requests = requests_from_prompts([("a nevus", {}), ("b", {"diagnosis": "melanoma"})], 3, 7)
    assert requests == [
        PairRequest(0, "a nevus", pair_seed(7, 0), {"diagnosis": "nevus"}),
        PairRequest(1, "b", pair_seed(7, 1), {"diagnosis": "melanoma"}),
        PairRequest(2, "a nevus", pair_seed(7, 2), {"diagnosis": "nevus"}),
    ]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    prompts = [("a nevus", {}), ("a melanoma", {})]
    assert requests_from_prompts(prompts, 9, 0)[:4] == requests_from_prompts(prompts, 4, 0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a dermoscopic image of a melanoma", {"diagnosis": "melanoma"}),
        ("a melanoma or a nevus", {}),
        ("something brown", {}),
    ],
)
def test_labels_of_a_prompt(prompt: str, expected: dict[str, object]) -> None:
    labels = labels_of(prompt)
    assert {key: labels[key] for key in labels if key == "diagnosis"} == expected


def test_our_own_prompts_are_read_back() -> None:
    """Labels of generated pairs come from their prompts: a template that says something else would mislabel them."""
    for diagnosis in ("nevus", "melanoma", "seborrheic keratosis"):
        record = PairRecord(
            file_name="images/a.png",
            isic_id="a",
            diagnosis=diagnosis,
            age_approx=55,
            sex="male",
            anatom_site_general="posterior torso",
        )
        for seed in range(20):
            labels = labels_of(prompt_for(record, seed=seed))
            assert labels.get("diagnosis") == diagnosis
            for name in ("age_approx", "sex", "anatom_site_general"):
                assert labels.get(name, getattr(record, name)) == getattr(record, name)


def attribute_folder(root: Path) -> Path:
    diagnoses = ["nevus"] * 6 + ["melanoma"] * 2
    records = [
        PairRecord(file_name=f"images/{i}.png", isic_id=str(i), diagnosis=name, sex="female" if i % 2 else None)
        for i, name in enumerate(diagnoses)
    ]
    records.append(PairRecord(file_name="images/v.png", isic_id="v", diagnosis="angioma", split="val"))
    write_dataset(root, records, made_by={})
    return root


def test_requests_follow_the_training_records(tmp_path: Path) -> None:
    root = attribute_folder(tmp_path)
    requests = requests_like(root, 16, 3)
    assert Counter(r.attributes["diagnosis"] for r in requests) == {"nevus": 12, "melanoma": 4}
    assert Counter(r.attributes.get("sex") for r in requests) == {"female": 8, None: 8}
    assert [r.seed for r in requests] == [pair_seed(3, i) for i in range(16)]
    for request in requests:
        assert request.attributes["diagnosis"] in request.prompt
    assert requests_like(root, 16, 3) == requests
    assert [r.prompt for r in requests_like(root, 16, 4)] != [r.prompt for r in requests]
    assert len(requests_like(root, 3, 0)) == 3


def test_requests_like_need_training_records(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metadata\.jsonl"):
        requests_like(tmp_path, 3, 0)
    write_dataset(tmp_path, [PairRecord(file_name="images/v.png", isic_id="v", split="val")], made_by={})
    assert read_metadata(tmp_path)
    with pytest.raises(InputError, match="'train'"):
        requests_like(tmp_path, 3, 0)


def test_prompt_files(tmp_path: Path) -> None:
    text = tmp_path / "p.txt"
    text.write_text("\ufeffa nevus\n\n  a melanoma  \n", encoding="utf-8")
    assert labelled(text) == [("a nevus", {}), ("a melanoma", {})]
    table = tmp_path / "p.csv"
    table.write_text('prompt,diagnosis,age_approx,other\n"a, b",nevus,55,x\nc,,,y\n')
    assert labelled(table) == [("a, b", {"diagnosis": "nevus", "age_approx": 55}), ("c", {})]
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"prompt": "a\\u2028b", "sex": "male"}\n\n{"prompt": "é"}\n')
    assert labelled(lines) == [("a\u2028b", {"sex": "male"}), ("é", {})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"\n\n", "0 rows"),
        ("columns.csv", b"text\na\n", "1 without a prompt"),
        ("blank.csv", b"prompt,sex\na,male\n ,male\n", "without a prompt"),
        ("broken.jsonl", b'{"prompt": "a"}\n{"prompt"\n', "line 2"),
        ("list.jsonl", b"[1]\n", "list"),
        ("number.jsonl", b'{"prompt": 3}\n', "line 1|without a prompt"),
        ("age.csv", b"prompt,age_approx\na,old\n", "age_approx"),
        ("age.jsonl", b'{"prompt": "a", "age_approx": 500}\n', "age_approx"),
        ("latin.txt", "é".encode("latin-1"), "UTF-8"),
    ],
)
def test_prompt_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / name)


def test_a_missing_prompt_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt"):
        read_prompts(tmp_path / "none.txt")
