"""The command line that does the same as an action of the page, and its place on the page."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

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


def python_call(
    prompt: str,
    given: Mapping[str, str],
    *,
    adapter: str,
    count: int,
    seed: int,
    steps: int,
    guidance: float,
    size: tuple[int, int] | None = None,
    imports: Sequence[str] = (),
) -> str:
    """Return lines of Python that draw the same where no command does.

    Args:
        prompt: of all pictures.
        given: further arguments of the pipeline's call, as Python: ``{"mask_image": "Image.open('mask.png')"}``.
        adapter: where it is.
        count, seed, steps, guidance: of the draw; each picture's own seed is a function of ``seed`` and its place.
        size: width and height in px; the model's own if not given.
        imports: further lines that ``given`` needs.
    """
    call = [repr(prompt), *(f"{name}={text}" for name, text in given.items())]
    if size is not None:
        call.append(f"width={size[0]}, height={size[1]}")
    call.append(f"num_images_per_prompt={count}, num_inference_steps={steps}, guidance_scale={guidance:.12g}")
    call.append(f"generator=[torch.Generator().manual_seed(pair_seed({seed}, index)) for index in range({count})]")
    arguments = "".join(f"    {line},\n" for line in call)
    ours = ["from skindualgen import SkinDualGenPipeline", "from skindualgen.planning.requests import pair_seed"]
    lines = "\n".join([*ours, *imports])
    return (
        f"import torch\nfrom PIL import Image\n\n{lines}\n\n"
        f"pipe = SkinDualGenPipeline.from_adapter({adapter!r})\nresult = pipe(\n{arguments})"
    )
