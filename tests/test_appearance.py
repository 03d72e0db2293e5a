"""Words for what photographs look like: measured, said in prompts, drawn for pairs to come."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from skindualgen.contracts import METADATA_FILE, PairRecord
from skindualgen.data.appearance import (
    COLOUR_WORDS,
    WORDS,
    Appearance,
    appearance_of,
    placed,
    some_words,
    with_appearance,
)
from skindualgen.data.manifest import read_metadata
from skindualgen.data.pairs import read_pairs
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.prompts import MAX_CLIP_TOKENS, clip_token_bound
from skindualgen.model.bases import load_base
from skindualgen.planning.looks import MOST_KEPT, appearances_of, completed
from skindualgen.planning.requests import Anchor, PairRequest, requests_from_prompts
from skindualgen.production.generate import GenerateOptions, generate_dataset, generate_pairs
from skindualgen.production.sampler import PipelineFactory
from skindualgen.production.source import RequestList
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training.cache import EncodeOptions, cache_key, open_cache
from skindualgen.training.loop import train
from tiny import tiny_config

SKIN, LESION = (224, 178, 160), (110, 66, 44)


def drawn(
    box: tuple[int, int, int, int], lesion: tuple[int, int, int] = LESION, skin: tuple[int, int, int] = SKIN
) -> tuple[np.ndarray, np.ndarray]:
    """A lesion in a box of 128 px, and its mask."""
    image, mask = Image.new("RGB", (128, 128), skin), Image.new("1", (128, 128))
    ImageDraw.Draw(image).ellipse(box, fill=lesion)
    ImageDraw.Draw(mask).ellipse(box, fill=1)
    return np.asarray(image), np.asarray(mask)


def test_a_drawn_lesion_is_described() -> None:
    looks = appearance_of(*drawn((44, 44, 83, 83)))
    assert (looks.size, looks.shape, looks.place) == ("little", "round", "")
    assert looks.lesion_colour == "dark brown"
    assert looks.skin_colour == "brilliant brownish"
    assert "crisp border" in looks.border
    assert looks.colours == "uniform"
    assert looks.phrase().startswith("little round, dark brown on brilliant brownish skin, crisp border")


@pytest.mark.parametrize(
    ("box", "field", "word"),
    [
        ((60, 60, 72, 72), "size", "tiny"),
        ((-20, -20, 148, 148), "size", "huge"),
        ((10, 50, 118, 78), "shape", "elongated"),
        ((10, 10, 50, 50), "place", "upper left"),
        ((44, 90, 84, 126), "place", "lower"),
    ],
)
def test_size_shape_and_place(box: tuple[int, int, int, int], field: str, word: str) -> None:
    assert getattr(appearance_of(*drawn(box)), field) == word


def test_frame_hair_light_and_marks() -> None:
    image, mask = drawn((44, 44, 83, 83))
    rows, columns = np.mgrid[:128, :128]
    framed = np.where((np.hypot(rows - 63.5, columns - 63.5) > 76)[..., None], 0, image).astype(np.uint8)
    assert appearance_of(framed, mask).corners == "black corners"
    haired = Image.fromarray(image)
    for place in range(4, 128, 12):
        ImageDraw.Draw(haired).line((place, 0, place + 14, 127), fill=(90, 60, 50))
    assert appearance_of(np.asarray(haired), mask).hair == "hairy"
    shaded = np.clip(image * np.linspace(0.6, 1.1, 128)[None, :, None], 0, 255).astype(np.uint8)
    assert appearance_of(shaded, mask).light == "shadow"
    marked = image.copy()
    marked[4:24, 4:24] = (60, 60, 200)
    assert appearance_of(marked, mask).mark == "sticker"
    plain = appearance_of(image, mask)
    assert (plain.corners, plain.hair, plain.light, plain.mark) == ("", "", "", "")


def test_without_a_lesion_and_without_skin_what_can_be_said_is_said() -> None:
    image, mask = drawn((44, 44, 83, 83))
    nothing = appearance_of(image, np.zeros_like(mask))
    assert (nothing.size, nothing.lesion_colour, nothing.border) == ("", "", "")
    assert nothing.skin_colour
    everything = appearance_of(image, np.ones_like(mask))
    assert (everything.size, everything.skin_colour) == ("huge", "")
    assert placed(np.zeros_like(mask)) == ""


def test_other_sizes_are_measured_like_128_px() -> None:
    image, mask = drawn((40, 44, 79, 83))
    large = np.asarray(Image.fromarray(image).resize((512, 512), Image.Resampling.NEAREST))
    assert appearance_of(large, mask.repeat(4, 0).repeat(4, 1)) == appearance_of(image, mask)


def test_every_word_is_listed_for_the_tokenizer() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        colours = rng.integers(0, 256, (2, 3))
        looks = appearance_of(*drawn((30, 40, 90, 90), tuple(colours[0].tolist()), tuple(colours[1].tolist())))
        assert looks.lesion_colour in COLOUR_WORDS
        assert f"{looks.skin_colour} skin" in COLOUR_WORDS
        for word in ", ".join(looks[5:]).split(", "):
            assert word in ("", *WORDS)


def test_prompts_go_on_as_far_as_clip_reads() -> None:
    phrase = "small oval, dark brown on bright pinkish skin, crisp border"
    assert with_appearance("a melanoma", phrase) == f"a melanoma, {phrase}"
    assert with_appearance("", phrase) == phrase
    long = with_appearance("a dermoscopic image of a seborrheic keratosis " * 3, ", ".join([phrase] * 3))
    assert clip_token_bound(long) <= MAX_CLIP_TOKENS
    assert long.split(", ")[-1] in phrase


def test_some_words_are_a_part_of_all() -> None:
    phrase = "small oval, dark brown on bright pinkish skin, crisp border, hair"
    found = {some_words(phrase, np.random.default_rng(seed)) for seed in range(40)}
    assert phrase in found
    assert len(found) > 3
    assert all(set(words.split(", ")) <= {"", *phrase.split(", ")} for words in found)


def test_phrases_leave_out_what_is_empty() -> None:
    assert Appearance(*[""] * 12).phrase() == ""
    assert Appearance(*[""] * 12)._replace(skin_colour="dim tan", hair="hair").phrase() == "dim tan skin, hair"


def test_prepare_measures_pairs_and_no_photograph_without_mask(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "source" / folder).mkdir(parents=True)
    for index, box in enumerate([(44, 44, 83, 83), (30, 20, 100, 90), (20, 50, 80, 90)]):
        image, mask = drawn(box, skin=(224, 178 - 9 * index, 160))
        Image.fromarray(image).save(tmp_path / "source" / "images" / f"ISIC_{index:07d}.png")
        if index < 2:
            Image.fromarray(mask).save(tmp_path / "source" / "masks" / f"ISIC_{index:07d}.png")
    prepare(tmp_path / "source", tmp_path / "data", PrepareOptions(size=128, license="CC0-1.0"), workers=1)
    looks = {record.isic_id: record.appearance for record in read_metadata(tmp_path / "data")}
    assert looks["ISIC_0000000"].startswith("little round, dark brown on brilliant brownish skin")
    assert looks["ISIC_0000001"].startswith("medium round")
    assert looks["ISIC_0000002"] is None


def records(count: int, diagnosis: str | None) -> list[PairRecord]:
    return [
        PairRecord(
            file_name=f"{n}.png", isic_id=f"{diagnosis}{n}", diagnosis=diagnosis, appearance=f"round {diagnosis} {n}"
        )
        for n in range(count)
    ]


def test_an_adapter_takes_some_appearances_of_each_diagnosis() -> None:
    kept = appearances_of([*records(MOST_KEPT + 50, "nevus"), *records(3, "melanoma"), *records(2, None)])
    assert {name: len(words) for name, words in kept.items()} == {"": MOST_KEPT, "melanoma": 3, "nevus": MOST_KEPT}
    assert kept == appearances_of([*records(MOST_KEPT + 50, "nevus"), *records(3, "melanoma"), *records(2, None)])
    assert appearances_of([PairRecord(file_name="a.png", isic_id="a", diagnosis="nevus")]) == {}


LOOKS = {
    "": ["tiny round"],
    "nevus": [f"small oval, mid brown on lit tan skin, {end}" for end in ("hair", "sticker", "coarse")],
}


def test_a_request_is_completed_by_its_seed_and_diagnosis() -> None:
    requests = [PairRequest(0, "a nevus", seed, {"diagnosis": "nevus"}) for seed in range(30)]
    done = [completed(request, LOOKS) for request in requests]
    assert [r.prompt for r in done] == [completed(request, LOOKS).prompt for request in requests]
    assert {r.attributes["appearance"] for r in done} == set(LOOKS["nevus"])
    assert all(r.prompt == f"a nevus, {r.attributes['appearance']}" for r in done)
    assert completed(PairRequest(0, "a mole", 5), LOOKS).prompt.startswith("a mole, small oval")
    assert completed(PairRequest(0, "skin", 5), LOOKS).prompt == "skin, tiny round"


def test_what_a_prompt_says_itself_stays() -> None:
    own = PairRequest(0, "a small nevus", 1, {"diagnosis": "nevus"})
    assert completed(own, LOOKS) is own
    anchor = Anchor("a", "a.png", "m.png", None, None, "a", None)
    anchored = PairRequest(0, "a nevus", 1, {"diagnosis": "nevus"}, anchor=anchor)
    assert completed(anchored, LOOKS) is anchored
    masked = PairRequest(0, "a nevus", 1, {"diagnosis": "nevus"}, anchor=replace(anchor, appearance="huge round left"))
    assert completed(masked, LOOKS).prompt.startswith("a nevus, huge round left, mid brown on lit tan skin, ")
    own_looks = "huge round left, dim red"
    redrawn = PairRequest(0, "a nevus", 1, {"diagnosis": "nevus"}, anchor=replace(anchor, appearance=own_looks))
    assert completed(redrawn, LOOKS).prompt == f"a nevus, {own_looks}"
    assert completed(PairRequest(0, "a nevus", 1), {}).prompt == "a nevus"
    toned = completed(PairRequest(0, "a nevus, dark skin", 1, {"diagnosis": "nevus"}), LOOKS)
    assert toned.prompt.count("skin") == 1
    assert toned.prompt.startswith("a nevus, dark skin, small oval, mid brown, ")


def test_training_prompts_say_what_was_measured(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    pairs = read_pairs(phantom_data, "train")
    base, phrase = load_base(tiny_base), "small oval, mid brown on lit tan skin"
    seen = [pairs[0].model_copy(update={"appearance": phrase}), pairs[1].model_copy(update={"appearance": None})]
    options = EncodeOptions(size=64, prompt_variants=12, appearance_prompts=0.8)
    cache = open_cache(tmp_path, phantom_data, seen, base, options)
    said = [[cache.prompts[place] for place in places] for places in cache.prompt_places]
    whole = sum(phrase in prompt for prompt in said[0])
    some = sum("oval" in prompt or "lit tan skin" in prompt for prompt in said[0])
    assert 0 < whole < some < 12
    assert not any("lit tan skin" in prompt for prompt in said[1])
    plain = EncodeOptions(size=64, prompt_variants=12)
    assert cache_key(phantom_data, seen, base, plain) == cache_key(phantom_data, pairs[:2], base, plain)
    assert cache_key(phantom_data, seen, base, options) != cache_key(phantom_data, pairs[:2], base, options)


def test_an_adapter_trained_with_appearances_completes_prompts(
    tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom_data, data)
    lines = [json.loads(line) for line in (data / METADATA_FILE).read_text().splitlines()]
    for number, line in enumerate(lines):
        line["appearance"] = f"small oval, {('mid', 'dark')[number % 2]} brown on lit tan skin"
    (data / METADATA_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    out = train(tiny_config(data, tmp_path / "run", tiny_base, appearance_prompts=1.0, max_train_steps=1))
    pipe = SkinDualGenPipeline.from_adapter(out)
    kept = pipe.config.appearances
    assert set(kept[""]) == {f"small oval, {tone} brown on lit tan skin" for tone in ("mid", "dark")}
    merged = tmp_path / "merged"
    pipe.save_pretrained(merged)
    assert SkinDualGenPipeline.from_pretrained(merged).config.appearances == kept

    requests = requests_from_prompts([("a nevus", {}), ("a small nevus", {})], 4, 0)
    made = generate_pairs(pipe, requests, tmp_path / "made", num_inference_steps=1)
    assert [record.prompt == f"a nevus, {record.appearance}" for record in made] == [True, False, True, False]
    assert {record.appearance for record in made[::2]} <= set(kept[""])
    assert made[1].prompt == "a small nevus"
    assert made[1].appearance is None
    options = GenerateOptions(PipelineFactory(steps=1), complete_prompts=False)
    generate_dataset(options, partial(RequestList, requests), tmp_path / "plain", pipeline=pipe)
    assert [record.prompt for record in read_metadata(tmp_path / "plain")] == ["a nevus", "a small nevus"] * 2
