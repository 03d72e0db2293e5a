"""``skindualgen generate`` as its users call it: plans, gates, signatures, parts, and clear errors for wrong input."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from producer import contents
from skindualgen.cli import app
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.files import sha256_file
from skindualgen.production.journal import SETTINGS_FILE
from skindualgen.production.sampler import PipelineFactory
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.reading import mask_predictor
from tiny import write_tiny_adapter

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PLAN = """prompt,diagnosis,skin_tone,count,seed_first,extrapolation
a nevus,nevus,,3,100,false
"a melanoma, dark skin",melanoma,dark,2,200,true
"""


pytestmark = pytest.mark.usefixtures("own_threads")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.csv"
    path.write_text(PLAN, encoding="utf-8")
    return path


def generate(adapter: Path, out: Path, *more: str | Path) -> Result:
    """Run the command with a quick model."""
    line = ["generate", "--adapter", adapter, "--steps", "1", "--batch-size", "2", "--out", out, *more]
    return CliRunner().invoke(app, [str(word) for word in line])


def test_a_plan_is_drawn(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--plan", plan, "--license", "CC0-1.0")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"5 pairs in {out}")
    records = read_metadata(out)
    assert [(r.plan_row, r.seed, r.diagnosis, r.skin_tone, r.extrapolation, r.license) for r in records] == [
        (0, 100, "nevus", None, False, "CC0-1.0"),
        (0, 101, "nevus", None, False, "CC0-1.0"),
        (0, 102, "nevus", None, False, "CC0-1.0"),
        (1, 200, "melanoma", "dark", True, "CC0-1.0"),
        (1, 201, "melanoma", "dark", True, "CC0-1.0"),
    ]
    assert json.loads((out / SETTINGS_FILE).read_text())["plan_sha256"] == sha256_file(plan)
    plan.write_text(PLAN.replace("100", "300"), encoding="utf-8")
    again = generate(tiny_v_adapter, out, "--plan", plan, "--license", "CC0-1.0")
    assert again.exit_code == 2 and "results of other settings (plan_sha256: " in again.stderr


def test_parts_of_a_plan(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    """Chunks of four pairs at a batch size of one: two parts."""
    found = []
    for part in ("1/2", "2/2"):
        out = tmp_path / part.replace("/", "-")
        assert generate(tiny_v_adapter, out, "--plan", plan, "--batch-size", "1", "--part", part).exit_code == 0
        found.append([record.isic_id for record in read_metadata(out)])
    assert found == [[f"SDG_{place:07d}" for place in range(4)], ["SDG_0000004"]]


def test_two_folders_are_merged_where_their_ids_differ(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    """The same places of two plans; with one prefix, both would hold SDG_0000000."""
    folders = []
    for name, more in (("a", ()), ("same", ()), ("b", ("--id-prefix", "B-2_x"))):
        folders.append(tmp_path / name)
        text = PLAN if name == "a" else PLAN.replace(",100,", ",300,").replace(",200,", ",400,")
        plan.write_text(text, encoding="utf-8")
        done = generate(tiny_v_adapter, folders[-1], "--plan", plan, *more)
        assert done.exit_code == 0, done.output
    first, same, other = folders
    records = read_metadata(other)
    assert [record.isic_id for record in records] == [f"B-2_x_{place:07d}" for place in range(5)]
    assert (other / "images" / "B-2_x_0000004.png").is_file()
    refused = CliRunner().invoke(app, ["merge", str(first), str(same), "--out", str(tmp_path / "none")])
    assert refused.exit_code == 2 and "5 ids twice" in refused.stderr and "--id-prefix" in refused.stderr
    merged = CliRunner().invoke(app, ["merge", str(first), str(other), "--out", str(tmp_path / "all")])
    assert merged.exit_code == 0 and len(read_metadata(tmp_path / "all")) == 10
    assert CliRunner().invoke(app, ["verify", str(other)]).exit_code == 0


def test_a_prefix_belongs_to_its_folder(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    out = tmp_path / "out"
    assert generate(tiny_v_adapter, out, "--plan", plan).exit_code == 0
    again = generate(tiny_v_adapter, out, "--plan", plan, "--id-prefix", "AB")
    assert again.exit_code == 2 and f'{out} with results of other settings (id_prefix: "SDG" there, "AB" now)' in (
        again.stderr.replace("\n", "")
    )
    # Folders of versions without a choice do not state it, and go on.
    settings = json.loads((out / SETTINGS_FILE).read_text())
    assert settings.pop("id_prefix") == "SDG"
    (out / SETTINGS_FILE).write_text(json.dumps(settings))
    (out / "masks" / "SDG_0000004.png").unlink()
    assert generate(tiny_v_adapter, out, "--plan", plan).exit_code == 0
    assert (out / "masks" / "SDG_0000004.png").is_file()
    again = generate(tiny_v_adapter, out, "--plan", plan, "--id-prefix", "AB")
    assert again.exit_code == 2 and 'id_prefix: "SDG" there' in again.stderr


def test_shards_are_named(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--plan", plan, "--shards", "webdataset")
    assert f"5 pairs in {out}, shards in {out / 'shards'}" in done.stdout
    assert [path.name for path in (out / "shards").iterdir()] == ["train-0000000.tar"]


def test_signed_images(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    from certificates import write_chain
    from skindualgen.marks.c2pa import read_credentials

    chain = write_chain(tmp_path / "chain")
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--plan", plan, "--sign", chain.cert, chain.key)
    assert done.exit_code == 0, done.output
    for record in read_metadata(out):
        assert read_credentials(out / record.file_name).state == "valid"
        assert record.sha256 == sha256_file(out / record.file_name)
    assert json.loads((out / SETTINGS_FILE).read_text())["certificate_sha256"] == sha256_file(chain.cert)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, tiny_v_adapter: Path) -> Path:
    """A gate that was calibrated on phantoms, so that it refuses what an untrained model draws."""
    from skindualgen.gate.calibration import calibrate
    from skindualgen.gate.real_pairs import CalibrateOptions
    from tiny import write_phantom_data

    folder = tmp_path_factory.mktemp("gate")
    real = write_phantom_data(folder / "real", train=20, val=20)
    pipeline = SkinDualGenPipeline.from_adapter(tiny_v_adapter)
    made_of = dict(pipeline.config.provenance)
    calibrate(CalibrateOptions(real, 64), folder / "gate", read_masks=mask_predictor(pipeline), adapter=made_of)
    return folder / "gate"


def test_what_a_gate_refuses_is_told(tiny_v_adapter: Path, tmp_path: Path, plan: Path, gate: Path) -> None:
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--plan", plan, "--gate", gate, "--attempts", "2", "--keep-rejected")
    assert done.exit_code == 3, done.output
    assert done.stdout.startswith(f"0 pairs in {out}")
    assert "10 attempts refused by the gate (" in done.stdout and "5 pairs not met" in done.stdout
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in lines] == [0, 1] * 5
    assert all(line["reasons"] and (out / line["thumbnail"]).is_file() for line in lines)
    assert all("self_agreement" in line["scores"] for line in lines)
    settings = json.loads((out / SETTINGS_FILE).read_text())
    assert settings["attempts"] == 2 and settings["gate_sha256"] == sha256_file(gate / "gate.json")


def test_a_gate_for_larger_pairs_is_refused(tiny_v_adapter: Path, tmp_path: Path, plan: Path, gate: Path) -> None:
    file = json.loads((gate / "gate.json").read_text())
    large = tmp_path / "gate"
    large.mkdir()
    for path in gate.iterdir():
        (large / path.name).write_bytes(path.read_bytes())
    (large / "gate.json").write_text(json.dumps(file | {"size_px": 128}))
    done = generate(tiny_v_adapter, tmp_path / "out", "--plan", plan, "--gate", large)
    assert done.exit_code == 2 and "pairs of 64 px with a gate for 128 px" in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_threads_read_and_draw_with_one_model(tiny_v_adapter: Path) -> None:
    """The gate reads masks while the next batch is drawn; a pipeline keeps the state of its running call."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    factory = PipelineFactory(tiny_v_adapter, steps=12, guidance=2.0)
    pipeline = factory.load()
    sampler, _ = factory.parts(pipeline)
    from skindualgen.planning.requests import requests_from_prompts

    requests = requests_from_prompts([("a nevus", {})], 2, 0)
    read = mask_predictor(pipeline)
    images, _ = sampler.sample(requests)()
    photographs = np.stack([np.asarray(image) for image in images])
    field = read(photographs)
    assert field.shape == (2, 64, 64)
    with ThreadPoolExecutor(1) as other:
        readings = [other.submit(read, photographs) for _ in range(20)]
        drawn = [sampler.sample(requests)()[0] for _ in range(3)]
    assert all(np.array_equal(reading.result(), field) for reading in readings)
    assert all(np.array_equal(again, image) for pair in drawn for again, image in zip(pair, images, strict=True))


def test_guidance_is_told_and_recorded(tiny_v_adapter: Path, tiny_v_base: Path, tmp_path: Path) -> None:
    """The options change what is drawn, stand in each record, and belong to what a folder is claimed with."""
    asked = ["--prompt", "a melanoma", "-n", "2", "--guidance", "4"]
    more = ["--guidance-rescale", "0.5", "--guidance-interval", "0.1", "1", "--prompt-noise", "0.3"]
    weaker = write_tiny_adapter(tmp_path / "weaker", tiny_v_base, seed=9)
    folders = {"plain": [], "more": more, "guided": ["--guide", str(weaker)]}
    for name, options in folders.items():
        done = generate(tiny_v_adapter, tmp_path / name, *asked, *options)
        assert done.exit_code == 0, done.output
    records = {name: read_metadata(tmp_path / name) for name in folders}
    assert len({each[0].sha256 for each in records.values()}) == 3
    further = {"guidance_rescale": 0.5, "guidance_from": 0.1, "guidance_until": 1.0, "prompt_noise": 0.3}
    digest = {"guide_sha256": sha256_file(weaker / "adapter_model.safetensors")}
    assert [records[name][1].model_extra for name in folders] == [{}, further, digest]
    assert further.items() <= json.loads((tmp_path / "more" / "generate.json").read_text()).items()
    again = generate(tiny_v_adapter, tmp_path / "more", *asked, *more[:-1], "0.2")
    assert again.exit_code == 2 and "prompt_noise: 0.3 there, 0.2 now" in again.stderr


def test_half_precision(tiny_v_adapter: Path) -> None:
    assert PipelineFactory(tiny_v_adapter, precision="bf16").load().unet.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "not exactly one of --plan, --prompt, --prompts, --like, --redraw, --masks, --inpaint and --read"),
        (["--plan", "PLAN", "--prompt", "a nevus"], "not exactly one of"),
        (["--plan", "PLAN", "--count", "3"], "--plan with --count or --seed"),
        (["--plan", "PLAN", "--part", "one"], "--part one; expected I/N such as 3/16"),
        (["--plan", "PLAN", "--part", "5/4"], "part 5 of 4"),
        (["--plan", "PLAN", "--size", "100"], "size 100 x 100"),
        (["--plan", "PLAN", "--gate", "nothing.json"], "nothing.json"),
        (["--plan", "WRONG"], "melonoma"),
        (["--plan", "NEGATIVE"], "-3"),
        (["--plan", "LONG"], "CLIP tokens"),
        (["--plan", "missing.csv"], "missing.csv"),
        (["--prompt", "words " * 80], "CLIP tokens"),
        (["--plan", "PLAN", "--id-prefix", ""], "the id prefix ''; expected 1 to 16 letters"),
        (["--plan", "PLAN", "--id-prefix", "a" * 17], "1 to 16 letters"),
        (["--plan", "PLAN", "--id-prefix", "../x"], "1 to 16 letters"),
        (["--plan", "PLAN", "--id-prefix", "é"], "1 to 16 letters"),
        (["--plan", "PLAN", "--id-prefix", "my-test"], "without the word 'test'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_folder(
    tiny_v_adapter: Path, tmp_path: Path, plan: Path, more: list[str], said: str
) -> None:
    changed = {
        "PLAN": PLAN,
        "WRONG": PLAN.replace("nevus,nevus", "nevus,melonoma"),
        "NEGATIVE": PLAN.replace(",3,", ",-3,"),
        "LONG": PLAN.replace("a nevus", "a nevus " * 30),
    }
    for name, text in changed.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    words = [str(tmp_path / f"{word}.csv") if word in changed else word for word in more]
    done = generate(tiny_v_adapter, tmp_path / "out", *words)
    assert done.exit_code == 2, done.output
    line = done.stderr.strip().splitlines()[-1]  # after those of progress
    assert line.startswith("Error: got ") and said in line
    assert not (tmp_path / "out").exists()


# --- recipes for clusters ---


def test_the_job_array_is_a_script_whose_command_is_known(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    """Run as Slurm would run a task of it, with a stand-in for srun and a small adapter."""
    script = EXAMPLES / "production_slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    said = subprocess.run(
        ["bash", "-c", 'srun() { echo "$@"; }; export -f srun; bash "$0" plan.csv out', str(script)],
        env={"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "16"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    name, command, *words = said.split()
    assert (name, command) == ("skindualgen", "generate")
    assert words[words.index("--part") + 1] == "2/16" and words[words.index("--out") + 1] == "out/part-2"
    assert known_options(words)


def test_the_job_of_kuberay_is_yaml_whose_command_is_known() -> None:
    job = yaml.safe_load((EXAMPLES / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    name, command, *words = job["spec"]["entrypoint"].split()
    assert (name, command) == ("skindualgen", "generate") and known_options(words)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert int(words[words.index("--workers") + 1]) == group["replicas"]
    for part in (job["spec"]["rayClusterSpec"]["headGroupSpec"], group):
        (container,) = part["template"]["spec"]["containers"]
        (mount,), (volume,) = container["volumeMounts"], part["template"]["spec"]["volumes"]
        assert mount["name"] == volume["name"] and words[words.index("--out") + 1].startswith(mount["mountPath"])


def known_options(words: list[str]) -> bool:
    """Whether the command has every option among the words."""
    from typer.main import get_command

    options = {name for parameter in get_command(app).commands["generate"].params for name in parameter.opts}
    return {word for word in words if word.startswith("--")} <= options


def test_the_outcome_does_not_hang_on_the_way(tiny_v_adapter: Path, tmp_path: Path, plan: Path) -> None:
    """A command that is called again does nothing, and says the same."""
    out = tmp_path / "out"
    first = generate(tiny_v_adapter, out, "--plan", plan)
    before = contents(out)
    assert generate(tiny_v_adapter, out, "--plan", plan).stdout == first.stdout
    assert contents(out) == before and read_dataset_info(out)["counts"]["records"] == 5
