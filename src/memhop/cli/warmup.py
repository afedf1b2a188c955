"""``memhop warmup``: compile the kernels ahead of their first use."""

import time

import typer

from memhop.cli.screen import duration, say, warmup_progress
from memhop.kernels import folder_for_kernels, warmup

app = typer.Typer()


@app.command("warmup")
def run() -> None:
    """Compile all kernels for this machine (about a minute, once).

    They are kept on disk. Without it the first trainings and the first large calls wait for the
    compiler, or take a slower form while it works in the background. NUMBA_CACHE_DIR names
    another folder for the compiled kernels.
    """
    folder, begun = folder_for_kernels(), time.perf_counter()
    with warmup_progress() as show:
        warmup(show)
    say(f"all kernels are in {folder} ({duration(time.perf_counter() - begun)})")
