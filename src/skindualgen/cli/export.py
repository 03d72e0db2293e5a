"""``skindualgen export``: an adapter for other programs, merged, or for the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from skindualgen.cli.options import AdapterOption, MismatchOption

Format = Literal["diffusers-lora", "kohya", "merged", "hub", "monai", "medigan"]
WITH_BASE = ("merged", "monai")
Precision = Literal["fp32", "fp16", "bf16"]


def export(
    out: Annotated[Path, typer.Option(help="New folder.")],
    format: Annotated[
        Format,
        typer.Option(
            help="'diffusers-lora': images with plain diffusers; 'kohya': images with ComfyUI and A1111; "
            "'merged': all in one folder; 'hub': the adapter, to upload; 'monai': a bundle that "
            "reads masks; 'medigan': a package that draws pairs."
        ),
    ],
    adapter: AdapterOption = "builtin",
    base: Annotated[
        str | None,
        typer.Option(help="For merged and monai: name or path of the base.  (default: the adapter's)"),
    ] = None,
    dtype: Annotated[
        Precision | None, typer.Option(help="Of the weights; if not given, the adapter's own, and fp32 when merged.")
    ] = None,
    allow_base_mismatch: MismatchOption = False,
) -> None:
    """Write an adapter into OUT in the format of other programs, with its card, licence and training ids.

    A LoRA file generates images only; docs/export.md says what each format keeps.
    """
    from skindualgen.contracts import InputError

    if base is not None and format not in WITH_BASE:
        raise InputError(f"--base with --format {format}", f"it with {' or '.join(WITH_BASE)}", "leave it out")
    if dtype is not None and format in ("hub", "medigan"):
        raise InputError(f"--dtype with --format {format}", "none, as the adapter's tensors are copied", "leave it out")
    from skindualgen.cli.running import loading

    with loading():
        import torch

        from skindualgen.hardware import DTYPES
        from skindualgen.model.adapter import adapter_folder
        from skindualgen.model.bases import hide_loading_bars
        from skindualgen.model.export import export_diffusers_lora, export_hub, export_kohya
        from skindualgen.sample.medigan import export_medigan
        from skindualgen.sample.merged import export_merged
        from skindualgen.sample.monai_bundle import export_monai

        hide_loading_bars()
        wanted = None if dtype is None else DTYPES[dtype]
        folder = adapter_folder(adapter)
        if format in WITH_BASE:
            write_all = export_merged if format == "merged" else export_monai
            done = write_all(
                adapter, out, base=base, dtype=wanted or torch.float32, allow_base_mismatch=allow_base_mismatch
            )
        elif format == "hub":
            done = export_hub(folder, out)
        elif format == "medigan":
            done = export_medigan(folder, out)
        else:
            write = export_kohya if format == "kohya" else export_diffusers_lora
            done = write(folder, out, dtype=wanted)
    typer.echo(f"{done.tensors} tensors in {out / done.weights}; licence of the base: {done.license}")
    for kind, count in done.left_out.items():
        typer.echo(f"left out: {count} tensors, {kind}")
    for note in done.notes:
        typer.echo(" ".join(note.split()))
