"""``memhop data`` and ``memhop warmup``: download the released data, compile the kernels."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.screen import download_progress, duration, print_line, program, warmup_progress
from memhop.data.download import DEFAULT_URL, download_babi
from memhop.errors import DownloadError, MemhopError
from memhop.kernels import folder_for_kernels
from memhop.kernels import warmup as compile_kernels

app = typer.Typer()
data = typer.Typer(no_args_is_help=True, help="Download data.")


@data.callback()
def _root() -> None:
    pass


@data.command()
def babi(
    to: Annotated[Path, typer.Option(help="Folder to create; it must be new or empty.")],
    url: Annotated[str, typer.Option(help="Another address; needs --sha256.")] = DEFAULT_URL,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum of the archive at another --url.")
    ] = None,
) -> None:
    """Download the 20 bAbI tasks (19 MB) into a folder, and verify them."""
    if url != DEFAULT_URL and sha256 is None:
        raise MemhopError("--url needs the --sha256 of its archive")
    try:
        with download_progress() as show:
            folder = download_babi(to, url=url, sha256=sha256, progress=show)
    except DownloadError as error:
        raise MemhopError(
            f"{error}; use another address with --url and --sha256, or generate stories of all 20 "
            f"tasks without a download: {program()} generate --task 1 --to DIR"
        ) from None
    print_line(f"the tasks are in {folder}")
    print_line(f"try: {program()} train --data {shlex.quote(str(folder))} --task 1", style="dim")


@app.command()
def warmup() -> None:
    """Compile all kernels for this machine (about a minute, once).

    They are stored on disk. Without it, the first training waits for the compiler, and large calls
    of the layers run slower operations while another process compiles. NUMBA_CACHE_DIR sets
    another folder for the compiled kernels.
    """
    folder, start = folder_for_kernels(), time.perf_counter()
    with warmup_progress() as show:
        compile_kernels(show)
    print_line(f"all kernels are in {folder} ({duration(time.perf_counter() - start)})")
