"""Measure how many questions a second ``memhop answer`` answers from a file into a file."""

import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.answer import untrained
from memhop.cli.answer import answer
from memhop.cli.reproduce import Tiny
from memhop.data import TASK_NAMES, generate, to_examples, write_examples
from memhop.data.records import format_of
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.text.model import MemN2N

_FILES = ("questions.jsonl", "questions.csv", "questions.txt")
_CHECKED = 100  # answers that are compared with those of single calls


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure 'memhop answer', by the format of the questions."""
    rounds, each = (1, 5) if tiny else (3, 1000)
    examples = [example for task in TASK_NAMES
                for example in to_examples(generate(task, questions=each, seed=9))]  # fmt: skip
    with TemporaryDirectory() as name, one_thread():
        folder = Path(name)
        untrained(Recipe.best(joint=True)).save(folder / "model")
        for file in _FILES:
            write_examples(folder / file, examples)
            for attention in (False, True):
                times = [_seconds(folder, file, attention) for _ in range(rounds)]
                wall, processor = map(min, zip(*times, strict=True))
                _check(folder, examples)
                yield [{
                    "format": format_of(file),
                    "attention": attention,
                    "questions": len(examples),
                    "rounds": rounds,
                    "seconds": round(wall, 4),
                    "processor_seconds": round(processor, 4),
                    **provenance(),
                }]  # fmt: skip


def _seconds(folder: Path, file: str, attention: bool) -> tuple[float, float]:
    """Return the time and the processor time of the command: load, check, answer and write."""
    answers = folder / "answers.jsonl"
    answers.unlink(missing_ok=True)
    start, processor = time.perf_counter(), time.process_time()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        answer(str(folder / "model"), folder / file, answers, attention)
    return time.perf_counter() - start, time.process_time() - processor


def _check(folder: Path, examples: list[Example]) -> None:
    """Compare answers with those to single questions."""
    model = MemN2N.load(folder / "model")
    step = max(1, len(examples) // _CHECKED)
    with (folder / "answers.jsonl").open(encoding="utf-8") as lines:
        for example, line in zip(examples[::step], islice(lines, 0, None, step), strict=True):
            single, stored = model.answer(example.story, example.question), json.loads(line)
            found = dict([(single.answer, single.probability), *single.runners_up])
            if abs(found.get(stored["answer"], 0.0) - stored["probability"]) > 1e-5:
                raise MemhopError(f"line {stored['line']}: expected {single.answer}, got {line}")


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table of answers a second."""
    lines = []
    for row in rows:
        option = ", --attention" if row["attention"] == "True" else ""
        count, times = int(row["questions"]), (row["seconds"], row["processor_seconds"])
        lines.append([f"{row['format']}{option}", *(f"{count / float(t):,.0f}" for t in times)])
    note = (
        f"Of {int(rows[0]['questions']):,} questions of all 20 tasks, joint model of the recipe "
        f"`best`, the fastest of {rows[0]['rounds']} runs on one core. The time is that of the "
        "whole command after Python's imports: load the model, check the file, answer and write."
    )
    return [
        Sheet("Answers", ("questions in", "a second", "a second of processor time"), lines, note)
    ]
