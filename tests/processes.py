"""Child processes of tests."""

from __future__ import annotations

import signal


def interruptible() -> None:
    """As ``preexec_fn``: let Ctrl-C reach a child even when a shell has started the tests in the background.

    Shells make background jobs ignore SIGINT, children inherit that, and Python then installs no handler.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
