"""One picture and one mask in many forms: every reader makes the same of each, or refuses it and says what it found."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.decoding import EXIF_TRANSPOSE
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.masks import LOOKS_INVERTED, load_mask
from skindualgen.data.pairs import load_pair
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.exchange.pairs import read_pairs
from skindualgen.files import sha256_file
from skindualgen.gate.application import open_pair
from skindualgen.planning.tones import _pictures as tone_pictures
from skindualgen.sample.inputs import image_to_tensor, mask_to_tensor
from skindualgen.studio.uploads import Limits, read_mask, read_photograph

SIDE = 48
LOSSLESS = {"png": {}, "tif": {}, "webp": {"lossless": True}}
BACK = {turn: {5: 5, 6: 8, 7: 7, 8: 6}.get(turn, turn) for turn in EXIF_TRANSPOSE}
"""EXIF orientation -> that whose operation undoes it."""


def colours() -> np.ndarray:
    """A photograph [48, 48, 3] of 36 colours, which no turn maps onto itself."""
    rows, columns = np.mgrid[:SIDE, :SIDE] // 8
    return np.stack([rows * 40 + 20, columns * 40 + 10, rows * 7 + columns * 30], axis=-1).astype(np.uint8)


def lesion() -> np.ndarray:
    """A mask [48, 48] without symmetry, bool."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return ((rows - 18) ** 2 / 150 + (columns - 28) ** 2 / 60 < 1) | ((rows > 30) & (rows < 36) & (columns < 40))


GREY = colours()[..., 0]
MASK = lesion()


def turned(picture: np.ndarray, orientation: int) -> Image.Image:
    """What a camera stores so that the orientation makes the picture of it."""
    image = Image.fromarray(picture)
    return image if orientation == 1 else image.transpose(EXIF_TRANSPOSE[BACK[orientation]])


def save_turned(picture: np.ndarray, path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned(picture, orientation).save(path, exif=exif, **LOSSLESS[path.suffix[1:]])
    return path


def palette(indices: np.ndarray, *table: int) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putpalette(list(table))
    return image


def rgb(colour: tuple[int, int, int]) -> np.ndarray:
    return (MASK[..., None] * np.array(colour)).astype(np.uint8)


WHITE_ON_NOTHING = np.dstack([np.full((SIDE, SIDE, 3), 255, np.uint8), MASK.astype(np.uint8) * 255])

PHOTOGRAPHS: dict[str, Callable[[], Any]] = {
    "RGB": lambda: Image.fromarray(colours()),
    "RGBA": lambda: Image.fromarray(colours()).convert("RGBA"),
    "P": lambda: Image.fromarray(colours()).convert("P", palette=Image.Palette.ADAPTIVE, colors=64),
    "CMYK": lambda: Image.fromarray(colours()).convert("CMYK"),
    "uint8 [h, w, 3]": colours,
    "uint8 [h, w, 4]": lambda: np.dstack([colours(), np.full((SIDE, SIDE), 255, np.uint8)]),
    "uint16": lambda: colours().astype(np.uint16) * 257,
    "float32": lambda: colours().astype(np.float32) / 255,
    "float64": lambda: colours() / 255,
    "[1, h, w, 3]": lambda: colours()[None],
    "Tensor [3, h, w] uint8": lambda: torch.from_numpy(colours()).permute(2, 0, 1),
    "Tensor [3, h, w] float": lambda: torch.from_numpy(colours()).permute(2, 0, 1) / 255,
    "Tensor [1, 3, h, w] half": lambda: (torch.from_numpy(colours()).permute(2, 0, 1)[None] / 255).half(),
}
GREYS: dict[str, Callable[[], Any]] = {
    "L": lambda: Image.fromarray(GREY),
    "LA": lambda: Image.fromarray(GREY).convert("LA"),
    "I;16": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "F": lambda: Image.fromarray(GREY.astype(np.float32) / 255),
    "[h, w]": lambda: GREY,
    "[h, w, 1]": lambda: GREY[..., None],
    "Tensor [h, w]": lambda: torch.from_numpy(GREY / 255),
    "Tensor [1, h, w]": lambda: torch.from_numpy(GREY)[None],
}
MASKS: dict[str, Callable[[], Any]] = {
    "L": lambda: Image.fromarray(MASK.astype(np.uint8) * 255),
    "L of 0 and 1": lambda: Image.fromarray(MASK.astype(np.uint8)),
    "L of 0 and 90": lambda: Image.fromarray(MASK.astype(np.uint8) * 90),
    "1": lambda: Image.fromarray(MASK),
    "P, index 0 white": lambda: palette(~MASK, 255, 255, 255, 0, 0, 0),
    "P, VOC colours": lambda: palette(MASK, 0, 0, 0, 128, 0, 0),
    "P, index 7 of many": lambda: palette(MASK * 7, *[0] * 21, 90, 200, 10),
    "RGB": lambda: Image.fromarray(rgb((255, 255, 255))),
    "RGB, red on black": lambda: Image.fromarray(rgb((255, 0, 0))),
    "RGBA": lambda: Image.fromarray(rgb((255, 255, 255))).convert("RGBA"),
    "RGBA, white on nothing": lambda: Image.fromarray(WHITE_ON_NOTHING),
    "LA, white on nothing": lambda: Image.fromarray(WHITE_ON_NOTHING[..., 2:]),
    "CMYK": lambda: Image.fromarray(rgb((255, 255, 255))).convert("CMYK"),
    "I;16": lambda: Image.fromarray(MASK.astype(np.uint16) * 65535),
    "I": lambda: Image.fromarray(MASK.astype(np.int32) * 65535),
    "F of 0 and 1": lambda: Image.fromarray(MASK.astype(np.float32)),
    "F of 0 and 255": lambda: Image.fromarray(MASK.astype(np.float32) * 255),
    "bool": lambda: MASK,
    "int64": lambda: MASK.astype(np.int64),
    "float64": lambda: MASK.astype(np.float64),
    "uint8 [h, w, 3]": lambda: rgb((255, 255, 255)),
    "[h, w, 1]": lambda: MASK[..., None],
    "[1, h, w]": lambda: MASK[None],
    "Tensor [h, w]": lambda: torch.from_numpy(MASK),
    "Tensor [1, h, w]": lambda: torch.from_numpy(MASK)[None].float(),
    "Tensor [1, 1, h, w]": lambda: torch.from_numpy(MASK)[None, None].to(torch.bfloat16),
}


def pipeline_photograph(source: Any) -> np.ndarray:
    """What the pipeline takes a photograph for, uint8 [h, w, 3]."""
    tensor = image_to_tensor(source, SIDE, SIDE, VaeImageProcessor(vae_scale_factor=8))
    assert tensor.shape == (1, 3, SIDE, SIDE)
    return ((tensor[0].permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)


@pytest.mark.parametrize("form", PHOTOGRAPHS)
def test_a_photograph_in_any_form_is_one_photograph(form: str) -> None:
    assert (np.asarray(load_photograph(PHOTOGRAPHS[form]()).image) == colours()).all()
    assert (pipeline_photograph(PHOTOGRAPHS[form]()) == colours()).all()


@pytest.mark.parametrize("form", GREYS)
def test_a_grey_photograph_in_any_form_is_one_photograph(form: str) -> None:
    expected = np.repeat(GREY[..., None], 3, axis=2)
    assert (np.asarray(load_photograph(GREYS[form]()).image) == expected).all()
    assert (pipeline_photograph(GREYS[form]()) == expected).all()


@pytest.mark.parametrize("form", MASKS)
def test_a_mask_in_any_form_is_one_mask(form: str) -> None:
    assert (np.asarray(load_mask(MASKS[form]())[0]) == MASK * 255).all()
    tensor = mask_to_tensor(MASKS[form](), SIDE, SIDE)
    assert tensor.shape == (1, 1, SIDE, SIDE) and (tensor[0, 0].numpy() == MASK).all()


FILES = {
    **{f"{suffix}-{turn}": (suffix, turn) for suffix in LOSSLESS for turn in range(1, 9)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder, nobody's `prepare` having written it, whose photographs and masks are of many forms."""
    root = tmp_path_factory.mktemp("readers") / "data"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    records = []
    for name, (suffix, turn) in FILES.items():
        save_turned(colours(), root / "images" / f"{name}.{suffix}", turn)
        save_turned(MASK.astype(np.uint8) * 255, root / "masks" / f"{name}.{suffix}", turn)
        if turn == 1:  # a mask that says nothing of its orientation belongs to upright pixels only
            for number, form in enumerate(MASKS):
                if isinstance(image := MASKS[form](), Image.Image):
                    own = f"{name}-{number}"
                    own_suffix = "tif" if image.mode in ("CMYK", "F", "I") else "png"
                    save_turned(colours(), root / "images" / f"{own}.{suffix}", 1)
                    image.save(root / "masks" / f"{own}.{own_suffix}")
                    records.append(record(own, suffix, own_suffix))
        records.append(record(name, suffix, suffix))
    write_dataset(root, records, made_by={})
    return root


def record(name: str, suffix: str, mask_suffix: str) -> PairRecord:
    return PairRecord(
        file_name=f"images/{name}.{suffix}", mask_file_name=f"masks/{name}.{mask_suffix}", isic_id=name, split="train"
    )


def test_everyone_reads_the_files_of_a_folder_alike(folder: Path) -> None:
    """Training, judges, gate, plan, exchange and the page."""
    records = read_metadata(folder)
    assert len(records) > 70
    assert (Dataset(folder, records).images(SIDE) == colours()).all()
    assert (Dataset(folder, records).masks(SIDE) == MASK).all()
    hashed = [
        each.model_copy(
            update={
                "sha256": sha256_file(folder / each.file_name),
                "mask_sha256": sha256_file(folder / str(each.mask_file_name)),
            }
        )
        for each in records
    ]  # without hashes, masks other than 0 and 255 are refused
    for each, pair in zip(records, read_pairs(folder, hashed), strict=True):
        image, mask = load_pair(folder, each, SIDE)
        assert mask is not None
        assert (((image + 1) * 127.5).round().permute(1, 2, 0).numpy() == colours()).all(), each.file_name
        assert (mask[0].numpy() == MASK).all(), each.file_name
        for pictures in (open_pair(folder, each), tone_pictures(folder, each)):
            assert (np.asarray(pictures[0]) == colours()).all() and ((np.asarray(pictures[1]) > 0) == MASK).all()
        assert (pair.lesion() == MASK).all(), each.file_name
        image_path, mask_path = folder / each.file_name, folder / str(each.mask_file_name)
        assert (np.asarray(read_photograph(image_path, Limits())) == colours()).all()
        assert (np.asarray(read_mask(mask_path, Limits(), image_path)) == MASK * 255).all()


def test_prepare_reads_them_as_everyone_does(folder: Path, tmp_path: Path) -> None:
    """Equal pictures are refused as repeats there, so each gets a pixel of its own."""
    source = tmp_path / "src"
    for name in ("images", "masks"):
        (source / name).mkdir(parents=True)
    for number, each in enumerate(read_metadata(folder)):
        suffix = Path(each.file_name).suffix
        picture = colours()
        picture[47, 47] = number
        turn = int(each.isic_id.split("-")[1])
        save_turned(picture, source / "images" / f"{each.isic_id}{suffix}", turn)
        mask = folder / str(each.mask_file_name)
        (source / "masks" / mask.name).write_bytes(mask.read_bytes())
    prepare(source, tmp_path / "out", PrepareOptions(size=SIDE))
    made = read_metadata(tmp_path / "out")
    assert len(made) == len(read_metadata(folder))
    for each in made:
        image = np.asarray(Image.open(tmp_path / "out" / each.file_name))
        assert (image[:47] == colours()[:47]).all(), each.isic_id
        mask = np.asarray(Image.open(tmp_path / "out" / str(each.mask_file_name)))
        assert (mask == MASK * 255).all(), each.isic_id


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_an_orientation_is_applied_once_to_what_pillow_has_opened(tmp_path: Path, suffix: str, turn: int) -> None:
    path = save_turned(colours(), tmp_path / f"a.{suffix}", turn)
    loaded = Image.open(path)
    loaded.load()
    for image in (Image.open(path), loaded, Image.open(path).copy()):
        assert (pipeline_photograph(image) == colours()).all()
    read = load_photograph(path)
    assert read.orientation == turn and (pipeline_photograph(read.image) == colours()).all()
    mask = Image.open(save_turned(MASK.astype(np.uint8) * 255, tmp_path / f"m.{suffix}", turn))
    assert (mask_to_tensor(mask, SIDE, SIDE)[0, 0].numpy() == MASK).all()


@pytest.mark.parametrize("suffix", [*LOSSLESS, "jpg"])
@pytest.mark.parametrize("turn", [2, 5, 6, 8])
def test_a_mask_drawn_on_stored_pixels_follows_its_photograph(tmp_path: Path, suffix: str, turn: int) -> None:
    """The photograph is oblong, so that the mask's size says on which pixels it was drawn."""
    mask = np.zeros((30, 50), np.uint8)
    mask[3:20, 5:14] = 255
    picture = np.repeat(255 - mask[..., None], 3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = turn
    turned(picture, turn).save(tmp_path / f"a.{suffix}", exif=exif)
    photograph = load_photograph(tmp_path / f"a.{suffix}")
    assert photograph.stored_size == turned(picture, turn).size
    if turn == 2:
        with pytest.raises(ItemError, match="mask_orientation"):
            load_mask(Image.fromarray(mask), photograph)
        return
    dark = np.asarray(photograph.image)[..., 0] < 128
    for drawn in (turned(mask, turn), Image.fromarray(mask)):
        assert ((np.asarray(load_mask(drawn, photograph)[0]) > 0) == dark).all()


def smooth(side: int = 480) -> Image.Image:
    return Image.fromarray(np.kron(MASK, np.ones((10, 10))).astype(np.uint8) * 255).resize((side, side))


def drawn_large(factor: int) -> Image.Image:
    """An ellipse drawn ``factor`` times too large and reduced, as drawing programs make smooth outlines."""
    image = Image.new("L", (200 * factor, 200 * factor))
    ImageDraw.Draw(image).ellipse((40 * factor, 50 * factor, 133 * factor, 160 * factor), fill=255)
    return image.resize((200, 200), Image.Resampling.BOX)


@pytest.mark.parametrize("quality", [30, 60, 80, 95, 100])
@pytest.mark.parametrize("suffix", ["webp", "jpg"])
def test_lossy_masks_are_read(tmp_path: Path, suffix: str, quality: int) -> None:
    smooth().save(tmp_path / f"m.{suffix}", quality=quality)
    read = np.asarray(load_mask(tmp_path / f"m.{suffix}")[0]) > 0
    assert (read == (np.asarray(smooth()) > 127)).mean() > 0.9995
    Image.fromarray(np.asarray(smooth())[..., None].repeat(3, 2)).save(tmp_path / f"rgb.{suffix}", quality=quality)
    assert (np.asarray(load_mask(tmp_path / f"rgb.{suffix}")[0]) > 0).tolist() == read.tolist()


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 128, 90)])
def test_smooth_outlines_are_read_in_any_colour(colour: tuple[int, int, int]) -> None:
    grey = np.asarray(drawn_large(4))
    assert len(np.unique(grey)) > 8
    painted = np.round(grey[..., None] / 255 * np.array(colour)).astype(np.uint8)
    expected = grey > 127
    for mask in (Image.fromarray(painted), painted, Image.fromarray(np.dstack([np.full_like(painted, 255), grey]))):
        assert (np.asarray(load_mask(mask)[0]) > 0).tolist() == expected.tolist()


def ring(inside: int, around: int, side: int = 96) -> np.ndarray:
    """A disc of one level in a thin rim of another."""
    rows, columns = np.mgrid[:side, :side]
    distance = np.hypot(rows - side / 2, columns - side / 2)
    return np.where(distance < 20, inside, np.where(distance < 22, around, 0)).astype(np.uint8)


def classes(*levels: int) -> np.ndarray:
    labels = np.zeros((96, 96), np.uint8)
    for number, level in enumerate(levels):
        labels[4 + 8 * number : 10 + 8 * number, 20:30] = level
    return labels


def with_class(first: np.ndarray, corner: Any) -> np.ndarray:
    first = first.copy()
    first[:6, :6] = corner
    return first


NOT_PLAIN: dict[str, tuple[Any, str]] = {
    "lesion 1 in a rim to be ignored": (ring(1, 255), r"mask_levels: 3 levels, 0 \(8.*%\), 1 \(1.*%\), 255 \("),
    "a rim of doubt": (ring(255, 128), "mask_levels: 3 levels"),
    "classes 0 to 3": (classes(1, 2, 3), "mask_levels: 4 levels"),
    "ten classes and a rim": (classes(*range(1, 10), 255), r"mask_levels: 11 levels.* and 5 more"),
    "twelve classes, stretched": (np.pad(classes(*range(21, 253, 21)), 60), "mask_levels: 13 levels.*whole regions"),
    "two levels without background": (ring(200, 200) + np.uint8(50), "mask_levels: the two values 50 and 250"),
    "one level that is none": (np.full((8, 8), 128, np.uint8), "mask_levels: the one value 128"),
    "negative": (np.where(MASK, 1, -1), "mask_levels: values from -1 to 1"),
    "16-bit classes": (classes(1, 2).astype(np.uint16) * 20000, "mask_levels: 3 levels"),
    "decimal classes": (classes(1, 2) / 2, "mask_levels: 3 levels"),
    "two colours on black": (with_class(rgb((255, 0, 0)), (0, 255, 0)), r"mask_coloured: 3 colours: \(0, 0, 0\)"),
    "red on white": (np.where(MASK[..., None], (255, 0, 0), 255).astype(np.uint8), "mask_coloured: 2 colours"),
    "two reds": (with_class(rgb((255, 0, 0)), (128, 0, 0)), "mask_levels: 3 levels"),
    "palette of classes": (palette(classes(1, 2), 0, 0, 0, 128, 0, 0, 0, 128, 0), "mask_coloured: 3 colours"),
    "black on nothing": (Image.fromarray(WHITE_ON_NOTHING * np.uint8([0, 0, 0, 1])), "transparent: black"),
    "transparent, with colours": (np.dstack([colours(), MASK.astype(np.uint8) * 255]), "transparent: "),
    "probabilities": (np.linspace(0, 1, 10000).reshape(100, 100), "mask_soft"),
    "NaN": (np.where(MASK, np.nan, 0.0), "not_finite"),
    "infinity": (torch.where(torch.from_numpy(MASK), torch.inf, 0.0), "not_finite"),
    "Lab": (Image.frombytes("LAB", (8, 8), bytes(192)), "colour_mode: mask of mode LAB"),
    "three masks or three channels": (np.stack([MASK] * 3), r"array_shape: an array of shape \(3, 48, 48\)"),
    "Tensor [3, h, w]": (torch.from_numpy(np.stack([MASK] * 3)), "array_shape"),
    "Tensor [h, w, 3]": (torch.from_numpy(rgb((255, 0, 0))), "array_shape"),
    "text": ("mask.png", "array_type: the type str"),
    "objects": (np.array([[None, 1]]), "array_type: an array of object"),
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_masks_that_do_not_say_what_is_lesion_are_refused(case: str, tmp_path: Path) -> None:
    mask, message = NOT_PLAIN[case]
    with pytest.raises(InputError, match=message):
        mask_to_tensor(mask, SIDE, SIDE)
    if isinstance(mask, np.ndarray) and mask.dtype == np.uint8:
        Image.fromarray(mask).save(tmp_path / "m.png")
        with pytest.raises(InputError, match=message):
            read_mask(tmp_path / "m.png", Limits())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8, 3), np.nan), "not_finite"),
        (torch.full((3, 8, 8), torch.inf), "not_finite"),
        (Image.fromarray(np.full((8, 8), np.nan, np.float32)), "not_finite"),
        (Image.fromarray(GREY.astype(np.float32)), "bit_depth: decimal values from 20 to 220"),
        (colours().astype(np.int64), "bit_depth: int64 with a peak of 220"),
        (colours().astype(np.uint16) * 16, "bit_depth: uint16"),
        (colours() / 127.5 - 1, "bit_depth: decimal values from -1"),
        (np.moveaxis(colours(), 2, 0), r"array_shape: an array of shape \(3, 48, 48\)"),
        (torch.from_numpy(colours()), r"array_shape: a tensor of shape \(48, 48, 3\)"),
        (np.zeros((0, 8, 3)), "array_shape"),
        (Image.fromarray(WHITE_ON_NOTHING), "transparent"),
        (Image.frombytes("LAB", (8, 8), bytes(192)), "colour_mode"),
    ],
)
def test_photographs_that_do_not_say_what_they_are_are_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline_photograph(image)


def test_a_mask_is_not_emptied_by_its_size() -> None:
    speck = np.zeros((64, 64), np.uint8)
    speck[1, 1] = 255
    with pytest.raises(InputError, match="no lesion pixel is left of 64x64 px at 16x16 px"):
        mask_to_tensor(speck, 16, 16)
    with pytest.raises(InputError, match="no background pixel is left"):
        mask_to_tensor(255 - speck, 16, 16)
    assert mask_to_tensor(np.zeros((64, 64)), 16, 16).sum() == 0
    with pytest.raises(ItemError, match="mask_empty"):
        load_mask(np.zeros((64, 64)))


def test_a_palette_colour_that_is_transparent_is_nothing() -> None:
    white = palette(MASK, 0, 0, 0, 255, 255, 255)
    white.info["transparency"] = 0
    assert (np.asarray(load_mask(white)[0]) == MASK * 255).all()
    black = palette(MASK, 255, 255, 255, 0, 0, 0)
    black.info["transparency"] = 0
    with pytest.raises(ItemError, match="transparent: black"):
        load_mask(black)


def test_masks_that_look_inverted_are_told_and_kept(tmp_path: Path) -> None:
    for number in range(3):
        picture = colours()
        picture[0, 0] = number
        for name in ("images", "masks"):
            (tmp_path / "src" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "src" / "images" / f"p{number}.png")
        mask = ~MASK if number == 1 else MASK
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "src" / "masks" / f"p{number}.png")
    summary = prepare(tmp_path / "src", tmp_path / "out", PrepareOptions(size=SIDE))
    assert any("1 masks look inverted, as their four corners are lesion: p1;" in note for note in summary.notes)
    assert (np.asarray(Image.open(tmp_path / "out" / "masks" / "p1.png")) == ~MASK * 255).all()
    with (tmp_path / "out" / "adjusted.csv").open(encoding="utf-8", newline="") as file:
        assert ("p1", LOOKS_INVERTED) in {(row["isic_id"], row["adjustment"]) for row in csv.DictReader(file)}


def test_a_damaged_mask_is_told_as_the_masks_file(tmp_path: Path) -> None:
    for number in range(4):
        picture = colours()
        picture[0, 0] = number
        for name, data in (("images", picture), ("masks", MASK.astype(np.uint8) * 255)):
            (tmp_path / "src" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(data).save(tmp_path / "src" / name / f"p{number}.png")
    whole = (tmp_path / "src" / "masks" / "p0.png").read_bytes()
    for name, data in (("masks/p0", whole[:90]), ("masks/p1", b"<html>"), ("images/p2", b"")):
        (tmp_path / "src" / f"{name}.png").write_bytes(data)
    prepare(tmp_path / "src", tmp_path / "out", PrepareOptions(size=SIDE))
    with (tmp_path / "out" / "rejected.csv").open(encoding="utf-8", newline="") as file:
        rejected = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert rejected == {
        "masks/p0.png": "damaged_image",
        "masks/p1.png": "not_an_image",
        "images/p2.png": "not_an_image",
    }
    with pytest.raises(InputError, match="p0: damaged_image: mask: "):
        prepare(tmp_path / "src", tmp_path / "strict", PrepareOptions(size=SIDE), strict=True)


@pytest.mark.parametrize("ending", ["", "png", "gif", "tif"])
def test_places_in_a_palette_that_is_missing_are_refused(ending: str, tmp_path: Path) -> None:
    """Guards against an empty mask, and a black photograph, of ``Image.fromarray(labels, "P")``."""
    picture: Image.Image | Path = Image.frombytes("P", (SIDE, SIDE), MASK.astype(np.uint8).tobytes())
    if ending:
        path = tmp_path / f"mask.{ending}"
        picture.save(path)  # type: ignore[union-attr]
        picture = path
    for read in (lambda: load_mask(picture, allow_uniform=True), lambda: load_photograph(picture)):
        with pytest.raises(ItemError, match=r"colour_mode: a palette (of|with)"):
            read()


def test_a_tensor_without_data_is_refused() -> None:
    with pytest.raises(InputError, match=r"array_type: a tensor of .* on meta"):
        image_to_tensor(torch.zeros(3, SIDE, SIDE, device="meta"), SIDE, SIDE, VaeImageProcessor())
