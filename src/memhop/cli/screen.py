"""Print texts with escaped control characters, tables, and progress."""

import json
import math
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from memhop.errors import MemhopWarning
from memhop.picture import escaped
from memhop.training.epochs import TRAINING
from memhop.training.epochs import Progress as TrainingProgress

_PROGRESS_LINES = 12  # of a training, if standard error is no terminal
_MAX_NAME = 14  # characters before a bar, so that the line fits into 80 columns


class Stopped(Exception):
    """Ctrl-C ended a command; the text says how to resume."""


def stdout() -> Console:
    """Return the console for results."""
    return Console(highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """Return the console for progress."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_line(text: str, style: str = "") -> None:
    """Print one line without wrapping: it may be a command to copy."""
    stdout().print(Text(escaped(text), style=style), soft_wrap=True)


def print_wrapped(text: str, style: str = "") -> None:
    """Print a text, wrapped at the width of the terminal."""
    stdout().print(Text(escaped(text), style=style))


def print_error(text: str) -> None:
    """Print an error, one line on standard error."""
    print(f"memhop: {escaped(' '.join(text.splitlines()))}", file=sys.stderr)


def print_progress(text: str) -> None:
    """Print progress, one line on standard error."""
    print(escaped(text), file=sys.stderr)


def program() -> str:
    """Return the command that runs this program; it may not be on PATH."""
    called = Path(sys.argv[0])
    if shutil.which("memhop"):
        return "memhop"
    if called.name.removesuffix(".exe") == "memhop" and called.is_file():
        return shlex.quote(sys.argv[0])
    return "python -m memhop"


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII so that any locale can encode it."""
    print(json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without truncation; the first column is text, the others are numbers."""
    lines = [columns, *([escaped(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line, style in zip(lines, ["bold", *[""] * len(rows)], strict=True):
        spare = [width - cell_len(cell) for width, cell in zip(widths, line, strict=True)]
        numbers = (" " * left + cell for left, cell in zip(spare[1:], line[1:], strict=True))
        print_line("  ".join([line[0] + " " * spare[0], *numbers]).rstrip(), style)


def percent(value: float | None) -> str:
    """Return a percentage with one decimal, as in the paper's tables."""
    return "-" if value is None else f"{value:.1f}%"


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(0.31), duration(41.7), duration(3700)
    ('0.3 s', '42 s', '62 min')
    """
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print our warnings as lines on standard error, without the position in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_line(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, MemhopWarning):
                print_error(str(message))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.simplefilter("always", MemhopWarning)
        warnings.showwarning = show_line
        yield


@contextmanager
def training_progress(name: str) -> Iterator[Callable[[TrainingProgress], None]]:
    """Show the phases of a training of a story model on standard error; see `epoch_progress`."""
    with ExitStack() as shown:
        show, phase = shown.enter_context(epoch_progress(name)), TRAINING

        def show_epoch(progress: TrainingProgress) -> None:
            nonlocal show, phase
            if progress.phase != phase:
                shown.close()
                phase = progress.phase
                title = name if phase == TRAINING else f"{name}, {phase}"
                show = shown.enter_context(epoch_progress(title))
            show(progress.epoch, progress.epochs, _figures(progress))

        yield show_epoch


@contextmanager
def epoch_progress(
    name: str, each_epoch: bool = False
) -> Iterator[Callable[[float, int, str], None]]:
    """Show a training on standard error: a bar, or lines if piped, about a dozen or one each epoch.

    The function takes the finished epochs, the number of all epochs, and figures such as the loss.
    Within an epoch the first is no integer; lines are printed after whole epochs only.
    """
    console = stderr()
    if not console.is_terminal:
        yield _training_lines(name, each_epoch)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        name = escaped(name)
        name = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."
        row = bar.add_task(name, total=None, figures="")

        def show(epoch: float, epochs: int, figures: str) -> None:
            bar.update(row, completed=epoch, total=epochs, figures=figures)

        yield show


def _training_lines(name: str, each_epoch: bool) -> Callable[[float, int, str], None]:
    start, last = time.perf_counter(), 0.0

    def show(epoch: float, epochs: int, figures: str) -> None:
        nonlocal start, last
        if last == 0:  # a resumed training does not start at its first epoch
            last = math.ceil(epoch) - 1
        every = 1 if each_epoch else max(1, epochs // _PROGRESS_LINES)
        if epoch % every == 0 or epoch == epochs:
            pace = (time.perf_counter() - start) / (epoch - last)
            start, last = time.perf_counter(), epoch
            left = f"{duration(pace * (epochs - epoch))} left"
            print_progress(f"{name}: epoch {epoch:.0f}/{epochs}, {figures}, {left}")

    return show


def _figures(progress: TrainingProgress) -> str:
    """Return loss and errors of the best restart so far, and how many have diverged."""
    finite = [one for one in progress.metrics if one.restart not in progress.diverged]
    best = min(finite or progress.metrics, key=lambda one: (one.train_error, one.loss))
    figures = f"loss {best.loss:.3f}, error {percent(best.train_error)}"
    if best.validation_error is not None:
        figures += f", held out {percent(best.validation_error)}"
    if progress.diverged:
        figures += f", {len(progress.diverged)} diverged"
    return figures


@contextmanager
def count_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how much of a total is done: a bar, or lines if piped.

    The function takes the number of those done and the total.
    """
    console = stderr()
    if not console.is_terminal:
        yield _count_lines(name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)


def _count_lines(name: str) -> Callable[[int, int], None]:
    """Return a function that prints a line for each tenth of the total."""
    last = 0

    def show(done: int, total: int) -> None:
        nonlocal last
        if (tenth := 10 * done // total) > last:
            last = tenth
            print_progress(f"{name}: {done:,} of {total:,}")

    return show


@contextmanager
def download_progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show a download on standard error: a bar, or lines if piped."""
    console = stderr()
    if not console.is_terminal:
        yield _download_lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as bar:
        row = bar.add_task("download", total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)


def _download_lines() -> Callable[[int, int | None], None]:
    """Return a function that prints a line at the start and every 10%, or every 10 MB."""
    last = -1

    def show(done: int, total: int | None) -> None:
        nonlocal last
        step = 10 * done // total if total else done // 10_000_000
        if step > last:
            last = step
            of = f" of {total / 1e6:.1f}" if total else ""
            print_progress(f"download: {done / 1e6:.1f}{of} MB")

    return show


@contextmanager
def warmup_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show on standard error which kernel is being compiled: a bar, or lines if piped."""
    console = stderr()
    if not console.is_terminal:
        yield lambda name, number, total: print_progress(f"kernel {number + 1}/{total}: {name}")
        return
    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.completed}/{task.total} {task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("", total=None)

        def show(name: str, number: int, total: int) -> None:
            bar.update(row, description=name, completed=number, total=total)

        yield show
