"""The doctor: findings are facts of this machine, and every remedy belongs to something that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import torch
from packaging.requirements import Requirement

from skindualgen import doctor, hardware
from skindualgen.doctor import Finding
from skindualgen.hardware import GIB
from skindualgen.model import footprint, hub
from skindualgen.model.hub import Snapshot
from skindualgen.model.registry import KNOWN_BASES, Candidate


def by_topic(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def test_every_topic_once_and_a_remedy_for_all_that_is_not_ok() -> None:
    findings = doctor.examine()
    assert len(by_topic(findings)) == len(findings)
    assert {"software", "processor", "precision", "memory", "disk", "bundled model", "extra bench"} <= set(
        by_topic(findings)
    )
    assert all(finding.remedy for finding in findings if finding.state != "ok")


@pytest.mark.parametrize(
    ("device", "on_cpu", "on_gpu", "precision"),
    [
        ("cpu", False, True, "fp32"),
        ("cpu", True, False, "bf16"),
        ("cuda:0", True, False, "fp32"),
        ("cuda:1", False, True, "bf16"),
        ("mps", True, True, "fp32"),
    ],
)
def test_precision_is_what_the_hardware_computes_in(
    monkeypatch: pytest.MonkeyPatch, device: str, on_cpu: bool, on_gpu: bool, precision: str
) -> None:
    """Emulated bf16 does not count: it was seen several hundred times slower than fp32."""
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: on_cpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: on_gpu or including_emulation)
    assert hardware.training_precision(device) == precision


def test_the_processors_instructions_are_asked_for(asks_cpu_for_bf16: Callable[[], bool]) -> None:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").is_file() else []
    if not flags:
        pytest.skip("needs Linux")
    assert asks_cpu_for_bf16() == bool({"avx512_bf16", "amx_tile"} & set(flags))


def test_too_many_threads_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: hardware.usable_cores() + 6)
    finding = by_topic(doctor._devices())["processor"]
    assert finding.state == "limited"
    assert f"OMP_NUM_THREADS={hardware.usable_cores()}" in finding.remedy


@pytest.mark.parametrize(("free_gib", "state"), [(1.0, "missing"), (3.0, "ok")])
def test_memory_is_judged_by_what_is_free(monkeypatch: pytest.MonkeyPatch, free_gib: float, state: str) -> None:
    memory = psutil.virtual_memory()._replace(total=32 * GIB, available=int(free_gib * GIB))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    finding = doctor._memory()
    assert finding.state == state
    assert finding.found.startswith(f"{free_gib:.1f} of 32.0 GiB free")


@pytest.mark.parametrize(("free_gib", "state"), [(1.0, "limited"), (50.0, "ok")])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_gib: float, state: str) -> None:
    usage = type(doctor.shutil.disk_usage(tmp_path))(100, 0, int(free_gib * GIB))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor._disk(tmp_path).state == state


def test_bundled_weights_are_counted_and_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BUNDLED", tmp_path)
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
    assert hardware.free_memory("cpu") == pytest.approx(psutil.virtual_memory().available, rel=0.2)


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
