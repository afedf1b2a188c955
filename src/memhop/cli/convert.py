"""``memhop convert``: write questions with stories in another format."""

from pathlib import Path
from typing import Annotated

import typer

from memhop.atomic_write import atomic_write
from memhop.cli.screen import print_line
from memhop.data.record_writers import writable_format, writer
from memhop.data.records import read_records
from memhop.errors import MemhopError
from memhop.lines import fault, printable

app = typer.Typer()


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="File to read: .jsonl, .csv, .tsv, also with .gz, or bAbI."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="New file: .jsonl, .csv, .tsv, or .txt for bAbI.")
    ],
) -> None:
    """Convert questions with stories to another format.

    The suffix of a file is its format. What OUT cannot hold is an error with file and line, never
    left out: in the bAbI format ids, and questions without an answer; in the other formats
    statements after the last question of a story.
    """
    name = writable_format(target)
    count = 0
    with atomic_write(target, replace=False) as out:
        write = writer(name, out)
        for record in read_records(source, needs_answers=False, keeps_all=True):
            try:
                write(record)
            except MemhopError as error:
                raise fault(source, record.line, str(error)) from None
            count += 1
    print_line(f"{printable(target)}: {count:,} question{'' if count == 1 else 's'}")
