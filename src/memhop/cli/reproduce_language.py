"""``memhop reproduce ptb``: train language models on the Penn Treebank."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memhop.cli.lm.train import progress
from memhop.cli.reproduce import Tiny, print_sheet
from memhop.cli.reproduce_knowledge import DataFolder, ToResume, folder_of, store
from memhop.cli.screen import Stopped, print_progress, program
from memhop.cli.settings import Threads, use
from memhop.errors import MemhopError
from memhop.runs import RUNS

if TYPE_CHECKING:
    from memhop.reproduce.record import Rows

app = typer.Typer()

TABLE = "2x100,3x100,4x100,5x100,6x100,7x100,6x25,6x50,6x75,6x125,6x150,7x200"


@app.command()
def ptb(
    context: typer.Context,
    data: DataFolder = None,
    rows: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Hops x words in memory, such as 6x50, or 'best': the recipe 'best' as it is.",
        ),
    ] = TABLE,
    recipe: Annotated[
        Literal["paper", "best"], typer.Option(help="The other settings of the rows.")
    ] = "paper",
    protocol: Annotated[
        Literal["paper", "contiguous"] | None,
        typer.Option(help="Positions that are trained and scored. Default: the recipe's."),
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Of the output layer in training. Default: the recipe's."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trainings.")] = 0,
    max_epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Stop each training after so many epochs; 0 scores it as it is."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the checkpoints.")] = RUNS / "ptb",
    threads: Threads = 1,
    tiny: Tiny = False,
    to: ToResume = None,
) -> None:
    """Train on the Penn Treebank; a stopped run resumes.

    --data has ptb.train.txt, ptb.valid.txt and ptb.test.txt, which the LDC licenses.
    """
    from memhop.reproduce import ptb as table
    from memhop.reproduce.generated_sets import write_ptb
    from memhop.reproduce.record import as_text, rows_to_resume

    use(threads)
    units = table.units_of(table.parse_rows(rows), recipe, protocol, precision, seed)
    with folder_of("ptb", data, tiny, "text") as folder:
        if data is None:
            write_ptb(folder)
        texts = table.read_texts(folder, tiny)
        different = list(table.different_counts(texts))
        for line in () if tiny else different:
            print_progress(line)
        found = rows_to_resume(to, "reproduce ptb", table.COLUMNS, tiny)
        table.check_rows(to, texts, found)
        left, untrained = table.due(units, found, max_epochs), list[str]()
        for number, unit in enumerate(left, 1):
            run = table.run_of(runs, unit, tiny)
            with resume_command(context), progress(unit.row, each_epoch=True) as show:
                row = table.row_of(
                    unit, texts, run, max_epochs=max_epochs, tiny=tiny, on_progress=show
                )
            if row is None:
                untrained.append(f"{unit.row}: no epoch in {run}")
                continue
            [text] = as_text([row])
            found = table.merged(found, text)
            store(to, found, f"{table.summary_of(text)}, {len(left) - number} left")
    print_table(found, untrained, is_released=not different)


def print_table(found: "Rows", untrained: list[str], is_released: bool) -> None:
    """Print the table, after a line on each row without an epoch; or raise MemhopError."""
    from memhop.reproduce.ptb import sheet

    if not found:
        raise MemhopError(
            f"reproduce ptb: expected a trained row with --max-epochs 0, got none; {untrained[0]}"
        )
    for line in untrained:
        print_progress(line)
    print_sheet(sheet(found, is_released))


@contextmanager
def resume_command(context: typer.Context) -> Iterator[None]:
    """Print the command with its given options, to copy, if Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt:
        words = context.command_path.split()[1:]
        for option in context.command.params:
            source = context.get_parameter_source(option.name or "")
            if source is not None and source.name == "COMMANDLINE":
                value = context.params[option.name or ""]
                words += option.opts[:1] if value is True else [option.opts[0], str(value)]
        raise Stopped(f"stopped; resume with: {program()} {shlex.join(words)}") from None
