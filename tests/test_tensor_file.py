"""One file for one content: its hash is what adapters are known by."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from skindualgen.files import sha256_file
from skindualgen.model.tensor_file import save_tensors


def test_equal_contents_are_equal_files(tmp_path: Path) -> None:
    """Guards against the library's order of metadata, which is another in every file."""
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.half)}
    header, further = {"licence": "CC0", "name": 'Gr\u00fc\u00dfe "\u03bc"\n'}, {"z": "1", "ss_args": "2", "q": "\x7f"}
    files = [tmp_path / f"{number}.safetensors" for number in range(24)]
    for file in files:
        save_tensors(file, tensors, header, further)
    assert len({sha256_file(file) for file in files}) == 1
    loaded = load_file(files[0])
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    with safe_open(files[0], framework="pt") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "skindualgen", *further}
    assert metadata["q"] == further["q"] and "Gr\\u00fc" in metadata["skindualgen"]
