"""Files of prompts: comments, headers, codes, seeds and contradictions are read as a plan reads them, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from skindualgen.contracts import InputError
from skindualgen.planning.plan import read_plan
from skindualgen.planning.prompt_files import PromptRow, read_prompts
from skindualgen.planning.requests import pair_seed, requests_from_file, requests_from_prompts


def labelled(path: Path) -> list[tuple[str, dict[str, object]]]:
    """Prompts of a file with their labels."""
    return [(row.prompt, row.labels) for row in read_prompts(path).rows]


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["p.txt", "p"])
def test_comments_of_a_text_file_are_no_prompts(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, "# my prompts\r\na melanoma\r\n\r\n  # more\r\na nevus, 2 mm # big\r\n")
    assert read_prompts(path).rows == [PromptRow(2, "a melanoma", {}), PromptRow(5, "a nevus, 2 mm # big", {})]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.tsv", "prompt\tdiagnosis\na melanoma, brown\tmelanoma\n"),
        ("p.TSV", "# made by hand\nprompt\tdiagnosis\n# and a row\na melanoma, brown\tmelanoma\n"),
        ("p.csv", 'sep=;\r\nprompt;diagnosis\r\n"a melanoma, brown";melanoma\r\n'),
        ("p.csv", '\ufeffPrompt,dx\n"a melanoma, brown",MEL\n'),
        ("p.jsonl", '{"prompt": "a melanoma, brown", "diagnosis": "Melanoma"}\n'),
    ],
)
def test_tables_of_any_kind(tmp_path: Path, name: str, text: str) -> None:
    (row,) = read_prompts(written(tmp_path, name, text)).rows
    assert (row.prompt, row.labels, row.seed) == ("a melanoma, brown", {"diagnosis": "melanoma"}, None)


def test_codes_and_usual_names_become_terms(tmp_path: Path) -> None:
    header = "prompt,dx,gender,age,localization,skin_tone,benign_malignant\n"
    path = written(
        tmp_path, "p.csv", f"{header}a lesion,MEL,M,50.0,lower limbs,Light,unknown\na nevus,nv,F,85+,NaN,,\n"
    )
    file = read_prompts(path)
    assert file.unused == ()
    assert [row.labels for row in file.rows] == [
        {
            "diagnosis": "melanoma",
            "age_approx": 50,
            "sex": "male",
            "anatom_site_general": "lower extremity",
            "skin_tone": "light",
        },
        {"diagnosis": "nevus", "age_approx": 85, "sex": "female"},
    ]


def test_seeds_are_used_and_count_up_from_turn_to_turn(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "prompt,seed\na melanoma,7\na nevus,\n")
    requests = requests_from_file(read_prompts(path), 5, 3)
    assert [request.seed for request in requests] == [7, pair_seed(3, 1), 8, pair_seed(3, 3), 9]
    plain = requests_from_prompts(labelled(path), 5, 3)
    assert [(r.prompt, r.attributes) for r in requests] == [(r.prompt, r.attributes) for r in plain]
    path = written(tmp_path, "p.jsonl", '{"prompt": "a melanoma", "seed": 7}\n{"prompt": "a nevus", "seed": 8}\n')
    assert [request.seed for request in requests_from_file(read_prompts(path), 2, 0)] == [7, 8]
    with pytest.raises(InputError, match=r"line 2, seed: seed 8, which line 1|line 1, seed: seed 8, which line 2 has"):
        requests_from_file(read_prompts(path), 3, 0)


def test_columns_that_nothing_reads_are_known_to_be_unused(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "prompt,other,negative_prompt,sex,age,age_approx\na nevus,x,,,50,60\n")
    assert read_prompts(path).unused == ("other", "age")


def test_a_column_in_small_letters_comes_first(tmp_path: Path) -> None:
    file = read_prompts(written(tmp_path, "p.jsonl", '{"prompt": "a melanoma", "Prompt": "a nevus"}\n'))
    assert (file.rows[0].prompt, file.unused) == ("a melanoma", ("Prompt",))


def test_a_comment_among_the_rows_of_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2, prompt: '# a melanoma', a comment"):
        read_plan(written(tmp_path, "plan.csv", "prompt,count\n# a melanoma,2\na nevus,1\n"))


FAULTS = [
    ("p.txt", "prompt\na melanoma\n", "line 1: 'prompt', which is a table's header"),
    ("p.txt", "prompt\tdiagnosis\na melanoma\tmelanoma\n", "a table's header.*name the file .csv or .tsv"),
    ("p.txt", '"diagnosis";"prompt"\nmelanoma;a melanoma\n', "a table's header"),
    ("p.txt", '{"prompt": "a melanoma"}\n', r"line 1: a JSON object.*\.jsonl"),
    ("p.txt", "# nothing\n", "0 rows"),
    ("p.txt", "a nevus\n2. a melanoma\n", r"line 2: '2. a melanoma', which begins with the mark '2\.' of a list"),
    ("p.txt", "(1) a melanoma\n", r"the mark '\(1\)' of a list"),
    ("p.txt", "- a melanoma\n", "the mark '-' of a list"),
    ("p.txt", "\u2022 a melanoma\n", "the mark '\u2022' of a list"),
    ("p.json", '[{"prompt": "a melanoma"}]', "save it as one of these"),
    ("p.xlsx", "PK", "save it as one of these"),
    ("p.csv", "prompt\na nevus, brown\n", "line 2: not 1 values.*in quotes"),
    ("p.csv", "prompt,diagnosis\na melanoma,nevus\n", "line 2, diagnosis: 'nevus' with.*asks for melanoma"),
    ("p.csv", "prompt,diagnosis\na melanoma,NV\n", "line 2, diagnosis: 'nevus' with"),
    ("p.csv", "prompt,sex\na nevus of a woman,M\n", "line 2, sex: 'male' with"),
    ("p.csv", "prompt,sex\na nevus,X\n", "line 2, sex: 'x', which is not known"),
    ("p.csv", "prompt,age\na 50 year old man,60.0\n", "line 2, age_approx: 60 with"),
    ("p.csv", "prompt,age\na nevus,inf\n", "line 2, age_approx"),
    ("p.csv", "prompt,diagnosis\na lesion,melonoma\n", "write 'melanoma'"),
    ("p.csv", "prompt,negative_prompt\na nevus,hair\n", "column 'negative_prompt'"),
    ("p.csv", "prompt,Negative Prompt\na nevus,hair\n", "column 'Negative Prompt'"),
    ("p.csv", "prompt,steps\na nevus,20\n", "give --steps"),
    ("p.csv", "prompt,count\na nevus,3\n", "column 'count'.*--plan"),
    ("p.csv", "prompt,seed\na nevus,seven\n", "line 2, seed: 'seven'"),
    ("p.csv", "prompt,seed\na nevus,-1\n", "line 2, seed: -1"),
    ("p.csv", "prompt,seed\na nevus,9223372036854775807\n", "line 2, seed: 9223372036854775807"),
    ("p.jsonl", '{"prompt": "a nevus", "seed": 1.5}\n', r"line 1, seed: '1\.5'"),
    ("p.jsonl", '{"prompt": "a nevus", "seed": true}\n', "line 1, seed: 'True'"),
    ("p.jsonl", '{"prompt": "a nevus", "sex": ["male"]}\n', "line 1, sex: list"),
    ("p.jsonl", '{"prompt": "a nevus", "age_approx": Infinity}\n', "line 1, age_approx"),
    ("p.jsonl", '{"prompt": "a nevus", "negative_prompt": "hair"}\n', "negative_prompt"),
    ("p.jsonl", '{"prompt": "a\\nnevus"}\n', "line 1, prompt: a line break"),
]


@pytest.mark.parametrize(("name", "text", "message"), FAULTS, ids=[message[:40] for *_, message in FAULTS])
def test_faulty_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_prompts(written(tmp_path, name, text))
    assert "\n" not in str(error.value)
