"""The invisible watermark."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.phantom import draw_phantom
from skindualgen.marks.embed import image_png
from skindualgen.marks.watermark import BUDGET, add_watermark, detect, watermark_score


def phantom(index: int, size: int = 128) -> Image.Image:
    return Image.fromarray(draw_phantom(index, size=size).image)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize("index", range(4))
def test_the_mark_is_found_where_it_is_and_only_there(index: int) -> None:
    image = phantom(index)
    assert not detect(image) and detect(add_watermark(image))


def test_it_survives_jpeg_and_other_sizes() -> None:
    marked = add_watermark(phantom(0))
    assert detect(jpeg(marked, 75))
    assert detect(marked.resize((64, 64), Image.Resampling.LANCZOS))
    assert detect(marked.resize((300, 300), Image.Resampling.BICUBIC))


def test_pictures_that_are_not_square() -> None:
    wide = phantom(1, 192).crop((0, 20, 192, 164))
    assert not detect(wide) and detect(add_watermark(wide))


def test_cropping_loses_it() -> None:
    """What the documentation says it does not survive."""
    assert not detect(add_watermark(phantom(2)).crop((4, 4, 124, 124)))


@pytest.mark.parametrize("index", range(4))
def test_what_is_added_stays_in_the_budget_and_has_no_colour(index: int) -> None:
    image = phantom(index).point(lambda value: 20 + value * 200 // 255)  # no pixel near 0 or 255, where sums are cut
    added = np.asarray(add_watermark(image), float) - np.asarray(image, float)
    rounding = 1 / 12  # variance of rounding to whole grey levels
    assert 0.9 * BUDGET < np.sqrt((added**2).mean()) < np.sqrt(BUDGET**2 + rounding) * 1.02
    assert (added[..., 0] == added[..., 1]).all() and (added[..., 0] == added[..., 2]).all()
    assert abs(added.mean()) < 0.02


def test_noise_without_the_mark_scores_as_chance() -> None:
    """A hundred pictures of noise: mean 0 and deviation 1, each within four standard errors."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), dtype=np.uint8)
    scores = [watermark_score(Image.fromarray(picture)) for picture in noise]
    assert abs(np.mean(scores)) < 0.4 and 0.7 < np.std(scores) < 1.3


def test_the_signs_are_those_of_the_payload() -> None:
    """A version with other signs would not find the marks of this one: they are written out a second time."""
    bits = int.from_bytes(hashlib.shake_256(b"skindualgen synthetic").digest(450), "big")
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    added = np.asarray(add_watermark(grey), float)[..., 0] - 128
    wave = np.cos(np.pi * np.outer(np.arange(64), np.arange(64) + 0.5) / 64)  # [frequency, pixel], DCT-II by its sum
    frequencies = wave @ added @ wave.T
    right = total = 0
    for row in range(60):
        for column in range(60):
            if 16 <= np.hypot(row, column) < 60:
                sign = bits >> (3600 - 1 - (60 * row + column)) & 1
                right += (frequencies[row, column] > 0) == sign
                total += 1
    assert total == 2665 and right > 0.99 * total  # rounding to grey levels turns some
    assert watermark_score(add_watermark(grey)) == pytest.approx((2 * right - total) / np.sqrt(total), abs=0.2)


def test_small_pictures_and_masks_are_refused() -> None:
    with pytest.raises(InputError, match="63x64 px"):
        add_watermark(Image.new("RGB", (63, 64)))
    with pytest.raises(InputError, match="63x64 px"):
        watermark_score(Image.new("RGB", (63, 64)))
    with pytest.raises(InputError, match="masks are never marked"):
        add_watermark(Image.new("L", (64, 64)))


def test_image_files_carry_it_when_asked() -> None:
    record = PairRecord(file_name="a.png", isic_id="a", origin="synthetic")
    image = phantom(3)
    for wanted in (False, True):
        data = image_png(image, record, watermark=wanted)
        assert detect(Image.open(io.BytesIO(data))) == wanted
