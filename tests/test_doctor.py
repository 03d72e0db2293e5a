"""The doctor: findings are facts of this machine, and every remedy belongs to something that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import torch
from packaging.requirements import Requirement
from torch.utils.flop_counter import FlopCounterMode

from skindualgen import doctor
from skindualgen.doctor import GIB, Finding, Speed
from skindualgen.model import footprint, hub
from skindualgen.model.hub import Snapshot
from skindualgen.model.registry import KNOWN_BASES, Candidate


def by_topic(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def test_every_topic_once_and_a_remedy_for_all_that_is_not_ok() -> None:
    findings = doctor.examine(measure=False)
    assert len(by_topic(findings)) == len(findings)
    assert {"software", "processor", "memory", "disk", "bundled model", "extra bench"} <= set(by_topic(findings))
    assert all(finding.remedy for finding in findings if finding.state != "ok")


def test_examine_measures_the_processor() -> None:
    found = by_topic(doctor.examine())["speed, cpu"].found
    assert "float32" in found and "bfloat16" in found and "GFLOP/s" in found


def test_speed_counts_the_operations_that_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one call a second the speed is the operation count, for which torch has a counter of its own."""
    counted: list[float] = []

    def one_call_a_second(operation: Callable[[], torch.Tensor], device: str, seconds: float) -> float:
        with FlopCounterMode(display=False) as counter:
            operation()
        counted.append(counter.get_total_flops() / 1e9)
        return 1.0

    monkeypatch.setattr(doctor, "_rate", one_call_a_second)
    speeds = doctor.measure_speeds("cpu")
    assert [speed.dtype for speed in speeds] == ["float32", "bfloat16"]
    assert [value for speed in speeds for value in (speed.matmul_gflops, speed.conv_gflops)] == pytest.approx(counted)


def test_rate_counts_calls_after_a_warm_up() -> None:
    calls: list[float] = []

    def operation() -> torch.Tensor:
        calls.append(time.perf_counter())
        time.sleep(0.02)
        return torch.ones(1)

    rate = doctor._rate(operation, "cpu", 0.2)
    assert rate * 0.02 <= 1.0
    assert len(calls) - 1 == pytest.approx(rate * (calls[-1] - calls[1] + 0.02), rel=0.2)


def test_the_fastest_precision_is_judged_by_its_slower_operation() -> None:
    """bf16 with a fast matrix product and a hopeless convolution is no gain."""
    full, half = Speed("cpu", "float32", 50, 40), Speed("cpu", "bfloat16", 400, 0.1)
    assert doctor.fastest_precision([full, half]) is full
    assert doctor.fastest_precision([full, Speed("cpu", "bfloat16", 60, 41)]).dtype == "bfloat16"


def test_slow_precisions_are_named() -> None:
    finding = doctor._judge_speeds([Speed("cpu", "float32", 50, 40), Speed("cpu", "bfloat16", 400, 0.1)])
    assert "fastest: float32" in finding.found
    assert "best avoided: bfloat16" in finding.found
    swift = doctor._judge_speeds([Speed("cpu", "float32", 50, 40), Speed("cpu", "bfloat16", 90, 60)])
    assert "avoided" not in swift.found


def test_too_many_threads_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: doctor.usable_cores() + 6)
    finding = by_topic(doctor._devices())["processor"]
    assert finding.state == "limited"
    assert f"OMP_NUM_THREADS={doctor.usable_cores()}" in finding.remedy


@pytest.mark.parametrize(("free_gib", "state"), [(1.0, "missing"), (3.0, "ok")])
def test_memory_is_judged_by_what_is_free(monkeypatch: pytest.MonkeyPatch, free_gib: float, state: str) -> None:
    memory = psutil.virtual_memory()._replace(total=32 * doctor.GIB, available=int(free_gib * doctor.GIB))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    finding = doctor._memory()
    assert finding.state == state
    assert finding.found.startswith(f"{free_gib:.1f} of 32.0 GiB free")


@pytest.mark.parametrize(("free_gib", "state"), [(1.0, "limited"), (50.0, "ok")])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_gib: float, state: str) -> None:
    usage = type(doctor.shutil.disk_usage(tmp_path))(100, 0, int(free_gib * doctor.GIB))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor._disk(tmp_path).state == state


def test_bundled_weights_are_counted_and_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BUNDLED_DIR", tmp_path)
    assert doctor.bundled_weights().state == "missing"
    (tmp_path / "micro").mkdir()
    (tmp_path / "micro" / "model.safetensors").write_bytes(bytes(1_500_000))
    assert doctor.bundled_weights() == Finding("bundled model", "ok", "1 weight files, 1.5 MB")


def test_a_missing_extra_names_what_is_missing_and_the_command() -> None:
    finding = doctor._extra(
        "bench", [Requirement("numpy>=1"), Requirement("no-such-package>=1"), Requirement("rich>999")]
    )
    assert finding.state == "limited"
    assert finding.found.endswith("not installed: no-such-package, rich")
    assert finding.remedy == "pip install 'skindualgen[bench]'"


def test_described_extras_are_declared() -> None:
    """Guards against a renamed extra that would silently vanish from the doctor's list."""
    assert set(doctor.EXTRA_PURPOSE) <= set(metadata.metadata("skindualgen").get_all("Provides-Extra"))
    assert len(doctor.extras()) == len(doctor.EXTRA_PURPOSE)


def test_free_memory_is_the_machines() -> None:
    assert doctor.free_memory("cpu") == pytest.approx(psutil.virtual_memory().available, rel=0.2)


SD2 = KNOWN_BASES["sd2-base"]


@pytest.mark.parametrize(
    ("measured_gib", "px", "batch", "train"),
    [
        (4.318, 512, 1, False),
        (4.645, 512, 2, False),
        (5.761, 512, 1, True),
        (7.336, 512, 2, True),
        (4.646, 256, 1, True),
    ],
)
def test_the_estimate_is_not_below_what_was_measured(measured_gib: float, px: int, batch: int, train: bool) -> None:
    """Peaks of the full-size UNet alone (docs/bases.md); the estimate minus all that was not loaded then."""
    rest = 4 * SD2.other_parameters / GIB
    fixed = footprint.fixed_bytes(SD2, bytes_per_weight=4) / GIB - rest
    each = (footprint.TRAIN_BYTES if train else footprint.DRAW_BYTES) / GIB * (px / 512) ** 2
    estimate = fixed + batch * each + (footprint.TRAINED_BYTES / GIB if train else 0)
    assert measured_gib <= estimate + 0.02
    assert not train or estimate < 1.1 * measured_gib
    assert fixed == pytest.approx(4.03, abs=0.03)  # measured with the UNet loaded


def test_the_largest_batch_is_the_one_that_still_fits() -> None:
    fixed = footprint.fixed_bytes(SD2, bytes_per_weight=4)
    assert fixed / GIB == pytest.approx(0.8 + 4 * (865_910_724 + 424_041_703) / GIB)
    for px, share in ((512, 1.0), (256, 0.25)):
        for count in (0, 1, 5):
            exact = fixed + count * share * footprint.DRAW_BYTES
            free = {more: exact + more * 1e6 for more in (-1, 1)}
            fits = {
                more: footprint.largest_batch(SD2, value, px=px, train=False, bytes_per_weight=4)
                for more, value in free.items()
            }
            assert fits == {-1: max(count - 1, 0), 1: count}
    training = fixed + footprint.TRAINED_BYTES + 3 * footprint.TRAIN_BYTES + 1
    assert footprint.largest_batch(SD2, training, px=512, train=True, bytes_per_weight=4) == 3
    assert footprint.largest_batch(SD2, training, px=512, train=True, bytes_per_weight=2) > 3


def test_each_base_is_judged_by_memory_disk_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = "abcdef0" + "1" * 33

    def only_second_mirror(candidate: Candidate) -> Snapshot | None:
        there = candidate == SD2.candidates[1]
        return Snapshot(tmp_path, candidate.repo, commit, None) if there else None

    monkeypatch.setattr(footprint, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr(hub, "cached_snapshot", only_second_mirror)
    monkeypatch.setattr(footprint, "free_memory", lambda device: 16 * GIB)
    monkeypatch.setattr(footprint, "free_cache_bytes", lambda: 10**9)
    findings = by_topic(footprint.base_findings())
    assert list(findings) == ["bases", *(f"base {name}" for name in KNOWN_BASES if name != "micro")]
    assert "random weights on a CPU, never on a GPU" in findings["bases"].found
    here, absent = findings["base sd2-base"], findings["base sd2"]
    assert here.state == "ok" and not here.remedy
    assert "on disk: Manojb/stable-diffusion-2-base@abcdef0" in here.found
    assert "draws 512 px x 9, 256 px x 39; trains 512 px x 6, 256 px x 25" in here.found
    assert absent.state == "limited" and "not on disk: 5.2 GB" in absent.found
    assert "make 5.2 GB of room" in absent.remedy
    monkeypatch.setattr(footprint, "free_cache_bytes", lambda: 10**11)
    assert "with --base sd2 downloads it" in by_topic(footprint.base_findings())["base sd2"].remedy
    monkeypatch.setattr(footprint, "free_memory", lambda device: 5 * GIB)
    tight = by_topic(footprint.base_findings())["base sd2-base"]
    assert "draws nothing; trains nothing" in tight.found
    assert "6.7 GiB free to draw" in tight.remedy and "7.5 GiB free to train" in tight.remedy
