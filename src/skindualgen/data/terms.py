"""The field's terms: the ISIC Archive's names of diagnoses, sites and sexes, and how English says the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

UNKNOWN_LESION = "skin lesion"
NOT_KNOWN = frozenset(
    {
        *("", "unknown", "unk", "nan", "none", "null", "n/a", "na", "not known", "other/unknown"),
        *("<na>", "#n/a", "n.a.", "-", "--", "?", "missing", "not available", "not specified", "unspecified"),
        *("#ref!", "#value!", "#name?", "#num!", "#div/0!", "#null!", "n/d", "s/d", "nd", ".", "..."),
        *("unbekannt", "k.a.", "keine angabe", "desconocido", "desconocida", "inconnu", "inconnue", "sconosciuto"),
    }
)
MAX_AGE_YEARS = 120

DIAGNOSIS_TERMS: Mapping[str, str] = {
    # codes of ISIC 2019 (Combalia et al., arXiv 1908.02288) and HAM10000 (Tschandl et al., arXiv 1803.10417)
    "mel": "melanoma",
    "nv": "nevus",
    "bcc": "basal cell carcinoma",
    "ak": "actinic keratosis",
    "akiec": "actinic keratosis",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "vasc": "vascular lesion",
    "scc": "squamous cell carcinoma",
    "sk": "seborrheic keratosis",
    # codes of PAD-UFES-20 (Pacheco et al., Data in Brief 32, 2020)
    "ack": "actinic keratosis",
    "nev": "nevus",
    "sek": "seborrheic keratosis",
    "bod": "squamous cell carcinoma in situ",
    # HAM10000's classes written out, and other spellings
    "melanocytic nevi": "nevus",
    "melanocytic naevus": "nevus",
    "melanocytic naevi": "nevus",
    "benign keratosis-like lesion": "benign keratosis",
    "benign keratosis-like lesions": "benign keratosis",
    "vascular lesions": "vascular lesion",
    "actinic keratoses": "actinic keratosis",
    "actinic keratoses and intraepithelial carcinoma": "actinic keratosis",
    "seborrheic keratoses": "seborrheic keratosis",
    "seborrhoeic keratosis": "seborrheic keratosis",
    "naevus": "nevus",
    "nevi": "nevus",
    "naevi": "nevus",
    "melanocytic nevus": "nevus",
    "common nevus": "nevus",
    "bowen disease": "squamous cell carcinoma in situ",
    "bowen's disease": "squamous cell carcinoma in situ",
}
"""Labels that differ from the ISIC Archive's term, keyed in lower case with spaces for underscores."""
SEX_TERMS: Mapping[str, str] = {
    **dict.fromkeys(("m", "man", "männlich", "maennlich", "mann", "masculino", "hombre", "varón", "varon"), "male"),
    **dict.fromkeys(("homme", "masculin", "maschio", "homem", "mannelijk"), "male"),
    **dict.fromkeys(("f", "w", "woman", "weiblich", "frau", "femenino", "feminino", "mujer"), "female"),
    **dict.fromkeys(("femme", "féminin", "feminin", "femmina", "mulher", "vrouwelijk", "vrouw"), "female"),
}
"""Spellings of a sex that differ from the ISIC Archive's term, in lower case."""
OTHER_SEX_LETTERS = frozenset("hv")
"""Next to these (hombre, varón, vrouw), and without an F or W, a column's M may be mujer or mulher as well as male."""
SITE_TERMS: Mapping[str, str] = {
    "head neck": "head/neck",
    "head and neck": "head/neck",
    "head & neck": "head/neck",
    "upper limb": "upper extremity",
    "upper limbs": "upper extremity",
    "upper extremities": "upper extremity",
    "lower limb": "lower extremity",
    "lower limbs": "lower extremity",
    "lower extremities": "lower extremity",
    "palms and soles": "palms/soles",
    "oral and genital": "oral/genital",
    "genital areas": "genital",
    "anterior trunk": "anterior torso",
    "posterior trunk": "posterior torso",
    "lateral trunk": "lateral torso",
}
"""Spellings of a site that differ from the ISIC Archive's general one, in lower case. Narrower ones ("scalp") stay."""

DIAGNOSES = (
    "melanoma",
    "nevus",
    "seborrheic keratosis",
    "basal cell carcinoma",
    "actinic keratosis",
    "benign keratosis",
    "pigmented benign keratosis",
    "lichenoid keratosis",
    "solar lentigo",
    "dermatofibroma",
    "vascular lesion",
    "squamous cell carcinoma",
    "atypical melanocytic proliferation",
    "atypical nevus",
    "angioma",
    "lentigo simplex",
    UNKNOWN_LESION,
)
SITES = (
    "anterior torso",
    "posterior torso",
    "lateral torso",
    "upper extremity",
    "lower extremity",
    "head/neck",
    "palms/soles",
    "oral/genital",
)
SEXES = ("female", "male")
BEHAVIOURS = ("benign", "malignant", "indeterminate")
ATTRIBUTE_WORDS = (
    "symmetric, asymmetric, round, oval, irregular shape, regular border, irregular border",
    "sharp border, blurred border",
    "light brown, dark brown, brown, black, tan, red, pink, white, blue, gray, blue-gray, yellow, skin-colored",
    "one color, two colors, several colors, uniform color, variegated, pigmented, amelanotic, hypopigmented",
    "pigment network, typical pigment network, atypical pigment network, negative network, globules, dots, streaks",
    "blue-white veil, regression structures, milia-like cysts, comedo-like openings, blotch, vessels",
    "ulceration, crust",
    "small, large, flat, raised, homogeneous, reticular, globular, structureless, scaly, waxy, smooth, rough",
    "hair, ruler, gel bubbles, ink mark, sticker, dark corners, vignette, light skin, medium skin, dark skin",
)
"""Words of dermoscopy for shape, colour and structure that own templates and user prompts are likely to hold."""

# How captions say each term (words parted by commas). Words under OWN are narrower, vaguer or other: each stands for
# itself, so that it is never taken for a term. A plural in "s" need not be listed.
OWN = ""
_WORDS: Mapping[str, Mapping[str, str]] = {
    "diagnosis": {
        **{term: term for term in DIAGNOSES if term != UNKNOWN_LESION},
        "nevus": "nevus, naevus, nevi, naevi, mole, melanocytic nevus, melanocytic naevus",
        "atypical nevus": "atypical nevus, atypical naevus, atypical mole, dysplastic nevus, dysplastic naevus",
        "seborrheic keratosis": "seborrheic keratosis, seborrhoeic keratosis, seborrheic keratoses, seborrheic wart",
        "actinic keratosis": "actinic keratosis, actinic keratoses, solar keratosis",
        "basal cell carcinoma": "basal cell carcinoma, bcc",
        "squamous cell carcinoma": "squamous cell carcinoma, scc",
        "angioma": "angioma, hemangioma, haemangioma",
        OWN: "keratosis, keratoses, carcinoma, cancer, tumor, tumour, wart, lentigo, lentigo maligna, blue nevus, "
        "spitz nevus, congenital nevus, melanoma in situ, metastasis, lymphoma, sarcoma, psoriasis, eczema, "
        "dermatitis, cyst, fibroma, lipoma, freckle, birthmark, acne, rash",
    },
    "anatom_site_general": {
        **{site: site for site in SITES},
        "anterior torso": "anterior torso, anterior trunk, front torso, front of the torso, front of the trunk",
        "posterior torso": "posterior torso, posterior trunk, back, back of the torso, back of the trunk",
        "lateral torso": "lateral torso, lateral trunk, flank, side of the torso, side of the trunk",
        "upper extremity": "upper extremity, upper limb, arm",
        "lower extremity": "lower extremity, lower limb, leg",
        "head/neck": "head/neck, head and neck, head or neck",
        "palms/soles": "palms/soles, palms and soles, palms or soles, palm or sole",
        "oral/genital": "oral/genital, oral and genital, oral or genital",
        OWN: "torso, trunk, chest, abdomen, belly, stomach, shoulder, buttock, breast, waist, hip, forearm, upper "
        "arm, elbow, wrist, hand, finger, thigh, knee, calf, ankle, foot, feet, toe, shin, lower leg, lower "
        "back, upper back, head, neck, face, scalp, cheek, nose, forehead, ear, eyelid, lip, chin, temple, "
        "palm, sole, oral, mouth, genital, acral, extremity, limb, left, right",
    },
    "sex": {
        "female": "female, woman, women, girl, lady, she, her",
        "male": "male, man, men, boy, gentleman, he, his, him",
    },
    "benign_malignant": {"benign": "benign", "malignant": "malignant, cancerous", "indeterminate": "indeterminate"},
    "appearance": {
        "asymmetric": "asymmetric, asymmetrical",
        "symmetric": "symmetric, symmetrical",
        "gray": "gray, grey",
        OWN: "round, oval, irregular, regular, jagged, ragged, uneven, smooth, brown, black, tan, red, pink, "
        "white, blue, yellow, purple, dark, pale, fair, variegated, multicolored, uniform, pigmented, "
        "amelanotic, network, globule, dot, streak, veil, regression, vessel, ulcerated, ulceration, crust, "
        "bleeding, scaly, waxy, rough, small, large, tiny, flat, raised, nodular, homogeneous, reticular, "
        "hair, hairy, ruler, bubble, caucasian, asian, african, hispanic, tanned, freckled",
    },
    "hedge": {
        OWN: "no, not, never, non, without, unlike, instead, rather, versus, vs, possible, possibly, suspected, "
        "suspicious, suspicion, probable, probably, likely, potential, potentially, differential, resembles, "
        "resembling, mimics, mimicking, maybe, might, may, could, rule out, ruled out",
    },
    "age_approx": {
        OWN: "elderly, old man, old woman, older, young, younger, middle aged, senior, adult, teenage, teenager, "
        "adolescent, child, infant, baby, newborn, toddler, month, decade, teens, twenties, thirties, "
        "forties, fifties, sixties, seventies, eighties, nineties",
    },
}
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def known(value: str | None) -> str | None:
    """A label in lower case with single spaces for underscores and runs of blanks; None where it says "unknown"."""
    if value is None:
        return None
    text = " ".join(value.replace("_", " ").lower().split())
    return None if text in NOT_KNOWN else text


def diagnosis_term(label: str | None) -> str | None:
    """The ISIC Archive's term for a label or code (``bcc``, ``seborrheic_keratosis``), None where it says "unknown"."""
    name = known(label)
    return None if name is None else DIAGNOSIS_TERMS.get(name, name)


def sex_term(label: str | None) -> str | None:
    """The ISIC Archive's term for a sex or its code (``F``), None where it says "unknown"."""
    name = known(label)
    return None if name is None else SEX_TERMS.get(name, name)


def site_term(label: str | None) -> str | None:
    """The ISIC Archive's term for a site (``lower limbs``), None where it says "unknown"."""
    name = known(label)
    return None if name is None else SITE_TERMS.get(name, name)


def age_years(text: str | None) -> int | None:
    """An age as a number; None where it says "unknown".

    Args:
        text: years in digits, also with decimals (pandas writes "50.0", a German Excel "50,0"), or the ISIC Archive's
            "85+" for all ages from 85 on.

    Raises:
        ValueError: no number, or not from 0 to 120.
    """
    value = known(text)
    if value is None:
        return None
    if not re.fullmatch(r"\d{1,20}([.,]\d{1,20})?\+?", value, re.ASCII):
        raise ValueError(f"invalid literal for an age in years: {text!r}")
    years = float(value.rstrip("+").replace(",", "."))
    if years > MAX_AGE_YEARS:
        raise ValueError(f"{text} is not from 0 to {MAX_AGE_YEARS}")
    return round(years)


def parse_terms(text: str) -> dict[str, frozenset[str]]:
    """What a caption states, whichever of the usual words it uses.

    Returns:
        Terms stated, for each of ``diagnosis``, ``anatom_site_general``, ``sex``, ``benign_malignant``, ``age_approx``
        (years in digits, or a vague word), ``appearance`` (colour, shape, structure) and ``hedge`` (negation, doubt).

    Example:
        >>> sorted(parse_terms("Mole on the back of a fifty-five-year-old woman")["age_approx"])
        ['55']
    """
    words = plain_words(text)
    stated = {kind: _stated(words, kind) for kind in _WORDS if kind != "age_approx"}
    # "55 year old man" must not be read as the vague "old man"
    vague_ages = _stated(re.sub(r"\b(\w+) years? old", r"\1", words), "age_approx")
    return {**stated, "age_approx": vague_ages | _ages_years(words)}


@lru_cache(maxsize=1 << 13)
def plain_words(text: str) -> str:
    """Lower-case words and numbers with single spaces; hyphens and slashes part words."""
    return " ".join(re.findall(r"[^\W\d_]+|\d+", text.lower()))


def _stated(words: str, kind: str) -> frozenset[str]:
    pattern, terms = _matcher(kind)
    return frozenset(terms[phrase] for phrase in pattern.findall(words))


@lru_cache
def _matcher(kind: str) -> tuple[re.Pattern[str], Mapping[str, str]]:
    """Pattern of all phrases of a kind, the longest winning where several start at one word, and phrase -> term."""
    terms = {plain_words(phrase): term or phrase for term, line in _WORDS[kind].items() for phrase in line.split(", ")}
    longest_first = sorted(terms, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(longest_first)})s?\b"), terms


def _ages_years(words: str) -> frozenset[str]:
    """Every number, and ages spelt out up to 99."""
    tens, units, teens = "|".join(_TENS), "|".join(_UNITS), "|".join(_TEENS)
    ages = set(re.findall(r"\d+", words))
    spelt = rf"\b(?:({tens})(?: ({units}))?|({teens})|({units})(?= years? old))\b"
    for ten, unit, teen, single in re.findall(spelt, words):
        if ten:
            ages.add(str(20 + 10 * _TENS.index(ten) + (_UNITS.index(unit) if unit else 0)))
        else:
            ages.add(str(10 + _TEENS.index(teen) if teen else _UNITS.index(single)))
    return frozenset(ages)
