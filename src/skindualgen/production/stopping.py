"""When production ends before its last pair: told to by a signal, with all that was finished in place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


class ProductionStopped(KeyboardInterrupt):
    """Production was told to stop by SIGINT or SIGTERM; the folder holds what was finished, and can be gone on with.

    Args:
        pairs: that are in the folder.
        asked: pairs that were asked for.
    """

    def __init__(self, pairs: int, asked: int) -> None:
        self.pairs, self.asked = pairs, asked
        super().__init__(f"stopped with {pairs} of {asked} pairs")


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a KeyboardInterrupt of the main thread; a second one is not caught.

    Nothing is asked of the code that is interrupted: what it leaves unfinished is drawn again.
    """
    before: dict[int, Any] = {}

    def stop(number: int, _frame: object) -> NoReturn:
        signal.signal(number, before[number])
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:  # as a shell has it for its background jobs
                continue
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
