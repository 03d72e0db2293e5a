"""The model behind the page: loaded once, drawing for one visitor at a time, reporting each step, stopped at any."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from skindualgen.contracts import InputError
from skindualgen.files import BUILTIN, BUNDLED_ADAPTERS
from skindualgen.studio.training_coverage import TrainingCoverage, find_coverage
from skindualgen.studio.watched import Done, Step, Stopped, WatchedPipeline
from skindualgen.studio.workspace import Workspace

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline

_log = logging.getLogger(__name__)

KEPT_PIPELINES = 2
"""Loaded at a time, so that two visitors with two adapters do not load in turn."""
LOCK_POLL_S = 0.2


@dataclass(frozen=True)
class Facts:
    """What the page says of a model.

    Attributes:
        name: by which the page calls it.
        base: its base's id.
        native_px: side of its pictures.
        steps, guidance: its defaults.
        made_with: ids and hashes of base and adapter.
        threads: of the CPU, where it runs there: their number changes the last bits of what is drawn.
        coverage: what it was trained on; None where that is not known.
    """

    name: str
    base: str
    native_px: int
    steps: int
    guidance: float
    made_with: Mapping[str, str]
    threads: int | None
    coverage: TrainingCoverage | None


class Model:
    """Pipelines by name.

    Args:
        workspace: whose runs can be chosen, and the bundled adapter.
        adapter: what the server was started with: any place that `SkinDualGenPipeline.from_adapter` takes.
    """

    def __init__(self, workspace: Workspace, adapter: str = BUILTIN) -> None:
        self._workspace, self._first_place = workspace, adapter
        self.first = _shown_name(adapter, workspace)
        self._loaded: OrderedDict[str, tuple[SkinDualGenPipeline, Facts]] = OrderedDict()
        self._loading, self._drawing = threading.RLock(), threading.Lock()
        self._stops: dict[str, threading.Event] = {}

    def names(self) -> list[str]:
        """What a visitor can choose: the server's own first."""
        return list(dict.fromkeys([self.first, *BUNDLED_ADAPTERS, *self._workspace.adapters()]))

    def option(self, name: str) -> str | None:
        """What ``--adapter`` says of a model: nothing of the bundled one."""
        return None if name == BUILTIN else str(self._place(name) if name == self.first else name)

    def load_in_background(self, unusable: Callable[[InputError], None]) -> threading.Thread:
        """Start importing torch and loading the server's own adapter.

        Args:
            unusable: called with the reason why it cannot be loaded, where that is the user's to fix.
        """
        thread = threading.Thread(target=self._load_first, args=(unusable,), name="load model", daemon=True)
        thread.start()
        return thread

    def facts(self, name: str) -> Facts:
        """What is known of a model; waits until it is loaded.

        Raises:
            InputError: no adapter of this name, or one that cannot be loaded.
        """
        return self.pipeline(name)[1]

    def pipeline(self, name: str) -> tuple[SkinDualGenPipeline, Facts]:
        """The pipeline of a name, loaded if it is not; raises as `facts`."""
        if name not in self.names():
            known = f"one of {', '.join(self.names())}"
            raise InputError(f"the adapter {name[:80]!r}", known, "choose it from the list")
        with self._loading:
            place = self._place(name)
            key = f"{name}:{_stamp(place)}"
            if key not in self._loaded:
                self._loaded[key] = self._load(name, place)
            self._loaded.move_to_end(key)
            while len(self._loaded) > KEPT_PIPELINES:
                self._loaded.popitem(last=False)
            return self._loaded[key]

    def draw(self, name: str, visitor: str, work: Callable[[WatchedPipeline], Any]) -> Iterator[Step | Done]:
        """Do ``work`` with a model in a thread of its own; yields its steps, and its result in the end.

        Ending the iteration early stops the work as `stop` does.

        Args:
            name: of the model.
            visitor: by whom `stop` finds the draw.
            work: draws and returns the result.

        Raises:
            InputError: and whatever else ``work`` raises, but not `Stopped`.
        """
        stop = self._stops[visitor] = threading.Event()
        news: SimpleQueue[Step | Done | BaseException] = SimpleQueue()

        def run() -> None:
            while not self._drawing.acquire(timeout=LOCK_POLL_S):
                if stop.is_set():
                    return news.put(Done(None))
            try:
                pipeline, _ = self.pipeline(name)
                news.put(Done(work(WatchedPipeline(pipeline, news.put, stop))))
            except Stopped:
                news.put(Done(None))
            except BaseException as error:
                news.put(error)
            finally:
                self._drawing.release()

        thread = threading.Thread(target=run, name="draw", daemon=True)
        thread.start()
        try:
            while True:
                item = news.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, Done):
                    return
        finally:
            stop.set()
            thread.join()
            if self._stops.get(visitor) is stop:
                del self._stops[visitor]

    def stop(self, visitor: str) -> bool:
        """Stop what is being drawn for a visitor, within one step; False if nothing is."""
        if (stop := self._stops.get(visitor)) is None:
            return False
        stop.set()
        return True

    def _place(self, name: str) -> str | Path:
        if name == self.first:
            return self._first_place
        return name if name in BUNDLED_ADAPTERS else self._workspace.path(name)

    def _load(self, name: str, place: str | Path) -> tuple[SkinDualGenPipeline, Facts]:
        from skindualgen.production.generate import threads_that_matter
        from skindualgen.production.sampler import PipelineFactory, device_of

        pipeline = PipelineFactory(adapter=place).load().to(device_of(0))
        made_with = dict(pipeline.config.provenance or {})
        facts = Facts(
            name=name,
            base=made_with.get("base_id", "not recorded"),
            native_px=pipeline.native_px,
            steps=pipeline.config.default_steps,
            guidance=pipeline.config.default_guidance,
            made_with=made_with,
            threads=threads_that_matter(pipeline.device.type),
            coverage=find_coverage(_train_manifest(pipeline), self._workspace),
        )
        return pipeline, facts

    def _load_first(self, unusable: Callable[[InputError], None]) -> None:
        try:
            self.pipeline(self.first)
        except InputError as error:
            unusable(error)
        except Exception:
            _log.exception("the model cannot be loaded")  # the page asks again, and shows why


def _shown_name(adapter: str, workspace: Workspace) -> str:
    """The name of the server's own adapter: relative to the workspace, else its folder's, as paths are not shown."""
    if adapter in BUNDLED_ADAPTERS:
        return adapter
    place = Path(adapter).resolve()
    return workspace.name(place) if place.is_relative_to(workspace.root) else place.name


def _train_manifest(pipeline: SkinDualGenPipeline) -> str | None:
    """Hash of the training records, from an adapter's header; a merged folder has none."""
    from skindualgen.model.adapter import read_header

    try:
        return read_header(Path(pipeline.name_or_path))["recipe"].get("train_manifest_sha256")
    except InputError:
        return None


def _stamp(place: str | Path) -> int:
    """Of the weights, so that a run whose training went on is loaded anew."""
    if place in BUNDLED_ADAPTERS:
        return 0
    from skindualgen.model.adapter import WEIGHTS_FILE, adapter_folder

    weights = adapter_folder(place) / WEIGHTS_FILE
    return weights.stat().st_mtime_ns if weights.is_file() else 0
