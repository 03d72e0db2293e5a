"""The command line, or the lines of Python, that do the same as an action of the page; their place on the page."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skindualgen.studio.model import Facts, Model
    from skindualgen.studio.requests import GenerationRequest, Given

_OPTION = re.compile(r"(?m)(^| )(--[a-z-]+)")
"""An option, which no line breaks."""
Option = str | int | float | bool | PurePath | None


def command(name: str, *arguments: str, **options: Option | list[str]) -> str:
    """Return ``skindualgen NAME ...`` as a shell takes it.

    Args:
        name: of the command.
        arguments: in their order, as they are.
        options: ``batch_size=4`` becomes ``--batch-size 4``; True a bare flag, False ``--no-flag``; a list repeats the
            option; None leaves it out.
    """
    words = ["skindualgen", name, *arguments]
    for key, value in options.items():
        flag = f"--{key.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        for each in value if isinstance(value, list) else [value]:
            words += [flag, f"{each:.12g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)


def command_html(text: str, *, label: str = "The same on the command line") -> str:
    """A line to copy, with its button; what the button does is in ``page.js``."""
    shown = _OPTION.sub(r"\1<span class=sdg-word>\2</span>", html.escape(text))
    return (
        f'<div class="sdg-command"><span>{html.escape(label)}</span><pre tabindex="0">{shown}</pre>'
        '<button type="button" data-copy>Copy</button></div>'
    )


def generate_command(request: GenerationRequest, facts: Facts, adapter: str | None) -> str:
    """The command that generates the same files, with what ``--adapter`` says of the model."""
    return command(
        "generate",
        out="pairs",
        adapter=adapter,
        **_start(request),
        prompt=list(request.prompts),
        count=request.count,
        seed=request.seed,
        steps=request.steps,
        guidance=request.guidance,
        threads=None if facts.threads == 1 else facts.threads,
    )


def _start(request: GenerationRequest) -> dict[str, Option | list[str]]:
    """The options that say what real pair is started from, and how."""
    if (anchoring := request.anchoring) is None:
        return {}
    only: dict[str, Option | list[str]] = {"only": list(anchoring.only)}
    if anchoring.way == "inpaint":
        return {"inpaint": anchoring.region, "onto": request.real} | only
    start: dict[str, Option | list[str]] = {"redraw": request.real, "strength": anchoring.strength}
    return start | only | {"keep_mask": anchoring.keep_mask or None, "relabel": anchoring.relabel}


def python_call(request: GenerationRequest, given: Given, native_px: int, adapter: str) -> str:
    """Lines of Python that generate the same around given pictures, which no command does."""
    width, height = given.size(native_px)
    image, mask = (f"Image.open('{name}')" for name in given.files)
    call = [repr(request.prompts[0]), f"mask_image={mask}"]
    imports = ["from skindualgen import SkinDualGenPipeline", "from skindualgen.planning.requests import pair_seed"]
    if given.image is not None:
        call += [f"image={image}", f"strength={given.strength}"]
    if given.keep is not None:
        imports.append("from skindualgen.sample.blending import BlendedLatents")
        region = mask + (".point(lambda grey: 255 - grey)" if given.keep == "skin" else "")
        seeds = f"[pair_seed({request.seed}, index) for index in range({request.count})]"
        call.append(
            f"callback_on_step_end=BlendedLatents(\n        pipe, {image}, {region},\n        "
            f"seeds={seeds}, steps={request.steps}, height={height}, width={width},\n    )"
        )
    call += [
        f"width={width}, height={height}",
        f"num_images_per_prompt={request.count}, num_inference_steps={request.steps}, "
        f"guidance_scale={request.guidance:.12g}",
        f"generator=[torch.Generator().manual_seed(pair_seed({request.seed}, index)) "
        f"for index in range({request.count})]",
    ]
    arguments = "".join(f"    {line},\n" for line in call)
    return (
        "import torch\nfrom PIL import Image\n\n" + "\n".join(imports) + "\n\n"
        f"pipe = SkinDualGenPipeline.from_adapter({adapter!r})\nresult = pipe(\n{arguments})"
    )


def repeat_html(model: Model, adapter: str, request: GenerationRequest) -> str:
    """How to generate the same without the page."""
    facts = model.facts(adapter)
    if request.given is None:
        return command_html(generate_command(request, facts, model.option(adapter)))
    return command_html(python_call(request, request.given, facts.native_px, adapter), label="The same in Python")
