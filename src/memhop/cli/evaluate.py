"""``memhop eval``: a table of test errors by task."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import typer

from memhop.checkpoint import STORIES
from memhop.cli.screen import percent, print_json, print_line, print_progress, print_table, program
from memhop.cli.settings import (
    DataFolder,
    Json,
    Run,
    TaskList,
    Threads,
    load_model,
    parse_tasks,
    read_file,
    tasks_in,
    use,
)
from memhop.data import read_babi
from memhop.errors import MemhopError
from memhop.model_names import find_model
from memhop.runs import find_checkpoint, trained_in
from memhop.training.evaluation import Evaluation
from memhop.training.evaluation import evaluate as evaluate_model

_MAX_NAME = 30  # characters of a file name, so that the table fits into 80 columns


app = typer.Typer()


@app.command("eval")
def evaluate(
    run: Run = None,
    data: DataFolder = None,
    task: TaskList = None,
    test: Annotated[
        Path | None, typer.Option(help="A file of your own: .jsonl, .csv, .tsv, or bAbI.")
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Print the error of a trained model on test questions.

    'majority' is the error of always giving the most frequent answer. 'failed' marks an error
    above 5%. 'support read' is the share of questions with known supporting facts for which a hop
    gives its highest weight to one of these.
    """
    use(threads)
    if (data is None) == (test is None):
        raise MemhopError(
            f"eval needs either --data DIR or --test FILE, see {program()} eval --help"
        )
    if test is not None and task is not None:
        raise MemhopError("--task goes with --data, not with --test")
    folder = find_model(run, STORIES)
    results = dict(_on_file(folder, test) if test else _on_tasks(folder, data or Path(), task))
    if json:
        print_json([_as_json(name, result) for name, result in results.items()])
        return
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


def _on_file(folder: Path, test: Path) -> list[tuple[str, Evaluation]]:
    return [(test.name, evaluate_model(load_model(folder), read_file("--test", test)))]


def _on_tasks(folder: Path, data: Path, task: str | None) -> list[tuple[str, Evaluation]]:
    """Evaluate each task, by its own model if the run has one for each."""
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
    results = []
    tasks = tasks_in(data, task, split="test")
    for number, splits in tasks.items():
        model = load(own.get(str(number), folder))
        result = evaluate_model(model, read_babi(splits["test"]))
        results.append((str(number), result))
        if len(tasks) > 1:
            print_progress(f"task {number}: error {percent(result.error)}")
    return results


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


def _as_json(name: str, result: Evaluation) -> dict[str, object]:
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
    }
