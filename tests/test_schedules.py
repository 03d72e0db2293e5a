"""Schedules found for few steps: the search, the way through the adapter, and what goes by them."""

from __future__ import annotations

import json
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from numpy.typing import NDArray
from typer.testing import CliRunner

from pipeline_calls import PROMPT, call, difference, disc, photograph, quiet_pipeline
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata
from skindualgen.files import sha256_file
from skindualgen.model.adapter import read_header
from skindualgen.planning.requests import requests_from_prompts
from skindualgen.production.generate import generate_pairs
from skindualgen.sample.merged import export_merged
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.schedule_search import (
    FoundSchedule,
    cheapest_path,
    record_schedules,
    recorded_requests,
    search_schedules,
)
from skindualgen.sample.trajectories import Trajectories, end_points, follow, relative_errors, step_costs
from tiny import write_tiny_adapter

pytestmark = pytest.mark.usefixtures("own_threads")
OWN = [999, 800, 300]
"""a schedule of three steps that no scheduler's spacing gives"""
TEACHER = 12


def with_schedules(pipe: SkinDualGenPipeline, *schedules: list[int]) -> SkinDualGenPipeline:
    other = SkinDualGenPipeline.from_pipe(pipe, schedules={str(len(each)): each for each in schedules})
    other.set_progress_bar_config(disable=True)
    return other


def timesteps_of(pipe: SkinDualGenPipeline, **given: Any) -> list[int]:
    """What a call goes by."""
    seen: list[int] = []

    def note(_pipe: object, _step: int, timestep: torch.Tensor, _tensors: object) -> None:
        seen.append(int(timestep))

    options: dict[str, Any] = {"num_inference_steps": 3, "callback_on_step_end": note}
    call(pipe, **(options | given))
    return seen


def path_cost(costs: NDArray[np.float64], path: list[int]) -> float:
    return float(sum(costs[start, end] for start, end in pairwise([*path, len(costs) - 1])))


def random_costs(points: int) -> NDArray[np.float64]:
    """Of steps between points, with entries that only a step backwards could take."""
    return np.random.default_rng(points).uniform(0, 1, (points + 1, points + 1))


@pytest.mark.parametrize("points", [3, 6, 8])
def test_the_path_is_the_cheapest_of_all(points: int) -> None:
    costs = random_costs(points)
    for steps in range(1, points + 1):
        found = cheapest_path(costs, steps)
        every = [[0, *between] for between in combinations(range(1, points), steps - 1)]
        assert found in every
        assert path_cost(costs, found) == pytest.approx(min(path_cost(costs, path) for path in every), abs=1e-12)


def test_a_hand_made_path() -> None:
    costs = np.full((5, 5), 10.0)
    costs[0, 2], costs[2, 3], costs[3, 4], costs[0, 1], costs[1, 4] = 1, 2, 3, 2, 4
    assert cheapest_path(costs, 3) == [0, 2, 3]  # 1 + 2 + 3
    assert cheapest_path(costs, 2) == [0, 1]  # 2 + 4
    assert cheapest_path(costs, 1) == [0]
    assert cheapest_path(costs, 4) == [0, 1, 2, 3]


def test_a_step_between_points_of_a_straight_way_costs_nothing() -> None:
    """Where one clean picture and one noise are all there is, a step of any length is right."""
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    clean, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    timesteps = [900, 500, 100]
    abar = scheduler.alphas_cumprod[timesteps].double().view(-1, 1, 1, 1, 1)
    points = torch.cat([abar.sqrt() * clean + (1 - abar).sqrt() * noise, clean[None]])
    velocity = abar.sqrt() * noise - (1 - abar).sqrt() * clean
    costs = step_costs(Trajectories(timesteps, points, velocity, points), scheduler)
    later = np.triu(np.ones((4, 4), bool), 1)
    assert np.isinf(costs[~later]).all() and costs[later].max() < 1e-6
    moved = points.clone()
    moved[1] += 0.5
    costs = step_costs(Trajectories(timesteps, moved, velocity, points), scheduler)
    assert costs[0, 1] == pytest.approx(0.5, abs=1e-6) and costs[0, 2] < 1e-6  # root mean square; the others stay


def test_ways_are_those_of_the_pipeline(either: SkinDualGenPipeline) -> None:
    requests = recorded_requests(None, 3, seed=0)
    ways = follow(either, requests, TEACHER, batch_size=2, report=lambda done, total: None)
    assert ways.points.shape == (TEACHER + 1, 3, 4, 8, 8) and ways.predictions.shape == (TEACHER, 3, 4, 8, 8)
    torch.testing.assert_close(ways.points[-1], end_points(either, requests, TEACHER, batch_size=3))
    costs = step_costs(ways, either.scheduler)
    # From the last point, one first-order step is what the solver itself takes to the end.
    assert costs[TEACHER - 1, TEACHER] == pytest.approx(0, abs=1e-5)
    assert costs[0, TEACHER] > costs[TEACHER - 3, TEACHER - 2] > 0


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_no_even_spacing_is_cheaper_than_what_is_found(either: SkinDualGenPipeline, steps: int) -> None:
    ways = follow(either, recorded_requests(None, 2, seed=1), TEACHER, batch_size=2, report=lambda done, total: None)
    costs = step_costs(ways, either.scheduler)
    even = list(range(0, TEACHER, TEACHER // steps))
    assert path_cost(costs, cheapest_path(costs, steps)) <= path_cost(costs, even)


def test_a_search_measures_on_other_pairs(either: SkinDualGenPipeline) -> None:
    requests = recorded_requests(None, 4, seed=0)
    stages: list[tuple[str, int, int]] = []
    found = search_schedules(
        either, requests, [2, 4], teacher_steps=TEACHER, batch_size=4, report=lambda *done: stages.append(done)
    )
    assert [each.steps for each in found] == [2, 4]
    assert stages[0] == ("teacher", 4, 4) and stages[-1] == ("measuring", 2, 2)
    usual = with_schedules(either)
    target = end_points(usual, requests[2:], TEACHER, batch_size=4)
    begin = timesteps_of(usual, num_inference_steps=TEACHER)[0]
    for each in found:
        assert each.timesteps[0] == begin
        ends = [
            end_points(pipe, requests[2:], each.steps, batch_size=2)
            for pipe in (usual, with_schedules(either, each.timesteps))
        ]
        errors = [float(relative_errors(end, target).mean()) for end in ends]
        assert errors == pytest.approx([each.usual_error, each.error], rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "requests", "message"),
    [
        ([4, 12], 2, "schedules for 4, 12 steps; expected different numbers from 2 to 11"),
        ([1], 2, "schedules for 1 steps"),
        ([4, 4], 2, "schedules for 4, 4 steps"),
        ([], 2, "schedules for no steps"),
        ([4], 3, "3 requests"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    pipe: SkinDualGenPipeline, steps: list[int], requests: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        search_schedules(pipe, recorded_requests(None, requests, seed=0), steps, teacher_steps=TEACHER)


def test_requests_are_as_training_pairs_were_told() -> None:
    looks = {"": ["huge oval"], "melanoma": ["dark red", "black"], "nevus": ["small round"]}
    requests = recorded_requests(looks, 30, seed=0)
    assert {request.prompt for request in requests} == {
        "a dermoscopic image of a melanoma, dark red",
        "a dermoscopic image of a melanoma, black",
        "a dermoscopic image of a nevus, small round",
    }
    assert sum("melanoma" in request.prompt for request in requests) == 20  # their share of the recorded ones
    assert len({request.seed for request in requests}) == 30
    assert recorded_requests({"": ["huge oval"]}, 1, seed=0)[0].prompt.endswith(", huge oval")
    assert {each.prompt for each in recorded_requests(None, 2, seed=0)} == {PROMPT, PROMPT.replace("nevus", "melanoma")}


def test_pairs_and_images_for_masks_go_by_the_schedule(either: SkinDualGenPipeline) -> None:
    found = with_schedules(either, OWN)
    assert timesteps_of(found) == timesteps_of(found, mask_image=disc()) == OWN
    for given in ({"num_inference_steps": 4}, {"image": photograph()}):
        assert timesteps_of(found, **given) == timesteps_of(either, **given)
    edit = {"image": photograph(), "mask_image": disc(), "strength": 0.7}
    assert timesteps_of(found, **edit) == timesteps_of(either, **edit)
    assert difference(call(found, num_inference_steps=3), call(either, num_inference_steps=3)) > 0
    assert difference(call(found), call(either)) == 0


def test_a_mask_of_its_own_steps_keeps_their_spacing(either: SkinDualGenPipeline) -> None:
    """In all steps it goes by the schedule with the image; in the last one it starts from pure noise as ever."""
    found = with_schedules(either, OWN)
    whole = call(found, num_inference_steps=3)
    assert difference(whole, call(found, num_inference_steps=3, num_mask_steps=3)) == 0
    assert difference(whole, call(found, num_inference_steps=3, num_mask_steps=1)) > 0


def test_the_schedulers_own_spacing_is_no_other_way(either: SkinDualGenPipeline) -> None:
    same = with_schedules(either, timesteps_of(either))
    assert same.found_timesteps(3) == timesteps_of(either)
    assert difference(call(same, num_inference_steps=3), call(either, num_inference_steps=3)) == 0


@pytest.mark.parametrize(
    ("scheduler", "settings"), [(DDIMScheduler, {}), (DPMSolverMultistepScheduler, {"use_karras_sigmas": True})]
)
def test_schedulers_that_take_no_timesteps_keep_their_spacing(
    pipe: SkinDualGenPipeline, scheduler: Any, settings: dict[str, Any]
) -> None:
    found = with_schedules(pipe, OWN)
    assert found.found_timesteps(3) == OWN
    found.scheduler = scheduler.from_config(found.scheduler.config, **settings)
    assert found.found_timesteps(3) is None
    assert timesteps_of(found) != OWN and len(timesteps_of(found)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        [[999, 500]],
        {"2": [999]},
        {"2": [500, 999]},
        {"2": [500, 500]},
        {"2": [1000, 500]},
        {"2": [500, -1]},
        {"2": [999.0, 500.0]},
        {"2": 999},
        {"0": []},
        "999",
    ],
)
def test_schedules_that_are_none_are_refused(pipe: SkinDualGenPipeline, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"schedule .*; expected as many falling timesteps below 1000"):
        SkinDualGenPipeline.from_pipe(pipe, schedules=wrong)


def test_the_adapter_brings_its_schedules_along(tmp_path: Path, tiny_v_base: Path) -> None:
    folder = write_tiny_adapter(tmp_path / "adapter", tiny_v_base)
    before, sha256 = read_header(folder), sha256_file(folder / "adapter_model.safetensors")
    usual = quiet_pipeline(folder)
    assert usual.config.schedules is None and usual.found_timesteps(3) is None

    record_schedules(folder, [FoundSchedule(OWN, 0.2, 0.1), FoundSchedule([999, 500], 0.1, 0.1)])
    header, run = read_header(folder), json.loads((folder / "run.json").read_text())
    assert header["recipe"].pop("schedules") == {"3": OWN}  # that of two steps is not better
    assert header == before
    assert run["weights_sha256"] == sha256_file(folder / "adapter_model.safetensors") != sha256
    assert run["recipe"]["schedules"] == {"3": OWN}
    loaded = quiet_pipeline(folder)
    assert timesteps_of(loaded) == OWN
    assert loaded.config.provenance["adapter_sha256"] == run["weights_sha256"]
    assert difference(call(loaded), call(usual)) == 0  # the tensors stay
    export_merged(folder, tmp_path / "merged")
    merged = SkinDualGenPipeline.from_pretrained(tmp_path / "merged")
    merged.set_progress_bar_config(disable=True)
    assert timesteps_of(merged) == OWN

    record_schedules(folder, [FoundSchedule([999, 990, 980], 0.1, 0.2), FoundSchedule([999, 400], 0.2, 0.1)])
    assert read_header(folder)["recipe"]["schedules"] == {"2": [999, 400]}
    sha256 = sha256_file(folder / "adapter_model.safetensors")
    record_schedules(folder, [FoundSchedule([999, 400], 0.2, 0.1)])
    assert sha256_file(folder / "adapter_model.safetensors") == sha256  # nothing new: the same file


def test_a_folder_says_its_schedule_and_refuses_another(pipe: SkinDualGenPipeline, tmp_path: Path) -> None:
    requests = requests_from_prompts([(PROMPT, {})], 2, seed=0)
    make = partial(generate_pairs, requests=requests, out=tmp_path / "pairs", num_inference_steps=3)
    make(with_schedules(pipe, OWN))
    recorded = json.loads((tmp_path / "pairs" / "generate.json").read_text())
    assert recorded["timesteps"] == OWN and recorded["steps"] == 3
    assert len(read_metadata(tmp_path / "pairs")) == 2
    make(with_schedules(pipe, OWN))  # the same goes on
    for other, now in ((with_schedules(pipe, [999, 700, 300]), r"\[999, 700, 300\]"), (pipe, "null")):
        with pytest.raises(InputError, match=rf"other settings \(timesteps: \[999, 800, 300\] there, {now} now\)"):
            make(other)
    make = partial(generate_pairs, requests=requests, out=tmp_path / "usual", num_inference_steps=3)
    make(pipe)
    assert "timesteps" not in json.loads((tmp_path / "usual" / "generate.json").read_text())
    with pytest.raises(InputError, match=r"other settings \(timesteps: null there, "):
        make(with_schedules(pipe, OWN))


def command(*arguments: object) -> Any:
    quick = ["--trajectories", 2, "--teacher-steps", TEACHER]
    return CliRunner().invoke(app, ["schedule", *map(str, (*quick, *arguments))])


def test_the_command_writes_what_generate_takes(tmp_path: Path, tiny_v_base: Path) -> None:
    folder = write_tiny_adapter(tmp_path / "run" / "adapter", tiny_v_base)
    sha256 = sha256_file(folder / "adapter_model.safetensors")
    done = command("--adapter", tmp_path / "run", "--steps", "2,3,4", "--out", tmp_path / "found")
    assert done.exit_code == 0, done.output
    assert sha256_file(folder / "adapter_model.safetensors") == sha256
    schedules = read_header(tmp_path / "found")["recipe"].get("schedules", {})
    assert all(int(steps) == len(timesteps) for steps, timesteps in schedules.items())
    assert f"schedules written for steps: {', '.join(schedules) or 'none'}; {tmp_path / 'found'}" in done.output
    in_place = command("--adapter", tmp_path / "run", "--steps", "2,3,4")
    assert in_place.exit_code == 0, in_place.output
    assert read_header(folder)["recipe"].get("schedules", {}) == schedules  # a function of adapter and seed
    assert schedules, "no schedule of this adapter is better: the rest of this test would show nothing"
    steps, timesteps = next(iter(schedules.items()))
    options = ["generate", "--adapter", tmp_path / "run", "--steps", steps, "--prompt", PROMPT, "-n", 1]
    made = CliRunner().invoke(app, [*map(str, options), "--out", str(tmp_path / "pairs")])
    assert made.exit_code == 0, made.output
    assert json.loads((tmp_path / "pairs" / "generate.json").read_text())["timesteps"] == timesteps


def test_the_command_takes_prompts_of_a_file(tmp_path: Path, tiny_v_base: Path) -> None:
    folder = write_tiny_adapter(tmp_path / "adapter", tiny_v_base)
    (tmp_path / "prompts.txt").write_text("a dermoscopic image of a nevus\n")
    done = command("--adapter", folder, "--steps", 2, "--prompts", tmp_path / "prompts.txt")
    assert done.exit_code == 0, done.output
    assert "usual" in done.output and "999" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--adapter", "builtin"], "--adapter builtin without --out"),
        (["--adapter", "nowhere"], "adapter 'nowhere' without adapter_model.safetensors"),
        (["--adapter", "TINY", "--steps", "four"], "--steps four; expected numbers with commas"),
        (["--adapter", "TINY", "--steps", "4,12"], "schedules for 4, 12 steps"),
        (["--adapter", "TINY", "--out", "."], ", which is not empty"),
        (["--adapter", "TINY", "--prompts", "nowhere.txt"], "--prompts nowhere.txt"),
    ],
)
def test_wrong_input_is_one_line(tiny_adapter: Path, arguments: list[str], said: str) -> None:
    done = command(*(str(tiny_adapter) if each == "TINY" else each for each in arguments))
    assert done.exit_code == 2
    assert said in done.stderr.replace("\n", " ") and done.stderr.count("Error:") == 1
