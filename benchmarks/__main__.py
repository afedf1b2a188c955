"""Run a benchmark: ``python -m benchmarks NAME``. Without a name, list them."""

import inspect
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from benchmarks import tables
from benchmarks.registry import find_benchmarks
from memhop.cli.reproduce import To, print_sheet
from memhop.cli.screen import print_line, print_progress
from memhop.errors import MemhopError
from memhop.reproduce.record import Row, as_text, write_rows

PROGRAM = "python -m benchmarks"
_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    help="Measure, and write the numbers as CSV rows.",
)
Results = Annotated[Path, typer.Option(help="Folder with the CSV files.")]


def command_of(benchmark: ModuleType) -> Callable[..., None]:
    """Return the command of a benchmark: measure, write the rows, print the tables."""
    parameters = dict(inspect.signature(benchmark.measure).parameters)
    writes = "to" in parameters
    if not writes:
        parameters["to"] = inspect.Parameter(
            "to", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=To
        )

    def run(**options: Any) -> None:
        to = None if writes else options.pop("to")
        rows: list[Row] = []
        for new in benchmark.measure(**options):
            rows += new
            if hasattr(benchmark, "sort_key"):
                rows.sort(key=benchmark.sort_key)
            print_progress(", ".join(f"{key} {value}" for key, value in islice(new[-1].items(), 3)))
            if to is not None:
                write_rows(to, rows)
        for sheet in benchmark.sheets(as_text(rows)):
            print_sheet(sheet)

    run.__doc__ = benchmark.measure.__doc__
    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    return run


for name, benchmark in find_benchmarks().items():
    app.command(name)(command_of(benchmark))


@app.command("tables")
def fill_tables(
    files: Annotated[list[Path], typer.Argument(help="Documents to fill in place.")],
    results: Results = Path("results"),
) -> None:
    """Update the tables in README and docs from the CSV rows."""
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            file.write_text(tables.fill(text, results), encoding="utf-8")
        except OSError as error:
            raise MemhopError(f"{file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise MemhopError(f"{file}: expected UTF-8 text") from error
        print_line(f"{file}: filled from {results}")


@app.command("plots")
def draw_plots(
    folder: Annotated[Path, typer.Argument(help="Folder to write them to.")],
    results: Results = Path("results"),
) -> None:
    """Draw the plots of the documents from the CSV rows."""
    try:
        drawn = list(tables.draw(results, folder))
    except ModuleNotFoundError as error:
        raise MemhopError("plots need matplotlib: pip install 'memhop[plot]'") from error
    for path in drawn:
        print_line(f"{path}: drawn from {results}")
    if not drawn:
        raise MemhopError(f"{results}: no CSV file of a benchmark with a plot")


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exit with status 2 and one line for a mistake of the user."""
    try:
        status = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        if status == _INTERRUPTED:  # typer has caught the KeyboardInterrupt
            sys.exit(_INTERRUPTED)
        return
    except TyperException as error:
        message = error.format_message().removesuffix(".")
        if message.startswith("Usage:"):
            print(message)
            return
    except MemhopError as error:
        message = str(error)
    print(f"benchmarks: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
