"""``skindualgen release``: a data set and its adapter with cards, checked, ready for the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def release(
    out: Annotated[Path, typer.Option(help="New folder; with --push alone, a release that is there.")],
    data: Annotated[Path | None, typer.Option(help="Data set folder with generated pairs.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Release the adapter that drew them too: 'builtin', a run or adapter folder.")
    ] = None,
    evaluation: Annotated[Path | None, typer.Option(help="report.json of `skindualgen evaluate` for DATA.")] = None,
    benchmark: Annotated[Path | None, typer.Option(help="benchmark.json of `skindualgen benchmark`.")] = None,
    real: Annotated[
        Path | None, typer.Option(help="Data set folder of the training, to name its sources and licences.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="CSV that DATA was generated from, to be published too.")] = None,
    license_id: Annotated[
        str | None,
        typer.Option(
            "--license", help="Of the data set, as the hub writes it, such as cc-by-4.0.  (default: the records')"
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the data set.  (default: from DATA's name)")] = None,
    with_held_out: Annotated[
        bool, typer.Option("--with-held-out", help="Publish real records of the splits val and test too.")
    ] = False,
    croissant: Annotated[
        bool,
        typer.Option("--croissant", help="Write croissant.json too, which catalogues and loaders read."),
    ] = False,
    push: Annotated[str | None, typer.Option(help="Upload to owner/name on the Hugging Face hub.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make new repositories private.")] = False,
) -> None:
    """Check DATA, write OUT/dataset (and OUT/adapter) with cards and licence texts, and upload them if asked to.

    Nothing that was not measured or recorded is claimed: give --evaluation, --benchmark and --real to have it said.
    """
    from skindualgen.contracts import InputError

    if data is None and push is None:
        raise InputError("neither --data nor --push", "a data set to release, or a release to upload", "give --data")
    if data is not None:
        from skindualgen.cli.running import loading

        with loading("Checking and writing ..."):
            from skindualgen.release.build import ReleaseOptions, build_release

            folder = None
            if adapter is not None:
                from skindualgen.model.adapter import adapter_folder

                folder = adapter_folder(adapter)
            done = build_release(
                ReleaseOptions(
                    data=data,
                    out=out,
                    adapter=folder,
                    evaluation=evaluation,
                    benchmark=benchmark,
                    real=real,
                    plan=plan,
                    licence=license_id,
                    title=title,
                    repository=push,
                    with_held_out=with_held_out,
                    croissant=croissant,
                )
            )
        copied = "" if done.linked else ", pictures copied"
        typer.echo(f"release of {len(done.contents.records)} records in {out}{copied}")
        if done.marks.unmarked:
            typer.echo(f"{done.marks.unmarked} generated photographs carry no machine-readable mark")
        if done.contents.evaluation is None:
            typer.echo("the card says that nothing was measured: --evaluation report.json")
    elif any((adapter, evaluation, benchmark, real, plan, license_id, title, with_held_out, croissant)):
        raise InputError(
            "options of a new release without --data", "--data, or --out and --push alone", "give --data, or leave them"
        )
    if push is not None:
        from skindualgen.release.push import push_release

        for address in push_release(out, push, private=private):
            typer.echo(f"uploaded: {address}")
