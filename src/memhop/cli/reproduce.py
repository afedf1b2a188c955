"""``memhop reproduce``: train the paper's tables and write their rows."""

import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memhop.atomic_write import check_new, check_writable
from memhop.checkpoint import check_replaceable
from memhop.cli.screen import percent, print_line, print_progress, print_table, training_progress
from memhop.cli.settings import (
    DataFolder,
    Threads,
    available_cores,
    parse_numbers,
    parse_tasks,
    use,
)
from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.runs import RUNS

if TYPE_CHECKING:
    from memhop.reproduce.record import Rows, Sheet
    from memhop.reproduce.trainings import TableSpec, Unit

app = typer.Typer(no_args_is_help=True, help="Reproduce the paper's tables.")


def writable(context: typer.Context, path: Path | None) -> Path | None:
    """Check a file of ``--to`` before the work; completion in a shell checks nothing."""
    from memhop.reproduce.record import check_writable_file

    if path is not None and not context.resilient_parsing:
        check_writable_file(path)
    return path


def replaceable(context: typer.Context, path: Path | None) -> Path | None:
    """Check a file of ``--to`` before the work: only rows of a measurement are replaced."""
    from memhop.reproduce.record import is_rows

    writable(context, path)
    if path is not None and not context.resilient_parsing and not is_rows(path):
        check_new(path)
    return path


Restarts = Annotated[int, typer.Option(min=1, help="Random starts of each training.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of stories and weights.")]
Tasks = Annotated[str, typer.Option(metavar="LIST", help="Tasks, as 1,2,5-7.")]
ReleasedStories = Annotated[Path, typer.Option("--data", help="Folder with the bAbI files.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes of one thread. Default: cores.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Run in seconds, to see that it works.")]
To = Annotated[
    Path | None,
    typer.Option(callback=replaceable, help="CSV file to write. Default: only print."),
]


def _tasks(context: typer.Context, data: Path | None, tasks: str) -> list[int]:
    """Return the tasks to train; generated stories are of tasks 1 and 2."""
    if data is not None:
        return parse_tasks(tasks)
    if not context.params["tiny"]:
        raise MemhopError(
            f"reproduce {context.info_name}: expected --data DIR, or --tiny for generated stories"
        )
    source = context.get_parameter_source("tasks")
    if source is not None and source.name == "COMMANDLINE":
        raise MemhopError(
            f"reproduce {context.info_name}: expected --data DIR with --tasks; without it, --tiny "
            "trains generated stories of tasks 1 and 2"
        )
    return [1, 2]


@app.command()
def babi(
    context: typer.Context,
    data: DataFolder = None,
    tasks: Tasks = "1,2,4,15,20",
    restarts: Restarts = 10,
    seed: Seed = 0,
    threads: Threads = 1,
    tiny: Tiny = False,
    to: To = None,
) -> None:
    """Train single tasks with the recipe 'paper': error and time."""
    from memhop.reproduce import babi
    from memhop.reproduce.record import write_rows

    use(threads)
    wanted = _tasks(context, data, tasks)
    load = babi.released(data) if data else babi.generated
    recipe = Recipe.paper(**babi.TINY) if tiny else Recipe.paper()
    rows = []
    for task in wanted:
        with training_progress(f"task {task}") as show:
            row = babi.row_of(
                task, load(task), recipe=recipe, restarts=restarts, seed=seed, on_progress=show
            )
        rows.append(row)
        low, high = percent(row["lowest_test_error"]), percent(row["highest_test_error"])
        print_progress(f"task {task}: {percent(row['test_error'])}, all restarts {low} to {high}")
        if to is not None:
            write_rows(to, rows)
    print_sheet(babi.sheet(rows))


Resumed = Annotated[
    Path | None, typer.Option("--to", callback=writable, help="CSV file to write, and to resume.")
]


@app.command("table3", help="Train Table 3 (10,000 questions); a stopped run resumes.")
@app.command("table1", help="Train Table 1 of the paper; a stopped run resumes.")
def table(
    context: typer.Context,
    data: DataFolder = None,
    columns: Annotated[
        str, typer.Option(metavar="LIST", help="Some of these columns.")
    ] = "bow,pe,pe-ls,pe-ls-rn,joint-1-hop,joint-2-hops,joint-3-hops,joint-rn,joint-layerwise",
    tasks: Tasks = "1-20",
    restarts: Restarts = 10,
    seed: Seed = 0,
    jobs: Jobs = None,
    tiny: Tiny = False,
    to: Resumed = None,
) -> None:
    """Train the units that the file lacks; write the rows after each, and the table at the end."""
    from memhop.reproduce import paper, table1, table1_files, table1_report, trainings

    large = context.info_name == "table3"
    numbers = paper.LARGE if large else paper.SMALL
    wanted = _tasks(context, data, tasks)
    names = trainings.parse_columns(columns, table1.PAPERS)
    available = _available(data, wanted, "left out of our means and the paper's")
    spec = table1.table_of(data, available, restarts=restarts, seed=seed, large=large, tiny=tiny)
    table1.check_size(spec)
    rows = table1.rows_to_resume(to, spec, names)
    if to is not None and not rows:
        table1_files.check_report(to)
    left = trainings.missing_units(spec, names, rows)
    for unit, new in _trained(partial(trainings.rows_of, spec), left, jobs, to):
        rows = _stored(spec, rows, new, to)
        for line in table1_report.cells_done(rows, unit, spec, numbers):
            print_line(line)
    for column in table1_report.columns_of(rows, numbers):
        if column.name in names:
            print_line(table1_report.summary_of(column))
    for written in table1_files.write_report(to, rows, numbers) if to is not None else ():
        print_line(f"{written}: written")


@app.command()
def best(
    context: typer.Context,
    data: DataFolder = None,
    columns: Annotated[
        str,
        typer.Option(metavar="LIST", help="Columns: these, paper, paper-joint."),
    ] = "best,best-joint,inflected,inflected-paper",
    tasks: Tasks = "1-20",
    seeds: Annotated[
        str, typer.Option(metavar="LIST", help="Seeds of held-out stories and weights.")
    ] = "0-4",
    restarts: Restarts = 3,
    jobs: Jobs = None,
    tiny: Tiny = False,
    to: Resumed = None,
) -> None:
    """Train the recipe 'best' with many seeds; it resumes.

    The data may have 1,000 or 10,000 questions a task. The inflected columns have rewritten stories
    of tasks 1-6 and 11-14. A training keeps one of its restarts by held-out stories; the test
    questions are scored once, at its end. The rows are written after each training, and the table
    at the end.
    """
    from memhop.reproduce import best, best_report, paper, table1_files, trainings

    wanted = _tasks(context, data, tasks)
    names = trainings.parse_columns(columns, best.COLUMNS)
    numbers = tuple(sorted(parse_numbers("--seeds", seeds)))
    available = _available(data, wanted, "left out of the means")
    large = trainings.is_large(data, available[0])
    spec = trainings.TableSpec(best.COLUMNS, data, available, restarts, numbers, large, tiny)
    rows = best.rows_to_resume(to, spec, names)
    if to is not None and not rows:
        table1_files.check_report(to, (".md",))
    left = trainings.missing_units(spec, names, rows)
    for unit, new in _trained(partial(best.rows_of, spec), left, jobs, to):
        rows = _stored(spec, rows, new, to)
        print_line(best_report.done_line(rows, unit))
    if not rows:
        return
    sheet = best_report.sheet_of(rows, paper.LARGE if large else paper.SMALL)
    print_sheet(sheet)
    if to is not None:
        table1_files.write_table(to, rows, sheet)
        print_line(f"{to.with_suffix('.md')}: written")


def _available(data: Path | None, wanted: list[int], consequence: str) -> tuple[int, ...]:
    """Return the tasks that have files, and print those that have none."""
    from memhop.reproduce.trainings import available_tasks

    available = wanted if data is None else available_tasks(data, wanted)
    for task in sorted(set(wanted) - set(available)):
        print_line(f"task {task}: no files in {data}; {consequence}")
    return tuple(available)


def _trained(
    rows_of: "Callable[[Unit], Rows]", left: "list[Unit]", jobs: int | None, to: Path | None
) -> "Iterator[tuple[Unit, Rows]]":
    """Train units in processes; yield the rows of each, and print how many models are left."""
    from memhop.reproduce.processes import run_in_processes

    if to is None:
        print_line(
            "the rows are not stored, and a stopped run cannot resume: --to FILE stores them"
        )
    models = sum(unit.restarts for unit in left)
    print_progress(f"models to train: {models}")
    for unit, new in run_in_processes(rows_of, left, jobs or available_cores()):
        yield unit, new
        models -= unit.restarts
        print_progress(f"models left: {models}")


def _stored(table: "TableSpec", rows: "Rows", new: "Rows", to: Path | None) -> "Rows":
    """Return all rows of a table, written to its file."""
    from memhop.reproduce.record import write_rows
    from memhop.reproduce.trainings import merge_rows

    merged = merge_rows(table, rows, new)
    if to is not None:
        write_rows(to, merged)
    return merged


@app.command("stories-model")
def stories_model(
    to: Annotated[Path, typer.Option(help="Folder to write: weights, settings and model card.")],
    run: Annotated[Path, typer.Option(help="Folder of the checkpoints, to resume from.")] = RUNS
    / "stories-model",
    threads: Threads = 1,
    tiny: Tiny = False,
) -> None:
    """Train the model that comes with memhop; it resumes.

    It learns generated stories of all 20 kinds, with checkpoints in --run. Same processor and
    number of threads, same bits. Takes half an hour on one core.
    """
    from memhop.reproduce.stories_model import TINY, Setting, train_stories_model

    use(threads)
    check_replaceable(to)
    check_writable(to)
    with training_progress("stories") as show:
        model = train_stories_model(run, TINY if tiny else Setting(), show)
    model.save_pretrained(to)
    print_line(f"{to}: written")


def print_sheet(sheet: "Sheet") -> None:
    """Print a table of results with its title and note."""
    if sheet.title:
        print_line(f"{sheet.title}:")
    if sheet.columns:
        print_table(sheet.columns, sheet.lines)
    for line in [*sheet.text.splitlines(), *textwrap.wrap(sheet.note, 80)]:
        print_line(line)


def bench() -> None:
    """Name the commands that replace ``memhop bench``."""
    raise MemhopError(
        "'memhop bench' was replaced: 'memhop reproduce' trains the paper's tables, "
        "'python -m benchmarks' in a checkout runs the other benchmarks"
    )
