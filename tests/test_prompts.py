"""Prompts: only known fields, each once, never how the label was made, at most 77 tokens of the real CLIP."""

from __future__ import annotations

import doctest
import gzip
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from caption_corpus import caption_corpus
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data import paraphrase, prompts, terms
from skindualgen.data.prompts import (
    FIELD_ATTRIBUTES,
    MAX_CLIP_TOKENS,
    TEMPLATES,
    clip_token_bound,
    fields_of,
    parse_template,
    prompt_for,
)
from skindualgen.data.terms import ATTRIBUTE_WORDS, BEHAVIOURS, DIAGNOSES, SEXES, SITES, diagnosis_term

CLIP_MERGES = 49152 - 256 - 2  # open_clip.tokenizer.SimpleTokenizer: vocabulary without bytes and the two marks

records = st.builds(
    PairRecord,
    file_name=st.just("images/x.png"),
    isic_id=st.from_regex(r"ISIC_\d{7}", fullmatch=True),
    diagnosis=st.none() | st.sampled_from([*DIAGNOSES, "seborrheic_keratosis", "bcc", "unknown"]),
    anatom_site_general=st.none() | st.sampled_from([*SITES, "unknown", "acral"]),
    sex=st.none() | st.sampled_from([*SEXES, "unknown"]),
    age_approx=st.none() | st.integers(0, 90),
    benign_malignant=st.none() | st.sampled_from(BEHAVIOURS),
)


def record(**fields: object) -> PairRecord:
    return PairRecord.model_validate({"file_name": "images/x.png", "isic_id": "ISIC_0000001", **fields})


FULL = record(
    diagnosis="melanoma",
    anatom_site_general="posterior torso",
    sex="male",
    age_approx=55,
    benign_malignant="malignant",
    dx_type="histo",
    diagnosis_confirm_type="histopathology",
)


@pytest.fixture(scope="module")
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer from the vocabulary that open_clip_torch ships (found without importing open_clip)."""
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    archive = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(archive.read_bytes()).decode("utf-8").split("\n")[1 : CLIP_MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(line.split()) for line in lines)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)  # type: ignore[arg-type]  # it takes pairs only


def test_the_tokenizer_is_clip(clip_tokenizer: CLIPTokenizer) -> None:
    # "a photo of a cat" as published with CLIP; a dummy vocabulary would give other numbers
    assert clip_tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_every_built_in_caption_fits_clip_and_its_bound(clip_tokenizer: CLIPTokenizer) -> None:
    captions = caption_corpus()
    lengths = [len(ids) for ids in clip_tokenizer(captions).input_ids]
    assert max(lengths) <= MAX_CLIP_TOKENS
    assert all(length <= clip_token_bound(caption) for length, caption in zip(lengths, captions, strict=True))
    assert max(map(clip_token_bound, captions)) <= MAX_CLIP_TOKENS


@pytest.mark.parametrize(
    "text",
    [
        "Under the dermatoscope, a 55-year-old man's back shows an asymmetrical, variegated melanoma with pseudopods.",
        "Dermatoscopy: pigmented seborrhoeic keratosis; comedo-like openings, milia-like cysts (x10 magnification)!",
        "naïve café-au-lait macule — ½ cm, lentigo maligna; eccrine poroma, angiokeratoma, trichoepithelioma ❤",
        "",
    ],
)
def test_the_bound_holds_for_other_text(text: str, clip_tokenizer: CLIPTokenizer) -> None:
    assert len(clip_tokenizer(text).input_ids) <= clip_token_bound(text)


@given(records, st.integers(0, 1000))
@settings(max_examples=300)
def test_a_prompt_is_a_pure_function_and_clean(record: PairRecord, seed: int) -> None:
    prompt = prompt_for(record, seed=seed)
    assert prompt == prompt_for(record.model_copy(update={"file_name": "other.png", "dx_type": "histo"}), seed=seed)
    assert clip_token_bound(prompt) <= MAX_CLIP_TOKENS
    assert not re.search(r"[{}\[\]_]|\bnone\b|\bunknown\b|  | ,|,,|^[ ,;]|[ ,;:]$", prompt, re.IGNORECASE)
    assert (diagnosis_term(record.diagnosis) or "skin lesion") in prompt


@given(records)
def test_only_known_fields_are_stated_and_each_once(record: PairRecord) -> None:
    for seed in range(30):
        prompt = prompt_for(record, seed=seed)
        said = Counter(re.findall(r"\b(?:man|woman|boy|girl|male|female)\b", prompt))
        assert said.total() <= (record.sex in SEXES)
        assert len(re.findall(r"\d+", prompt)) <= (record.age_approx is not None)
        sites = sum(prompt.count(site) for site in [*SITES, "acral"])
        assert sites <= (record.anatom_site_general not in (None, "unknown"))
        assert len(re.findall(r"\bmalignant\b|\bindeterminate\b", prompt)) <= (record.benign_malignant is not None)


def test_how_the_diagnosis_was_made_is_never_told() -> None:
    prompts = {prompt_for(FULL, seed=seed) for seed in range(500)}
    assert not any("histo" in prompt for prompt in prompts)
    with pytest.raises(InputError, match=r"unknown field \{dx_type\}"):
        prompt_for(FULL, templates=["{diagnosis} {dx_type}"])


def test_every_template_is_used_and_states_the_diagnosis() -> None:
    assert len(TEMPLATES) >= 12
    assert len({prompt_for(FULL, seed=seed) for seed in range(1000)}) == len(TEMPLATES)
    assert all(any("diagnosis" in FIELD_ATTRIBUTES[f] for p in parse_template(t) for f in p.fields) for t in TEMPLATES)


def test_short_long_and_both_orders_appear() -> None:
    prompts = {prompt_for(FULL, seed=seed) for seed in range(1000)}
    assert {
        "melanoma",
        "a dermoscopic image of a melanoma on the posterior torso in a 55 year old man",
        "melanoma, posterior torso, 55 year old man",
        "55 year old man, posterior torso, melanoma",
        "dermoscopy of a malignant melanoma in a 55 year old man",
    } <= prompts


def test_templates_are_spread_over_records() -> None:
    same = [prompt_for(FULL.model_copy(update={"isic_id": f"ISIC_{index:07d}"})) for index in range(22 * 40)]
    counts = Counter(same)
    assert len(counts) == 22
    assert max(counts.values()) < 2.5 * 40


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"diagnosis": "bcc", "sex": "female", "age_approx": 80}, "a basal cell carcinoma of an 80 year old woman"),
        ({"diagnosis": "AKIEC", "sex": "male", "age_approx": 10}, "an actinic keratosis of a 10 year old boy"),
        ({"diagnosis": "UNK", "age_approx": 18}, "a skin lesion of an 18 year old patient"),
        ({"diagnosis": "seborrheic_keratosis", "sex": "Female"}, "a seborrheic keratosis of a woman"),
        ({"sex": "unknown"}, "a skin lesion"),
        ({"diagnosis": "nv", "sex": "male", "age_approx": 11}, "a nevus of an 11 year old boy"),
        ({"diagnosis": "Lentigo NOS", "age_approx": 0}, "a lentigo nos of a 0 year old patient"),
    ],
)
def test_terms_articles_and_persons(fields: dict[str, object], expected: str) -> None:
    assert prompt_for(record(**fields), templates=["{a_diagnosis}[ of {patient}]"]) == expected


def test_behaviour_is_not_said_twice() -> None:
    assert fields_of(record(diagnosis="bkl", benign_malignant="benign"))["a_lesion"] == "a benign keratosis"
    assert fields_of(record(diagnosis="nevus", benign_malignant="benign"))["a_lesion"] == "a benign nevus"


def test_a_template_that_needs_a_missing_field_is_passed_over() -> None:
    templates = ["{diagnosis} on {site}", "{diagnosis}, {sex}"]
    assert {prompt_for(record(diagnosis="nevus", sex="male"), seed=s, templates=templates) for s in range(20)} == {
        "nevus, male"
    }
    with pytest.raises(InputError, match="none of which fits 'ISIC_0000001'"):
        prompt_for(record(diagnosis="nevus"), templates=templates)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{diagnosis} {colour}", "unknown field {colour}"),
        ("{diagnosis!r}", "unknown field {diagnosis!r}"),
        ("{age_approx:03d}", "unknown field {age_approx:03d}"),
        ("{}", "unknown field {}"),
        ("{diagnosis", "braces that do not fit"),
        ("{diagnosis}[ on {site}", "do not close"),
        ("{diagnosis}] on {site}[", "nest or do not close"),
        ("{diagnosis}[ on {site}[, {sex}]]", "without a field|nest"),
        ("{diagnosis}[ on the back]", r"\[group\] without a field"),
        ("{sex} with {diagnosis}[ in {patient}]", "sex stated twice"),
    ],
)
def test_bad_own_templates_are_refused(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompt_for(FULL, templates=[template])


def test_a_prompt_that_clip_would_cut_is_refused() -> None:
    with pytest.raises(InputError, match="shorten the template"):
        prompt_for(FULL, templates=["{diagnosis} " + "with a very irregular border " * 8])


def test_a_clinical_photograph_is_not_called_dermoscopy() -> None:
    clinical = FULL.model_copy(update={"image_type": "clinical: close-up"})
    said = {prompt_for(clinical, seed=seed) for seed in range(60)}
    assert len(said) > 3
    assert not any(re.search("dermos|dermatosc", prompt) for prompt in said)
    dermoscopic = FULL.model_copy(update={"image_type": "dermoscopic"})
    assert [prompt_for(dermoscopic, seed=seed) for seed in range(9)] == [
        prompt_for(FULL, seed=seed) for seed in range(9)
    ]


def test_no_templates_is_refused() -> None:
    with pytest.raises(InputError, match="0 templates"):
        prompt_for(FULL, templates=[])


def test_the_corpus_holds_every_prompt_word() -> None:
    captions = caption_corpus()
    assert captions == sorted(set(captions))
    words = {word for caption in captions for word in re.findall(r"[a-z]+|\d+|[^\sa-z\d]", caption)}
    assert {str(age) for age in range(0, 91, 5)} <= words
    for listed in (DIAGNOSES, SITES, SEXES, ATTRIBUTE_WORDS):
        assert set(re.findall(r"[a-z]+", " ".join(listed))) <= words
    for seed in range(300):
        assert set(re.findall(r"[a-z]+|\d+|[^\sa-z\d]", prompt_for(FULL, seed=seed))) <= words


@pytest.mark.parametrize("module", [prompts, terms, paraphrase])
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted >= 1
