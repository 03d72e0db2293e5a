"""The benchmark of generation on the tiny twin: what it compares is alike, what it reports is what it measured."""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from tiny import tiny_unet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import generation
import generation_tasks
import production_cost
from generation_tasks import BARE, DUAL, IMAGE, PAIR, PRODUCED, Setup, draws
from measured import Measured
from production_cost import GPUS, Assumptions, Gpu, Operations, cost
from stopwatch import Stopwatch

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

SIZE_PX = 64


@pytest.fixture(scope="module")
def setup(tiny_base: Path, tiny_adapter: Path) -> Setup:
    return Setup(
        str(tiny_base),
        str(tiny_adapter),
        size=SIZE_PX,
        steps=2,
        guidance=3.0,
        batch=2,
        repeats=2,
        threads=1,
        seed=0,
        batches=2,
    )


def in_process(task: str, setup: Setup) -> tuple[dict, Measured]:
    return generation_tasks.TASKS[task](setup), Measured(1.0, 2.0, "")


@pytest.fixture(scope="module")
def measured(setup: Setup) -> dict:
    return generation.measure(setup, production=True, run=in_process)


def test_all_kinds_draw_the_same_number_and_size(setup: Setup) -> None:
    made = draws(setup, (PAIR, IMAGE, DUAL))
    pair, image, (photographs, masks) = made[PAIR](0), made[IMAGE](0), made[DUAL](0)
    for pictures in (pair.images, pair.masks, image.images, photographs, masks):
        assert [picture.size for picture in pictures] == [(SIZE_PX, SIZE_PX)] * setup.batch
    for mask in (*pair.masks, *masks):
        assert set(np.unique(np.asarray(mask))) <= {0, 255}


def test_the_image_half_of_both_sides_is_drawn_alike(setup: Setup) -> None:
    """Same scheduler, steps and guidance: an untrained mask half leaves the photograph of the stock pipeline."""
    bare = Setup(**{**setup.__dict__, "adapter": None})
    torch.manual_seed(0)
    made = draws(bare, (PAIR, IMAGE))
    side = SIZE_PX // 8
    noise = torch.randn(1, 4, side, side)
    joint = torch.cat([noise, torch.randn(1, 4, side, side)], dim=1)
    ours, stock = (cell.cell_contents for kind in (PAIR, IMAGE) for cell in _pipelines(made[kind]))
    call = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
    pair = ours("a nevus", latents=joint, height=SIZE_PX, width=SIZE_PX, **call).images
    image = stock("a nevus", latents=noise, height=SIZE_PX, width=SIZE_PX, **call).images
    assert np.abs(pair - image).max() < 1e-4


def _pipelines(draw) -> list:
    return [cell for cell in draw.__closure__ if not isinstance(cell.cell_contents, Setup)]


def test_the_dual_stream_takes_two_rows_a_pair_and_two_passes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the pair one row: what the comparison is about."""
    rows: dict[str, list[int]] = {}
    forward = UNet2DConditionModel.forward
    for kind, draw in draws(setup, (PAIR, IMAGE, DUAL)).items():
        seen = rows.setdefault(kind, [])

        def counted(self, sample, *arguments, seen=seen, **options):
            seen.append(len(sample))
            return forward(self, sample, *arguments, **options)

        monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
        draw(0)
    assert rows[PAIR] == rows[IMAGE] == [2 * setup.batch] * setup.steps
    assert rows[DUAL] == [4 * setup.batch] * setup.steps


def test_the_report_says_what_was_measured(measured: dict, setup: Setup) -> None:
    assert {kind: len(seconds) for kind, seconds in measured["seconds"].items()} == {PAIR: 2, IMAGE: 2, DUAL: 2}
    production = measured["production"]
    assert (production["pairs"], production["refused"]) == (setup.batch * setup.batches, 0)
    found = generation.aims(measured)
    assert [(aim.limit, aim.at_least) for aim in found] == [(1.05, False), (1.05, False), (1.8, True), (1.15, False)]
    assert all(math.isfinite(aim.value) and aim.value > 0 for aim in found)
    expected = sorted(a / b for a, b in zip(production["seconds"][PRODUCED], production["seconds"][BARE], strict=True))
    assert expected[0] <= found[3].value <= expected[1]
    text = "\n".join(generation.report("tiny", measured))
    for kind in (PAIR, IMAGE, DUAL):
        assert f"| {kind} |" in text and "| 2.00 |" in text
    assert "without a gate" in text
    json.dumps(measured, allow_nan=False)


def test_the_profile_accounts_for_all_of_the_time(measured: dict) -> None:
    profile = measured["profile"]
    assert {"UNet", "autoencoder", "text encoder", "fsync", "scheduler, both halves"} <= set(profile["parts"])
    assert all(seconds >= 0 for seconds in profile["parts"].values())
    assert sum(profile["parts"].values()) == pytest.approx(profile["total"], rel=0.05)
    assert profile["pairs"] == 4


def test_without_production_there_is_no_such_aim(measured: dict) -> None:
    result = {key: value for key, value in measured.items() if key != "production"}
    assert [aim.limit for aim in generation.aims(result)] == [1.05, 1.05, 1.8]
    assert "Production of" not in "\n".join(generation.report("tiny", result))


def test_ratios_are_of_rounds() -> None:
    assert generation.ratios([2.0, 6.0, 3.0], [1.0, 2.0, 6.0]) == {"median": 2.0, "lower": 1.25, "upper": 2.5}
    assert generation.ratios([2.0], [4.0]) == {"median": 0.5, "lower": 0.5, "upper": 0.5}
    assert generation.Aim("", 1.8, 1.8, at_least=True).reached and not generation.Aim("", 1.7, 1.8, True).reached
    assert generation.Aim("", 1.05, 1.05).reached and not generation.Aim("", 1.06, 1.05).reached


def test_inner_parts_are_not_counted_twice() -> None:
    watch = Stopwatch()
    with watch.part("outer"):
        time.sleep(0.02)
        with watch.part("inner"):
            time.sleep(0.05)
    assert watch.seconds["inner"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["outer"] == pytest.approx(0.02, abs=0.02)
    with watch.part("gate", whole=True), watch.part("inner"):
        time.sleep(0.05)
    assert watch.seconds["gate"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["inner"] == pytest.approx(0.05, abs=0.02)


def test_the_command_writes_both_files(
    setup: Setup, measured: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "setups", lambda options, work: {generation.MICRO: setup})
    monkeypatch.setattr(generation, "measure", lambda setup, *, production: copy.deepcopy(measured))
    out = tmp_path / "generation.md"
    generation.main(["--quick", "--out", str(out)])
    text, record = out.read_text(), json.loads(out.with_suffix(".json").read_text())
    assert f"## {generation.MICRO}" in text and record["bases"][generation.MICRO]["setup"]["base"] == "base"
    for place in (str(tmp_path), setup.base, str(Path.home())):
        assert place not in text + json.dumps(record)


def test_a_measurement_runs_as_a_process(setup: Setup) -> None:
    result, measured = generation.run_task(PAIR, setup)
    assert result == {} and measured.peak_gib > 0.1


def test_quick_leaves_the_full_size_out(tmp_path: Path) -> None:
    options = {"threads": 1, "seed": 0, "repeats": 5, "gate": None, "sd2": None, "full_steps": 4, "full_batch": 2}
    quick = generation.setups(generation.argparse.Namespace(**options, quick=True, only=None), tmp_path)
    whole = generation.setups(generation.argparse.Namespace(**options, quick=False, only=None), tmp_path)
    one = generation.setups(generation.argparse.Namespace(**options, quick=False, only="micro"), tmp_path)
    assert one == {generation.MICRO: whole[generation.MICRO]}
    assert list(quick) == [generation.MICRO] and list(whole) == [generation.FULL, generation.MICRO]
    assert (whole[generation.FULL].size, whole[generation.FULL].batch) == (256, 2)
    assert (whole[generation.MICRO].size, whole[generation.MICRO].steps, whole[generation.MICRO].batch) == (128, 20, 8)


def test_cost_is_operations_over_what_a_gpu_reaches() -> None:
    operations = Operations(unet=1e12, decoder=8e12, text=1e12)
    assert operations.pair(20) == 50e12
    work = Assumptions(pairs=3600, steps=20, utilisation=(0.25, 0.5), acceptance=0.5, overhead=1.5)
    found = cost(work, Gpu("", 100, 2.0, 4.0), operations)
    assert found.seconds_a_pair == (1.0, 2.0)
    assert found.gpu_hours == (3.0, 6.0)
    assert found.dollars == (6.0, 24.0)


def test_operations_are_those_of_the_architecture() -> None:
    """The text encoder against 2 operations a parameter and token; a UNet without weights against one that runs."""
    operations = production_cost.count_operations(64)
    parameters = 23 * (4 * 1024 * 1024 + 2 * 1024 * 4096)
    attention = 23 * 2 * 2 * 77 * 77 * 1024
    assert operations.text == pytest.approx(2 * 77 * parameters + attention, rel=0.01)
    arguments = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 32)
    unet = tiny_unet()
    with sdpa_kernel(SDPBackend.MATH):  # torch counts nothing of its fused kernel for the CPU
        real = production_cost._counted(lambda: unet(*arguments))
    with torch.device("meta"):
        bare = tiny_unet()
        counted = production_cost._counted(lambda: bare(*(argument.to("meta") for argument in arguments)))
    assert counted == pytest.approx(real, rel=0.01)


def test_the_page_holds_its_assumptions() -> None:
    text = "\n".join(production_cost.report(Assumptions(), Operations(0.8e12, 2.5e12, 0.05e12)))
    for said in ("15% to 40%", "80% of the draws", "1.15 times", "0.45 TB", "float32, its default, takes several"):
        assert said in text
    for gpu in GPUS:
        assert f"| {gpu.name} | {gpu.peak_tflops:g} |" in text
