"""Each kind of bad input by its own real file: refused with its reason or adjusted and reported, never passed over."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_files import disc, good_folder, pixels, read_csv, save, write_csv
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import Adjustment, ItemError, fit, load_photograph, same_aspect
from skindualgen.data.manifest import read_metadata
from skindualgen.data.masks import load_mask
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions

EXIF_ORIENTATION = 0x0112


class Prepared:
    """A prepared folder: its records by id, its rejections (id, reason), its adjustments (id, code)."""

    def __init__(self, source: Path, **options: object) -> None:
        self.out = source.parent / f"{source.name}-out"
        self.summary = prepare(source, self.out, PrepareOptions(size=48, **options))  # type: ignore[arg-type]
        self.records: dict[str, PairRecord] = {record.isic_id: record for record in read_metadata(self.out)}
        self.rejected = {(row["isic_id"], row["reason"]) for row in read_csv(self.out / "rejected.csv")}
        self.adjusted = {(row["isic_id"], row["adjustment"]) for row in read_csv(self.out / "adjusted.csv")}

    def image(self, isic_id: str) -> NDArray[np.uint8]:
        with Image.open(self.out / self.records[isic_id].file_name) as image:
            assert image.mode == "RGB"
            return np.asarray(image)

    def mask(self, isic_id: str) -> NDArray[np.uint8]:
        name = self.records[isic_id].mask_file_name
        assert name is not None
        with Image.open(self.out / name) as mask:
            assert mask.mode == "L"
            return np.asarray(mask)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two good pairs without a table; a test adds what is bad."""
    for name in ("good1", "good2"):
        save(pixels(name), tmp_path / "src" / "images" / f"{name}.png")
        save(disc(), tmp_path / "src" / "masks" / f"{name}.png")
    return tmp_path / "src"


def reason_of(source: Path, isic_id: str = "bad") -> str:
    """Prepare, see that the good pairs stand and the bad item stands in rejected.csv only; return the reason."""
    prepared = Prepared(source)
    assert set(prepared.records) == {"good1", "good2"}
    written = {path.stem for path in prepared.out.glob("*/*.png")}
    assert written == {"good1", "good2"}
    (reason,) = {reason for name, reason in prepared.rejected if name == isic_id}
    return reason


# -- files that are no or no whole pictures


def test_truncated_jpeg(source: Path) -> None:
    data = save(pixels("bad"), source / "images" / "bad.jpg").read_bytes()
    (source / "images" / "bad.jpg").write_bytes(data[: len(data) // 2])
    assert reason_of(source) == "damaged_image"


def test_truncated_png(source: Path) -> None:
    data = save(pixels("bad"), source / "images" / "bad.png").read_bytes()
    (source / "images" / "bad.png").write_bytes(data[: len(data) // 2])
    assert reason_of(source) == "damaged_image"


@pytest.mark.parametrize("data", [b"", b"this is no picture", b"\xff\xd8\xff", b"GIF89a"])
def test_text_or_nothing_under_an_image_name(source: Path, data: bytes) -> None:
    (source / "images" / "bad.jpg").write_bytes(data)
    assert reason_of(source) in ("not_an_image", "damaged_image")


def test_file_of_another_kind_in_the_image_folder(source: Path) -> None:
    (source / "images" / "bad.heic").write_bytes(b"x")
    assert reason_of(source) == "not_an_image"


def test_postscript_is_not_run(source: Path) -> None:
    (source / "images" / "bad.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert reason_of(source) == "not_an_image"


def test_truncated_mask(source: Path) -> None:
    save(pixels("bad"), source / "images" / "bad.png")
    data = save(disc(), source / "masks" / "bad.png").read_bytes()
    (source / "masks" / "bad.png").write_bytes(data[: len(data) // 2])
    assert reason_of(source) == "damaged_image"


def test_several_frames(source: Path) -> None:
    frames = [Image.fromarray(pixels(name)) for name in "ab"]
    frames[0].save(source / "images" / "bad.tif", save_all=True, append_images=frames[1:])
    assert reason_of(source) == "multi_frame"


def png_header_of(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 60_000])  # above Pillow's warning, above its error
def test_decompression_bomb(source: Path, side: int) -> None:
    (source / "images" / "bad.png").write_bytes(png_header_of(side, side))
    assert reason_of(source) == "decompression_bomb"


def test_limit_of_pixels_is_the_callers_and_pillows_own_stays(source: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    path = save(pixels("x"), source / "x.png")
    with pytest.raises(ItemError, match="more than 2303 pixels"):
        load_photograph(path, max_pixels=48 * 48 - 1)
    assert load_photograph(path, max_pixels=48 * 48).image.size == (48, 48)
    assert before == Image.MAX_IMAGE_PIXELS


# -- depth and colour


def test_sixteen_bit_rgb_is_scaled_and_reported(source: Path) -> None:
    expected = pixels("deep")
    # Pillow writes no 16-bit RGB: the PNG is put together here, each value v as v * 257.
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).astype(">u2").tobytes() for row in expected)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 48, 48, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (source / "images" / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.image("deep"), expected)
    assert ("deep", "bits_16_to_8") in prepared.adjusted


def test_sixteen_bit_grey_is_scaled_and_reported(source: Path) -> None:
    grey = pixels("deep")[..., 0]
    save(grey.astype(np.uint16) * 257, source / "images" / "deep.png")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.image("deep"), np.repeat(grey[..., None], 3, axis=2))
    assert {("deep", "bits_16_to_8"), ("deep", "grey_to_rgb")} <= prepared.adjusted


def test_twelve_bits_in_a_sixteen_bit_file_are_not_guessed(source: Path) -> None:
    save(pixels("bad")[..., 0].astype(np.uint16) * 16, source / "images" / "bad.png")
    assert reason_of(source) == "bit_depth"


def test_floating_point_picture(source: Path) -> None:
    save(pixels("bad")[..., 0].astype(np.float32), source / "images" / "bad.tif")
    assert reason_of(source) == "bit_depth"


def test_cmyk_is_converted_and_reported(source: Path) -> None:
    cmyk = Image.fromarray(pixels("print")).convert("CMYK")
    cmyk.save(source / "images" / "print.tif")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.image("print"), np.asarray(cmyk.convert("RGB")))
    assert ("print", "cmyk_to_rgb") in prepared.adjusted


def test_opaque_alpha_is_dropped_and_reported(source: Path) -> None:
    rgba = np.dstack([pixels("alpha"), np.full((48, 48), 255, np.uint8)])
    save(rgba, source / "images" / "alpha.png")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.image("alpha"), pixels("alpha"))
    assert ("alpha", "alpha_dropped") in prepared.adjusted


def test_transparent_pixels_are_refused(source: Path) -> None:
    alpha = np.full((48, 48), 255, np.uint8)
    alpha[:5] = 0
    save(np.dstack([pixels("bad"), alpha]), source / "images" / "bad.png")
    assert reason_of(source) == "transparent"


def test_palette_is_converted_and_reported(source: Path) -> None:
    palette = Image.fromarray(pixels("indexed")).quantize(64)
    palette.save(source / "images" / "indexed.png")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.image("indexed"), np.asarray(palette.convert("RGB")))
    assert ("indexed", "palette_to_rgb") in prepared.adjusted


def test_lab_colours_are_refused(source: Path) -> None:
    Image.frombytes("LAB", (48, 48), pixels("bad").tobytes()).save(source / "images" / "bad.tif")
    assert reason_of(source) == "colour_mode"


def test_no_exif_or_comment_of_the_source_is_published(source: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe, 1961-02-03"  # ImageDescription
    save(pixels("private"), source / "images" / "private.jpg", exif=exif, comment=b"Jane Doe")
    prepared = Prepared(source)
    assert b"Jane" not in (prepared.out / prepared.records["private"].file_name).read_bytes()


# -- orientation


def rotated(path: Path, orientation: int, *, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Write a picture whose EXIF asks for a rotation; return the stored pixels."""
    stored = pixels(path.stem, width=width, height=height)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    save(stored, path, exif=exif)
    return stored


def test_exif_rotation_is_applied_to_the_picture_and_reported(source: Path) -> None:
    stored = rotated(source / "images" / "turned.png", 6, width=48, height=48)
    prepared = Prepared(source)
    # Orientation 6: the stored rows run from the right side of the upright picture: a quarter turn clockwise.
    np.testing.assert_array_equal(prepared.image("turned"), np.rot90(stored, -1))
    assert ("turned", "exif_rotated") in prepared.adjusted


@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_mask_of_a_rotated_picture_ends_where_the_lesion_is(tmp_path: Path, drawn_on: str) -> None:
    rotated(tmp_path / "a.png", 6)  # stored 64 x 48, upright 48 x 64
    stored_mask = np.zeros((48, 64), np.uint8)
    stored_mask[2:20, 4:30] = 255
    upright_mask = np.ascontiguousarray(np.rot90(stored_mask, -1))
    save(stored_mask if drawn_on == "stored" else upright_mask, tmp_path / "m.png")
    photograph = load_photograph(tmp_path / "a.png")
    mask, adjustments = load_mask(tmp_path / "m.png", photograph)
    np.testing.assert_array_equal(np.asarray(mask), upright_mask)
    assert [code for code, _ in adjustments] == (["mask_rotated"] if drawn_on == "stored" else [])


@pytest.mark.parametrize(("orientation", "width"), [(3, 64), (6, 48)])
def test_mask_whose_orientation_cannot_be_told_is_refused(source: Path, orientation: int, width: int) -> None:
    rotated(source / "images" / "bad.png", orientation, width=width)
    save(disc(width=width), source / "masks" / "bad.png")
    assert reason_of(source) == "mask_orientation"


# -- masks


def mask_case(source: Path, mask: NDArray[np.generic], name: str = "bad", **options: object) -> None:
    save(pixels(name), source / "images" / f"{name}.png")
    save(mask, source / "masks" / f"{name}.png", **options)


def test_mask_of_another_aspect(source: Path) -> None:
    mask_case(source, disc(width=64))
    assert reason_of(source) == "mask_aspect"


def test_mask_of_another_size_is_resized_and_reported(source: Path) -> None:
    half = np.zeros((24, 24), np.uint8)
    half[5:15, 8:20] = 255
    mask_case(source, half, "small")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.mask("small"), np.kron(half, np.ones((2, 2), np.uint8)))
    assert ("small", "mask_resized") in prepared.adjusted


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((1022, 767), (256, 192), True),  # 256 / 1022 * 767 = 192.1
        ((4288, 2848), (767, 509), True),
        ((1024, 768), (768, 1024), False),
        ((1024, 768), (512, 400), False),
        ((256, 256), (128, 128), True),
    ],
)
def test_same_aspect(first: tuple[int, int], second: tuple[int, int], same: bool) -> None:
    assert same_aspect(first, second) is same
    assert same_aspect(second, first) is same


def ring(side: int, width: float) -> NDArray[np.uint8]:
    """A circle of a diameter of 60 % of the side, drawn with a line of this width in px."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    from_line = np.abs(np.hypot(rows, columns) - side * 0.3)
    return ((from_line <= width / 2) * 255).astype(np.uint8)


@pytest.mark.parametrize(("side", "width"), [(48, 1.5), (400, 1.5), (400, 8), (900, 2), (2000, 1.5)])
def test_an_outline_is_no_mask(side: int, width: float) -> None:
    """Its pixels are the lesion's edge, however thin they are beside the grid that is looked at."""
    with pytest.raises(ItemError) as refused:
        load_mask(ring(side, width))
    assert refused.value.code == "mask_line"
    load_mask(ring(side, width), allow_uniform=True)  # of a data set folder that is there, masks are as they are


@pytest.mark.parametrize("width", [0.1, 0.2])
def test_a_thick_ring_and_a_thin_streak_are_masks(width: float) -> None:
    load_mask(ring(400, width * 400))
    streak = np.zeros((400, 400), np.uint8)
    streak[198:202, 50:350] = 255
    load_mask(streak)


def test_a_folder_with_an_outline_goes_on_without_it(source: Path) -> None:
    mask_case(source, ring(48, 1.5))
    assert reason_of(source) == "mask_line"


@pytest.mark.parametrize(("value", "reason"), [(0, "mask_empty"), (255, "mask_full"), (1, "mask_full")])
def test_all_empty_and_all_full_mask(source: Path, value: int, reason: str) -> None:
    mask_case(source, np.full((48, 48), value, np.uint8))
    assert reason_of(source) == reason


def test_lesion_that_the_crop_loses(source: Path) -> None:
    save(pixels("bad", width=144), source / "images" / "bad.png")
    mask = np.zeros((48, 144), np.uint8)
    mask[10:20, 2:12] = 255
    save(mask, source / "masks" / "bad.png")
    assert reason_of(source) == "mask_empty"


def test_lesion_that_the_crop_cuts_is_reported(source: Path) -> None:
    save(pixels("cut", width=96), source / "images" / "cut.png")
    mask = np.zeros((48, 96), np.uint8)
    mask[:, 14:34] = 255  # the crop keeps the columns 24 to 71: half of the lesion
    save(mask, source / "masks" / "cut.png")
    prepared = Prepared(source)
    assert prepared.mask("cut").mean() / 255 == pytest.approx(10 / 48)
    rows = read_csv(prepared.out / "adjusted.csv")
    assert ("cut", "lesion_cut", "50.0% of the lesion inside") in {tuple(row.values()) for row in rows}


def test_antialiased_mask_is_made_binary_and_reported(source: Path) -> None:
    large = Image.fromarray(disc(width=480, height=480))
    smooth = np.asarray(large.resize((48, 48), Image.Resampling.LANCZOS))
    assert len(np.unique(smooth)) > 2
    mask_case(source, smooth, "smooth")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.mask("smooth"), np.where(smooth > 127.5, 255, 0))
    assert ("smooth", "mask_binarised") in prepared.adjusted


def test_mask_saved_as_jpeg_is_made_binary_and_reported(source: Path) -> None:
    save(pixels("lossy"), source / "images" / "lossy.png")
    save(disc(), source / "masks" / "lossy.jpg", quality=90)
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.mask("lossy"), disc())
    assert ("lossy", "mask_binarised") in prepared.adjusted


def test_soft_mask_is_refused(source: Path) -> None:
    y, x = np.mgrid[:48, :48]
    mask_case(source, np.clip(255 - 8 * np.hypot(x - 24, y - 24), 0, 255).astype(np.uint8))
    assert reason_of(source) == "mask_soft"


@pytest.mark.parametrize("values", [(0, 1), (0, 128)])
def test_mask_with_other_values_than_255(source: Path, values: tuple[int, int]) -> None:
    mask_case(source, np.where(disc() > 0, values[1], values[0]).astype(np.uint8), "low")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.mask("low"), disc())
    assert (("low", "mask_rescaled") in prepared.adjusted) is (values[1] == 128)


def test_mask_without_a_zero_background_is_refused(source: Path) -> None:
    mask_case(source, np.where(disc() > 0, 200, 100).astype(np.uint8))
    assert reason_of(source) == "mask_levels"


def test_coloured_mask_is_refused_and_a_grey_one_in_three_channels_is_not(source: Path) -> None:
    mask_case(source, np.repeat(disc()[..., None], 3, axis=2), "grey")
    two = np.zeros((48, 48, 3), np.uint8)
    two[..., 0], two[:8, :8, 1] = disc(), 255
    mask_case(source, two)
    prepared = Prepared(source)
    assert ("bad", "mask_coloured") in prepared.rejected
    assert ("grey", "mask_from_rgb") in prepared.adjusted
    np.testing.assert_array_equal(prepared.mask("grey"), disc())


def test_palette_mask_is_read_by_its_colours(source: Path) -> None:
    save(pixels("voc"), source / "images" / "voc.png")
    mask = Image.fromarray((disc() > 0).astype(np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 128, 0, 0])
    mask.save(source / "masks" / "voc.png")
    prepared = Prepared(source)
    np.testing.assert_array_equal(prepared.mask("voc"), disc())
    assert ("voc", "mask_from_palette") in prepared.adjusted


def test_one_bit_mask_needs_no_change(tmp_path: Path) -> None:
    save(disc() > 0, tmp_path / "m.png")
    mask, adjustments = load_mask(tmp_path / "m.png", load_photograph(save(pixels("a"), tmp_path / "a.png")))
    np.testing.assert_array_equal(np.asarray(mask), disc())
    assert adjustments == []


@pytest.mark.parametrize("crop", ["centre", "pad", "none"])
@pytest.mark.parametrize("size", [20, 48, 77])
def test_masks_stay_binary_and_beside_their_image(crop: str, size: int) -> None:
    lesion = disc(width=100, height=60)
    painted = np.where(lesion[..., None] > 0, 250, pixels("x", width=100, height=60)).astype(np.uint8)
    images = Image.fromarray(painted), Image.fromarray(lesion)
    fitted, fitted_mask, _ = fit(*images, size=size, crop=crop)  # type: ignore[arg-type]
    assert fitted_mask is not None
    assert fitted.size == fitted_mask.size
    expected = {"centre": (size, size), "pad": (size, size), "none": (round(100 * size / 60), size)}
    assert fitted.size == expected[crop]
    values = np.asarray(fitted_mask)
    assert set(np.unique(values)) == {0, 255}
    # The lesion was painted bright: where the mask is, the fitted image is bright, up to the outline.
    bright = np.asarray(fitted)[..., 1] > 225
    assert (bright != (values > 0)).mean() < 0.04


def test_upscaling_is_reported() -> None:
    _, _, adjustments = fit(Image.fromarray(pixels("x")), None, size=96, crop="centre")
    assert adjustments == [Adjustment("upscaled", "48x48 by 2.00")]


# -- what does not join


def test_image_without_mask_is_kept_and_said(source: Path) -> None:
    save(pixels("alone"), source / "images" / "alone.png")
    prepared = Prepared(source)
    assert prepared.records["alone"].mask_file_name is None
    assert "only 2 of 3 photographs have a mask" in prepared.summary.notes


def test_image_without_mask_is_rejected_where_masks_are_required(source: Path) -> None:
    save(pixels("alone"), source / "images" / "alone.png")
    prepared = Prepared(source, require_masks=True)
    assert set(prepared.records) == {"good1", "good2"}
    assert prepared.rejected == {("alone", "image_without_mask")}


def test_mask_without_image(source: Path) -> None:
    save(disc(), source / "masks" / "bad_segmentation.png")
    assert reason_of(source) == "mask_without_image"


def test_same_id_in_two_files(source: Path) -> None:
    save(pixels("1"), source / "images" / "bad.png")
    save(pixels("2"), source / "images" / "sub" / "bad.jpg")
    assert reason_of(source) == "duplicate_id"


def test_same_id_in_two_cases_of_letters(source: Path) -> None:
    # One of them would overwrite the other on Windows and macOS.
    save(pixels("1"), source / "images" / "bad.png")
    save(pixels("2"), source / "images" / "BAD.jpg")
    prepared = Prepared(source)
    assert {("bad", "duplicate_id"), ("BAD", "duplicate_id")} <= prepared.rejected


def test_same_id_in_two_rows(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 3)
    with (root / "metadata.csv").open("a") as file:
        file.write("p00,nevus\np01,nevus\n")  # p00 was a melanoma, p01 is a nevus as before
    prepared = Prepared(root)
    assert set(prepared.records) == {"p01", "p02"}
    assert prepared.rejected == {("p00", "duplicate_id")}
    assert any("1 rows say the same" in note for note in prepared.summary.notes)


def test_same_picture_under_two_ids(source: Path) -> None:
    save(pixels("good1"), source / "images" / "zz.bmp")
    prepared = Prepared(source)
    assert set(prepared.records) == {"good1", "good2"}
    assert prepared.rejected == {("zz", "duplicate_content")}
    assert not list(prepared.out.glob("*/zz*"))


def test_same_picture_with_two_diagnoses_is_trusted_nowhere(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 4)
    save(pixels("p00"), root / "images" / "p01.png")
    prepared = Prepared(root)
    assert set(prepared.records) == {"p02", "p03"}
    code = "duplicate_content_other_diagnosis"
    assert prepared.rejected == {("p00", code), ("p01", code)}


# -- paths that leave the folder


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "C:\\secret.png", "images/../../secret.png"])
def test_ids_and_paths_in_a_table_that_leave_the_folder(tmp_path: Path, path: str) -> None:
    root = good_folder(tmp_path / "src", 2)
    save(pixels("secret"), tmp_path / "secret.png")
    with (root / "metadata.csv").open("a") as file:
        file.write(f"{path},nevus\n")
    prepared = Prepared(root)
    assert set(prepared.records) == {"p00", "p01"}
    assert prepared.rejected == {(path, "leaves_folder")}


@pytest.mark.parametrize("path", ["../secret.png", "{absolute}", "link.png"])
@pytest.mark.parametrize("column", ["file_name", "mask_file_name"])
def test_imagefolder_paths_that_leave_the_folder(tmp_path: Path, path: str, column: str) -> None:
    secret = save(disc(), tmp_path / "secret.png")
    root = tmp_path / "src"
    for name in "ab":
        save(pixels(name), root / f"{name}.png")
    (root / "link.png").symlink_to(secret)
    rows = [{"isic_id": name, "file_name": f"{name}.png", "mask_file_name": ""} for name in "ab"]
    rows[1][column] = path.format(absolute=secret)
    write_csv(root / "metadata.csv", rows)
    prepared = Prepared(root)
    assert set(prepared.records) == {"a"}
    assert ("b", "leaves_folder") in prepared.rejected


@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_symbolic_links_out_of_the_folder(source: Path, target: str) -> None:
    outside = source.parent / "outside"
    save(pixels("secret"), outside / "secret.png")
    targets = {"file": outside / "secret.png", "folder": outside, "nothing": outside / "gone.png"}
    (source / "images" / "bad.png").symlink_to(targets[target])
    prepared = Prepared(source)
    assert set(prepared.records) == {"good1", "good2"}
    assert prepared.rejected == {("", "leaves_folder")}


def test_symbolic_link_inside_the_folder_is_followed(source: Path) -> None:
    save(pixels("linked"), source / "store" / "linked.png")
    (source / "images" / "linked.png").symlink_to(source / "store" / "linked.png")
    assert "linked" in Prepared(source).records


def test_symbolic_link_to_a_folder_is_reported(source: Path) -> None:
    (source / "masks").rename(source / "annotations")
    (source / "masks").symlink_to("annotations")
    assert ("", "folder_link") in Prepared(source).rejected


def test_name_that_is_no_unicode(source: Path) -> None:
    try:
        (source / "images" / "good1.png").rename(source / "images" / os.fsdecode(b"bad\xff.png"))
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    (row,) = [row for row in read_csv(Prepared(source).out / "rejected.csv") if row["reason"] == "no_unicode"]
    assert row["file"] == "images/bad\\xff.png"


@pytest.mark.parametrize("name", ["x" * 5000, "zero\0byte.png"])
def test_path_in_a_table_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    root = good_folder(tmp_path / "src", 2)
    write_csv(root / "metadata.csv", [{"image_id": "p00", "mask": name}, {"image_id": "p01", "mask": ""}])
    assert Prepared(root).rejected == {("p00", "no_file")}


@pytest.mark.parametrize("name", ["train_1", "my test", "dots..", "a:b*c?", "x" * 200, "val"])
def test_ids_that_make_poor_file_names_get_safe_ones(source: Path, name: str) -> None:
    save(pixels("odd"), source / "images" / f"{name}.png")
    prepared = Prepared(source)
    record = prepared.records[name]
    assert (prepared.out / record.file_name).is_file()
    stem = Path(record.file_name).stem
    assert not set(stem) & set('\\/:*?"<>| ')
    assert not stem.startswith(".")
    assert len(stem) < 100


# -- tables


def test_table_with_byte_order_mark_and_semicolons(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    rows = [{"image_id": f"p0{i}", "diagnosis": "nevus", "site": "back; upper"} for i in range(2)]
    write_csv(root / "metadata.csv", rows, delimiter=";", bom=True)
    record = Prepared(root).records["p01"]
    assert (record.diagnosis, record.anatom_site_general) == ("nevus", "back; upper")


def test_table_in_utf16(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    (root / "metadata.csv").write_text("image_id\tdiagnosis\np00\tnevus\np01\tnevus\n", encoding="utf-16")
    assert Prepared(root).records["p00"].diagnosis == "nevus"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"image_id,site\np00,\xe4\n", "not UTF-8"),
        (b"", "without a line"),
        (b"image_id,image_id\np00,x\n", "twice"),
        (b'image_id,diagnosis\np00,"nev\n', "comma separated"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, data: bytes, message: str) -> None:
    root = good_folder(tmp_path / "src", 2)
    (root / "metadata.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        Prepared(root)


@pytest.mark.parametrize(
    ("data", "message"),
    [('{"file_name": "n\xe9vus"}'.encode("latin-1"), "UTF-8"), (b"none\n", "without a JSON object")],
)
def test_json_lines_that_cannot_be_read(tmp_path: Path, data: bytes, message: str) -> None:
    root = good_folder(tmp_path / "src", 2)
    (root / "metadata.csv").unlink()
    (root / "metadata.jsonl").write_bytes(data)
    with pytest.raises(InputError, match=message):
        Prepared(root)


def test_table_without_an_id_column(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    write_csv(root / "metadata.csv", [{"picture": "p00", "diagnosis": "nevus"}])
    with pytest.raises(InputError, match=r"picture, diagnosis.*--column isic_id=COLUMN"):
        Prepared(root)


def test_table_without_a_diagnosis_column_is_fine_and_said(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    write_csv(root / "metadata.csv", [{"image_id": "p00"}, {"image_id": "p01"}])
    prepared = Prepared(root)
    assert {record.diagnosis for record in prepared.records.values()} == {None}
    assert any("diagnosis of 2 of 2" in note for note in prepared.summary.notes)


def test_row_with_a_value_too_many(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    with (root / "metadata.csv").open("a") as file:
        file.write("p02,nevus,back\n")
    assert [row["reason"] for row in read_csv(Prepared(root).out / "rejected.csv")] == ["bad_row"]


def test_unknown_label_is_rejected_and_admitted_by_option(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 3)
    write_csv(
        root / "metadata.csv",
        [
            {"image_id": "p00", "diagnosis": "melanomma", "sex": "robot"},
            {"image_id": "p01", "diagnosis": "nv", "sex": "F"},
            {"image_id": "p02", "diagnosis": "unknown", "sex": ""},
        ],
    )
    prepared = Prepared(root)
    assert prepared.rejected == {("p00", "unknown_label")}
    assert (prepared.records["p01"].diagnosis, prepared.records["p01"].sex) == ("nevus", "female")
    assert prepared.records["p02"].diagnosis is None
    again = prepare(root, tmp_path / "o2", PrepareOptions(size=48, labels={"melanomma": "melanoma"}))
    assert again.rejected == {}
    assert again.adjusted == {"sex_dropped": 1}
    assert read_metadata(tmp_path / "o2")[0].diagnosis == "melanoma"


def test_unknown_split_name(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    write_csv(root / "metadata.csv", [{"image_id": "p00", "split": "holdout"}, {"image_id": "p01", "split": "train"}])
    assert Prepared(root).rejected == {("p00", "unknown_split")}


def test_two_tables_are_not_guessed_between(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "src", 2)
    (root / "metadata.csv").rename(root / "a.csv")
    write_csv(root / "b.csv", [{"image_id": "p00"}])
    with pytest.raises(InputError, match=r"a\.csv, b\.csv"):
        Prepared(root)


def test_unicode_names_match_in_either_normal_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "nävus_é_皮膚") for form in ("NFC", "NFD"))
    assert composed != decomposed
    root = tmp_path / "src"
    save(pixels("u"), root / "images" / f"{decomposed}.png")
    save(disc(), root / "masks" / f"{composed}_mask.png")
    save(pixels("v"), root / "images" / "v.png")
    write_csv(root / "metadata.csv", [{"image_id": composed, "diagnosis": "nevus"}, {"image_id": "v", "diagnosis": ""}])
    prepared = Prepared(root)
    record = prepared.records[decomposed]
    assert record.diagnosis == "nevus"
    assert record.file_name == f"images/{composed}.png"
    np.testing.assert_array_equal(prepared.mask(decomposed), disc())


# -- strict, and nothing left


def test_strict_stops_before_any_picture_is_decoded(source: Path) -> None:
    save(disc(), source / "masks" / "bad.png")
    with pytest.raises(InputError, match="mask_without_image"):
        prepare(source, source.parent / "out", PrepareOptions(size=48), strict=True)
    assert not (source.parent / "out" / "metadata.jsonl").exists()


@pytest.mark.parametrize("kind", ["picture", "repeat"])
def test_strict_stops_at_a_bad_picture_and_without_it_the_run_ends(source: Path, kind: str) -> None:
    if kind == "picture":
        (source / "images" / "bad.png").write_bytes(b"x")
    else:
        save(pixels("good1"), source / "images" / "bad.png")
    with pytest.raises(InputError, match=r"bad: (not_an_image|duplicate_content)|good1: duplicate_content"):
        prepare(source, source.parent / "out", PrepareOptions(size=48), strict=True)
    assert prepare(source, source.parent / "out", PrepareOptions(size=48)).counts["records"] == 2


def test_nothing_usable_says_why(tmp_path: Path) -> None:
    (tmp_path / "src" / "images").mkdir(parents=True)
    (tmp_path / "src" / "images" / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no usable photograph: not_an_image \(1\); images/a\.png"):
        prepare(tmp_path / "src", tmp_path / "out", PrepareOptions(size=48))
