"""``skindualgen ui``: the studio, a web page on this computer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skindualgen.cli.options import AdapterOption, OpenOption


def ui(
    workspace: Annotated[
        Path, typer.Option(help="Folder of data sets, runs and reports: all that the page can read and write.")
    ] = Path("studio"),
    adapter: AdapterOption = "builtin",
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a password.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.  (default: the first free one from 7860)")
    ] = None,
    auth_file: Annotated[
        Path | None,
        typer.Option(help="File of user:password lines. Or one such line in the variable SKINDUALGEN_UI_AUTH."),
    ] = None,
    open_page: OpenOption = True,
) -> None:
    """Open the studio: generate, direct, review, train and evaluate in the browser, on this machine alone by default.

    Ends with Ctrl-C; what was not saved into the workspace is removed then.
    """
    import importlib.util

    from skindualgen.contracts import InputError

    if importlib.util.find_spec("gradio") is None:
        raise InputError(
            "no gradio", "the packages of the extra 'ui'", "install them with: pip install 'skindualgen[ui]'"
        )
    from skindualgen.studio.quick_import import import_gradio

    import_gradio()
    from skindualgen.studio.access import read_users
    from skindualgen.studio.app import Options, serve

    options = Options(
        workspace=workspace, adapter=adapter, host=host, port=port, users=read_users(auth_file), open_browser=open_page
    )
    serve(options, announce=lambda address: typer.echo(f"studio at {address} (Ctrl-C ends it)"))
