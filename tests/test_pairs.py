"""A photograph and its mask stay aligned, whatever is done to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import write_dataset
from skindualgen.data.pairs import TURNS, View, draw_view, load_pair, read_pairs
from skindualgen.metrics.masks import dice

RECORD = PairRecord(file_name="images/a.png", mask_file_name="masks/a.png", isic_id="a")


def write(root: Path, mask: np.ndarray) -> Path:
    """Write a pair whose picture is white where the mask is."""
    for folder, picture in (("images", np.repeat(mask[..., None], 3, axis=2)), ("masks", mask)):
        (root / folder).mkdir(exist_ok=True)
        Image.fromarray(picture).save(root / folder / "a.png")
    return root


@pytest.fixture(scope="module")
def flag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shape that none of the square's symmetries maps onto itself: a flag on its pole."""
    mask = np.zeros((96, 96), np.uint8)
    mask[16:80, 24:36] = 255
    mask[16:40, 36:72] = 255
    return write(tmp_path_factory.mktemp("flag"), mask)


@pytest.mark.parametrize("turn", range(TURNS))
def test_every_symmetry_moves_both_alike(flag: Path, turn: int) -> None:
    image, mask = load_pair(flag, RECORD, 96, View(turn=turn))
    assert mask is not None
    assert torch.equal((image + 1) / 2, mask.expand(3, -1, -1))


def test_the_symmetries_are_eight_different_ones(flag: Path) -> None:
    masks = [load_pair(flag, RECORD, 96, View(turn=turn))[1] for turn in range(TURNS)]
    assert all(not torch.equal(masks[i], masks[j]) for i in range(TURNS) for j in range(i))


@settings(max_examples=40)
@given(
    st.builds(View, st.floats(0.5, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, TURNS - 1)),
    st.sampled_from([48, 64, 96, 128]),
)
def test_any_view_keeps_them_aligned(flag: Path, view: View, size: int) -> None:
    image, mask = load_pair(flag, RECORD, size, view)
    assert mask is not None
    assert image.shape == (3, size, size) and mask.shape == (1, size, size)
    assert image.min() >= -1 and image.max() <= 1
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    if mask.mean() > 0.05:
        assert dice(image[0].numpy() > 0, mask[0].numpy() > 0) > 0.93


def test_a_crop_by_hand(tmp_path: Path) -> None:
    """Half the side, at the right (left = 1) and at the top: the upper right quarter, doubled by nearest neighbour."""
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 4] = mask[3, 7] = 255
    _, cut = load_pair(write(tmp_path, mask), RECORD, 8, View(zoom=0.5, left=1.0, top=0.0))
    expected = torch.zeros(1, 8, 8)
    expected[0, :2, :2] = 1
    expected[0, 6:, 6:] = 1
    assert cut is not None and torch.equal(cut, expected)


def test_a_plain_view_of_an_oblong_picture_is_its_centre(tmp_path: Path) -> None:
    mask = np.zeros((8, 12), np.uint8)
    mask[:, 2] = mask[2, 9] = 255  # first and last column of the centre square
    image, cut = load_pair(write(tmp_path, mask), RECORD, 8)
    assert cut is not None
    assert cut[0, :, 0].all() and cut[0, 2, 7] == 1 and cut.sum() == 9
    assert torch.equal((image[:1] + 1) / 2, cut)


def test_grey_mask_edges_are_cut_at_the_middle(tmp_path: Path) -> None:
    """Of an anti-aliased outline; a mask of a few levels far apart is a question, and not cut anywhere."""
    row = np.array([0] * 100 + [1, 20, 60, 110, 127, 128, 140, 180, 230, 250] + [255] * 146, np.uint8)
    _, cut = load_pair(write(tmp_path, np.tile(row, (256, 1))), RECORD, 256)
    assert cut is not None and torch.equal(cut[0, 0], torch.from_numpy(row >= 128).float())
    with pytest.raises(InputError, match=r"masks/a\.png: mask_levels: 4 levels, 0 \(25.0%\), 127 \(25.0%\)"):
        load_pair(write(tmp_path, np.array([[0, 127, 128, 255]] * 4, np.uint8)), RECORD, 4)


def test_colours_and_range(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16), (255, 0, 51)).save(tmp_path / "images" / "a.png")
    image, mask = load_pair(tmp_path, PairRecord(file_name="images/a.png", isic_id="a"), 8)
    assert mask is None
    torch.testing.assert_close(image[:, 3, 3], torch.tensor([1.0, -1.0, -0.6]))


def test_views_are_a_function_of_their_place() -> None:
    view = draw_view(3, 5, seed=7, min_zoom=0.8)
    assert view == draw_view(3, 5, seed=7, min_zoom=0.8)
    others = {draw_view(3, 6, seed=7, min_zoom=0.8), draw_view(4, 5, seed=7, min_zoom=0.8)}
    assert view not in others | {draw_view(3, 5, seed=8, min_zoom=0.8)}
    assert draw_view(3, 0, seed=7, min_zoom=0.8) == View()
    views = [draw_view(i, 1, seed=0, min_zoom=0.8) for i in range(400)]
    assert {v.turn for v in views} == set(range(TURNS))
    assert all(0.8 <= v.zoom <= 1 for v in views)
    assert min(v.zoom for v in views) < 0.82


def test_reading_a_split(phantom_data: Path, tmp_path: Path) -> None:
    assert len(read_pairs(phantom_data, "train")) == 12
    assert len(read_pairs(phantom_data, "val")) == 4
    with pytest.raises(InputError, match="'test'"):
        read_pairs(phantom_data, "test")
    write_dataset(tmp_path, [], made_by={})
    with pytest.raises(InputError, match="without any pair"):
        read_pairs(tmp_path, None)
