"""Weights and a header as one safetensors file, the same bytes for the same content."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

LENGTH = struct.Struct("<Q")
"""of the index, in bytes: what a safetensors file begins with"""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], further: Mapping[str, str] | None = None
) -> None:
    """Write tensors with ``header`` as JSON under "skindualgen", and further metadata for other programs."""
    ours = {"format": "pt", "skindualgen": json.dumps(header, sort_keys=True)}
    save_file(dict(tensors), path, metadata={**(further or {}), **ours})
    _sort_metadata(path)


def read_header_of(path: Path) -> dict[str, Any] | None:
    """The header of a file of tensors; None where another program wrote it."""
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get("skindualgen")
    return None if header is None else json.loads(header)


def _sort_metadata(path: Path) -> None:
    """Order the metadata by name, in place: the library's order changes from file to file, and with it the hash."""
    with path.open("r+b") as file:
        (length,) = LENGTH.unpack(file.read(LENGTH.size))
        index = json.loads(file.read(length))
        index["__metadata__"] = dict(sorted(index["__metadata__"].items()))
        file.seek(LENGTH.size)
        file.write(json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode().ljust(length))
