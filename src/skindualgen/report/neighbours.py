"""Generated pairs beside the real photographs that are nearest to them, as one picture."""

from __future__ import annotations

from PIL import Image

from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.neighbours import nearest_few
from skindualgen.judges.pictures import PictureSet
from skindualgen.sample.sheet import pair_sheet


def neighbour_sheet(
    *, generated: PictureSet, real: PictureSet, extractor: FeatureExtractor, count: int = 3
) -> Image.Image:
    """Draw a row for each generated pair: itself, and its nearest real ones with their distances and ids.

    Distances are Euclidean between the extractor's features, each generated photograph taken in the nearest of its
    eight flips and quarter turns, as the search for copies takes them.

    Raises:
        InputError: nothing real to compare with.
    """
    found = nearest_few(generated.view_features(extractor), real.features(extractor), count)
    images, masks, labels = [], [], []
    for row, record in enumerate(generated.data):
        shown = [(generated, row, record.isic_id)]
        for place, distance in zip(found.index[row], found.distance[row], strict=True):
            shown.append((real, int(place), f"{distance:.2f} {real.ids[place]}"))
        images += [Image.fromarray(of.images[place]) for of, place, _ in shown]
        masks += [Image.fromarray(of.masks[place]).convert("L") for of, place, _ in shown]
        labels += [label for *_, label in shown]
    return pair_sheet(images, masks, columns=1 + found.index.shape[1], labels=labels)
