"""``skindualgen generate``: a data set folder of synthetic pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.pipeline import BaseOption, MismatchOption, load_pipeline


def generate(
    out: Annotated[Path, typer.Option(help="New folder, or that of an interrupted run.")],
    adapter: Annotated[str, typer.Option(help="'builtin', a run folder, or an adapter folder.")] = "builtin",
    base: BaseOption = None,
    allow_base_mismatch: MismatchOption = False,
    prompt: Annotated[list[str] | None, typer.Option(help="Prompt; several are taken in turn. Repeatable.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Text file, one prompt a line; or .csv / .jsonl with 'prompt' and labels."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Data set folder: prompts and labels as in its training split.")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of pairs.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other pairs.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.  (default: the adapter's)")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Classifier-free guidance; 1 is off.  (default: the adapter's)")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs drawn together.")] = 8,
    size: Annotated[
        int | None, typer.Option(min=64, help="Side in px, a multiple of 8.  (default: the base's)")
    ] = None,
) -> None:
    """Draw image-mask pairs from prompts into OUT, which loads with `datasets` and everything here.

    Exactly one of --prompt, --prompts and --like. Interrupted: run it again.
    """
    from skindualgen.contracts import InputError

    if sum(source is not None for source in (prompt or None, prompts, like)) != 1:
        raise InputError(
            "not exactly one of --prompt, --prompts and --like", "one source of prompts", "try --prompt 'a melanoma'"
        )
    from skindualgen.cli.progress import item_progress, loading

    with loading():
        from skindualgen.planning.requests import read_prompt_file, requests_from_prompts, requests_like
        from skindualgen.sample.production import SHEET_FILE, generate_pairs, without_lesion

        if like is not None:
            requests = requests_like(like, count, seed)
        else:
            texts = read_prompt_file(prompts) if prompts is not None else [(text, {}) for text in prompt or []]
            requests = requests_from_prompts(texts, count, seed)
        pipeline = load_pipeline(adapter, base, allow_base_mismatch=allow_base_mismatch)
    with item_progress("generating") as report:
        records = generate_pairs(
            pipeline, requests, out,
            num_inference_steps=steps, guidance_scale=guidance, batch_size=batch_size, size=size, report=report,
        )  # fmt: skip
    typer.echo(f"{count} pairs in {out}, contact sheet {out / SHEET_FILE}")
    if empty := without_lesion(records):
        typer.echo(
            f"{len(empty)} of them show no lesion (mask_area_fraction 0 in metadata.jsonl), "
            f"first {empty[0].file_name}: leave these out of a training set"
        )
