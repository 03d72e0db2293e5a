"""What the words and figures of the show's report mean: key -> (name, explanation)."""

from __future__ import annotations

from skindualgen.demo.results import AREA_RANGE, LEAST_COMPACTNESS

DEFINITIONS = {
    "dice": (
        "Agreement (Dice)",
        "Twice the area two masks share, over the sum of their areas: 1 = the same mask, 0 = no overlap. Two experts "
        "who outline the same ISIC photograph reach 0.78 on average (median 0.86).",
    ),
    "self": (
        "Self-agreement (Dice)",
        "The model draws photograph and mask together. Then it is shown the photograph alone and reads a mask from it. "
        "The Dice of both says whether the drawn mask sits on the drawn lesion; no lesion counts 0. It is "
        "the model judging itself; what an independent segmenter says is in docs/results.",
    ),
    "plausible": (
        "Plausible mask",
        f"One piece, {AREA_RANGE[0]:.1%} to {AREA_RANGE[1]:.1%} of the picture, compactness (4π area / perimeter²) of "
        f"at least {LEAST_COMPACTNESS}: what the 1st to 99th percentiles of 1559 expert masks allow. About 4 % of "
        "those fail.",
    ),
    "variety": (
        "Variety",
        "Each photograph's distance to the most similar other one in its row, in bits of a 64-bit perceptual hash, "
        "averaged. 0 would be twins. Real photographs of ISIC 2017 have 24 among eight and 21 among twenty-four.",
    ),
    "area": ("Lesion area", "Share of the picture that the mask covers, mean over the row."),
    "time": (
        "Seconds a pair",
        "Wall-clock time of drawing all pairs over their number, on this machine, with whatever else ran on it.",
    ),
}
