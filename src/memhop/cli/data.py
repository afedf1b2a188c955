"""``memhop data``: fetch the released data."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.screen import download_progress, program, say
from memhop.data.download import DEFAULT_URL, download_babi
from memhop.errors import DownloadError, MemhopError

app = typer.Typer(no_args_is_help=True, help="Fetch data.")


@app.callback()
def _root() -> None:
    pass


@app.command()
def babi(
    to: Annotated[Path, typer.Option(help="Folder to make; it must be new or empty.")],
    url: Annotated[str, typer.Option(help="Where to fetch from; needs --sha256.")] = DEFAULT_URL,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum of the archive behind another --url.")
    ] = None,
) -> None:
    """Download the 20 bAbI tasks (19 MB), checked, into a folder."""
    if url != DEFAULT_URL and sha256 is None:
        raise MemhopError("--url needs the --sha256 of its archive")
    try:
        with download_progress() as show:
            folder = download_babi(to, url=url, sha256=sha256, progress=show)
    except DownloadError as error:
        raise MemhopError(
            f"{error}; fetch it from elsewhere with --url and --sha256, or make stories of all 20 "
            f"tasks without a download: {program()} generate --task 1 --to DIR"
        ) from None
    say(f"the tasks are in {folder}")
    say(f"try: {program()} train --data {shlex.quote(str(folder))} --task 1", style="dim")
