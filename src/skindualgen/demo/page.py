"""The show's results as a report."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from PIL import Image

from skindualgen.demo.results import (
    AREA_RANGE,
    LEAST_COMPACTNESS,
    DrawnPair,
    Filling,
    Reading,
    Show,
    Training,
    moving_average,
    variety,
)
from skindualgen.files import versions
from skindualgen.report.page import (
    Chart,
    Column,
    Curve,
    Group,
    Headline,
    Outline,
    Report,
    Section,
    Step,
    Table,
    Tile,
)

AVERAGE_WINDOW = 5
"""Logged steps over which the loss curve is averaged."""
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
"""What words and figures of the report mean: key -> (name, explanation)."""


def build_report(show: Show) -> Report:
    """Arrange what has been measured so far; parts that were not done are left out."""
    sections = [_pairs_section(show), _scores_section(show.pairs)]
    if show.readings:
        sections.append(_readings_section(show.readings, show.source))
    if show.fillings:
        sections.append(_fillings_section(show.fillings))
    if show.training is not None:
        sections.append(_training_section(show.training, show.readings, show.source))
    return Report(
        title=f"{len(show.pairs)} labelled lesions, drawn on this machine",
        subtitle=(
            "From one line of text, one diffusion pass draws a dermoscopic photograph and its lesion mask together. "
            "Nobody photographed these lesions and nobody outlined them. Left of each line the photograph, right of it "
            "the mask that came with it."
        ),
        hero=[_hero_tile(diagnosis, row) for diagnosis, row in _rows(show.pairs)],
        headlines=_headlines(show),
        sections=sections,
        definitions=DEFINITIONS,
        next_steps=_next_steps(show),
        record=_record(show),
    )


def _rows(pairs: Sequence[DrawnPair]) -> list[tuple[str, list[DrawnPair]]]:
    names = list(dict.fromkeys(pair.diagnosis for pair in pairs))
    return [(name, [pair for pair in pairs if pair.diagnosis == name]) for name in names]


def _hero_tile(diagnosis: str, row: Sequence[DrawnPair]) -> Tile:
    """The pair of median agreement: typical, not the best."""
    typical = sorted(row, key=lambda pair: pair.agreement)[len(row) // 2]
    return Tile(typical.image, f"generated {diagnosis}", [Outline(typical.mask, "mask")], caption=diagnosis)


def _headlines(show: Show) -> list[Headline]:
    scores = [pair.agreement for pair in show.pairs]
    plausible = sum(pair.plausible for pair in show.pairs)
    headlines = [
        Headline(str(len(show.pairs)), "photograph–mask pairs"),
        Headline(f"{show.seconds_per_pair:.1f} s", "for a pair", "time"),
        Headline(f"{statistics.median(scores):.2f}", "median self-agreement", "self"),
        Headline(f"{plausible} / {len(show.pairs)}", "plausible masks", "plausible"),
    ]
    measured = [reading.agreement for reading in show.readings if reading.given is not None]
    if measured:
        headlines.append(Headline(f"{statistics.mean(measured):.2f}", "mean Dice, photograph → mask", "dice"))
    return headlines


def _pairs_section(show: Show) -> Section:
    groups = [Group(name, [_pair_tile(pair) for pair in row], quote=row[0].prompt) for name, row in _rows(show.pairs)]
    told = "none was picked or left out"
    if show.candidates > 1:
        told = (
            f"a classifier kept each as the best of {show.candidates} for its diagnosis, and none of these was left out"
        )
    return Section(
        "pairs",
        "Text → pair",
        f"Every pair of this seed is shown; {told}. Open one to see its seed and scores, or switch "
        "between outline, mask and photograph above.",
        groups,
        badge_label="self-agreement (Dice)",
    )


def _pair_tile(pair: DrawnPair) -> Tile:
    facts = {
        "Prompt": pair.prompt,
        "Seed": str(pair.seed),
        "Self-agreement (Dice)": f"{pair.agreement:.3f}",
        "Lesion area": f"{pair.shape.area_fraction:.1%}",
        "Compactness": f"{pair.shape.compactness:.2f}",
        "Mask": "plausible" if pair.plausible else "outside what expert masks show",
    }
    outline = [Outline(pair.mask, "mask drawn together with the photograph")]
    return Tile(
        pair.image, f"generated {pair.diagnosis}, seed {pair.seed}", outline, "", f"{pair.agreement:.2f}", facts
    )


def _scores_section(pairs: Sequence[DrawnPair]) -> Section:
    rows = [(name, _scores(row)) for name, row in _rows(pairs)]
    columns = [
        Column("Pairs", digits=0),
        Column("Self-agreement, mean", "self", best=1.0),
        Column("Plausible masks", "plausible", digits=0, best=100.0, unit="%"),
        Column("Lesion area", "area", digits=0, unit="%"),
        Column("Variety", "variety", digits=0, unit="of 64 bits"),
    ]
    return Section(
        "scores",
        "Scores",
        "Cheap checks that run without any outside model. They find masks off the lesion, implausible shapes and a "
        "model that repeats itself; they do not tell whether a dermatologist would believe the picture.",
        tables=[Table("Diagnosis", columns, [*rows, ("all", _scores(pairs))])],
        note="What independent judges say (a segmenter, a classifier, distances to real photographs) is in "
        "docs/results/micro.md.",
    )


def _scores(pairs: Sequence[DrawnPair]) -> list[float]:
    return [
        float(len(pairs)),
        statistics.mean(pair.agreement for pair in pairs),
        100 * statistics.mean(pair.plausible for pair in pairs),
        100 * statistics.mean(pair.shape.area_fraction for pair in pairs),
        variety([pair.image for pair in pairs]),
    ]


def _readings_section(readings: Sequence[Reading], source: str) -> Section:
    tiles = [_reading_tile(reading) for reading in readings]
    return Section(
        "reading",
        "Photograph → mask",
        f"The same weights, asked the other way round: the photograph is given, the mask is drawn. {source}",
        [Group("Photographs read", tiles)],
        badge_label="Dice with the given mask" if any(tile.badge for tile in tiles) else "",
    )


def _reading_tile(reading: Reading) -> Tile:
    outlines = [Outline(reading.mask, "mask read by the model")]
    facts = {"Photograph": reading.name}
    badge = ""
    if reading.given is not None:
        outlines.append(Outline(reading.given, "given mask", "given"))
        badge = f"{reading.agreement:.2f}"
        facts["Dice with the given mask"] = f"{reading.agreement:.3f}"
    return Tile(reading.image, f"photograph {reading.name}", outlines, reading.diagnosis, badge, facts)


def _fillings_section(fillings: Sequence[Filling]) -> Section:
    groups = []
    for index, given in enumerate(_distinct([filling.given for filling in fillings])):
        same = [filling for filling in fillings if filling.given is given]
        tiles = [Tile(given.convert("L"), "the given mask", caption="the given mask")]
        for filling in same:
            outline = Outline(filling.given, "given mask", "given")
            facts = {"Diagnosis asked for": filling.diagnosis, "Agreement (Dice)": f"{filling.agreement:.3f}"}
            alt = f"generated {filling.diagnosis} in a given mask"
            tiles.append(Tile(filling.image, alt, [outline], filling.diagnosis, f"{filling.agreement:.2f}", facts))
        groups.append(Group(f"Mask {index + 1}", tiles))
    return Section(
        "filling",
        "Mask → photograph",
        "Draw an outline, name a diagnosis: the photograph is made to fit. One mask can be filled in many ways, which "
        "is how rare classes get more examples.",
        groups,
        badge_label="Dice of the given mask and the one read back from the photograph",
    )


def _distinct(images: Sequence[Image.Image]) -> list[Image.Image]:
    return list({id(image): image for image in images}.values())


def _training_section(training: Training, before: Sequence[Reading], source: str) -> Section:
    """The loss curve, and the photographs of the reading section read again, with what was read before."""
    smooth = moving_average(training.losses, AVERAGE_WINDOW)
    curves = [
        Curve("each logged step", training.steps, training.losses, emphasis=False),
        Curve(f"mean of {AVERAGE_WINDOW}", training.steps, smooth),
    ]
    kept_out = (
        "The photographs read here were kept out of it." if training.held_out else "It saw the photographs read here."
    )
    count = sum(reading.given is not None for reading in training.readings)
    tables = []
    if count:
        columns = [Column("Photographs", digits=0), Column("Mean Dice", "dice", digits=3, best=1.0)]
        rows = [("before", [count, _mean_agreement(before)]), ("after", [count, _mean_agreement(training.readings)])]
        tables.append(Table("Photograph → mask", columns, rows))
    return Section(
        "training",
        "Training",
        f"The adapter, trained further for {training.seconds:.0f} seconds on {training.pairs} pairs with the ordinary "
        f"prepare and train commands. {source} {kept_out}",
        groups=[Group("Read again after the training", [_reading_tile(reading) for reading in training.readings])],
        badge_label="Dice with the given mask" if count else "",
        tables=tables,
        chart=Chart("training step", "loss", curves) if len(training.losses) > 1 else None,
        note="So short a run shows that training works, not how good it gets.",
    )


def _mean_agreement(readings: Sequence[Reading]) -> float:
    return statistics.mean(reading.agreement for reading in readings if reading.given is not None)


def _next_steps(show: Show) -> list[Step]:
    return [
        Step(
            "Your own photographs",
            "A folder with images/ and masks/ is enough, and so are the ISIC challenge folders, HAM10000 and PH2. "
            "Photographs without masks get masks.",
            "make demo DATA=path/to/folder",
        ),
        Step(
            "As many pairs as you like",
            "Written as a data set with prompts, seeds and hashes; loads with datasets.load_dataset('imagefolder').",
            "skindualgen generate --adapter builtin --out pairs -n 100 --seed 1 \\\n"
            '  --prompt "a dermoscopic image of a melanoma"',
        ),
        Step(
            "From Python",
            "A diffusers pipeline: prompt, image= or mask_image= go in, images and masks come out.",
            "from skindualgen import SkinDualGenPipeline\n\n"
            'pipe = SkinDualGenPipeline.from_adapter("builtin")\n'
            'pair = pipe("a dermoscopic image of a melanoma")\n'
            "pair.images[0], pair.masks[0]",
        ),
        Step(
            "Stable Diffusion 2.0",
            "The bundled model is small on purpose. The same commands adapt Stable Diffusion 2.0 at 512 px on your own "
            "pairs, given a GPU and a local copy of its weights.",
            "skindualgen prepare path/to/folder data --size 512\n"
            "skindualgen train --data data --base path/to/stable-diffusion-2-base \\\n  --out runs/sd2",
        ),
    ]


def _record(show: Show) -> dict[str, str]:
    record = {
        "Seed": str(show.seed),
        "Denoising steps": str(show.num_inference_steps),
        "Guidance scale": f"{show.guidance_scale:g}",
        "Candidates of each pair": str(show.candidates),
        "Size": f"{show.pairs[0].image.width} × {show.pairs[0].image.height} px",
        "Data": show.source,
    }
    return record | versions() | {f"Remark {index}": remark for index, remark in enumerate(show.remarks, start=1)}
