"""``memhop store add``: add the records of files."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from memhop.cli.encoder import EncoderName, load_encoder
from memhop.cli.screen import Stopped, print_json, print_line, print_progress, program, stderr
from memhop.cli.settings import Json
from memhop.cli.store.folder import counted, open_store
from memhop.cli.store.options import Folder
from memhop.cli.store.records import Batch, RecordFile
from memhop.errors import MemhopError
from memhop.lines import fault, printable
from memhop.picture import escaped

if TYPE_CHECKING:
    from memhop.storage.store import Store

_ROWS_A_LINE = 100_000  # of progress, if standard error is no terminal
_MAX_NAME = 40  # characters of a file before the counter

app = typer.Typer()


@app.command()
def add(
    folder: Folder,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Records, a JSON object a line (.jsonl, also .gz), or vectors (.npy).",
        ),
    ],
    encoder: EncoderName = None,
    from_line: Annotated[
        int, typer.Option(min=1, help="First line of the first file to read.")
    ] = 1,
    skip_stored: Annotated[
        bool,
        typer.Option("--skip-stored", help="Skip records whose id is in the store."),
    ] = False,
    json: Json = False,
) -> None:
    """Add the records of files to a store.

    A record has a "vector", a list of numbers, or a "text" that --encoder turns into one; and, as
    you like, an "id" (text or integer, not in the store), a "text", a "payload" (object) and a
    "time" (ISO 8601, or seconds since 1970). Without ids, rows get the next integers.

    Records are stored in batches; each is on the disk before the next is read. At a wrong line or
    Ctrl-C the rows before are stored, and the message has the command that continues. After a
    power failure or a killed process, run the same command with --skip-stored.
    """
    encode = load_encoder(encoder)
    options = [*([] if encoder is None else ["--encoder", encoder])]
    options += ["--skip-stored"] * skip_stored + ["--json"] * json
    added = skipped = 0
    with open_store(folder, encoder=encode) as store:
        for place, path in enumerate(files):
            reader = RecordFile(path, store.dim, encode, from_line, store if skip_stored else None)
            adding = _Adding(store, reader, [folder, *files[place:]], options)
            adding.run(is_first=place == 0)
            added, skipped = added + adding.added, skipped + reader.skipped
            from_line = 1
        num_rows = len(store)
    if json:
        print_json({"added": added, "skipped": skipped, "rows": num_rows})
        return
    if skip_stored:
        stored = f"skipped {skipped:,} that were stored"
        print_line(f"added {counted(added)}, {stored}; {folder} has {counted(num_rows)}")
        return
    print_line(f"added {counted(added)} to {folder}; it has {counted(num_rows)}")


class _Adding:
    """The rows of a file on their way to a store.

    Args:
        store: the store.
        reader: the file.
        paths: of the store, of this file and of those that come after it, as they were given.
        options: of the command, to print it.
    """

    def __init__(
        self, store: "Store", reader: RecordFile, paths: Sequence[Path], options: Sequence[str]
    ) -> None:
        self.store, self.reader, self.paths, self.options = store, reader, paths, options
        self.added, self.next_line = 0, reader.first

    def run(self, *, is_first: bool) -> None:
        """Add the rows of the file, the first one of the command or another.

        Raises:
            MemhopError: a wrong line. The rows before it are stored.
            Stopped: by Ctrl-C.
        """
        try:
            with _progress(self.reader.path) as show:
                for batch in self.reader.batches():
                    self._add(batch)
                    show(self.added)
        except KeyboardInterrupt:
            raise Stopped(f"stopped: {self._stored()}") from None
        except MemhopError as error:
            is_unchanged = is_first and not self.added
            raise MemhopError(
                str(error) if is_unchanged else f"{error} ({self._stored()})"
            ) from None

    def _add(self, batch: Batch) -> None:
        begin = self.store.num_rows
        try:
            self.store.add(**batch.columns)
        except KeyboardInterrupt:
            if self.store.num_rows > begin:  # it came after the commit
                self._count(batch, len(batch.lines))
            raise
        except MemhopError as error:
            before, wrong = self._until_used(batch)
            if wrong is None:
                raise
            if before:
                columns = {name: None if values is None else values[:before]
                           for name, values in batch.columns.items()}  # fmt: skip
                self.store.add(**columns)
                self._count(batch, before)
            is_stored = batch.columns["ids"][before] in self.store
            hint = "; --skip-stored skips such records" if is_stored else ""
            raise fault(self.reader.path, wrong, f"{error}{hint}") from None
        self._count(batch, len(batch.lines))

    def _until_used(self, batch: Batch) -> tuple[int, int | None]:
        """Return the number of rows before the first id that is used, and the line of that."""
        seen: set[str | int] = set()
        for place, name in enumerate(batch.columns.get("ids") or ()):
            if name in seen or name in self.store:
                return place, batch.lines[place]
            seen.add(name)
        return 0, None

    def _count(self, batch: Batch, rows: int) -> None:
        self.added += rows
        self.next_line = batch.lines[rows - 1] + 1

    def _stored(self) -> str:
        """Return how many rows of the file are stored, and the command that adds the others."""
        words = [program(), "store add", *(shlex.quote(printable(path)) for path in self.paths)]
        words += [*map(shlex.quote, self.options), f"--from-line {self.next_line}"]
        name = printable(self.reader.path)
        return f"{counted(self.added)} of {name} stored; continue: {' '.join(words)}"


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """Show on standard error how many rows are stored: a counter, or a line each 100,000 rows."""
    console = stderr()
    if not console.is_terminal:
        yield _progress_lines(path)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,} rows stored"))
    with Progress(*columns, console=console, transient=True) as counter:
        row = counter.add_task(escaped(path.name)[:_MAX_NAME], total=None)
        yield lambda added: counter.update(row, completed=added)


def _progress_lines(path: Path) -> Callable[[int], None]:
    last = 0

    def show(added: int) -> None:
        nonlocal last
        if added // _ROWS_A_LINE > last:
            last = added // _ROWS_A_LINE
            print_progress(f"{path.name}: {added:,} rows stored")

    return show
