"""Damage: bytes that are flipped, cut, put in or zeroed, and values of another kind in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ONE = 65535
"""Places in a file are whole shares of this, so that one case fits files of any length."""

Wound = tuple[str, int, int]
"""What is done, where, and with how much or with which value."""


def wounds(most: int = 4) -> SearchStrategy[list[Wound]]:
    """Draw one to ``most`` of them; the beginning of a file, where its sizes stand, is hit as often as the rest."""
    place = st.one_of(st.integers(0, ONE), st.integers(0, ONE // 50))
    kinds = st.sampled_from(("flip", "set", "cut", "remove", "insert", "zero", "repeat"))
    return st.lists(st.tuples(kinds, place, st.integers(0, 255)), min_size=1, max_size=most)


def wounded(data: bytes, done: Sequence[Sequence[Any]]) -> bytes:
    """Return ``data`` after all of ``done``."""
    content = bytearray(data)
    for kind, place, value in done:
        at = place * max(0, len(content) - 1) // ONE
        if kind == "flip" and content:
            content[at] ^= 1 << (value % 8)
        elif kind == "set" and content:
            content[at] = value
        elif kind == "cut":
            del content[at:]
        elif kind == "remove":
            del content[at : at + 1 + value % 16]
        elif kind == "insert":
            content[at:at] = bytes([value]) * (1 + value % 16)
        elif kind == "zero":
            content[at : at + 16] = bytes(len(content[at : at + 16]))
        elif kind == "repeat":
            content[at:at] = content[at : at + 64]
    return bytes(content)


OTHER_KIND: tuple[Any, ...] = (math.nan, math.inf, -math.inf, 1e300, None, "", "x", [], {}, True)
"""What does not belong in the place of a number of an annotation."""


def replaced(document: Any, which: int, value: Any) -> Any:
    """Return a copy of a JSON document in which the number or text that ``which`` counts to is another value.

    A text becomes no other text, which would be another name and right in its place.
    """
    copy = json.loads(json.dumps(document))
    leaves = list(_leaves(copy))
    if leaves:
        parent, key = leaves[which % len(leaves)]
        parent[key] = None if isinstance(parent[key], str) and isinstance(value, str) else value
    return copy


def _leaves(node: Any) -> Iterator[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        if isinstance(value, dict | list):
            yield from _leaves(value)
        else:
            yield node, key
