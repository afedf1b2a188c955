"""``memhop bench``: the measurements behind the numbers in README and docs."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from benchmarks import answer as answer_bench
from benchmarks import attention as attention_bench
from benchmarks import importing as importing_bench
from benchmarks import length as length_bench
from benchmarks import serving as serving_bench
from benchmarks import step as step_bench
from benchmarks import stories as stories_bench
from benchmarks import tables as tables_bench
from benchmarks import transfer as transfer_bench
from benchmarks.hop import run as hop_bench
from benchmarks.hop import tables as hop_tables
from benchmarks.hop.tables import Sheet
from memhop.atomic_write import check_writable
from memhop.cli.answers import say_answer
from memhop.cli.screen import (
    duration,
    percent,
    say,
    say_progress,
    say_table,
    stderr,
    training_progress,
)
from memhop.cli.settings import (
    DataFolder,
    Threads,
    available_cores,
    check_threads,
    parse_tasks,
    use,
)
from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.reproduce import babi as babi_bench
from memhop.reproduce import paper as paper_tables
from memhop.reproduce import table1 as table1_bench
from memhop.reproduce import table1_report, table1_rows, table1_summary
from memhop.reproduce.record import check_place, write_rows

app = typer.Typer(no_args_is_help=True, help="Measure, and write the numbers as CSV rows.")

Tiny = Annotated[bool, typer.Option("--tiny", help="In seconds, to see that it runs.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes, of one thread each; all cores.")]


def _writable_file(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not context.resilient_parsing:
        check_place(path)
    return path


def _writable_folder(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not context.resilient_parsing:
        check_writable(path)
    return path


To = Annotated[
    Path | None,
    typer.Option(callback=_writable_file, help="CSV file to write; without, only printed."),
]


@app.command()
def babi(
    data: DataFolder = None,
    tasks: Annotated[str, typer.Option(metavar="LIST", help="Tasks.")] = "1,2,4,15,20",
    restarts: Annotated[int, typer.Option(min=1, help="Random starts a task.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Fixed beforehand.")] = 0,
    threads: Threads = 1,
    tiny: Tiny = False,
    to: To = None,
) -> None:
    """Measure error and time of the recipe 'paper', task by task."""
    use(threads)
    if data is None and not tiny:
        raise MemhopError("bench babi needs --data DIR, or --tiny for generated stories")
    load = babi_bench.released(data) if data else babi_bench.generated
    numbers = [1, 2] if tiny and data is None else parse_tasks(tasks)
    recipe = Recipe.paper(**babi_bench.TINY) if tiny else Recipe.paper()
    rows: list[dict[str, Any]] = []
    for number in numbers:
        with training_progress(f"task {number}") as show:
            rows += babi_bench.measure(
                [number], load, recipe=recipe, restarts=restarts, seed=seed, on_progress=show
            )
        last = rows[-1]
        say(f"task {number}: {percent(last['test_error'])} in {last['seconds']:.1f} s")
        if to is not None:
            write_rows(to, rows)
    columns = ("task", "test error", "mean", "lowest", "highest", "seconds")
    errors = ("test_error", "mean_test_error", "lowest_test_error", "highest_test_error")
    say_table(columns, [[str(row["task"]), *(percent(row[error]) for error in errors),
                         f"{row['seconds']:.1f}"] for row in rows])  # fmt: skip


@app.command()
def table1(
    data: DataFolder = None,
    columns: Annotated[
        str, typer.Option(metavar="LIST", help="Columns: these nine, best, best-joint.")
    ] = ",".join(table1_bench.PAPERS),
    tasks: Annotated[str, typer.Option(metavar="LIST", help="Tasks.")] = "1-20",
    restarts: Annotated[int, typer.Option(min=1, help="Random starts of each training.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Fixed beforehand.")] = 0,
    jobs: Jobs = None,
    ten_k: Annotated[
        bool, typer.Option("--ten-k", help="Table 3: 10,000 training questions a task.")
    ] = False,
    tiny: Tiny = False,
    to: Annotated[
        Path | None,
        typer.Option(callback=_writable_file, help="CSV file to write, and to go on from."),
    ] = None,
) -> None:
    """Train Table 1 of the paper; a stopped run resumes."""
    if data is None and not tiny:
        raise MemhopError("bench table1 needs --data DIR, or --tiny for generated stories")
    names = table1_bench.parse_columns(columns)
    wanted = [1, 2] if data is None else parse_tasks(tasks)
    numbers = tuple(wanted if data is None else table1_bench.available_tasks(data, wanted))
    for task in sorted(set(wanted) - set(numbers)):
        say(f"task {task}: no files in {data}; left out on both sides")
    table = table1_bench.Table(data, numbers, restarts, seed, ten_k, tiny)
    table1_bench.check_size(table)
    rows = table1_rows.rows_to_go_on_from(to, table, names)
    if to is None:
        say("nothing is kept, and a run that is stopped begins anew: --to FILE keeps the rows")
    left = table1_rows.missing(table, names, rows)
    paper = paper_tables.LARGE if ten_k else paper_tables.SMALL
    for unit, found in table1_bench.run(table, left, jobs or available_cores()):
        rows = table1_rows.put(rows, found)
        if to is not None:
            write_rows(to, rows)
        left.remove(unit)
        say_progress(f"models to come: {sum(one.restarts for one in left)}")
        for line in table1_summary.cells_done(rows, unit, table, paper):
            say(line)
    for column in table1_summary.columns_of(rows, paper):
        if column.name in names:
            say(table1_summary.line_of(column))
    for written in table1_report.write(to, rows, paper) if to is not None else ():
        say(f"{written}: written beside the rows")


@app.command()
def step(data: DataFolder = None, tiny: Tiny = False, to: To = None) -> None:
    """Measure the parts of a training step, and its operations alone."""
    if data is None and not tiny:
        raise MemhopError("bench step needs --data DIR, or --tiny for generated stories")
    rows = []
    for row in step_bench.measure(None if tiny else data):
        rows.append({name: str(value) for name, value in row.items()})
        say(f"{row['column']}, task {row['task'] or 'all'}: {row['step_ms']:.2f} ms a step")
    _say_sheet(step_bench.sheet(rows))
    if to is not None:
        write_rows(to, rows)


@app.command()
def stories(
    data: DataFolder = None,
    tasks: Annotated[str, typer.Option(metavar="LIST", help="Tasks.")] = "1-20",
    seed: Annotated[int, typer.Option(min=0, help="Of the generated stories.")] = 0,
    to: To = None,
) -> None:
    """Compare words, templates and lengths with the released stories."""
    if data is None:
        raise MemhopError("bench stories needs --data DIR, the released stories")
    numbers = table1_bench.available_tasks(data, parse_tasks(tasks))
    rows = list(stories_bench.measure(data, None, seed, numbers))
    _say_sheet(stories_bench.sheet(rows))
    if to is not None:
        write_rows(to, rows)


@app.command()
def transfer(
    data: DataFolder = None,
    tasks: Annotated[str, typer.Option(metavar="LIST", help="Tasks.")] = "1-20",
    restarts: Annotated[int, typer.Option(min=1, help="Random starts of each training.")] = 10,
    jobs: Jobs = None,
    tiny: Tiny = False,
    to: To = None,
) -> None:
    """Train on released or generated stories; test on both."""
    if data is None:
        raise MemhopError("bench transfer needs --data DIR, the released stories")
    recipe = Recipe.paper(**babi_bench.TINY) if tiny else Recipe.paper()
    setting = transfer_bench.Setting(data, restarts, recipe)
    numbers = table1_bench.available_tasks(data, parse_tasks(tasks))
    seeds = transfer_bench.SEEDS[:1] if tiny else transfer_bench.SEEDS
    rows: list[dict[str, Any]] = []
    for found in transfer_bench.measure(setting, numbers, seeds, jobs or available_cores()):
        rows = sorted([*rows, *found], key=lambda row: (row["task"], row["seed"]))
        say_progress(f"task {found[0]['task']}, seed {found[0]['seed']}: done")
        if to is not None:
            write_rows(to, rows)
    _say_sheet(transfer_bench.sheet(rows))


@app.command()
def length(jobs: Jobs = None, tiny: Tiny = False, to: To = None) -> None:
    """Train on stories of up to 20 statements, test on longer ones."""
    size = length_bench.TINY if tiny else length_bench.Size()
    rows: list[dict[str, Any]] = []
    for found in length_bench.measure(size, jobs or available_cores()):
        rows = sorted([*rows, *found], key=length_bench.sort_key)
        say_progress(f"task {found[0]['task']}, {found[0]['encoding']}: done")
        if to is not None:
            write_rows(to, rows)
    _say_sheet(length_bench.sheet(rows))


@app.command()
def answer(tiny: Tiny = False, to: To = None) -> None:
    """Measure the time of one answer with 'paper' and with 'best'."""
    rows = list(answer_bench.measure(calls=20 if tiny else 1000))
    _say_sheet(answer_bench.sheet(rows))
    if to is not None:
        write_rows(to, rows)


@app.command()
def attention(tiny: Tiny = False, to: To = None) -> None:
    """Train README's model; measure what each hop reads of its story."""
    rows = attention_bench.measure(attention_bench.TINY if tiny else attention_bench.RECIPE)
    read = [{name: str(value) for name, value in row.items()} for row in rows]
    say_answer(attention_bench.answer_of(read))
    if to is not None:
        write_rows(to, rows)


@app.command("serve")
def serving(
    clients: Annotated[int, typer.Option(min=1, help="Clients that ask at the same time.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each load.")] = 30.0,
    tiny: Tiny = False,
    to: To = None,
) -> None:
    """Measure answers per second and waiting time of 'memhop serve'."""
    rows = list(serving_bench.measure(*(4, 1.0) if tiny else (clients, seconds)))
    _say_sheet(serving_bench.sheet(rows))
    if to is not None:
        write_rows(to, rows)


@app.command("import")
def importing(tiny: Tiny = False, to: To = None) -> None:
    """Measure 'import memhop' beyond 'import torch'."""
    row = importing_bench.measure(rounds=1 if tiny else 9)
    say(f"import memhop: {row['beyond_torch_seconds']} s beyond import torch")
    if to is not None:
        write_rows(to, [row])


@app.command()
def hop(
    only: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"Parts, of {', '.join(hop_bench.PARTS)}.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to measure.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to compute with. Without: at most 2.")
    ] = None,
    tiny: Tiny = False,
    to: Annotated[
        Path | None,
        typer.Option(
            callback=_writable_folder, help="Folder for the CSV files; without, only printed."
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(callback=_writable_folder, help="Folder for the plots of what --to holds."),
    ] = None,
) -> None:
    """Compare speed and memory of the hops with the textbook form."""
    parts = hop_bench.parts_of(device, only)
    threads = check_threads(threads) if threads is not None else min(2, available_cores())
    if plots is not None:
        if to is None:
            raise MemhopError("bench hop needs --to FOLDER with --plots: they show its CSV files")
        _drawing()
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    taken = dict.fromkeys(parts, 0.0)
    with _beginnings() as begin:
        for found in hop_bench.measure(
            parts, device=device, threads=threads, tiny=tiny, on_begin=begin,
        ):  # fmt: skip
            part = found.part
            rows[part] += found.rows
            taken[part] += found.seconds
            if found.last:
                _say_part(part, rows[part], taken[part])
                if to is not None:
                    hop_bench.put(to, part, rows[part])
    say(f"all parts: {duration(sum(taken.values()))}")
    if plots is not None and to is not None:
        draw(plots, to)


@contextmanager
def _beginnings() -> Iterator[Callable[[str], None]]:
    """Show on standard error what is measured now."""
    console = stderr()
    if not console.is_terminal:
        yield say_progress
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text))  # no markup: memories are said in brackets


def _say_sheet(sheet: Sheet) -> None:
    say_table(sheet.columns, sheet.lines)
    for line in textwrap.wrap(sheet.note, 80):
        say(line)


def _say_part(part: str, rows: list[dict[str, Any]], seconds: float) -> None:
    read = [{name: "" if value is None else str(value) for name, value in row.items()}
            for row in rows]  # fmt: skip
    for sheet in hop_tables.SHEETS[part](read):
        say(f"{sheet.title}:")
        _say_sheet(sheet)
        say("")
    for line in textwrap.wrap(hop_tables.notes_of(read), 80):
        say(line)
    say(f"{part}: {duration(seconds)}")
    say("")


@app.command("plots")
def draw(
    folder: Annotated[Path, typer.Argument(help="Folder to put them into.")],
    results: Annotated[Path, typer.Option(help="Folder with the CSV files.")] = Path("results"),
) -> None:
    """Draw the plots of the documents from the CSV rows."""
    drawn = 0
    try:
        for path in _drawing()(results, folder):
            say(f"{path}: made from {results}")
            drawn += 1
    except MemhopError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        raise MemhopError(f"{results}: a CSV file without the rows of its benchmark") from error
    if not drawn:
        raise MemhopError(f"{results}: no rows of a benchmark to draw")


def _drawing() -> Callable[[Path, Path], Iterator[Path]]:
    try:
        from benchmarks import plots
    except ModuleNotFoundError as error:
        raise MemhopError("plots need matplotlib: pip install 'memhop[plot]'") from error
    return plots.draw


@app.command()
def tables(
    files: Annotated[list[Path], typer.Argument(help="Documents to fill in place.")],
    results: Annotated[Path, typer.Option(help="Folder with the CSV files.")] = Path("results"),
) -> None:
    """Update the tables in README and docs from the CSV rows."""
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            file.write_text(_filled(text, results), encoding="utf-8")
        except OSError as error:
            raise MemhopError(f"{file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise MemhopError(f"{file}: needs UTF-8 text") from error
        say(f"{file}: tables are those of {results}")


def _filled(text: str, results: Path) -> str:
    try:
        return tables_bench.fill(text, results)
    except MemhopError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        raise MemhopError(f"{results}: a CSV file without the rows of its benchmark") from error
