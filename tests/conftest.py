"""What all tests share: one thread, seeds, their order, what measures coverage, and the real photographs, if there."""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.testing

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

gc.disable()  # until the tests are collected: nothing that is imported goes away, and looking for it takes a seventh

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from unmeasured import libraries_unmeasured  # noqa: E402

torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # one that is busy is slow, and nothing is wrong
hypothesis.settings.load_profile("any machine")
SEED = 0
"""of the global generators, before each test"""
LIBRARIES = (
    "accelerate.commands.launch",
    "datasets",
    "diffusers.models.unets.unet_2d_condition",
    "peft",
    "quick_gradio",
    "scipy.stats",
    "segmentation_models_pytorch",
    "skimage.measure",
    "sklearn.metrics",
    "timm",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torchmetrics",
    "transformers.models.clip.modeling_clip",
)
"""Large ones that tests import."""

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("SKINDUALGEN_REAL_DATA", REPOSITORY.parent / "shared" / "data" / "dermoscopy"))


def pytest_report_header() -> str:
    state = "found" if (REAL_DATA / "metadata.csv").is_file() else "NOT found: the tests that read it are skipped"
    return f"real dermoscopy data: {state} (SKINDUALGEN_REAL_DATA or ../shared/data/dermoscopy)"


def pytest_configure(config: pytest.Config) -> None:
    """Have the command line built once, and where coverage is measured, large libraries imported before it begins.

    Typer would read every option of every command anew for each call, which takes longer than most calls. Workers
    collect every test, so each of them imports these libraries anyway.
    """
    typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined]
    if "PYTEST_XDIST_WORKER" in os.environ and config.pluginmanager.hasplugin("_cov"):
        for library in LIBRARIES:
            with suppress(ImportError):
                import_module(library)


def _no_forks(event: str, _: tuple[object, ...]) -> None:
    """A fork of a process that has threads, as this one, can wait for ever for a lock that one of them holds."""
    if event in ("os.fork", "os.forkpty"):
        raise RuntimeError("the process of the tests was to be forked; start a new one (spawn), or use threads")


sys.addaudithook(_no_forks)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the browser's tests and files with slow ones first, so that no worker is left with one of them in the end.

    Within these groups the order is the random one that pytest-randomly has made. Slow tests run without measuring
    coverage, which makes Python a half slower; the others reach the same lines. So do the browser's, whose studio is
    another process.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        if item.get_closest_marker("slow") or item.path.parent.name == "browser":
            item.add_marker("no_cover")
    items.sort(key=lambda item: (item.path.parent.name != "browser", item.path not in slow))


def pytest_collection_finish() -> None:
    """Look for garbage again, but never among what has been imported, and as rarely as the command line does."""
    gc.freeze()
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    gc.enable()


@contextmanager
def _unmeasured(item: pytest.Item) -> Iterator[None]:
    """What a test that is not measured needs is not measured either; of the test itself, pytest-cov takes care."""
    coverage = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if coverage is None or not item.get_closest_marker("no_cover"):
        yield
        return
    coverage.pause()
    try:
        yield
    finally:
        coverage.resume()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if not item.config.pluginmanager.hasplugin("_cov") or item.get_closest_marker("no_cover"):
        return (yield)
    with libraries_unmeasured():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Begin with the same global generators whatever has run before: the order is random, numbers are not."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - libraries draw from it
    torch.manual_seed(SEED)
    with _unmeasured(item):
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def asks_cpu_for_bf16() -> Iterator[Callable[[], bool]]:
    """What asks the CPU for bfloat16. In this process it is not asked: a test computes the same on every machine."""
    from skindualgen import hardware

    asks = hardware._cpu_has_bf16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "_cpu_has_bf16", lambda: False)
        yield asks


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _unmeasured(item):
        return (yield)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Say below failures how to have the same order again; the header, which says it too, is not always shown."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        terminalreporter.write_line(f"The same order again: --randomly-seed={config.getoption('randomly_seed')}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: tests that wait for a process, a browser or a clock leave theirs to others."""
    from skindualgen.hardware import usable_cores

    return usable_cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file at a time, but all browser tests on one worker: two browsers and studios would starve each other."""
    from xdist.scheduler import LoadFileScheduling

    class BrowserTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return str(Path(file).parent) if Path(file).parent.name == "browser" else file

    return BrowserTogether(config, log)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pairs (images/, masks/, metadata.csv); read-only."""
    if not (REAL_DATA / "metadata.csv").is_file():
        pytest.skip("the real dermoscopy folder is not there: set SKINDUALGEN_REAL_DATA")
    return REAL_DATA


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of Stable Diffusion 2.0's classes at tiny size (64 px, random weights), epsilon prediction."""
    from tiny import write_tiny_base

    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_v_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``tiny_base``, but v-prediction under zero terminal SNR and the micro base's autoencoder."""
    from tiny import write_tiny_base

    folder = tmp_path_factory.mktemp("tiny") / "v_base"
    return write_tiny_base(folder, prediction_type="v_prediction", stock_autoencoder=False)


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """An adapter of the tiny base, all of its tensors random."""
    from tiny import write_tiny_adapter

    return write_tiny_adapter(tmp_path_factory.mktemp("tiny") / "adapter", tiny_base)


@pytest.fixture(scope="session")
def tiny_v_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_v_base: Path) -> Path:
    """An adapter of the tiny v base, all of its tensors random."""
    from tiny import write_tiny_adapter

    return write_tiny_adapter(tmp_path_factory.mktemp("tiny") / "v_adapter", tiny_v_base)


@pytest.fixture(scope="session")
def phantom_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder of phantom pairs at 64 px: 12 to train, 4 to validate; read-only."""
    from tiny import write_phantom_data

    return write_phantom_data(tmp_path_factory.mktemp("phantom") / "data", train=12, val=4)


@pytest.fixture(scope="session")
def pipe(tiny_adapter: Path) -> SkinDualGenPipeline:
    """Epsilon prediction and the stock autoencoder, as Stable Diffusion 2.0-base."""
    from pipeline_calls import quiet_pipeline

    return quiet_pipeline(tiny_adapter)


@pytest.fixture(scope="session")
def v_pipe(tiny_v_adapter: Path) -> SkinDualGenPipeline:
    """Velocity prediction under zero terminal SNR, and the micro base's autoencoder."""
    from pipeline_calls import quiet_pipeline

    return quiet_pipeline(tiny_v_adapter)


@pytest.fixture
def own_threads() -> Iterator[None]:
    """For modules that call commands here, which set torch's threads for their process: that of other tests too."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["epsilon", "v_prediction"])
def either(
    request: pytest.FixtureRequest, pipe: SkinDualGenPipeline, v_pipe: SkinDualGenPipeline
) -> SkinDualGenPipeline:
    """Both of them, one after the other."""
    return pipe if request.param == "epsilon" else v_pipe
