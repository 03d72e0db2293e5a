"""What every measure of an evaluation means, for its reader."""

from __future__ import annotations

from collections.abc import Mapping

from skindualgen.evaluation.adherence import word_measure_name
from skindualgen.evaluation.results import Definition
from skindualgen.judges.novelty import NEAR_COPY_QUANTILE
from skindualgen.metrics.adherence import ORDERED_WORDS
from skindualgen.metrics.fidelity import NEIGHBOURS
from skindualgen.metrics.mask_tables import DISTANCE, SHIFT
from skindualgen.metrics.masks import BOUNDARY_TOLERANCE
from skindualgen.metrics.scores import CLASSIFICATION_METRICS
from skindualgen.metrics.skin_tone import CATEGORIES, tone_share_name

FIDELITY: Mapping[str, Definition] = {
    "frechet": Definition(
        title="Fréchet distance",
        short="Fréchet",
        text="Squared distance of two Gaussians fitted to the features of generated and of real photographs. 0 is "
        "best. It is called FID on Inception's features only, and depends on the numbers of photographs: read it "
        "next to real against real at the same numbers.",
        better="lower",
    ),
    "kid": Definition(
        title="Kernel distance (KID)",
        short="KID",
        text="Squared maximum mean discrepancy of the features with a cubic kernel, unbiased: two sets of one kind "
        "have 0 on average, and can lie below it.",
        better="lower",
    ),
    "precision": Definition(
        title="Precision",
        short="Precision",
        text=f"Share of generated photographs that lie among real ones: within the distance of some real photograph to "
        f"its {NEIGHBOURS}th neighbour. Low where pictures are unlike any real one.",
        better="as the reference",
    ),
    "recall": Definition(
        title="Recall",
        short="Recall",
        text=f"Share of real photographs that lie among generated ones: within the distance of some generated "
        f"photograph to its {NEIGHBOURS}th neighbour. Low where the generator draws a part of what there is.",
        better="as the reference",
    ),
    "density": Definition(
        title="Density",
        short="Density",
        text="How many real photographs' neighbourhoods a generated one lies in, over what is expected: about 1 for "
        "two sets of one kind, more where pictures crowd on the most usual.",
        better="as the reference",
    ),
    "coverage": Definition(
        title="Coverage",
        short="Coverage",
        text="Share of real photographs with a generated one in their neighbourhood. Low where kinds of lesion are "
        "never drawn.",
        better="as the reference",
    ),
}

AGREEMENT: Mapping[str, Definition] = {
    "agreement_dice": Definition(
        title="Agreement, Dice",
        short="Dice",
        text="Overlap of the mask that came with the photograph and the one that an independent segmenter, trained on "
        "the real train split, draws on it: 2 |A and B| / (|A| + |B|), mean.",
        better="as the reference",
    ),
    "agreement_iou": Definition(
        title="Agreement, IoU",
        short="IoU",
        text="The same overlap as |A and B| / |A or B|, mean.",
        better="as the reference",
    ),
    "agreement_hd95_px": Definition(
        title="Agreement, HD95",
        short="HD95",
        text="95th percentile of the distances between the two borders in the worse direction, mean, in px of the "
        "compared size; the picture's diagonal where one of the masks is empty.",
        unit="px",
        better="as the reference",
    ),
    "agreement_boundary_f": Definition(
        title="Agreement, boundary F",
        short="Boundary F",
        text=f"F1 score of the border pixels that lie within {BOUNDARY_TOLERANCE:.2%} of the diagonal (rounded up to a "
        "pixel) of the other border, mean.",
        better="as the reference",
    ),
    "agreement_gap": Definition(
        title="Agreement short of real",
        short="Dice short of real",
        text="Mean Dice of the segmenter with the experts' masks of held-out real photographs, minus its mean Dice "
        "with generated masks. 0: generated masks fit their photographs as well as experts' do. Below 0: better than "
        "that, as for easy pictures.",
        better="lower",
    ),
}

DIAGNOSIS: Mapping[str, Definition] = {
    "class_balanced_accuracy": Definition(
        title="Prompted diagnosis, balanced accuracy",
        short="Mean of hits",
        text="An independent classifier, trained on the real train split, reads the diagnosis; compared with the "
        "prompted one. Share of hits within each diagnosis, mean over all k diagnoses: 1 / k is chance.",
        better="as the reference",
    ),
    "class_accuracy": Definition(
        title="Prompted diagnosis, hits",
        short="Hits",
        text="Share of the photographs of one prompted (or true) diagnosis that the classifier reads as that.",
        better="as the reference",
    ),
    "class_auroc": Definition(
        title="Prompted diagnosis, AUROC",
        short="AUROC",
        text=CLASSIFICATION_METRICS["macro_auroc"].definition + " Prompted diagnoses count as the truth.",
        better="as the reference",
    ),
    "taught_accuracy": Definition(
        title="Train on generated, test on real",
        short="Accuracy taught",
        text="Balanced accuracy on held-out real photographs of a logistic regression on frozen features, trained on "
        "generated photographs, the same number of each diagnosis; read it next to one trained on as many real ones. "
        "Fidelity, diagnosis and variety all enter it: it tells best what the pictures are good for.",
        better="higher",
    ),
    "taught_share": Definition(
        title="Share of what real photographs teach",
        short="Share taught",
        text="The accuracy taught by generated photographs less that of guessing, over the same for as many real "
        "photographs: 1 teaches as much as real photographs, 0 nothing. The interval takes the real one as given.",
        better="higher",
    ),
}

MEMORISATION: Mapping[str, Definition] = {
    "near_copy_rate": Definition(
        title="Near-copies",
        short="Near-copies",
        text="Share of generated photographs that two rules, over 8 flips and quarter turns, take for copies of a "
        "training photograph: nearer to it in feature space, or fitting it better when laid over it, than unseen real "
        f"photographs do. Of unseen real photographs they would flag {NEAR_COPY_QUANTILE:.0%}.",
        better="lower",
    ),
    "closer_than_held_out": Definition(
        title="Nearer to training than unseen real",
        short="Nearer to training than unseen real",
        text="Chance that a generated photograph is nearer to its training neighbour, in feature space, than an unseen "
        "real one is to its own: 0.5 if as new as real ones, 1 if all are copies. Above 0.5 also where pictures are "
        "blander than real ones.",
        better="as the reference",
    ),
    "fits_better_than_held_out": Definition(
        title="Fits training better than unseen real",
        short="Fits training better than unseen real",
        text="The same chance for the fit after laying the photograph over a training photograph, which survives "
        "compression, crops and changes of colour.",
        better="as the reference",
    ),
    "duplicate_rate": Definition(
        title="Duplicates",
        short="Duplicates",
        text="Share of generated photographs that are near-copies of another generated one, by the same two rules.",
        better="lower",
    ),
}


SHAPES: Mapping[str, tuple[str, str]] = {
    "area_fraction": ("Lesion area", "Share of the picture that is lesion."),
    "eccentricity": ("Eccentricity", "Of the ellipse with the same second moments: 0 is a circle, towards 1 a line."),
    "compactness": (
        "Compactness",
        "4 pi area / perimeter squared: about 1 for a disc, smaller for a long or ragged lesion.",
    ),
    "border_irregularity": (
        "Border irregularity",
        "Perimeter over that of the convex hull, of the largest piece: 1 if nothing is indented.",
    ),
    "asymmetry": ("Asymmetry", "Share of the lesion without counterpart across its principal axes, mean of both."),
    "components": ("Pieces", "8-connected pieces of the mask."),
    "touches_border": ("Cut by the edge", "Share of masks that reach the picture's edge."),
}
"""Statistic -> title and text."""

ITA = (
    "Individual typology angle of the skin around the lesion, in degrees: the higher, the lighter. Lesion, hair, "
    "marks, reflections and dark corners are left out. It compares sets that were taken alike."
)

SKIN_TONE: Mapping[str, Definition] = {
    "ita_mean": Definition(
        title="Skin tone (ITA), mean", short="ITA, mean", text=ITA, unit="°", better="as the reference"
    ),
    "ita_distance": Definition(
        title="Skin tone distance",
        short="Distance",
        text="Mean number of degrees by which the angles of one set must move to become those of the other "
        f"(Wasserstein), at the sizes at which two parts of the real set are compared. {ITA}",
        unit="°",
        better="lower",
    ),
    **{
        tone_share_name(category): Definition(
            title=f"{category.capitalize()} skin",
            short=category.capitalize(),
            text=f"Share of photographs with “{category}” skin, in the categories of Del Bino and Bernerd, 2013. {ITA}",
            better="as the reference",
        )
        for category in CATEGORIES
    },
    "skin_unmeasured": Definition(
        title="Without measurable skin",
        short="Without measurable skin",
        text="Share of photographs that show too little skin, or too disturbed, for its tone to be measured.",
        better="as the reference",
    ),
}


ADHERENCE: Mapping[str, Definition] = {
    **{
        word_measure_name(attribute): Definition(
            title=f"Prompted {attribute}",
            short=attribute.capitalize(),
            text=f"Chance that of two photographs with different words in their prompts ({' < '.join(words.words)}) "
            f"the measure {words.measure} orders them as the words do: 0.5 is chance, 1 perfect.",
            better="higher",
        )
        for attribute, words in ORDERED_WORDS.items()
    },
    "site_balanced_accuracy": Definition(
        title="Prompted body site, balanced accuracy",
        short="Mean of hits",
        text="An independent classifier of body sites, trained on the real train split, reads the site; compared with "
        "the prompted one. Share of hits within each site, mean over the sites.",
        better="as the reference",
    ),
    "site_accuracy": Definition(
        title="Prompted body site, hits",
        short="Hits",
        text="Share of the photographs of one prompted (or true) site that the classifier reads as that.",
        better="as the reference",
    ),
    "site_gap": Definition(
        title="Body site short of real",
        short="Short of real",
        text="Balanced accuracy of the classifier of sites on held-out real photographs, minus that on generated ones, "
        "over the sites of both.",
        better="lower",
    ),
}


def _shape_definitions() -> dict[str, Definition]:
    found = {}
    for name, (title, text) in SHAPES.items():
        found[name] = Definition(title=title, short=title, text=f"{text} Mean.", better="as the reference")
        found[name + DISTANCE] = Definition(
            title=f"{title}, distance",
            short="Distance (KS)",
            text=f"{text} Largest difference of the cumulative shares of generated and real masks "
            "(Kolmogorov-Smirnov), 0 to 1, at the sizes at which two parts of the real set are compared.",
            better="lower",
        )
        found[name + SHIFT] = Definition(
            title=f"{title}, shift",
            short="Shift (SD)",
            text=f"{text} Mean amount by which the values of one set must move to become those of the other "
            "(Wasserstein), in standard deviations of the real ones, at those same sizes.",
            better="lower",
        )
    return found


def _against_train(definition: Definition) -> Definition:
    text = f"{definition.text} Here against the train split, which the generator may have seen."
    return definition.model_copy(update={"title": f"{definition.title}, against train", "text": text})


DEFINITIONS: dict[str, Definition] = {
    **FIDELITY,
    **{f"{name}_against_train": _against_train(definition) for name, definition in FIDELITY.items()},
    "frechet_ratio_to_floor": Definition(
        title="Fréchet distance / real against real",
        short="Fréchet / real",
        text="Fréchet distance in multiples of that of two disjoint real sets of the same numbers.",
        better="lower",
    ),
    **AGREEMENT,
    **_shape_definitions(),
    **DIAGNOSIS,
    **ADHERENCE,
    **MEMORISATION,
    **SKIN_TONE,
}
