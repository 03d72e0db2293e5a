"""The cache holds what the base would encode, is never stale or damaged, and batches are drawn as the settings say."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from processes import full_disk
from skindualgen.codec import DEFAULT_CODEC, SignedDistanceCodec
from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.pairs import draw_view, load_pair, read_pairs
from skindualgen.data.prompts import prompt_for
from skindualgen.model.bases import load_base
from skindualgen.training import cache as module
from skindualgen.training.batches import Batches, draw_probabilities
from skindualgen.training.cache import EncodeOptions, PairCache, cache_key, open_cache
from skindualgen.training.objective import Noise
from tiny import TWO_CLASSES, tiny_config, write_phantom_data

OPTIONS = EncodeOptions(size=64, views=3, min_zoom=0.8, prompt_variants=2, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def cache(root: Path, phantom_data: Path, tiny_base: Path) -> PairCache:
    return open_cache(root, phantom_data, read_pairs(phantom_data, "train"), load_base(tiny_base), OPTIONS)


def values(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).float()


@torch.no_grad()
def test_the_cache_holds_what_the_base_encodes(cache: PairCache, phantom_data: Path, tiny_base: Path) -> None:
    base = load_base(tiny_base)
    assert cache.latents.shape == cache.codes.shape == (12, 3, 4, 8, 8)
    for index, view in ((0, 0), (7, 2)):
        chosen = draw_view(index, view, seed=5, min_zoom=0.8)
        image, mask = load_pair(phantom_data, cache.records[index], 64, chosen)
        expected = base.vae.encode(image[None]).latent_dist.mode()[0] * 0.18215
        torch.testing.assert_close(values(cache.latents[index, view]), expected, rtol=2e-3, atol=1e-3)
        assert mask is not None
        torch.testing.assert_close(
            values(cache.codes[index, view]), DEFAULT_CODEC.encode(mask[None])[0], rtol=2e-3, atol=1e-3
        )
    expected = base.embed(["", prompt_for(cache.records[0])])
    torch.testing.assert_close(values(cache.text[[0, cache.prompt_places[0][0]]]), expected, rtol=2e-3, atol=2e-3)


def test_views_differ_and_prompts_vary(cache: PairCache) -> None:
    assert not np.array_equal(cache.latents[0, 0], cache.latents[0, 1])
    record = cache.records[0]
    assert [cache.prompts[i] for i in cache.prompt_places[0]] == [prompt_for(record), prompt_for(record, seed=1)]
    assert cache.prompts[0] == "" and len(set(cache.prompts)) == len(cache.prompts)
    assert len(cache) == 12


def test_progress_counts_pairs_and_batches_do_not_matter(
    cache: PairCache, tmp_path: Path, phantom_data: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENCODE_PX", 7 * 64**2)
    counts: list[tuple[int, int]] = []
    note = lambda done, total: counts.append((done, total))  # noqa: E731
    other = open_cache(tmp_path, phantom_data, cache.records, load_base(tiny_base), OPTIONS, report=note)
    assert counts == [(2, 12), (4, 12), (7, 12), (9, 12), (11, 12), (12, 12)]
    torch.testing.assert_close(values(other.latents), values(cache.latents), rtol=2e-3, atol=1e-3)
    assert np.array_equal(other.codes, cache.codes)


def test_image_mask_and_cache_stay_aligned(tmp_path: Path) -> None:
    """An L in one corner, dark on light: in every cached view the darker latents lie where the code says lesion.

    A flip, a turn or a crop of one half alone would move them apart; the L has none of the square's symmetries.
    """
    mask = np.zeros((96, 96), np.uint8)
    mask[8:72, 8:32] = mask[48:72, 8:60] = 255
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.where(mask[..., None] > 0, 40, 220).astype(np.uint8).repeat(3, 2)).save(
        tmp_path / "images/l.png"
    )
    Image.fromarray(mask).save(tmp_path / "masks/l.png")
    record = PairRecord(file_name="images/l.png", mask_file_name="masks/l.png", isic_id="l", diagnosis="nevus")
    write_dataset(tmp_path, [record], made_by={})
    base = load_base("micro")  # its autoencoder can be looked through
    options = EncodeOptions(size=64, views=24, min_zoom=0.6, seed=1)
    cache = open_cache(tmp_path / "c", tmp_path, [record], base, options)
    lesion = (DEFAULT_CODEC.decode(values(cache.codes[0])) > 0).float()  # [24, 1, 64, 64]
    with torch.no_grad():
        pictures = base.vae.decode(values(cache.latents[0]) / base.vae.config.scaling_factor).sample.mean(1, True)
    dark = (pictures < 0).float()
    dice = 2 * (dark * lesion).sum((1, 2, 3)) / (dark + lesion).sum((1, 2, 3))
    assert dice.min() > 0.8
    apart = 2 * (dark.flip(-1) * lesion).sum((1, 2, 3)) / (dark + lesion).sum((1, 2, 3))
    assert apart.max() < 0.75  # so the measure tells a flipped half from an aligned one
    assert len({picture.numpy().tobytes() for picture in lesion}) == 24


def test_pairs_without_mask(tmp_path: Path, tiny_base: Path) -> None:
    data = write_phantom_data(tmp_path / "data", train=2, val=1, masks=False)
    cache = open_cache(tmp_path / "c", data, read_pairs(data, "train"), load_base(tiny_base), OPTIONS)
    assert not cache.has_mask.any()
    assert np.abs(cache.codes).max() == 0


def test_the_key_says_of_one_class_what_it_always_did() -> None:
    """Guards against a new setting that makes everybody encode anew."""
    described = EncodeOptions(64, seed=2).described()
    options = {"size": 64, "views": 1, "min_zoom": 1.0, "colour": 0.0, "prompt_variants": 1, "seed": 2}
    assert described == {"options": options, "codec": "SignedDistanceCodec(channels=4, mean=-0.485, std=0.747)"}


def test_everything_that_changes_the_content_changes_the_key(
    phantom_data: Path, tiny_base: Path, tiny_v_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_pairs(phantom_data, "train")[:3]
    base = load_base(tiny_base)
    data = tmp_path / "data"
    for record in records:
        for name in (record.file_name, record.mask_file_name):
            (data / str(name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(phantom_data / str(name), data / str(name))
    key = cache_key(data, records, base, OPTIONS)
    assert key == cache_key(phantom_data, records, base, OPTIONS)  # wherever the folder lies
    keys = {key}
    changes: dict[str, Any] = {"size": 128, "views": 4, "min_zoom": 0.7, "colour": 0.1, "prompt_variants": 3, "seed": 6}
    changes |= {"codec": SignedDistanceCodec(mean=-0.4), "classes": TWO_CLASSES, "appearance_prompts": 0.5}
    assert set(changes) == {field.name for field in fields(EncodeOptions)}
    keys |= {cache_key(data, records, base, replace(OPTIONS, **{k: v})) for k, v in changes.items()}
    keys.add(cache_key(data, records, load_base(tiny_v_base), OPTIONS))
    keys.add(cache_key(data, records[:2], base, OPTIONS))
    keys.add(cache_key(data, records[::-1], base, OPTIONS))
    keys.add(cache_key(data, [records[0].model_copy(update={"prompt": "x"}), *records[1:]], base, OPTIONS))
    keys.add(cache_key(data, [records[0].model_copy(update={"mask_file_name": None}), *records[1:]], base, OPTIONS))
    for name in (records[1].file_name, str(records[1].mask_file_name)):
        before = (data / name).read_bytes()
        (data / name).write_bytes(before + b"\0")
        keys.add(cache_key(data, records, base, OPTIONS))
        (data / name).write_bytes(before)
    monkeypatch.setattr(module, "FORMAT", 99)
    keys.add(cache_key(data, records, base, OPTIONS))
    assert len(keys) == 1 + len(changes) + 5 + 2 + 1


@pytest.mark.parametrize("damage", ["truncated", "one bit", "index", "no index", "file missing"])
def test_a_damaged_cache_is_made_anew(
    cache: PairCache, tmp_path: Path, phantom_data: Path, tiny_base: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(cache.folder, tmp_path / cache.folder.name)
    victim = folder / "latents.npy"
    content = bytearray(victim.read_bytes())
    if damage == "truncated":
        victim.write_bytes(content[:-7])
    elif damage == "one bit":
        content[-9] ^= 4
        victim.write_bytes(content)
    elif damage == "index":
        (folder / module.INDEX_FILE).write_text("{}")
    elif damage == "no index":
        (folder / module.INDEX_FILE).unlink()
    else:
        victim.unlink()
    again = open_cache(tmp_path, phantom_data, cache.records, load_base(tiny_base), OPTIONS)
    assert "is damaged and is made anew" in caplog.text
    assert np.array_equal(again.latents, cache.latents)


def test_an_intact_cache_is_not_encoded_again(
    cache: PairCache, root: Path, phantom_data: Path, tiny_base: Path
) -> None:
    report = lambda *_: pytest.fail("encoded again")  # noqa: E731
    again = open_cache(root, phantom_data, cache.records, load_base(tiny_base), OPTIONS, report=report)
    assert np.array_equal(again.latents, cache.latents)
    assert [path.name for path in root.iterdir()] == [cache.folder.name]


def test_a_failure_leaves_no_half_cache(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_pairs(phantom_data, "train")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(tmp_path, phantom_data, records, load_base(tiny_base), OPTIONS, report=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="limits what the process may write")
def test_a_full_disk_is_said(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """Room is taken before anything is encoded."""
    base, records = load_base(tiny_base), read_pairs(phantom_data, "train")
    with full_disk(20_000), pytest.raises(InputError, match=r"full disk.*GB for the encoded pairs"):
        open_cache(tmp_path / "c", phantom_data, records, base, EncodeOptions(size=64, views=64))
    assert not list((tmp_path / "c").iterdir())


def test_a_worker_process_gets_paths_and_not_arrays(cache: PairCache) -> None:
    """Guards against a memory map that is pickled as its whole content."""
    cache.latents[0], cache.codes[0], cache.text[0]
    sent = pickle.dumps(cache)
    assert len(sent) < cache.latents.nbytes / 2
    assert np.array_equal(pickle.loads(sent).latents, cache.latents)


def records_of(**counts: int) -> list[PairRecord]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return [
        PairRecord(file_name=f"images/{i}.png", isic_id=str(i), diagnosis=None if name == "unknown" else name)
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("balance", "expected"),
    # Shares of the classes a (4 pairs), b (1) and unknown (1): counts to the power 1 - balance, normalised.
    [(0.0, [4 / 6, 1 / 6, 1 / 6]), (0.5, [0.5, 0.25, 0.25]), (1.0, [1 / 3, 1 / 3, 1 / 3])],
)
def test_balance_by_hand(balance: float, expected: list[float]) -> None:
    probabilities = draw_probabilities(records_of(a=4, b=1, unknown=1), balance)
    shares = [probabilities[:4].sum().item(), probabilities[4].item(), probabilities[5].item()]
    assert shares == pytest.approx(expected)


def config_of(**settings: object) -> TrainConfig:
    return tiny_config(
        Path("d"), Path("o"), Path("b"), **{"train_batch_size": 6, "gradient_accumulation_steps": 2} | settings
    )


def test_a_batch_is_what_the_cache_holds(cache: PairCache) -> None:
    batches = Batches(cache, config_of(caption_dropout=0.5), 1000)
    batch, again = batches[3], batches[3]
    assert torch.equal(batch.latents, again.latents) and torch.equal(batch.noise.image, again.noise.image)
    assert not torch.equal(batch.latents, batches[2].latents)
    assert len(batches) == 8  # four steps of two parts
    place = {record.isic_id: i for i, record in enumerate(cache.records)}
    for i, name in enumerate(batch.ids):
        views = values(cache.latents[place[name]])
        view = next(v for v in range(3) if torch.equal(views[v], batch.latents[i]))
        assert torch.equal(batch.codes[i], values(cache.codes[place[name], view]))
        assert batch.prompts[i] in ["", *(cache.prompts[p] for p in cache.prompt_places[place[name]])]
        assert torch.equal(batch.text[i], values(cache.text[cache.prompts.index(batch.prompts[i])]))
    assert batch.latents.dtype == batch.codes.dtype == batch.text.dtype == torch.float32


def test_two_processes_share_what_one_would_draw(cache: PairCache) -> None:
    whole = Batches(cache, config_of(train_batch_size=6), 1000)[5]
    halves = [Batches(cache, config_of(train_batch_size=3), 1000, process, 2)[5] for process in (0, 1)]
    for name in ("latents", "codes", "has_mask", "text"):
        assert torch.equal(torch.cat([getattr(half, name) for half in halves]), getattr(whole, name))
    for field in fields(Noise):
        parts = [getattr(half.noise, field.name) for half in halves]
        assert torch.equal(torch.cat(parts), getattr(whole.noise, field.name))
    assert halves[0].ids + halves[1].ids == whole.ids


def test_a_loader_goes_on_where_it_is_told(cache: PairCache) -> None:
    """With worker processes, which PyTorch forks, ``test_kill_and_interrupt_and_resume`` sees the same."""
    batches = Batches(cache, config_of(), 1000)
    fetched = list(batches.loader(first_step=2))
    assert len(fetched) == 4
    for offset, batch in enumerate(fetched):
        assert torch.equal(batch.latents, batches[4 + offset].latents)
        assert torch.equal(batch.noise.mask, batches[4 + offset].noise.mask)


@pytest.mark.parametrize(("dropout", "low", "high"), [(0.0, 0, 0), (1.0, 400, 400), (0.25, 70, 130)])
def test_captions_are_dropped(cache: PairCache, dropout: float, low: int, high: int) -> None:
    batch = Batches(cache, config_of(train_batch_size=400, caption_dropout=dropout), 1000)[0]
    assert low <= Counter(batch.prompts)[""] <= high


def test_rare_classes_are_drawn_as_asked(cache: PairCache, phantom_data: Path) -> None:
    kinds = {record.isic_id: record.diagnosis for record in read_metadata(phantom_data, "train")}
    batch = Batches(cache, config_of(train_batch_size=3000, balance=1.0), 1000)[0]
    counts = Counter(kinds[name] for name in batch.ids)
    for count in counts.values():
        assert count == pytest.approx(3000 / len(set(kinds.values())), rel=0.12)


def test_settings_of_another_cache_are_another_folder(
    cache: PairCache, root: Path, phantom_data: Path, tiny_base: Path
) -> None:
    other = open_cache(root, phantom_data, cache.records[:2], load_base(tiny_base), replace(OPTIONS, views=1))
    assert other.folder != cache.folder
    assert json.loads((other.folder / module.INDEX_FILE).read_text())["key"].startswith(other.folder.name)
    shutil.rmtree(other.folder)
