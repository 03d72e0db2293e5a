"""Who may open the page: names and passwords, from a file or the environment, never from the command line."""

from __future__ import annotations

import os
from pathlib import Path

from skindualgen.contracts import InputError

AUTH_VARIABLE = "SKINDUALGEN_UI_AUTH"
LEAST_CHARACTERS = 8
"""Of a password."""

Users = tuple[tuple[str, str], ...]


def read_users(path: Path | None) -> Users:
    """Read ``user:password`` lines of a file, or the one of the environment's ``SKINDUALGEN_UI_AUTH``.

    A command line can be read by every user of the machine, so passwords are not given there.

    Raises:
        InputError: unreadable, a line without name or password, a name twice, or a password that is too short.
    """
    source = AUTH_VARIABLE if path is None else str(path)
    try:
        text = os.environ.get(AUTH_VARIABLE, "") if path is None else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--auth-file {path} ({error})", "a readable text file", "check the path") from error
    users = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        user, colon, password = line.strip().partition(":")
        if not (user and colon and len(password) >= LEAST_CHARACTERS):
            expected = f"user:password, the password of {LEAST_CHARACTERS} characters or more"
            raise InputError(f"line {number} of {source}", expected, "fix the line")
        users.append((user, password))
    if path is not None and not users:
        raise InputError(f"--auth-file {path} without a line", "user:password", "write one")
    if len({user for user, _ in users}) < len(users):
        raise InputError(f"{source} with one user twice", "each user once", "remove one line")
    return tuple(users)
