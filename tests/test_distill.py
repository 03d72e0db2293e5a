"""Distillation: the student goes as the pipeline does, learns, resumes exactly, and says what it was made for."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from safetensors.torch import load_file
from typer.testing import CliRunner

from pipeline_calls import PROMPT, call, difference, disc, generators, photograph, quiet_pipeline
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata
from skindualgen.files import sha256_file
from skindualgen.losses import first_order_step
from skindualgen.model.adapter import WEIGHTS_FILE, read_header, restore_adapter
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import joint_prediction
from skindualgen.model.rank import raise_rank
from skindualgen.planning.requests import requests_from_prompts
from skindualgen.production.generate import generate_pairs
from skindualgen.sample.denoising import denoise
from skindualgen.sample.merged import export_merged
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.schedule_search import recorded_requests, search_schedules
from skindualgen.sample.segmentation import segment_folder
from skindualgen.sample.trajectories import follow_batch
from skindualgen.training.distill import distill, step_lengths
from skindualgen.training.distill_settings import DistillSettings
from skindualgen.training.loop import train
from skindualgen.training.stopping import TrainingStopped
from skindualgen.training.teacher import (
    DIRECTIONS,
    Teacher,
    TeacherTrajectories,
    errors_of,
    keep_trajectories,
    kept_trajectories,
    student_steps,
)
from tiny import tiny_config

pytestmark = pytest.mark.usefixtures("own_threads")
HEAD = {"width": 24, "levels": 2, "features": 8}
GIVEN = {"pairs": (False, False), "images": (False, True), "masks": (True, False)}
"""halves of each direction"""
SHARES = {"pairs": 1.0, "images": 0.5, "masks": 0.5}
FEW = {"train_batch_size": 4, "held_out": 4}
QUICK = DistillSettings(calls=3, teacher_steps=6, trajectories=8, learning_rate=3e-3, validation_steps=20, **FEW)


@pytest.fixture(scope="module")
def headed(phantom_data: Path, tiny_v_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose adapter has a mask head, keeps the base's filters, and draws its mask in the last step, led."""
    sampling = {"default_steps": 6, "default_mask_steps": 1, "default_mask_guidance": 2.0}
    return train(
        tiny_config(
            phantom_data,
            tmp_path_factory.mktemp("headed") / "run",
            tiny_v_base,
            mask_head=HEAD,
            freeze_base_filters=True,
            sampling=sampling,
        )
    )


@pytest.fixture(scope="module", params=["epsilon", "headed"])
def teacher(request: pytest.FixtureRequest, tiny_adapter: Path, headed: Path) -> Path:
    """Predictions of noise without a mask head, and of velocity with one."""
    return tiny_adapter if request.param == "epsilon" else headed


@pytest.fixture(scope="module")
def distilled(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distill(teacher, tmp_path_factory.mktemp("distilled") / "run", QUICK, max_train_steps=20)


def drawn_by(pipe: SkinDualGenPipeline, schedule: list[int], teacher_steps: int = 9) -> dict[str, TeacherTrajectories]:
    teacher = Teacher(pipe, teacher_steps, 4, torch.autocast("cpu", enabled=False))
    return teacher.draw(recorded_requests(None, 4, seed=0), schedule, SHARES, lambda done, total: None)


def usual(pipe: SkinDualGenPipeline, steps: int) -> list[int]:
    scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps.tolist()


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_step_of_first_order_is_that_of_ddim(kind: str) -> None:
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    noisy, prediction = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = scheduler.step(prediction, 499, noisy).prev_sample
    alphas = scheduler.alphas_cumprod
    torch.testing.assert_close(first_order_step(prediction, noisy, alphas[499], alphas[249], kind), expected)


def test_trajectories_are_the_points_of_the_teachers_own(either: SkinDualGenPipeline) -> None:
    schedule = [usual(either, 9)[place] for place in (0, 4, 7)]
    trajectories = drawn_by(either, schedule)
    whole = follow_batch(either, recorded_requests(None, 4, seed=0), 9)
    for step, place in enumerate([0, 4, 7, 9]):
        torch.testing.assert_close(trajectories["pairs"].points[step, :, :4], whole.points[place])
        torch.testing.assert_close(trajectories["pairs"].points[step, :, 4:], whole.codes[place])
    assert trajectories["pairs"].levels == [(each, each) for each in schedule]
    assert trajectories["images"].levels == [(each, 0) for each in schedule]
    assert [level for level, _ in trajectories["masks"].levels] == [0, 0]  # two steps, as the adapter reads by default
    assert {name: len(each) for name, each in trajectories.items()} == {"pairs": 4, "images": 2, "masks": 2}
    for name, half in (("images", slice(4, None)), ("masks", slice(4))):  # given: the same at every point
        given = trajectories[name].points[:, :, half]
        assert (given == given[0]).all() and given.any()


def test_trajectories_come_back_from_their_file(pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    assert kept_trajectories(tmp_path / "trajectories") is None
    trajectories = drawn_by(pipe, usual(pipe, 9)[::3])
    keep_trajectories(tmp_path / "trajectories", trajectories)
    kept = kept_trajectories(tmp_path / "trajectories")
    assert kept is not None and set(kept) == set(DIRECTIONS)
    for name in trajectories:
        assert torch.equal(kept[name].points, trajectories[name].points) and torch.equal(
            kept[name].text, trajectories[name].text
        )
        assert kept[name].levels == trajectories[name].levels and kept[name].powers == trajectories[name].powers


def test_the_student_goes_as_the_pipeline_goes_with_it(distilled: Path) -> None:
    """In all directions: what is trained and validated is what is drawn."""
    pipe, held_out = quiet_pipeline(distilled), kept_trajectories(distilled / "trajectories" / "held-out.safetensors")
    assert held_out is not None
    pipe._guidance_scale, pipe._interrupt = 1.0, False  # of a running call
    for name, trajectories in held_out.items():
        some = trajectories.some([0], torch.device("cpu"))
        with torch.no_grad():
            *_, ends = student_steps(pipe.unet, some, [4, 4], pipe.scheduler.config.prediction_type)
            first = some.points[0].split(4, dim=1)
            drawn = denoise(
                pipe,
                first,
                [half if given else None for half, given in zip(first, GIVEN[name], strict=True)],
                [0.0 if given else 1.0 for given in GIVEN[name]],
                some.text,
                pipe.guidance(),
                pipe.config.default_segment_steps if name == "masks" else pipe.found_timesteps(3),
                None,
                lambda *_, **tensors: {},
                pipe.config.default_mask_steps if name == "pairs" else None,
            )
        assert difference(drawn, ends) < 1e-3
        if name == "pairs":
            called = pipe(prompt_embeds=some.text, latents=some.points[0], output_type="latent", return_dict=False)
            assert difference(called, drawn) < 1e-5


def test_it_learns(distilled: Path) -> None:
    first, *_, last = rows_of(distilled)
    assert last["step"] == 20 and last["pairs_image"] < 0.95 * first["pairs_image"]
    assert last["images_image"] < 0.95 * first["images_image"]
    assert first["masks_mask"] < 1e-5  # it begins as its teacher, which is not guided there
    if "mask_head" not in read_header(distilled / "adapter")["recipe"]:  # that head reads next to nothing
        assert last["masks_mask"] < 0.2
    assert last["teacher_image"] == first["teacher_image"] > 0


def test_the_adapter_says_what_it_is_and_needs_no_setting(distilled: Path, teacher: Path, tmp_path: Path) -> None:
    teachers = teacher / "adapter" if (teacher / "adapter").is_dir() else teacher
    recipe = read_header(distilled / "adapter")["recipe"]
    assert recipe["distilled"]["teacher_sha256"] == sha256_file(teachers / WEIGHTS_FILE)
    assert recipe["distilled"]["guidance_scale"] == 2.0
    assert "drawn in 3 steps" in (distilled / "adapter" / "README.md").read_text()
    assert set(load_file(distilled / "adapter" / WEIGHTS_FILE)) == set(load_file(teachers / WEIGHTS_FILE))
    pipe = quiet_pipeline(distilled)
    assert pipe.found_timesteps(3) == pipe.found_timesteps(3, photograph=True) == recipe["schedules"]["3"]
    seen: list[int] = []

    def note(_pipe: object, _step: int, timestep: torch.Tensor, _tensors: object) -> None:
        seen.append(int(timestep))

    pipe(PROMPT, generator=generators(0), callback_on_step_end=note)
    assert seen == recipe["schedules"]["3"]
    seen.clear()
    edit = {"image": photograph(), "mask_image": disc(), "strength": 0.7}
    pipe(PROMPT, generator=generators(0), callback_on_step_end=note, **edit)
    assert seen == recipe["schedules"]["3"][1:]
    (pair,) = generate_pairs(pipe, requests_from_prompts([(PROMPT, {})], 1, seed=0), tmp_path / "pairs")
    assert (pair.num_inference_steps, pair.guidance_scale) == (3, 1.0)
    assert json.loads((tmp_path / "pairs" / "generate.json").read_text())["timesteps"] == recipe["schedules"]["3"]
    assert len(read_metadata(tmp_path / "pairs")) == 1
    (tmp_path / "photographs").mkdir()
    photograph().save(tmp_path / "photographs" / "one.png")
    assert segment_folder(pipe, tmp_path / "photographs", tmp_path / "read").written == 1
    export_merged(distilled, tmp_path / "merged")
    merged = SkinDualGenPipeline.from_pretrained(tmp_path / "merged")
    merged.set_progress_bar_config(disable=True)
    own = {"generator": None, "num_inference_steps": None, "latents": torch.randn(1, 8, 8, 8)}
    assert difference(call(merged, **own), call(pipe, **own)) < 1e-5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_inference_steps": 8}, "num_inference_steps=8 with an adapter distilled to 3 steps, .*; expected 3"),
        ({"guidance_scale": 4.0}, r"guidance_scale=4.0 .*; expected 1\.0"),
        ({"num_mask_steps": 2}, "num_mask_steps=2"),
        ({"negative_prompt": "blur"}, "negative_prompt=blur"),
        ({"image": photograph(), "num_inference_steps": 7}, "num_inference_steps=7"),
        ({"mask_image": disc(), "num_inference_steps": 2}, "num_inference_steps=2"),
    ],
)
def test_what_it_was_not_made_for_is_refused(distilled: Path, given: dict[str, Any], message: str) -> None:
    pipe = quiet_pipeline(distilled)
    with pytest.raises(InputError, match=message):
        call(pipe, **({"num_inference_steps": None} | given))
    call(pipe, num_inference_steps=3, guidance_scale=1.0)  # what it was made for may be said


def test_ordinary_training_does_not_start_from_it(
    distilled: Path, phantom_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"which was distilled; .*start from its teacher"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_base, init_adapter=str(distilled), lora={}))


def test_other_ways_to_ask_are_refused_too(distilled: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    pipe = quiet_pipeline(distilled)
    requests = requests_from_prompts([(PROMPT, {})], 2, seed=0)
    for options in ({"num_inference_steps": 8}, {"guidance_scale": 3.0}):
        with pytest.raises(InputError, match="distilled to 3 steps"):
            generate_pairs(pipe, requests, tmp_path / "pairs", **options)
    assert not (tmp_path / "pairs").exists()
    with pytest.raises(InputError, match="num_inference_steps=9"):
        search_schedules(pipe, requests, [4], teacher_steps=9)
    with pytest.raises(InputError, match="guide="):
        SkinDualGenPipeline.from_pipe(pipe, guide=pipe.unet)
    with pytest.raises(InputError, match="which is distilled itself"):
        distill(distilled, tmp_path / "again", QUICK, max_train_steps=1)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(InputError, match="scheduler=DDIMScheduler"):
        call(pipe, num_inference_steps=None)


def test_an_interrupted_run_ends_as_a_whole_one(pipe: SkinDualGenPipeline, tiny_adapter: Path, tmp_path: Path) -> None:
    settings = DistillSettings(calls=2, teacher_steps=4, trajectories=4, epochs=2, validation_steps=2, **FEW)
    whole = distill(tiny_adapter, tmp_path / "whole", settings, max_train_steps=5)

    def stop(line: str) -> None:
        if line.startswith("step 2,"):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TrainingStopped):
        distill(tiny_adapter, tmp_path / "parts", settings, max_train_steps=5, say=stop)
    assert not (tmp_path / "parts" / "adapter").exists()
    parts = distill(tiny_adapter, tmp_path / "parts", settings, max_train_steps=5)
    assert sha256_file(parts / "adapter" / WEIGHTS_FILE) == sha256_file(whole / "adapter" / WEIGHTS_FILE)
    lasting = {"minutes"}
    assert [{k: v for k, v in row.items() if k not in lasting} for row in rows_of(parts)] == [
        {k: v for k, v in row.items() if k not in lasting} for row in rows_of(whole)
    ]
    assert len(list((parts / "trajectories").glob("part-*"))) == 1  # of two that were drawn
    before = (parts / "adapter" / WEIGHTS_FILE).stat().st_mtime_ns
    distill(tiny_adapter, parts, settings, max_train_steps=5)
    assert (parts / "adapter" / WEIGHTS_FILE).stat().st_mtime_ns == before
    distill(tiny_adapter, parts, settings, max_train_steps=6)  # a longer run goes on
    assert rows_of(parts)[-1]["step"] == 6
    with pytest.raises(InputError, match="results of other settings"):
        distill(tiny_adapter, parts, DistillSettings(calls=3, teacher_steps=4), max_train_steps=6)


def test_steps_count_by_how_far_the_teacher_goes() -> None:
    points = torch.tensor([0.0, 2.0, 3.0]).view(3, 1, 1, 1, 1) * torch.tensor([1.0, 10.0]).view(1, 1, 2, 1, 1)
    trajectories = TeacherTrajectories(points, torch.zeros(1), [(9, 9), (5, 5)], [(0.1, 0.1), (0.5, 0.5), (1.0, 1.0)])
    assert step_lengths(trajectories, (1, 1)) == [[2.0, 20.0], [1.0, 10.0]]
    ends = points[-1] + torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    assert errors_of(ends, trajectories, (1, 1)) == {"image": 1.0, "mask": 0.0}


def test_a_higher_rank_does_the_same(tiny_adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    model = restore_adapter(load_base(str(tiny_base)), tiny_adapter).eval()
    latents, codes = torch.randn(2, 1, 4, 8, 8)
    given = (latents, codes, torch.tensor([500]), torch.tensor([500]), torch.randn(1, 77, 32))
    before = joint_prediction(model, *given)
    raise_rank(model, 6, seed=0)
    for one, other in zip(before, joint_prediction(model, *given), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(InputError, match="rank 2 for an adapter of rank 6"):
        raise_rank(model, 2, seed=0)
    settings = DistillSettings(calls=2, teacher_steps=3, trajectories=2, rank=6, **FEW)
    run = distill(tiny_adapter, tmp_path / "run", settings, max_train_steps=1)
    assert json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] == 6
    call(quiet_pipeline(run), num_inference_steps=2)


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["distill", *map(str, arguments)])


def test_the_command_takes_prompts_of_a_file(tiny_adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a dermoscopic image of a nevus\na dermoscopic image of a melanoma\n")
    quick = [
        "--calls",
        2,
        "--teacher-steps",
        3,
        "--trajectories",
        2,
        "--train-batch-size",
        2,
        "--rank",
        2,
        "--device",
        "cpu",
    ]
    quick += ["--max-train-steps", 2, "--prompts", tmp_path / "prompts.txt"]
    done = command("--adapter", tiny_adapter, "--out", tmp_path / "run", *quick)
    assert done.exit_code == 0, done.output
    assert "step 2," in done.output and "Distilled adapter" in done.output
    options = ["generate", "--adapter", tmp_path / "run", "--prompt", PROMPT, "-n", 1, "--out", tmp_path / "pairs"]
    made = CliRunner().invoke(app, list(map(str, options)))
    assert made.exit_code == 0, made.output
    assert json.loads((tmp_path / "pairs" / "generate.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--adapter", "nowhere"], "adapter 'nowhere' without adapter_model.safetensors"),
        (["--adapter", "TINY", "--calls", 20], "20 calls of a student and 20 steps of its teacher"),
        (["--adapter", "TINY", "--device", "tpu"], "device 'tpu'"),
        (["--adapter", "TINY", "--rank", 1, "--device", "cpu"], "rank 1 for an adapter of rank 2"),
        (["--adapter", "TINY", "--learning-rate", 0], "learning_rate = 0.0"),
        (["--adapter", "TINY", "--prompts", "nowhere.txt"], "--prompts nowhere.txt"),
    ],
)
def test_wrong_input_is_one_line(tiny_adapter: Path, tmp_path: Path, arguments: list[Any], said: str) -> None:
    done = command(*(tiny_adapter if each == "TINY" else each for each in arguments), "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert said in done.stderr.replace("\n", " ") and done.stderr.count("Error:") == 1


def test_a_run_needs_an_end(tiny_adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither minutes nor max_train_steps"):
        distill(tiny_adapter, tmp_path / "run", QUICK)
