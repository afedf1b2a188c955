"""``memhop reproduce pathquestion`` and ``metaqa``: train on questions over facts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from memhop.cli.reproduce import Tiny, print_sheet, writable
from memhop.cli.screen import epoch_progress, print_progress
from memhop.cli.settings import Threads, use
from memhop.errors import MemhopError

if TYPE_CHECKING:
    from memhop.reproduce.record import Rows

app = typer.Typer()

Unit = TypeVar("Unit")
OnEpoch = Callable[[int, int, str], None]

DataFolder = Annotated[Path | None, typer.Option("--data", help="Folder with the released files.")]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings, with the seeds 0, 1, ...")]
ToResume = Annotated[
    Path | None, typer.Option(callback=writable, help="CSV file to write, and to resume from.")
]


@app.command()
def pathquestion(
    data: DataFolder = None,
    sets: Annotated[
        str, typer.Option(metavar="LIST", help="Sets of questions.")
    ] = "PQ-2H,PQ-3H,PQL-2H,PQL-3H",
    splits: Annotated[
        str, typer.Option(metavar="LIST", help="How the questions are divided.")
    ] = "random,path",
    models: Annotated[
        str, typer.Option(metavar="LIST", help="Models: tracking, key-value.")
    ] = "tracking",
    seeds: Seeds = 3,
    threads: Threads = 1,
    tiny: Tiny = False,
    to: ToResume = None,
) -> None:
    """Train on PathQuestion; a stopped run resumes."""
    from memhop.reproduce import pathquestion as table
    from memhop.reproduce.generated_sets import write_pathquestion
    from memhop.reproduce.record import rows_to_resume

    use(threads)
    names = parse_names("--sets", sets, [*table.FACTS])
    chosen = parse_names("--models", models, table.MODELS)
    units = table.units_of(chosen, names, parse_names("--splits", splits, table.SPLITS), seeds)
    with folder_of("pathquestion", data, tiny) as folder:
        if data is None:
            write_pathquestion(folder, names)
        rows = rows_to_resume(to, "reproduce pathquestion", table.COLUMNS, tiny)
        table.check_rows(to, folder, names, rows)

        def train(unit: table.Unit, on_epoch: OnEpoch) -> list[dict[str, Any]]:
            return [table.row_of(folder, unit, tiny, on_epoch)]

        for new, left in train_all(table.missing(units, rows), train):
            rows = sorted([*rows, *new], key=table.sort_key)
            store(to, rows, f"{', '.join(table.hits_of(row) for row in new)}, {left} left")
    print_sheet(table.sheet(rows))


@app.command()
def metaqa(
    data: DataFolder = None,
    seeds: Seeds = 3,
    threads: Threads = 1,
    tiny: Tiny = False,
    to: ToResume = None,
) -> None:
    """Train on MetaQA; a stopped run resumes."""
    from memhop.reproduce import metaqa as table
    from memhop.reproduce.generated_sets import write_metaqa
    from memhop.reproduce.record import rows_to_resume

    use(threads)
    with folder_of("metaqa", data, tiny) as folder:
        if data is None:
            write_metaqa(folder)
        rows = rows_to_resume(to, "reproduce metaqa", table.COLUMNS, tiny)
        table.check_rows(to, folder, rows, tiny)

        def train(seed: int, on_epoch: OnEpoch) -> list[dict[str, Any]]:
            return table.rows_of(folder, seed, tiny, on_epoch)

        for new, left in train_all(table.missing(seeds, rows), train):
            rows = sorted([*rows, *new], key=table.sort_key)
            store(to, rows, f"{', '.join(table.hits_of(row) for row in new)}, {left} left")
    print_sheet(table.sheet(rows))


def train_all(
    units: Sequence[Unit], train: Callable[[Unit, OnEpoch], list[dict[str, Any]]]
) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Yield the rows of each training, and the number of trainings that are left."""
    for number, unit in enumerate(units, 1):
        values = unit if isinstance(unit, tuple) else ("seed", unit)
        with epoch_progress(" ".join(map(str, values))) as show:
            rows = train(unit, show)
        yield rows, len(units) - number


def store(file: Path | None, rows: "Rows", progress: str) -> None:
    """Write the rows to the file, if any, and print the progress."""
    from memhop.reproduce.record import write_rows

    if file is not None:
        write_rows(file, rows)
    print_progress(progress)


@contextmanager
def folder_of(
    name: str, data: Path | None, tiny: bool, content: str = "questions"
) -> Iterator[Path]:
    """Yield the folder of the files; a temporary one for generated ones."""
    if data is not None:
        yield data
    elif not tiny:
        raise MemhopError(
            f"reproduce {name}: expected --data DIR, or --tiny for generated {content}"
        )
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def parse_names(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Return the names of a list such as ``PQ-2H,PQL-2H``, in the order of ``known``.

    >>> parse_names("--splits", "path,random", ("random", "path"))
    ['random', 'path']
    """
    wanted = [name.strip() for name in text.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise MemhopError(f"{option}: expected names of {', '.join(known)}, got {unknown[0]!r}")
    return [name for name in known if name in wanted]
