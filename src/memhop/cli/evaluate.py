"""``memhop eval``: a table of test errors by task."""

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from memhop.atomic_write import atomic_write
from memhop.cli.screen import percent, print_json, print_line, print_progress, print_table, program
from memhop.cli.settings import (
    DataFolder,
    Json,
    Run,
    TaskList,
    Threads,
    check_file,
    choose_model,
    load_model,
    parse_tasks,
    tasks_in,
    use,
)
from memhop.cli.wrong_answers import Confusion, has_few_answers, print_confusion, wrong_answers
from memhop.data.record_writers import check_json_lines
from memhop.data.records import Record, read_records
from memhop.errors import MemhopError
from memhop.runs import find_checkpoint, trained_in
from memhop.text.model import MemN2N
from memhop.training.evaluation import Evaluation, confusion
from memhop.training.evaluation import evaluate as evaluate_model

_MAX_NAME = 30  # characters of a file name, so that the table fits into 80 columns


app = typer.Typer()


class Asked(NamedTuple):
    """Questions to evaluate a model on; ``is_part`` if they are one of several tasks."""

    name: str
    model: MemN2N
    records: Sequence[Record]
    is_part: bool = False


class Result(NamedTuple):
    """The evaluation of some questions, and which answers were given in place of which."""

    evaluation: Evaluation
    confusion: Confusion


@app.command("eval")
def evaluate(
    run: Run = None,
    data: DataFolder = None,
    task: TaskList = None,
    test: Annotated[
        Path | None, typer.Option(help="A file of your own: .jsonl, .csv, .tsv, or bAbI.")
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(help="New file for the wrong answers with their attention, in JSON Lines."),
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Print the error of a trained model on test questions.

    'majority' is the error of always giving the most frequent answer. 'failed' marks an error
    above 5%. 'support read' is the share of questions with known supporting facts for which a hop
    gives its highest weight to one of these. If there are few answers, a table shows how often
    each was given (columns) where another one is right (rows).
    """
    use(threads)
    if (data is None) == (test is None):
        raise MemhopError(
            f"eval needs either --data DIR or --test FILE, see {program()} eval --help"
        )
    if test is not None and task is not None:
        raise MemhopError("--task goes with --data, not with --test")
    if errors is not None:
        check_json_lines(errors)
    folder = choose_model(run)
    asked = _on_file(folder, test) if test else _on_tasks(folder, data or Path(), task)
    found = _results(asked, errors)
    if json:
        print_json([_as_json(name, result) for name, result in found.items()])
        return
    results = {name: result.evaluation for name, result in found.items()}
    print_table(
        ("task", "questions", "error", "majority", "failed", "support read"), _rows(results)
    )
    for name, result in results.items():
        if never_seen := _never_seen(result):
            print_line(f"{_short(name)}: never seen in training: {never_seen}")
        if count := result.truncated_stories:
            questions = f"{count:,} question{'' if count == 1 else 's'}"
            print_line(f"{_short(name)}: memory full in {questions}: oldest sentences not read")
    if len(results) > 1:
        mean = sum(result.error for result in results.values()) / len(results)
        failed = sum(result.failed for result in results.values())
        print_line(f"mean error {percent(mean)}, {failed} of {len(results)} failed", "bold")
        return
    [(evaluation, table)] = found.values()
    if evaluation.error and has_few_answers(table):
        print_line("")
        print_confusion(table)


def _results(asked: Iterator[Asked], errors: Path | None) -> dict[str, Result]:
    """Evaluate, and write the wrong answers."""
    found = {}
    with nullcontext() if errors is None else atomic_write(errors, replace=False) as out:
        for name, model, records, is_part in asked:
            examples = [record.example for record in records]
            evaluation = evaluate_model(model, examples)
            answers = evaluation.answers
            found[name] = Result(evaluation, confusion(examples, answers))
            if is_part:
                print_progress(f"task {name}: error {percent(evaluation.error)}")
            if out is not None:
                lines = wrong_answers(model, records, answers, name)
                out.writelines(f"{line}\n" for line in lines)
    return found


def _on_file(folder: Path, test: Path) -> Iterator[Asked]:
    check_file("--test", test)
    yield Asked(test.name, load_model(folder), list(read_records(test)))


def _on_tasks(folder: Path, data: Path, task: str | None) -> Iterator[Asked]:
    """Yield the questions of each task, with its own model if the run has one for each."""
    names = {run: re.fullmatch(r"qa([0-9]{1,3})", run.name) for run in trained_in(folder)}
    own = {number[1]: run for run, number in names.items() if number and run != folder}
    if not own:
        find_checkpoint(folder)  # raises if there are several models
    if own and task is None:
        task = ",".join(own)
    missing = [n for n in parse_tasks(task or "") if str(n) not in own] if own and task else []
    if missing:
        expected = f"one of the tasks {', '.join(own)}"
        raise MemhopError(f"{folder}: no model of task {missing[0]}; expected {expected}")
    load = lru_cache(maxsize=1)(load_model)  # load a model for all tasks once
    tasks = tasks_in(data, task, split="test")
    for number, splits in tasks.items():
        model = load(own.get(str(number), folder))
        yield Asked(str(number), model, list(read_records(splits["test"])), len(tasks) > 1)


def _rows(results: dict[str, Evaluation]) -> list[list[str]]:
    return [
        [_short(name), f"{result.questions:,}", percent(result.error),
         percent(result.majority_error), "failed" if result.failed else "",
         percent(result.support_read)]
        for name, result in results.items()
    ]  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."


def _never_seen(result: Evaluation) -> str:
    """Return how many words and answers of a test the model does not know."""
    counts = (("word", len(result.unknown_words)), ("answer", len(result.unknown_answers)))
    return ", ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for what, n in counts if n)


def _as_json(name: str, found: Result) -> dict[str, object]:
    result, table = found
    return {
        "task": name,
        "questions": result.questions,
        "error": result.error,
        "majority_error": result.majority_error,
        "failed": result.failed,
        "support_read": result.support_read,
        "unknown_words": list(result.unknown_words),
        "unknown_answers": list(result.unknown_answers),
        "truncated_stories": result.truncated_stories,
        "confusion": table if has_few_answers(table) else None,
    }
