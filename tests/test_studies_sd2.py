"""The full-size study and the benchmark of training, on the tiny twin of Stable Diffusion 2.0."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import islice
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

import full_size_sd2
import training
import training_tasks
from image_lora import ImageLora
from measured import ENVIRONMENT, Measured, machine, run_measured
from sd2_folder import (
    SD2_BASE,
    SD2_PARAMETERS,
    SD2_SCHEDULER,
    TINY,
    clip_tokenizer,
    count_parameters,
    write_base,
    write_sd2,
)
from training_tasks import CACHED, ENCODING, IMAGE, Setup, Steps

from caption_corpus import caption_corpus
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.model.bases import load_base
from skindualgen.model.registry import KNOWN_BASES

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

SIZE_PX = 64


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sd2") / "base"
    write_base(folder, TINY)
    return folder


@pytest.fixture(scope="module")
def setup(tmp_path_factory, base_folder) -> Setup:
    setup = Setup(
        base=str(base_folder),
        work=str(tmp_path_factory.mktemp("bench")),
        size=SIZE_PX,
        rank=2,
        batch=2,
        targets="attention",
        pairs=3,
        repeats=2,
        gradient_checkpointing=True,
        threads=1,
        seed=0,
    )
    training_tasks.fill_cache(setup)
    return setup


def in_process(task, setup):
    return training_tasks.TASKS[task](setup), Measured(seconds=1.0, peak_gib=2.0, output="")


def test_full_size_has_the_parameters_of_the_real_one():
    """Counted without memory for them, and against the registry's numbers, which came from the real files."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel(**SD2_BASE.unet),
            "vae": AutoencoderKL(**SD2_BASE.vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(vocab_size=49408, **SD2_BASE.text_encoder)),
        }
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()} == SD2_PARAMETERS
    known = KNOWN_BASES["sd2-base"]
    assert SD2_PARAMETERS["unet"] == known.unet_parameters
    assert SD2_PARAMETERS["vae"] + SD2_PARAMETERS["text_encoder"] == known.other_parameters
    assert SD2_BASE.unet["sample_size"] * 8 == known.native_px
    assert SD2_SCHEDULER["prediction_type"] == known.prediction_type


def test_tokenizer_reads_as_the_reference_does():
    from open_clip.tokenizer import SimpleTokenizer

    ours, reference = clip_tokenizer(), SimpleTokenizer()
    # No "!" in them: as the padding it is a special token, here as in Stable Diffusion 2.0.
    texts = [*caption_corpus()[:200], "Größe 6 mm, it's 60-year-old: naïve café?", ""]
    for text in texts:
        assert ours(text).input_ids == [49406, *reference.encode(text), 49407]
    assert len(ours) == 49408
    padded = ours("", padding="max_length", max_length=77).input_ids
    assert padded == [49406, 49407, *[0] * 75]
    assert ours.pad_token == "!"


def test_folder_is_a_base_and_a_diffusers_pipeline(base_folder):
    base = load_base(base_folder)
    assert base.prediction_type == "epsilon"
    assert (base.unet.dtype, base.text_encoder.dtype) == (torch.float32, torch.float32)
    betas = (base.scheduler.betas[0].item(), base.scheduler.betas[-1].item())
    assert betas == pytest.approx((0.00085, 0.012))
    counted = {part: sum(p.numel() for p in getattr(base, part).parameters()) for part in SD2_PARAMETERS}
    assert count_parameters(base_folder) == counted
    assert base.embed(["a nevus"]).shape == (1, 77, 32)
    assert StableDiffusionPipeline.from_pretrained(base_folder).safety_checker is None


def test_folder_that_is_there_is_kept_and_another_size_refused(base_folder):
    weights = base_folder / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert write_base(base_folder, TINY, seed=5)["vae"] == count_parameters(base_folder)["vae"]
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="865910724"):
        write_sd2(base_folder)


def test_both_sides_adapt_the_same_layers(setup):
    """A benchmark that gives one side more LoRA would compare nothing."""
    for targets in training.TARGETS:
        steps = Steps(replace(setup, targets=targets), (IMAGE, CACHED))
        assert steps.trained[IMAGE] + steps.new_layer_parameters() == steps.trained[CACHED]
        assert steps.trained[IMAGE] > 0


def test_encoding_in_the_step_makes_what_the_cache_holds(setup):
    config = setup.config()
    base = load_base(setup.base)
    steps = Steps(setup, (CACHED,))
    batches = training_tasks.Batches(training_tasks.cache_of(setup, base), config, 1000)
    for batch in islice(batches.loader(0), 2):
        anew = steps.encode(batch, base)
        assert torch.allclose(anew.latents, batch.latents, atol=1e-3, rtol=1e-3)
        assert torch.allclose(anew.codes, batch.codes, atol=1e-2, rtol=1e-3)
        assert torch.allclose(anew.text, batch.text, atol=1e-2, rtol=1e-3)
        assert anew.ids == batch.ids


def test_baseline_learns_and_leaves_everything_but_lora_alone(setup):
    from accelerate import Accelerator

    base = load_base(setup.base)
    before = base.vae.state_dict()["encoder.conv_in.weight"].clone()
    image = ImageLora(base.unet, base, Accelerator(), rank=2, gradient_checkpointing=True)
    lora = [p.detach().clone() for p in image.parameters]
    names = {name for name, p in image.unet.named_parameters() if p.requires_grad}
    assert all("lora_" in name and (".to_" in name) for name in names)
    pixels = torch.rand(2, 3, SIZE_PX, SIZE_PX) * 2 - 1
    ids = base.tokenizer(["a", "b"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    losses = [image.step(pixels, ids) for _ in range(2)]
    assert all(math.isfinite(loss) for loss in losses)
    # A follows B, which is zero before the first step: both have moved after two.
    assert all(not torch.equal(p, old) for p, old in zip(image.parameters, lora, strict=True))
    assert torch.equal(base.vae.state_dict()["encoder.conv_in.weight"], before)


def test_benchmark_gives_finite_numbers_and_its_table(setup):
    result = training.measure(setup, ["attention"], run=in_process)
    layers = result["layers"]["attention"]
    assert {len(seconds) for seconds in layers["seconds"].values()} == {setup.repeats}
    found = training.aims(layers)
    assert [aim.limit for aim in found] == [1.05, 0.85, 0.02, 1.1]
    assert all(math.isfinite(aim.value) and aim.value > 0 for aim in found)
    assert found[3].value > 1  # a file holds its tensors and something more
    assert layers["resume"]["step"] == training_tasks.MEMORY_STEPS
    text = "\n".join(training.report(result, setup))
    assert text.count("| 2.00 |") == 3
    for kind in (IMAGE, ENCODING, CACHED):
        assert f"| {kind} |" in text
    json.dumps(result, allow_nan=False)


def test_ratios_are_of_pairs():
    assert training.ratios([2.0, 6.0, 3.0], [1.0, 2.0, 6.0]) == {"median": 2.0, "min": 0.5, "max": 3.0}
    assert training.Aim("", 1.05, 1.05).reached
    assert not training.Aim("", 1.06, 1.05).reached


def test_measured_process_has_a_peak_of_its_own():
    """``getrusage(RUSAGE_CHILDREN)`` would report the largest child for every later one.

    Measured from a small process, as commands are: a child's peak starts at the size of the process that forks it.
    """
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from measured import run_measured\n"
        "held = 'held = bytearray({}); print(len(held))'\n"
        "for n in (700, 1):\n"
        "    done = run_measured([sys.executable, '-c', held.format(n * 2**20)])\n"
        "    print(done.peak_gib, done.output.strip())"
    )
    benchmarks = str(Path(__file__).resolve().parents[1] / "benchmarks")
    out = subprocess.run([sys.executable, "-c", script, benchmarks], capture_output=True, text=True, check=True).stdout
    (large, held), (small, _) = (line.split() for line in out.splitlines())
    assert int(held) == 700 * 2**20
    assert float(large) > 700 / 1024
    assert float(small) < float(large) - 0.2
    shown = run_measured([sys.executable, "-c", "import os; print(os.environ['ACCELERATE_USE_CPU'])"])
    assert shown.output.strip() == ENVIRONMENT["ACCELERATE_USE_CPU"]
    assert set(machine()) == {"cpu", "cores", "memory_gib", "load_before"}


def test_benchmark_task_runs_as_a_process(setup):
    with_ff = replace(setup, targets="attention+ff")
    assert training_tasks.take_steps(with_ff, CACHED)["tensor_bytes"] > 0
    result, measured = training.run_task("resume", with_ff)
    assert result["step"] == training_tasks.MEMORY_STEPS
    assert measured.peak_gib > 0.1


def in_this_process_but_training(command):
    """Training as the process that it is, as its memory is looked at; all others here, where nothing has to start."""
    if "train" in command and "--dry-run" not in command:
        return run_measured(command)
    if command[: len(full_size_sd2.CLI)] == full_size_sd2.CLI:
        done = CliRunner().invoke(app, command[len(full_size_sd2.CLI) :])
        assert done.exit_code == 0, done.output
        return Measured(seconds=1.0, peak_gib=0.1, output=done.stdout)
    with redirect_stdout(StringIO()) as output:
        full_size_sd2.main(command[2:])
    return Measured(seconds=1.0, peak_gib=0.1, output=output.getvalue())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_full_size_study_on_the_tiny_base(base_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(full_size_sd2, "run_measured", in_this_process_but_training)
    out, work = tmp_path / "study.md", tmp_path / "work"
    arguments = ["--base", str(base_folder), "--work", str(work), "--size", "64", "--rank", "4", "--out", str(out)]
    full_size_sd2.main(arguments)
    text, record = out.read_text(), json.loads(out.with_suffix(".json").read_text())
    assert next(row["name"] for row in record["commands"]) == "prepare phantoms"
    assert len(record["commands"]) == 8
    assert "differs from that of `generate` in 0 values of the photograph and 0 pixels" in text
    found = record["findings"]
    assert "fits in 20 GiB" in text and found["fits"]
    assert found["merged_differs"] == {"images": 0, "masks": 0}
    attention_layers = 32  # 4 transformer blocks of 2 attentions of 4 matrices; feed-forward is not exported
    assert found["lora"]["layers"] == attention_layers
    assert 0 < found["lora"]["latents_moved"] < 10
    assert 0.3 < found["train_peak_gib"] / found["train_estimated_gib"] < 3
    assert all(row["command"].startswith("python ") for row in record["commands"])
    for place in (str(tmp_path), str(base_folder), str(Path.home())):
        assert place not in text + json.dumps(record["commands"])
    # Everything is measured by now: the same command only writes the tables again.
    before = (work / full_size_sd2.MEASURED_FILE).stat().st_mtime_ns
    full_size_sd2.main(arguments)
    assert (work / full_size_sd2.MEASURED_FILE).stat().st_mtime_ns == before
