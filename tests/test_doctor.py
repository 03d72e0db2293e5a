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
from skindualgen.doctor import Finding, Speed


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


@pytest.mark.parametrize(("free_gib", "state"), [(1.0, "missing"), (3.0, "limited"), (16.0, "ok")])
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
