"""The study of the sliders for looks, and the timing of four passes beside forty."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from skindualgen.data.appearance import SCALES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

import few_calls
import sliders

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


def test_words_that_were_measured_have_their_place_on_the_slider() -> None:
    assert sliders.place_of("size", SCALES["size"][0]) == 1
    assert sliders.place_of("lesion_colour", "dark vivid red brown") == 3
    assert sliders.place_of("lesion_colour", "darkish gray") == 4
    assert sliders.place_of("border", "") == 2.5
    assert np.isnan(sliders.place_of("shape", ""))
    for name, words in SCALES.items():
        assert [sliders.place_of(name, word) for word in words] == list(range(1, len(words) + 1))


def test_pictures_that_follow_have_a_correlation_of_one() -> None:
    followed = [np.full(4, float(place)) for place in range(3)]
    assert sliders._rank_correlation(*followed) == pytest.approx(1)
    assert sliders._rank_correlation(*followed[::-1]) == pytest.approx(-1)
    assert sliders._rank_correlation(*[np.array([1.0, 2.0])] * 3) == pytest.approx(0)


def test_both_are_written_as_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_calls.main(out=tmp_path, rounds=1, batch=1)
    page = (tmp_path / "few_calls.md").read_text()
    assert "builtin-fast, 4 passes" in page
    assert "| builtin, 20 guided steps, 40 passes |" in page
    monkeypatch.setattr(sliders, "SCALES", {"hair": SCALES["hair"]})
    sliders.main(out=tmp_path, adapters="builtin-fast", seeds=2)
    assert "| builtin-fast | hair | hair to hairy |" in (tmp_path / "sliders.md").read_text()
