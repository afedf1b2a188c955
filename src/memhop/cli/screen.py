"""Print texts without their control characters, tables, and the progress of a training."""

import json
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from memhop.errors import MemhopWarning
from memhop.picture import spelled_out
from memhop.training.loop import Progress as TrainingProgress

_PLAIN_LINES = 12  # of a training, where there is no terminal for a bar
_LONGEST_NAME = 14  # beside a bar, for all to fit into 80 columns


class Stopped(Exception):
    """Ctrl-C has ended a command; the text says how to go on."""


def stdout() -> Console:
    """The console that results go to."""
    return Console(highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """The console for progress."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(text: str, style: str = "") -> None:
    """Print one line, never broken: it may be a command to copy."""
    stdout().print(Text(spelled_out(text), style=style), soft_wrap=True)


def say_error(text: str) -> None:
    """One line on standard error."""
    print(f"memhop: {spelled_out(' '.join(text.splitlines()))}", file=sys.stderr)


def say_progress(text: str) -> None:
    """One line on standard error that is no error: how far a long command is."""
    print(spelled_out(text), file=sys.stderr)


def program() -> str:
    """What to type for this program, as a hint begins: it may not be on PATH."""
    called = Path(sys.argv[0])
    if shutil.which("memhop"):
        return "memhop"
    if called.name.removesuffix(".exe") == "memhop" and called.is_file():
        return shlex.quote(sys.argv[0])
    return "python -m memhop"


def say_json(value: Any) -> None:
    """A value for another program, in ASCII: right whatever the locale is."""
    print(json.dumps(value, indent=1))


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, nothing of it cut; the first column is text, the others are numbers."""
    lines = [columns, *([spelled_out(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line, style in zip(lines, ["bold", *[""] * len(rows)], strict=True):
        spare = [width - cell_len(cell) for width, cell in zip(widths, line, strict=True)]
        numbers = (" " * left + cell for left, cell in zip(spare[1:], line[1:], strict=True))
        say("  ".join([line[0] + " " * spare[0], *numbers]).rstrip(), style)


def percent(value: float | None) -> str:
    """A share with one decimal, as the paper's tables have it."""
    return "-" if value is None else f"{value:.1f}%"


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> duration(0.31), duration(41.7), duration(3700)
    ('0.3 s', '42 s', '62 min')
    """
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show our warnings as lines on standard error, without the place in the code."""
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
                say_error(str(message))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.simplefilter("always", MemhopWarning)
        warnings.showwarning = show_line
        yield


@contextmanager
def training_progress(name: str) -> Iterator[Callable[[TrainingProgress], None]]:
    """Show a training on standard error: a bar with the best restart, or lines where piped."""
    console = stderr()
    if not console.is_terminal:
        yield _plain_lines(name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        name = spelled_out(name)
        name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
        shown = bar.add_task(name, total=None, figures="")

        def show(progress: TrainingProgress) -> None:
            figures = _figures(progress)
            bar.update(shown, completed=progress.epoch, total=progress.epochs, figures=figures)

        yield show


def _plain_lines(name: str) -> Callable[[TrainingProgress], None]:
    begun, last = time.perf_counter(), 0

    def show(progress: TrainingProgress) -> None:
        nonlocal begun, last
        if last == 0:  # a resumed training does not begin with its first epoch
            last = progress.epoch - 1
        every = max(1, progress.epochs // _PLAIN_LINES)
        if progress.epoch % every == 0 or progress.epoch == progress.epochs:
            pace = (time.perf_counter() - begun) / (progress.epoch - last)
            begun, last = time.perf_counter(), progress.epoch
            left = f"{duration(pace * (progress.epochs - progress.epoch))} left"
            done = f"epoch {progress.epoch}/{progress.epochs}"
            say_progress(f"{name}: {done}, {_figures(progress)}, {left}")

    return show


def _figures(progress: TrainingProgress) -> str:
    """Loss and errors of the restart that is best so far, and how many are lost."""
    going = [one for one in progress.metrics if one.restart not in progress.diverged]
    best = min(going or progress.metrics, key=lambda one: (one.train_error, one.loss))
    figures = f"loss {best.loss:.3f}, error {percent(best.train_error)}"
    if best.validation_error is not None:
        figures += f", held out {percent(best.validation_error)}"
    if progress.diverged:
        figures += f", {len(progress.diverged)} diverged"
    return figures


@contextmanager
def download_progress() -> Iterator[Callable[[int, int | None], None]]:
    """Show a download on standard error: a bar, or lines where piped."""
    console = stderr()
    if not console.is_terminal:
        yield _plain_download()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task("download", total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total)


def _plain_download() -> Callable[[int, int | None], None]:
    """A line at the start, one each tenth, and so one at the end; without a total each 10 MB."""
    last = -1

    def show(done: int, total: int | None) -> None:
        nonlocal last
        step = 10 * done // total if total else done // 10_000_000
        if step > last:
            last = step
            of = f" of {total / 1e6:.1f}" if total else ""
            say_progress(f"download: {done / 1e6:.1f}{of} MB")

    return show


@contextmanager
def warmup_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show on standard error which kernel is being compiled: a bar, or lines where piped."""
    console = stderr()
    if not console.is_terminal:
        yield lambda name, number, total: say_progress(f"kernel {number + 1}/{total}: {name}")
        return
    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.completed}/{task.total} {task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("", total=None)

        def show(name: str, number: int, total: int) -> None:
            bar.update(shown, description=name, completed=number, total=total)

        yield show
