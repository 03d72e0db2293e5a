"""How the bundled model is trained: parts that do not leak, batches that say what they show, an exact continuation."""

from __future__ import annotations

import argparse
import copy
import csv
import json
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.run import main as torchrun

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import micro_autoencoder
import micro_data
import micro_moments
import micro_results
import train_micro
from micro_adapter import MergedConv2d, MergedLinear, merge_as_it_trains
from micro_coverage import write_counts
from micro_data import FIRST_SPLIT_FILE, SPLIT_FILE, device_views, load_part, write_pack, write_source
from micro_device import Clock, Processes, replace_folder
from micro_folders import phantom_folders
from micro_latents import (
    CROPPED_SHARE,
    WHOLE_VIEWS,
    Batches,
    cached_latents,
    caption,
    device_latents,
    latent_views,
    token_ids,
)
from micro_model import KEPT, LOWEST, Base
from micro_nets import CROPPED, MOST_RATE, learning_rate, make_tokenizer, orthogonalised, orthogonalised_stack
from micro_perceptual import PictureLoss
from micro_winograd import WinogradConv2d, use_winograd
from processes import launched
from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import manifest_sha256, read_metadata
from skindualgen.data.training_items import read_training_items
from skindualgen.files import BUNDLED_ADAPTERS
from skindualgen.model.adapter import attach_adapter
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import MICRO_BASE, load_base
from skindualgen.model.joint_unet import widen_unet

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


def rows() -> list[dict[str, str]]:
    with SPLIT_FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_published_parts_are_those_that_were_promised() -> None:
    parts = Counter((row["split"], row["mask"]) for row in rows())
    assert parts == {("train", "1"): 1652, ("train", "0"): 749, ("val", "1"): 234, ("test", "1"): 300}
    assert len({row["isic_id"] for row in rows()}) == len(rows())
    with FIRST_SPLIT_FILE.open(newline="") as file:
        first = {row["isic_id"]: row["split"] for row in csv.DictReader(file)}
    assert {row["isic_id"]: row["split"] for row in rows() if row["isic_id"] in first} == first


def test_nothing_that_is_bundled_has_seen_val_or_test() -> None:
    unseen = {row["isic_id"] for row in rows() if row["split"] != "train"}
    for folder in (MICRO_BASE, *BUNDLED_ADAPTERS.values()):
        items = read_training_items(folder)
        assert items is not None
        assert not unseen & {item.isic_id for item in items.items}


@pytest.mark.real_data
def test_lesions_and_patients_of_test_are_in_no_other_part(real_data: Path) -> None:
    """By every id that the archive publishes."""
    more = micro_data.table(real_data.parent / micro_data.SECOND_FOLDER)
    tables = {micro_data.FIRST_FOLDER: micro_data.table(real_data), micro_data.SECOND_FOLDER: more}
    seen: dict[tuple[str, str], set[str]] = {}
    for row in rows():
        about = tables[row["folder"]][row["isic_id"]]
        for name in ("lesion_id", "patient_id"):
            if about.get(name):
                seen.setdefault((name, about[name]), set()).add(row["split"])
    assert seen
    assert not [key for key, splits in seen.items() if "test" in splits and len(splits) > 1]
    assert {row["isic_id"] for row in rows() if row["split"] == "test"} == {
        name for name, row in more.items() if row["split"] == "test"
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, module_patch: pytest.MonkeyPatch) -> Path:
    return phantom_folders(tmp_path_factory.mktemp("data"), module_patch)


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_a_pack_holds_the_same_photographs_and_words(folders: Path, tmp_path: Path) -> None:
    write_pack(folders, tmp_path / "pack.npz")
    for split, count in (("train", 5), ("val", 1)):
        images, records = load_part(tmp_path / "pack.npz", split)
        originals, expected = load_part(folders, split)
        assert records == expected and len(images) == count
        small = torch.nn.functional.interpolate(originals.permute(0, 3, 1, 2).float(), images.shape[1], mode="area")
        assert (small - images.permute(0, 3, 1, 2)).abs().mean() < 6  # JPEG and another filter
    for source in (folders, tmp_path / "pack.npz"):
        out = tmp_path / source.name.replace(".", "_")
        write_source(source, out)
        assert sorted(p.stem for p in (out / "masks").iterdir()) == [f"ISIC_{i:07d}" for i in (0, 1, 3, 4, 5)]
        with (out / "split.csv").open(newline="") as file:
            assert Counter(row["split"] for row in csv.DictReader(file)) == {"train": 5, "val": 1}


def test_captions_without_labels_never_name_one() -> None:
    record = PairRecord(
        file_name="a", isic_id="a", diagnosis="melanoma", benign_malignant="malignant", sex="male", age_approx=50
    )
    rng = np.random.default_rng(0)
    plain = [caption(record, rng, labelled=False) for _ in range(40)]
    assert not [text for text in plain if "melanoma" in text or "malignant" in text]
    assert any("man" in text or "male" in text for text in plain) and len(set(plain)) > 5
    assert all("melanoma" in caption(record, rng, labelled=True) for _ in range(40))


def test_latents_are_kept_for_one_analysis_only(folders: Path, tmp_path: Path) -> None:
    images, _ = load_part(folders, "train")
    torch.manual_seed(0)
    first, second = (
        PatchAutoencoder(latent_channels=channels, decoder_widths=(16,) * 4, decoder_depths=(1, 0, 0, 0))
        for channels in (4, 6)
    )
    for autoencoder in (first, second):
        autoencoder.fit_analysis(images.permute(0, 3, 1, 2).float() / 127.5 - 1)
    made = cached_latents(first, images, tmp_path / "latents.pt")
    stamp = (tmp_path / "latents.pt").stat().st_mtime_ns
    assert torch.equal(cached_latents(first, images, tmp_path / "latents.pt"), made)
    assert (tmp_path / "latents.pt").stat().st_mtime_ns == stamp
    assert cached_latents(second, images, tmp_path / "latents.pt").shape[2] == 6


@pytest.fixture(scope="module")
def autoencoder(folders: Path) -> PatchAutoencoder:
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(latent_channels=16, decoder_widths=(16,) * 4, decoder_depths=(1, 0, 0, 0))
    autoencoder.fit_analysis(load_part(folders, "train")[0].permute(0, 3, 1, 2).float() / 127.5 - 1)
    return autoencoder


@pytest.fixture(scope="module")
def batches(folders: Path, autoencoder: PatchAutoencoder) -> Batches:
    images, records = load_part(folders, "train")
    latents = latent_views(autoencoder, images)
    return Batches(latents, records, make_tokenizer(), labelled=True, balance=0.5, device="cpu")


@pytest.mark.parametrize("on_device", [False, True])
def test_a_cropped_view_is_called_that_and_whole_ones_are_not(batches: Batches, on_device: bool) -> None:
    tokenizer = make_tokenizer()
    latents, ids = batches.draw_on_device(400) if on_device else batches.draw(np.random.default_rng(0), 400)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    word = CROPPED.strip(" ,")
    called = np.array([word in text for text in texts])
    assert called.mean() == pytest.approx(CROPPED_SHARE, abs=0.08)
    whole = batches.latents[:WHOLE_VIEWS].flatten(0, 1).float()
    is_whole = np.array([bool((latent == whole).flatten(1).all(1).any()) for latent in latents])
    assert (is_whole == ~called).all()


def test_muon_turns_gradients_into_nearly_orthogonal_updates() -> None:
    """Against the singular value decomposition: the same singular vectors, singular values near 1."""
    matrix = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    for each in (matrix, matrix.T.contiguous()):
        u, _, v = torch.linalg.svd(each, full_matrices=False)
        found = u.T @ orthogonalised(each) @ v.T
        assert found.diagonal().min() > 0.6 and found.diagonal().max() < 1.3
        assert (found - torch.diag(found.diagonal())).abs().max() < 1e-4


def test_a_gpu_orthogonalises_matrices_of_one_shape_at_once() -> None:
    """In bfloat16, small singular values included: the way for a CPU would send those to infinity there."""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(40, 12, generator=generator))
    values = torch.logspace(0, -4, 12)
    matrices = torch.stack([u @ values.diag() @ v.T, torch.randn(12, 40, generator=generator)])
    for each in (matrices, matrices.mT.contiguous()):
        found = orthogonalised_stack(each)
        assert found.shape == each.shape and found.dtype == each.dtype
        assert torch.linalg.matrix_norm(found, 2).max() < 1.3
        assert torch.linalg.svdvals(found[1]).min() > 0.6
    for one, expected in zip(orthogonalised_stack(matrices), map(orthogonalised, matrices), strict=True):
        assert (one - expected).norm() < 0.15 * expected.norm()


def test_the_learning_rate_follows_the_root_of_the_batch_to_a_limit() -> None:
    assert [learning_rate(batch) for batch in (8, 32, 64)] == pytest.approx([1e-3, 1e-3, 2**0.5 * 1e-3])
    assert learning_rate(4096) == MOST_RATE


def test_views_made_at_once_are_crops_flipped_and_turned() -> None:
    """A picture that holds its own coordinates: neighbours differ by one, along either axis and in either direction."""
    line = torch.arange(40, dtype=torch.uint8)
    picture = torch.stack([line[:, None].expand(40, 40), line.expand(40, 40), torch.zeros(40, 40)], dim=-1)
    torch.manual_seed(0)
    views = device_views(picture[None].to(torch.uint8), 200, 20, np.random.default_rng(0), (0.5, 0.5))
    levels = ((views + 1) * 127.5).round()
    down, along = levels.diff(dim=2)[:, :2], levels.diff(dim=3)[:, :2]
    steps = torch.stack([down[:, :, 0, 0], along[:, :, 0, 0]], dim=1)  # [n, axis, coordinate]
    assert views.shape == (200, 3, 20, 20)
    assert (down == steps[:, 0, :, None, None]).all() and (along == steps[:, 1, :, None, None]).all()
    assert len({tuple(step.flatten().tolist()) for step in steps}) == 8  # the symmetries of a square
    assert (steps.abs().sum(dim=(1, 2)) == 2).all() and levels[:, :2].amin() == 0 and levels[:, :2].amax() == 39
    zoomed = device_views(picture[None].to(torch.uint8), 16, 24, np.random.default_rng(0))
    assert zoomed.shape == (16, 3, 24, 24) and zoomed.min() >= -1 and zoomed.max() <= 1


def test_latents_made_at_once_are_those_made_one_by_one(folders: Path, autoencoder: PatchAutoencoder) -> None:
    images, _ = load_part(folders, "train")
    slow, fast = latent_views(autoencoder, images).float(), device_latents(autoencoder, images, 3).float()
    assert fast.shape == (WHOLE_VIEWS + 3, *slow.shape[1:])
    difference = (slow[:WHOLE_VIEWS] - fast[:WHOLE_VIEWS]).abs().mean()
    assert difference < 0.02 * slow[:WHOLE_VIEWS].abs().mean()  # the slow ones are rounded to grey levels
    near, far = ((fast[WHOLE_VIEWS:] - fast[0].roll(by, 0)).square().mean() for by in (0, 1))
    assert near < far  # each crop stands where its photograph does


@pytest.mark.slow
def test_every_stage_makes_a_step_on_a_gpu_that_is_not_there() -> None:
    """Devices, precisions, and no number that is waited for: with tensors that have shapes but no numbers."""
    script = Path(micro_data.__file__).with_name("micro_check.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    assert [f"step of {name} passes" in done.stdout for name in ("base", "decoder", "adapter")] == [True] * 3


def test_a_stage_gets_its_share_of_the_time_that_is_left(tmp_path: Path) -> None:
    arguments = argparse.Namespace(
        work=tmp_path,
        device="cpu",
        by_the_clock=True,
        minutes=10.0,
        data=tmp_path,
        threads=1,
        stages=["labelled"],
        start=tmp_path / "none",
    )
    chain = train_micro.Chain(arguments)
    shares = train_micro.CLOCK_SHARES
    chain.allot("labelled")
    assert chain.seconds == pytest.approx(600 * shares["labelled"] / (shares["labelled"] + shares["report"]), rel=0.01)
    chain.allot("report")
    assert chain.seconds == pytest.approx(600, rel=0.01)  # nothing was used
    options = chain.options("labelled")
    deadline = float(options[options.index("--deadline") + 1])
    assert deadline == pytest.approx(time.time() + 600 - train_micro.SAVING_SECONDS, abs=5)
    assert Clock(100, time.time() + 30).seconds == pytest.approx(30, abs=1) and Clock(0.5).seconds == 30
    assert chain.base == tmp_path / "labelled" / "out"
    (tmp_path / "unlabelled" / "out").mkdir(parents=True)
    assert chain.base == tmp_path / "unlabelled" / "out"  # as nothing is labelled


def test_what_a_lent_machine_brings_back_is_cut_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"labelled/out/unet/a": 5000, "adapter/adapter/b": 3000, "labelled/out-guide/unet/c": 9000}
    for name, size in sizes.items():
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_bytes(np.random.default_rng(0).bytes(size))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.tar.09").write_text("of an earlier call")
    monkeypatch.setattr(micro_results, "PART_BYTES", 8192)
    for most, left in ((10**6, 3), (14_000, 2)):
        monkeypatch.setattr(micro_results, "MOST_BYTES", most)
        parts = micro_results.collect(tmp_path / "work", tmp_path / "out")
        assert len(parts) > 1 and sorted((tmp_path / "out").glob("result.tar.*")) == parts
        (tmp_path / "whole.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
        with tarfile.open(tmp_path / "whole.tar") as archive:
            assert {member.name: member.size for member in archive} == dict(list(sizes.items())[:left])


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["target", "target/new"]


@pytest.mark.parametrize("shape", [(2, 64, 16, 16), (3, 80, 4, 8), (1, 64, 6, 6)])
def test_convolution_by_tiles_is_convolution(shape: tuple[int, ...]) -> None:
    """Against torch's own: outputs and all gradients; sides that no tiles fit go the ordinary way."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(shape[1], 96, 3, padding=1), torch.nn.Conv2d(96, 3, 3, padding=1))
    tiled = copy.deepcopy(model)
    use_winograd(tiled)
    assert [type(layer) for layer in tiled] == [WinogradConv2d, torch.nn.Conv2d]  # the second is narrow
    results = []
    for net, form in ((model, torch.contiguous_format), (tiled, torch.channels_last)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=form)
        y = net(x.requires_grad_())
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in net.parameters())])
    for ours, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))


def test_tiles_keep_their_precision_under_autocast() -> None:
    """Beside layers in bfloat16, forwards and backwards."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 1), torch.nn.Conv2d(64, 64, 3, padding=1))
    tiled = copy.deepcopy(net)
    use_winograd(tiled)
    x = torch.randn(2, 64, 8, 8).contiguous(memory_format=torch.channels_last)
    y = net(x)
    y.square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        found = tiled(x)
    found.float().square().sum().backward()
    assert found.dtype == torch.float32
    pairs = [(found, y), *((a.grad, b.grad) for a, b in zip(tiled.parameters(), net.parameters(), strict=True))]
    for ours, expected in pairs:
        assert ours is not None and expected is not None
        torch.testing.assert_close(ours, expected, rtol=0, atol=0.02 * float(expected.detach().abs().max()))


def test_layers_that_merge_their_update_learn_as_those_of_peft(tiny_base: Path) -> None:
    base = load_base(tiny_base)
    generator = torch.Generator().manual_seed(0)
    model = attach_adapter(widen_unet(base.unet), rank=4, alpha=8, targets="all")
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    channels, width = model.get_base_model().config.in_channels, model.get_base_model().config.cross_attention_dim
    inputs = torch.randn(2, channels, 8, 8, generator=generator), torch.tensor([5, 600])
    text = torch.randn(2, 7, width, generator=generator)

    def passes() -> list[torch.Tensor]:
        model.zero_grad()
        out = model(*inputs, text, class_labels=torch.tensor([0, 300])).sample
        out.square().mean().backward()
        return [out.detach(), *(parameter.grad.clone() for parameter in learnt)]

    plain = passes()
    merged = merge_as_it_trains(model)
    assert {type(module) for module in merged.modules()} >= {MergedConv2d, MergedLinear}
    for one, other in zip(plain, passes(), strict=True):
        assert (one - other).abs().max() <= 1e-4 * one.abs().max() + 1e-7


def test_processes_share_what_they_learn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two of them, as torchrun starts them: gradients become their mean, and the first makes files before the other."""
    script = tmp_path / "two.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(micro_data.__file__).parent)!r})\n"
        "import torch; from pathlib import Path; from micro_device import Processes\n"
        "both = Processes('cpu'); here = Path(__file__).with_name('made')\n"
        "tensors = [torch.full((2, 3), float(both.rank)), torch.tensor([4.0 * both.rank])]\n"
        "both.mean(tensors)\n"
        "assert tensors[0].eq(0.5).all() and tensors[1].item() == 2 and both.same(both.rank) == 0.5\n"
        "make = lambda: here.read_text() if here.exists() else here.write_text(str(both.rank)) and 'new'\n"
        "here.with_name(f'rank{both.rank}').write_text(both.first_then_all(make))\n"
    )
    done = launched(capfd, lambda: torchrun(["--standalone", "--nproc-per-node", "2", str(script)]))
    assert not done.failed, done.stderr
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["new", "0"]


def test_a_base_learns_and_goes_on_where_it_was(batches: Batches, tmp_path: Path) -> None:
    """Three steps are one, saved and loaded, and two more; the exported folder holds the average.

    The loss of the third is the first to hang on the momentum that was saved.
    """
    drawn = [batches.draw(np.random.default_rng(i), 2) for i in range(3)]

    def steps(base: Base, first: int, last: int) -> list[float]:
        losses = []
        for index in range(first, last):
            torch.manual_seed(index)
            losses.append(base.step(*drawn[index], 1e-3).item())
        return losses

    torch.manual_seed(0)
    whole = Base(16, "cpu", Processes("cpu"))
    start = {name: part.state_dict() for name, part in whole.parts.items()}
    saved = json.loads(json.dumps(sorted(start)))
    torch.save({name: whole.parts[name].state_dict() for name in saved}, tmp_path / "start.pt")
    straight = steps(whole, 0, 3)
    assert all(np.isfinite(straight)) and whole.samples == 6
    halves = Base(16, "cpu", Processes("cpu"))
    for part, state in torch.load(tmp_path / "start.pt", weights_only=True).items():
        halves.parts[part].load_state_dict(state)
    losses = steps(halves, 0, 1)
    torch.save({name: part.state_dict() for name, part in halves.parts.items()}, tmp_path / "half.pt")
    again = Base(16, "cpu", Processes("cpu"))
    for part, state in torch.load(tmp_path / "half.pt", weights_only=True).items():
        again.parts[part].load_state_dict(state)
    again.samples = halves.samples
    assert losses + steps(again, 1, 3) == straight
    autoencoder = PatchAutoencoder(latent_channels=16, decoder_widths=(16,) * 4, decoder_depths=(1, 0, 0, 0))
    again.note(0.5)
    kept = copy.deepcopy(again.averages[KEPT].state_dict())
    steps(again, 0, 1)
    again.note(0.6)  # higher
    again.export(tmp_path / "base", autoencoder, LOWEST, {"stage": "unlabelled"})
    loaded = Base(16, "cpu", Processes("cpu"))
    loaded.load(tmp_path / "base")
    assert loaded.samples == 8
    again.go_back()
    for nets in (loaded.models, again.models):
        for name, value in nets.state_dict().items():
            torch.testing.assert_close(value, kept[name], rtol=1e-3, atol=1e-4)


def test_made_pictures_come_nearer_to_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following the gradient of what they decide lowers the distance of all of them, without a photograph for each."""
    monkeypatch.setattr(micro_moments, "KEPT", 8)
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(8, 3, 8, 8, generator=generator)
    photographs = (torch.nn.functional.interpolate(small, 64) * 255).to(torch.uint8)
    matching = micro_moments.MomentMatching(photographs)
    pictures = (torch.rand(8, 3, 4, 4, generator=generator) * 2 - 1).repeat_interleave(16, 2).repeat_interleave(16, 3)
    pictures.requires_grad_()
    matching(pictures.detach())
    first = matching.distances()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(matching(pictures), pictures)
        with torch.no_grad():
            pictures -= 0.02 * gradient / gradient.abs().amax()
    matching(pictures.detach())
    assert all(now < before for now, before in zip(matching.distances(), first, strict=True))


def test_the_picture_loss_is_of_little_noise_and_reaches_the_unet(autoencoder: PatchAutoencoder) -> None:
    """It is nothing for the true latents, grows with their distance, and moves what the velocity's loss moves."""
    torch.manual_seed(0)
    pictures = PictureLoss(autoencoder, "cpu", weight=2.0, count=3, latest=600)
    assert set(pictures.chosen(torch.tensor([700, 10, 900, 600])).tolist()) == {1, 3}
    assert len(pictures.chosen(torch.arange(0, 500, 50))) == 3
    assert len(pictures.chosen(torch.tensor([601]))) == 0
    true, away = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)
    near, far = (pictures(true + scale * away, true).item() for scale in (0.1, 1.0))
    assert pictures(true, true).item() == 0 and 0 < near < far
    base = Base(16, "cpu", Processes("cpu"))
    latents, ids = torch.randn(4, 16, 8, 8), token_ids(base.tokenizer, ["a nevus"] * 4)
    gradients = []
    for base.pictures in (None, pictures):
        torch.manual_seed(1)
        base.models.zero_grad()
        base.backward(latents, ids)
        gradients.append(base.models["unet"].conv_out.weight.grad.clone())
    assert not torch.equal(*gradients) and len(base.distances) == 1


def test_counts_for_the_studio_are_of_the_train_part(phantom_data: Path, tmp_path: Path) -> None:
    write_counts(phantom_data, tmp_path / "counts.json")
    counts = json.loads((tmp_path / "counts.json").read_text())
    train = read_metadata(phantom_data, "train")
    assert counts["train_manifest_sha256"] == manifest_sha256(train)
    assert sum(row[-1] for row in counts["rows"]) == len(train)
    assert all(len(row) == len(counts["columns"]) + 1 for row in counts["rows"])
    assert 0 < sum(counts["measured_tones"].values()) <= len(train)


def test_the_decoder_learns_from_what_a_base_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_moments, "KEPT", 8)
    monkeypatch.setattr(micro_autoencoder, "WEIGHED_STEPS", range(1, 2))
    torch.manual_seed(0)
    autoencoder = PatchAutoencoder(latent_channels=16, decoder_widths=(16,) * 4, decoder_depths=(1, 0, 0, 0))
    views = torch.rand(4, 3, 64, 64) * 2 - 1
    autoencoder.fit_analysis(views)
    photographs = ((views + 1) * 127.5).to(torch.uint8)
    training = micro_autoencoder.DecoderTraining(autoencoder, "cpu", photographs, made=True)
    made = torch.randn(4, 16, 8, 8)
    terms = [training.learn(views, made, 1e-3) for _ in range(3)]
    assert terms[0]["moments"] == 0 and terms[2]["moments"] != 0  # there was nothing to compare with at first
    assert len(training.ratios) == 1 and training.ratios[0] > 0
    assert torch.isfinite(torch.stack([value for each in terms for value in each.values()])).all()
