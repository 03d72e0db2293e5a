"""What is to be generated: the prompt of the builder's choices, its labels, given pictures, and checked numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.appearance import SCALES, appearance_at
from skindualgen.data.labels import stated_labels
from skindualgen.data.prompts import prompt_for
from skindualgen.files import sha256_bytes
from skindualgen.planning.anchors import Anchoring
from skindualgen.studio.uploads import Limits

TEMPLATE = "a dermoscopic image of {a_diagnosis}[ on {site}][ in {patient}]"
"""One of the templates of training."""
MAX_PROMPT_CHARACTERS = 2000
MAX_GUIDANCE = 30.0
SEED_LIMIT = 2**31

Keep = Literal["lesion", "skin"]


@dataclass(frozen=True)
class Given:
    """What pairs are generated around.

    Attributes:
        mask: L, 0 / 255.
        image: RGB; None: the mask alone is given.
        strength: of image and mask, as the pipeline's call takes it; None without an image.
        keep: region of the image that stays as it is while the rest changes.
        files: names of image and mask in the lines of Python that do the same.
    """

    mask: Image.Image
    image: Image.Image | None = None
    strength: tuple[float, float] | None = None
    keep: Keep | None = None
    files: tuple[str, str] = ("photograph.png", "mask.png")

    def record(self) -> dict[str, Any]:
        """What a data set says of it: hashes of pixels, not the pictures."""
        record: dict[str, Any] = {"given_mask_sha256": sha256_bytes(self.mask.tobytes())}
        if self.image is not None and self.strength is not None:
            record |= {"given_image_sha256": sha256_bytes(self.image.tobytes()), "strength": list(self.strength)}
        return record | ({"keep": self.keep} if self.keep else {})

    def size(self, native_px: int) -> tuple[int, int]:
        """Width and height in px of what is generated: of about the model's own area and the given aspect."""
        from skindualgen.sample.segmentation import working_size

        return working_size((self.image or self.mask).size, native_px)


@dataclass(frozen=True)
class GenerationRequest:
    """What is asked for.

    Attributes:
        prompts: one or more, taken in turn.
        count: pairs.
        seed: of the run; each pair's own is a function of it.
        steps, guidance: of the sampling.
        given: pictures to generate around; None: the prompts are all.
        anchoring: the real pair to start from, whose record states the prompt; there are no prompts then.
        real: name of its data set in the workspace, or of the folder that an uploaded pair would be in.
    """

    prompts: Sequence[str]
    count: int
    seed: int
    steps: int
    guidance: float
    given: Given | None = None
    anchoring: Anchoring | None = None
    real: str = "photographs"


def built_prompt(diagnosis: str, site: str, age: str, sex: str, tone: str, *looks: float) -> str:
    """The prompt of the builder's choices, of which empty ones are not stated.

    Args:
        diagnosis, site, age, sex, tone: terms.
        looks: places on `skindualgen.data.appearance.SCALES`, in their order; 0 is not stated.
    """
    record = PairRecord(
        file_name="-",
        isic_id="-",
        diagnosis=diagnosis or None,
        anatom_site_general=site or None,
        sex=sex or None,
        age_approx=int(age) if age else None,
    )
    prompt = prompt_for(record, templates=[TEMPLATE])
    words = appearance_at(**{name: int(place) for name, place in zip(SCALES, looks, strict=False)})
    return ", ".join(part for part in (prompt, f"{tone} skin" if tone else "", words) if part)


def labels_of_text(text: str) -> dict[str, Any]:
    """What the first prompt of a text states: the labels that its pairs get, and the skin tone."""
    return stated_labels(prompts_of(text)[0]) if text.strip() else {}


def prompts_of(text: str) -> list[str]:
    """The prompts of a text, one a line."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def checked_request(
    limits: Limits,
    text: str,
    count: float,
    seed: float,
    steps: float,
    guidance: float,
    given: Given | None = None,
) -> GenerationRequest:
    """Bring the fields of a request with prompts to numbers within the limits.

    Raises:
        InputError: which one is not.
    """
    prompts = prompts_of(text)
    if not prompts:
        raise InputError("an empty prompt", "what the picture shows", "write for example 'a melanoma'")
    if len(text) > MAX_PROMPT_CHARACTERS:
        got = f"a prompt of {len(text):,} characters"
        raise InputError(got, f"at most {MAX_PROMPT_CHARACTERS:,}", "shorten it")
    return GenerationRequest(prompts, *checked_numbers(limits, count, seed, steps, guidance), given)


def checked_numbers(
    limits: Limits, count: float, seed: float, steps: float, guidance: float
) -> tuple[int, int, int, float]:
    """The numbers of a request, within the limits.

    Raises:
        InputError: which one is not.
    """
    ranges: Mapping[str, tuple[float | None, float, float]] = {
        "number of pairs": (count, 1, limits.pairs),
        "seed": (seed, 0, SEED_LIMIT - 1),
        "number of steps": (steps, 1, limits.steps),
        "guidance": (guidance, 0, MAX_GUIDANCE),
    }
    for name, (value, low, high) in ranges.items():
        if value is None or not low <= value <= high:
            got = f"no {name}" if value is None else f"a {name} of {value:g}"
            raise InputError(got, f"{low:g} to {high:g}", f"choose {low:g} to {high:g}")
    return round(count), round(seed), round(steps), float(guidance)


def checked_strengths(picture: float, outline: float) -> tuple[float, float]:
    """The strengths of an edit.

    Raises:
        InputError: beyond 0 to 1, or nothing would change.
    """
    if not (0 <= picture <= 1 and 0 <= outline <= 1):
        raise InputError(f"strengths of {picture:g} and {outline:g}", "0 to 1", "choose 0 to 1")
    if max(picture, outline) == 0:
        raise InputError("both strengths at 0, which changes nothing", "one above 0", "raise one of them")
    return float(picture), float(outline)


def checked_keep(keep: str) -> Keep | None:
    """A region that is kept, by its name; none for an empty one.

    Raises:
        InputError: another name.
    """
    if keep not in ("", *get_args(Keep)):
        raise InputError(f"keep {keep!r}", "'lesion', 'skin' or nothing", "choose one of them")
    return cast("Keep | None", keep or None)
