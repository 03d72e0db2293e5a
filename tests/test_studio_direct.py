"""The studio's "Direct": the canvas, mask to image, image to mask, edits, photographs that are kept."""

from __future__ import annotations

import base64
import io
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from typer.testing import CliRunner

pytest.importorskip("quick_gradio")

from skindualgen.cli import app
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_dataset_info, read_metadata
from skindualgen.data.phantom import draw_phantom
from skindualgen.metrics.masks import dice
from skindualgen.sample.blending import BlendedLatents
from skindualgen.sample.segmentation import segment_folder
from skindualgen.studio import cards
from skindualgen.studio.collect import add_photograph
from skindualgen.studio.commands import generate_command, python_call
from skindualgen.studio.generation import Generated, generate, predict_mask
from skindualgen.studio.painter import CANVAS_PX, PHOTO_PX, blank, check_settled, edited, over, painted, read_masks
from skindualgen.studio.real_pairs import anchoring_of, own_pair
from skindualgen.studio.requests import GenerationRequest, Given, Keep, checked_keep, checked_strengths
from skindualgen.studio.state import Studio, open_studio
from skindualgen.studio.tabs.direct_edit import KINDS
from skindualgen.studio.tabs.direct_mask import Reading, final_mask
from skindualgen.studio.uploads import Limits
from skindualgen.studio.watched import Done, WatchedPipeline
from skindualgen.studio.workspace import Workspace

REQUEST = GenerationRequest(["a nevus"], count=2, seed=0, steps=2, guidance=1.0)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path) -> Iterator[Studio]:
    """A studio on the tiny adapter."""
    with open_studio(tmp_path_factory.mktemp("studio") / "work", adapter=str(tiny_adapter)) as opened:
        yield opened


@pytest.fixture(scope="module")
def pair() -> tuple[Image.Image, Image.Image]:
    """A phantom: photograph and exact mask."""
    phantom = draw_phantom(3, diagnosis="nevus", size=64)
    return Image.fromarray(phantom.image), Image.fromarray(phantom.mask)


def disc(width: int = 64, height: int = 64) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2
    return Image.fromarray(inside.astype(np.uint8) * 255)


def result(studio: Studio, work: Any) -> Any:
    last = list(studio.model.draw(studio.model.first, "visitor", work))[-1]
    assert isinstance(last, Done)
    return last.result


def around(studio: Studio, given: Given) -> Generated:
    folder = studio.new_drawn_folder()
    return result(studio, lambda pipeline: generate(pipeline, replace(REQUEST, given=given), folder))


def masks_of(drawn: Generated) -> list[np.ndarray]:
    masks = []
    for index in range(len(drawn.records)):
        with Image.open(drawn.mask(index)) as mask:
            masks.append(np.asarray(mask) > 127)
    return masks


def png_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# The canvas


def test_canvas_keeps_a_mask_to_the_pixel() -> None:
    value = blank(disc(40, 56))
    assert (value["width"], value["height"], edited(value)) == (40, 56, False)
    assert painted(value, Limits()).tobytes() == disc(40, 56).tobytes()


def test_canvas_over_a_photograph_is_of_its_reduced_size() -> None:
    value = over(Image.new("RGB", (2000, 1000)), disc(2000, 1000))
    assert (value["width"], value["height"]) == (PHOTO_PX, PHOTO_PX // 2)
    mask = painted(value, Limits())
    assert mask.size == (PHOTO_PX, PHOTO_PX // 2)
    assert dice(np.asarray(mask), np.asarray(disc(*mask.size))) > 0.99


def test_an_empty_or_full_canvas_is_told() -> None:
    assert blank()["width"] == CANVAS_PX
    with pytest.raises(InputError, match="an empty canvas"):
        painted(blank(), Limits())
    with pytest.raises(InputError, match="without a lesion"):
        painted({"mask": png_uri(Image.new("RGBA", (8, 8)))}, Limits())
    with pytest.raises(InputError, match="all lesion"):
        painted({"mask": png_uri(Image.new("RGBA", (8, 8), "white"))}, Limits())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {"mask": 3},
        {"mask": "data:image/svg+xml;base64,AAAA"},
        {"mask": "data:image/png;base64,AAAA"},
        {"mask": "data:image/png;base64,%%%"},
        {"mask": png_uri(disc())[:200]},
        {"mask": "data:image/png;base64," + "A" * 400},
    ],
)
def test_what_is_no_canvas_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="canvas"):
        painted(value, Limits())


def test_a_canvas_beyond_the_limits_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        painted({"mask": png_uri(disc())}, Limits(upload_pixels=64 * 64 - 1))
    with pytest.raises(InputError, match="cannot be read"):
        painted({"mask": png_uri(disc())}, Limits(upload_bytes=100))


# The model's other directions


def test_mask_to_image_keeps_the_mask(studio: Studio) -> None:
    drawn = around(studio, Given(disc()))
    for mask in masks_of(drawn):
        assert dice(mask, np.asarray(disc()) > 127) > 0.95
    assert drawn.records[0].diagnosis == "nevus" and drawn.records[0].sha256 != drawn.records[1].sha256


def test_mask_to_image_keeps_the_aspect(studio: Studio) -> None:
    with Image.open(around(studio, Given(disc(300, 150))).image(0)) as image:
        assert image.width > image.height and not (image.width % 8 or image.height % 8)


def test_edit_with_an_outline_of_strength_0_keeps_it(studio: Studio, pair: tuple[Image.Image, Image.Image]) -> None:
    photograph, mask = pair
    kept = around(studio, Given(mask, photograph, (0.8, 0.0)))
    new = around(studio, Given(mask, photograph, (0.5, 1.0)))
    exact = np.asarray(mask) > 127
    assert all(dice(found, exact) > 0.95 for found in masks_of(kept))
    assert all(dice(found, exact) < 0.95 for found in masks_of(new))


@pytest.mark.parametrize("keep", ["lesion", "skin"])
def test_a_kept_region_stays_and_the_rest_changes(
    studio: Studio, pair: tuple[Image.Image, Image.Image], keep: Keep
) -> None:
    """In latents, where keeping is exact; every cell that the region fills is that of the photograph."""
    photograph, _ = pair
    pipeline, _ = studio.model.pipeline(studio.model.first)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))  # 4 x 4 whole cells
    region = mask if keep == "lesion" else ImageOps.invert(mask)
    keeper = BlendedLatents(pipeline, photograph, region, seeds=[1, 2], steps=4, height=64, width=64)

    def latents(**more: Any) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        found, _ = pipeline(
            "a nevus",
            image=photograph,
            mask_image=mask,
            strength=(0.75, 0.0),
            num_images_per_prompt=2,
            generator=generators,
            num_inference_steps=4,
            output_type="latent",
            return_dict=False,
            **more,
        )
        return found

    pixels = pipeline.image_processor.preprocess(photograph, height=64, width=64)
    exact = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    kept = inside if keep == "lesion" else ~inside
    changed = latents(callback_on_step_end=keeper)
    assert torch.equal(changed[:, :, kept], exact.expand(2, -1, -1, -1)[:, :, kept])
    assert (changed[:, :, ~kept] - exact[:, :, ~kept]).abs().min() > 0
    assert not torch.equal(latents()[:, :, kept], changed[:, :, kept])


def test_what_is_given_is_recorded_by_its_hash(studio: Studio, pair: tuple[Image.Image, Image.Image]) -> None:
    given = Given(pair[1], pair[0], (1.0, 0.0), "lesion")
    drawn = around(studio, given)
    settings = read_dataset_info(drawn.folder)["made_by"]["settings"]
    assert {key: settings[key] for key in given.record()} == given.record()
    assert set(given.record()) == {"given_mask_sha256", "given_image_sha256", "strength", "keep"}
    facts = studio.model.facts(studio.model.first)
    compile(python_call(REQUEST, given, facts.native_px, facts.name), "shown", "exec")


def test_strengths_of_an_edit() -> None:
    assert all(checked_strengths(*kind.strength) == kind.strength for kind in KINDS.values())
    for wrong in ((0, 0), (1.1, 0), (0, -0.1), (float("nan"), 0.5)):
        with pytest.raises(InputError, match="strengths"):
            checked_strengths(*wrong)
    assert (checked_keep(""), checked_keep("skin")) == (None, "skin")
    with pytest.raises(InputError, match="keep 'all'"):
        checked_keep("all")


def test_image_to_mask_is_what_segment_writes(
    studio: Studio, pair: tuple[Image.Image, Image.Image], tmp_path: Path
) -> None:
    photograph = pair[0].resize((150, 100))
    (tmp_path / "photographs").mkdir()
    photograph.save(tmp_path / "photographs" / "a.png")
    pipeline, _ = studio.model.pipeline(studio.model.first)
    segment_folder(pipeline, tmp_path / "photographs", tmp_path / "out", ensemble_size=2)
    mask = result(studio, lambda watched: predict_mask(watched, photograph, ensemble=2))
    with Image.open(tmp_path / "out" / "masks" / "a.png") as written:
        assert mask.size == (150, 100) and mask.tobytes() == written.tobytes()


def test_the_canvas_waits_for_the_mask_and_then_shows_it(studio: Studio, pair: tuple[Image.Image, Image.Image]) -> None:
    waiting, read = read_masks(studio, studio.model.first, "visitor", pair[0], ensemble=1)
    with pytest.raises(InputError, match="still being read"):
        check_settled(waiting[0])
    with pytest.raises(InputError, match="still being read"):
        painted(waiting[0], Limits())
    assert waiting[1] is None and waiting[0]["mask"] is None and waiting[0]["photo"]
    check_settled(read[0])
    assert read[1] is not None and read[0] == over(pair[0], read[1])


def test_a_reading_that_fails_leaves_a_canvas_to_draw_on(studio: Studio, pair: tuple[Image.Image, Image.Image]) -> None:
    canvases = read_masks(studio, "runs/nowhere", "visitor", pair[0], ensemble=1)
    (waiting, _), (empty, mask) = next(canvases), next(canvases)
    assert waiting["waiting"] and mask is None and empty == over(pair[0], None)
    check_settled(empty)
    with pytest.raises(InputError, match="nowhere"):
        next(canvases)


# From a real pair


@pytest.fixture(scope="module")
def real_pair(studio: Studio, phantom_data: Path) -> PairRecord:
    """A training pair of a data set of the workspace, ``datasets/real``."""
    shutil.copytree(phantom_data, studio.workspace.root / "datasets" / "real")
    return next(r for r in read_metadata(phantom_data, "train") if r.diagnosis == "nevus")


REDRAWN: dict[str, Any] = {"strength": 0.5, "keep_mask": False, "relabel": None}


def from_real(studio: Studio, how: str, isic_id: str, **more: Any) -> GenerationRequest:
    anchoring = anchoring_of(studio.workspace.path("datasets/real"), isic_id, how, **(REDRAWN | more))
    return replace(REQUEST, prompts=(), anchoring=anchoring, real="datasets/real")


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("Redraw it", {}),
        ("Redraw it", {"keep_mask": True, "relabel": "melanoma"}),
        ("Another lesion in its skin", {}),
        ("Other skin around its lesion", {}),
    ],
)
def test_pairs_from_a_real_one_are_those_of_the_shown_command(
    studio: Studio,
    real_pair: PairRecord,
    tiny_adapter: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    more: dict[str, Any],
) -> None:
    request = from_real(studio, how, real_pair.isic_id, **more)
    folder = studio.new_drawn_folder()
    drawn = result(studio, lambda pipeline: generate(pipeline, request, folder))
    shown = generate_command(request, studio.model.facts(studio.model.first), str(tiny_adapter))
    monkeypatch.chdir(studio.workspace.root)
    words = [word if word != "pairs" else str(tmp_path / "pairs") for word in shlex.split(shown)[1:]]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    made = read_metadata(tmp_path / "pairs")
    hashes = [(record.sha256, record.mask_sha256) for record in drawn.records]
    assert hashes == [(record.sha256, record.mask_sha256) for record in made] and len(set(hashes)) == 2
    assert {getattr(record, "anchor_isic_id", None) for record in drawn.records} == {real_pair.isic_id}
    if "relabel" in more:
        assert drawn.records[0].diagnosis == "melanoma" and drawn.records[0].prompt == made[0].prompt


def test_the_real_pair_is_shown_beside_what_is_made_of_it(studio: Studio, real_pair: PairRecord) -> None:
    request = from_real(studio, "Redraw it", real_pair.isic_id)
    folder = studio.new_drawn_folder()
    page = cards.gallery(result(studio, lambda pipeline: generate(pipeline, request, folder)))
    assert page.count("<article") == 3 and page.index("sdg-real") < page.index("agreement")
    assert page.count(real_pair.isic_id) >= 2 and f"<span>{real_pair.diagnosis}</span>" in page


def test_an_uploaded_pair_is_started_from_and_goes_with_what_was_drawn(
    studio: Studio, pair: tuple[Image.Image, Image.Image]
) -> None:
    told: dict[str, Any] = {"diagnosis": "nevus", "edited": True, "adapter": studio.model.first}
    root, isic_id = own_pair(studio, *pair, **told)
    anchoring = anchoring_of(root, isic_id, "Other skin around its lesion", **REDRAWN)
    folder = studio.new_drawn_folder()
    request = replace(REQUEST, prompts=(), anchoring=anchoring)
    drawn = result(studio, lambda pipeline: generate(pipeline, request, folder))
    exact = np.asarray(pair[1].resize((64, 64), Image.Resampling.NEAREST)) > 127
    assert all((mask == exact).all() for mask in masks_of(drawn))
    assert drawn.records[0].diagnosis == "nevus" and "sdg-real" in cards.gallery(drawn)
    assert "--onto photographs --only PHOTO_0000000" in generate_command(
        request, studio.model.facts(studio.model.first), None
    )
    drawn.remove()
    assert not root.exists() and not folder.exists()


def test_a_stopped_draw_from_a_real_pair_keeps_complete_batches(studio: Studio, real_pair: PairRecord) -> None:
    request = replace(from_real(studio, "Redraw it", real_pair.isic_id), count=12)

    def stopped(pipeline: WatchedPipeline) -> Generated | None:
        check = pipeline._check

        def stop_in_the_second_batch() -> None:
            if pipeline.batches:
                studio.model.stop("visitor")
            check()

        pipeline._check = stop_in_the_second_batch  # type: ignore[method-assign]
        return generate(pipeline, request, part)

    part, whole = studio.new_drawn_folder(), studio.new_drawn_folder()
    kept = result(studio, stopped).records
    same = result(studio, lambda pipeline: generate(pipeline, replace(request, count=8), whole)).records
    assert [record.sha256 for record in kept] == [record.sha256 for record in same]


def test_what_cannot_be_started_from_is_told(studio: Studio, real_pair: PairRecord, phantom_data: Path) -> None:
    held_out = read_metadata(phantom_data, "val")[0].isic_id
    for isic_id, more, said in (
        (held_out, {}, "choose one from the list"),
        (real_pair.isic_id, {"relabel": "nevus"}, "to relabel to nevus"),
        (real_pair.isic_id, {"strength": 0}, "a strength of 0"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            from_real(studio, "Redraw it", isic_id, **more)
        assert str(studio.workspace.root) not in str(caught.value)


# What is kept of a photograph


def test_an_unedited_mask_is_the_proposal_to_the_pixel(studio: Studio) -> None:
    proposed = disc(2000, 1000)
    reading = Reading(Image.new("RGB", (2000, 1000)), proposed, "builtin")
    mask, changed = final_mask(studio, reading, over(reading.photograph, proposed))
    assert mask.tobytes() == proposed.tobytes() and not changed


def test_an_edited_mask_is_brought_to_the_photographs_size(studio: Studio) -> None:
    reading = Reading(Image.new("RGB", (2000, 1000)), disc(2000, 1000), "builtin")
    smaller = Image.fromarray(np.asarray(disc(1024, 512)) * (np.arange(1024) < 512).astype(np.uint8))
    value = {**over(reading.photograph, smaller), "edit": 1}
    mask, changed = final_mask(studio, reading, value)
    assert changed and mask.size == (2000, 1000) and set(np.unique(mask)) == {0, 255}
    assert dice(np.asarray(mask), np.asarray(reading.proposed) * (np.arange(2000) < 1000)) > 0.98


def test_a_photograph_without_a_lesion_is_not_kept(studio: Studio) -> None:
    reading = Reading(Image.new("RGB", (64, 64)), Image.new("L", (64, 64)), "builtin")
    with pytest.raises(InputError, match="without a lesion"):
        final_mask(studio, reading, over(reading.photograph, reading.proposed))


def test_photographs_are_gathered_without_what_their_files_said(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "work")
    photograph = Image.new("RGB", (64, 64), "red")
    photograph.info["comment"] = "taken of N.N."
    photograph.getexif()[0x010E] = "taken of N.N."
    made_with = {"adapter_sha256": "a" * 64, "base_id": "micro"}
    for number, was_edited in enumerate((False, True)):
        name, record = add_photograph(
            workspace, "mine", photograph, disc(), diagnosis="nevus", edited=was_edited, made_with=made_with
        )
        assert (name, record.isic_id) == ("datasets/mine", f"PHOTO_{number:07d}")
    folder = workspace.path("datasets/mine")
    first, second = read_metadata(folder)
    assert (first.origin, first.diagnosis, first.source) == ("real", "nevus", "skindualgen studio")
    assert first.model_extra == {"mask_origin": "model", "mask_adapter_sha256": "a" * 64}
    assert second.model_extra is not None and second.model_extra["mask_origin"] == "model, edited by hand"
    assert b"N.N." not in (folder / first.file_name).read_bytes()
    with Image.open(folder / first.file_name) as image, Image.open(folder / str(first.mask_file_name)) as mask:
        assert image.tobytes() == photograph.tobytes() and mask.tobytes() == disc().tobytes()


def test_other_data_sets_are_not_added_to(tmp_path: Path, phantom_data: Path) -> None:
    import shutil

    workspace = Workspace.open(tmp_path / "work")
    shutil.copytree(phantom_data, workspace.root / "datasets" / "phantoms")
    before = (workspace.root / "datasets" / "phantoms" / "metadata.jsonl").read_bytes()
    for name, said in (("phantoms", "holds other pairs"), ("../phantoms", "the name"), ("", "the name")):
        with pytest.raises(InputError, match=said):
            add_photograph(
                workspace, name, Image.new("RGB", (64, 64)), disc(), diagnosis=None, edited=False, made_with={}
            )
    assert (workspace.root / "datasets" / "phantoms" / "metadata.jsonl").read_bytes() == before
