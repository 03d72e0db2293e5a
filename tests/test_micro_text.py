"""The micro base reads what photographs look like: captions of views, words learnt first, an older vocabulary."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import micro_text
from caption_corpus import caption_corpus
from micro_data import load_part, write_pack
from micro_device import Processes
from micro_folders import phantom_folders
from micro_latents import CROPPED_VIEWS, WHOLE_VIEWS, Batches, described, latent_views
from micro_looks import guessed_mask, load_masks, view_appearances
from micro_model import KEPT, Base
from micro_nets import CROPPED, make_tokenizer, train_vocabulary
from micro_samples import Measure
from micro_text import coarse, learn_to_read
from skindualgen.data.appearance import COLOUR_WORDS, WORDS, Appearance
from skindualgen.model.autoencoder import PatchAutoencoder

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        yield phantom_folders(tmp_path_factory.mktemp("data"), patch)


@pytest.fixture(scope="module")
def looks(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[Appearance]]:
    images, _ = load_part(folders, "train")
    cache = tmp_path_factory.mktemp("looks") / "appearances.json"
    found = view_appearances(images, load_masks(folders, images, "train"), cache)
    assert view_appearances(images, torch.empty(0), cache) == found  # read again
    return found


@pytest.fixture(scope="module")
def batches(folders: Path, looks: list[list[Appearance]]) -> Batches:
    images, records = load_part(folders, "train")
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(latent_channels=16, decoder_widths=(16,) * 4, decoder_depths=(1, 0, 0, 0))
    autoencoder.fit_analysis(images.permute(0, 3, 1, 2).float() / 127.5 - 1)
    latents = latent_views(autoencoder, images)
    return Batches(latents, records, make_tokenizer(), labelled=True, balance=0.5, device="cpu", appearances=looks)


def test_masks_are_guessed_where_there_are_none(folders: Path, tmp_path: Path) -> None:
    images, _ = load_part(folders, "train")
    masks = load_masks(folders, images, "train")
    assert masks.shape == images.shape[:3] and set(masks.unique().tolist()) == {0, 255}
    shares = []
    for image, mask in zip(images, masks, strict=True):
        guess, real = guessed_mask(image.numpy()), mask.numpy() > 0
        shares.append(2 * (guess & real).sum() / (guess.sum() + real.sum()))
    assert np.mean(shares) > 0.75
    write_pack(folders, tmp_path / "pack.npz")
    packed, _ = load_part(tmp_path / "pack.npz", "train")
    small = load_masks(tmp_path / "pack.npz", packed, "train")
    assert [round((m > 0).float().mean().item(), 1) for m in small] == [
        round((m > 0).float().mean().item(), 1) for m in masks
    ]


def test_views_are_described_each_for_itself(looks: list[list[Appearance]]) -> None:
    assert len(looks) == WHOLE_VIEWS + CROPPED_VIEWS and {len(view) for view in looks} == {5}
    for place in range(5):
        turned = {view[place]._replace(place="") for view in looks[:WHOLE_VIEWS]}
        assert len(turned) == 1  # a turn changes nothing but where the lesion lies
    opposite = {"upper": "lower", "lower": "upper", "left": "right", "right": "left"}
    for first, half_turned in zip(looks[0], looks[2], strict=True):
        assert half_turned.place == " ".join(opposite[word] for word in first.place.split())


@pytest.mark.parametrize("on_device", [False, True])
def test_captions_say_what_the_view_looks_like(
    batches: Batches, looks: list[list[Appearance]], on_device: bool
) -> None:
    torch.manual_seed(0)
    latents, ids = batches.draw_on_device(300) if on_device else batches.draw(np.random.default_rng(0), 300)
    texts = make_tokenizer().batch_decode(ids, skip_special_tokens=True)
    every = batches.latents.float()
    whole = 0
    for latent, text in zip(latents, texts, strict=True):
        view, place = (every == latent).flatten(2).all(2).nonzero()[0].tolist()
        assert (CROPPED.strip(" ,") in text) == (view >= WHOLE_VIEWS)
        tone = looks[view][place].lesion_colour.split()[0]
        whole += f"{tone} " in text and looks[view][place].size in text
    assert 0.4 < whole / 300 < 0.95


def test_some_captions_say_all_some_a_part_and_some_nothing() -> None:
    look = Appearance("small", "oval", "", "dark brown", "lit tan", "crisp border", "uniform", "", "", "hair", "", "")
    rng = np.random.default_rng(0)
    texts = [described("a nevus", look, rng) for _ in range(200)]
    assert {described("a nevus", look, rng, full=True) for _ in range(5)} == {f"a nevus, {look.phrase()}"}
    assert 70 < texts.count(f"a nevus, {look.phrase()}") < 140
    assert 10 < texts.count("a nevus") < 60
    assert len(set(texts)) > 20


@pytest.mark.slow
def test_the_text_encoder_learns_to_read_before_the_rest(
    batches: Batches, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BATCH", 8), ("WARMUP_STEPS", 5)):
        monkeypatch.setattr(micro_text, name, value)
    torch.manual_seed(0)
    base = Base(16, "cpu", Processes("cpu"))
    base.load(Path(micro_text.__file__).parents[1] / "checkpoints" / "micro2" / "labelled")
    before = {name: value.clone() for name, value in base.models.state_dict().items()}
    latents, ids = batches.draw(np.random.default_rng(1), 64)
    learn_to_read(base.models, batches, 240, (latents, ids))
    explained = float(capsys.readouterr().out.split("steps, ")[-1].split(" of")[0])
    assert explained > 0.1
    changed = {name for name, value in base.models.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("text_encoder.") for name in changed)
    assert {name for name in changed if name.startswith("unet.")} == {
        name for name in before if name.startswith("unet.add_embedding.")
    }
    assert coarse(latents).shape == (64, 16 * 16)


def test_a_base_of_an_older_vocabulary_and_without_the_text_layer_goes_on(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import micro_model
    import micro_nets

    with monkeypatch.context() as older:
        older.setattr(
            micro_model,
            "make_tokenizer",
            lambda: micro_nets.CLIPTokenizer().train_new_from_iterator(
                ["a melanoma on the upper extremity"] * 3, vocab_size=600
            ),
        )
        older.setattr(micro_nets, "UNET_CONFIG", {**micro_nets.UNET_CONFIG, "addition_embed_type": None})
        torch.manual_seed(1)
        first = Base(16, "cpu", Processes("cpu"))
    autoencoder = PatchAutoencoder(latent_channels=16, decoder_widths=(16,) * 4, decoder_depths=(1, 0, 0, 0))
    first.samples = 7
    first.export(tmp_path / "base", autoencoder, KEPT, {"stage": "labelled"})
    assert json.loads((tmp_path / "base" / "training.json").read_text())["samples"] == 7
    torch.manual_seed(2)
    second = Base(16, "cpu", Processes("cpu"))
    second.load(tmp_path / "base")
    old, new = (nets.models["text_encoder"].get_input_embeddings().weight for nets in (first, second))
    word = "melanoma</w>"
    places = first.tokenizer.get_vocab()[word], second.tokenizer.get_vocab()[word]
    assert (old[places[0]] - new[places[1]]).abs().max() < 1e-3  # by way of half precision
    assert len(second.tokenizer) > len(first.tokenizer)
    assert second.models["unet"].add_embedding is not None
    for nets in (second.models, second.averages[KEPT], second.lowest):
        weight = nets["unet"].state_dict()["conv_in.weight"]
        assert (weight - first.models["unet"].conv_in.weight).abs().max() < 1e-3


def test_the_vocabulary_is_kept_and_knows_every_word_of_the_captions() -> None:
    """One that is trained anew comes out differently in each process, so a base that goes on would read other words."""
    words = {word for caption in caption_corpus() for word in caption.replace(",", " ").replace("/", " ").split()}
    tokenizer = make_tokenizer()
    spelled = [word for word in words if len(tokenizer.tokenize(word)) > 1 and word.isalpha()]
    assert len(spelled) < 0.4 * len(words), spelled
    for word in ", ".join((*WORDS, *COLOUR_WORDS)).replace("-", " ").replace(",", " ").split():
        assert len(tokenizer.tokenize(word)) == 1, word
    trained = train_vocabulary()
    assert set(trained) == {"vocab", "merges"} and abs(len(trained["vocab"]) - len(tokenizer)) < 20


def test_samples_are_measured_with_looks_of_the_same_diagnosis(folders: Path) -> None:
    images, records = load_part(folders, "val")
    look = Appearance("huge", "round", *[""] * 10)
    other = look._replace(size="tiny")
    measure = Measure(images, records, make_tokenizer(), labelled=True, looks={"nevus": [look], "melanoma": [other]})
    texts = make_tokenizer().batch_decode(measure.ids, skip_special_tokens=True)
    assert all("huge round" in text for text in texts)
    assert isinstance(Image.fromarray(measure.pictures[0]), Image.Image)
