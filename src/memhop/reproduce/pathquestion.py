"""Train on PathQuestion (Zhou, Huang, Zhu, COLING 2018, arXiv 1801.04726), with two splits.

No split is released. Lines with the same question count as one question with the answers of all,
as PQL-2H repeats questions with another answer. The questions are divided 8:1:1 at random, or so
that no topic with the same relation path is in two parts (split "path"). A random split leaks: most
pairs of topic and path of its test questions are also in its training questions.
"""

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memhop.errors import MemhopError, shown
from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.training import train
from memhop.reproduce.record import Row, Rows, Sheet, provenance

FACTS = {"PQ-2H": "2H-kb.txt", "PQ-3H": "3H-kb.txt", "PQL-2H": "PQL2-KB.txt",
         "PQL-3H": "PQL3-KB.txt"}  # fmt: skip
SPLITS = ("random", "path")
# hits@1 as published: key-value memory networks, and the best (see docs/knowledge.md)
PUBLISHED = {"PQ-2H": (93.7, 99.1), "PQ-3H": (87.9, 95.7), "PQL-2H": (62.2, 97.5),
             "PQL-3H": (67.4, 97.1)}  # fmt: skip
SHARES = (0.8, 0.1)  # of training and development questions
_LINE = re.compile(r"(?P<question>[^\t]+)\t(?P<answers>[^\t]+)\t(?P<path>[^\t]+)")
_LISTED = re.compile(r".*?\((?P<all>.*)\)", re.DOTALL)


class PathQuestion(NamedTuple):
    """A question with the relations of its gold path, which only the split "path" uses."""

    question: Question
    path: tuple[str, ...]


class Unit(NamedTuple):
    """One training: a set, a split and a seed."""

    name: str
    split: str
    seed: int


def read_set(folder: Path, name: str) -> tuple[KnowledgeBase, list[PathQuestion]]:
    """Return facts and questions of a set.

    Raises:
        MemhopError: a file is missing or malformed.
    """
    path = folder / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "expected UTF-8 text"
        raise MemhopError(f"{path}: cannot be read: {reason}") from error
    merged: dict[tuple[object, ...], PathQuestion] = {}
    for number, line in enumerate(lines, 1):
        one = parse(line, f"{path}:{number}")
        question = one.question
        known = merged.setdefault((question.text, question.topics), one)
        answers = tuple(dict.fromkeys((*known.question.answers, *question.answers)))
        merged[question.text, question.topics] = known._replace(
            question=known.question._replace(answers=answers)
        )
    return read_facts(folder / FACTS[name]), list(merged.values())


def parse(line: str, where: str) -> PathQuestion:
    """Return the question of a line ``question TAB answer(answer/...) TAB gold path``.

    The answer of the line is the end of the path, as answers may hold parentheses; it is the first
    of the right answers. The topic is the start of the path.

    >>> line = "who is ann 's son ?\\tbob(bob/carl/)\\tann#child#bob#<end>#bob"
    >>> parse(line, "a.txt:1")  # doctest: +NORMALIZE_WHITESPACE
    PathQuestion(question=Question(text="who is ann 's son ?", answers=('bob', 'carl'),
        topics=('ann',)), path=('child',))
    """
    match = _LINE.fullmatch(line)
    if not match:
        raise MemhopError(f"{where}: expected question, answers and path, got {shown(line)}")
    steps = match["path"].split("#")
    steps = steps[: steps.index("<end>")] if "<end>" in steps else steps
    listed = _LISTED.fullmatch(match["answers"].strip())
    if len(steps) < 3 or len(steps) % 2 == 0 or not listed:
        raise MemhopError(f"{where}: expected a path of facts, got {shown(match['path'])}")
    answers = dict.fromkeys([steps[-1], *filter(None, listed["all"].split("/"))])
    return PathQuestion(
        Question(match["question"].strip(), tuple(answers), (steps[0],)), tuple(steps[1::2])
    )


def divide(questions: Sequence[PathQuestion], split: str, seed: int) -> list[list[Question]]:
    """Return training, development and test questions; see the module."""
    groups: dict[Any, list[Question]] = {}
    for number, one in enumerate(questions):
        key = (one.question.topics, one.path) if split == "path" else number
        groups.setdefault(key, []).append(one.question)
    together = list(groups.values())
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(together))
    limits = np.cumsum(SHARES) * len(questions)
    parts: list[list[Question]] = [[], [], []]
    done = 0
    for place in order:
        parts[int(np.searchsorted(limits, done, side="right"))] += together[place]
        done += len(together[place])
    return parts


def missing(units: Sequence[Unit], rows: Rows) -> list[Unit]:
    """Return the trainings without a row."""
    found = {Unit(row["set"], row["split"], int(row["seed"])) for row in rows}
    return [unit for unit in units if unit not in found]


def units_of(names: Sequence[str], splits: Sequence[str], seeds: int) -> list[Unit]:
    """Return all trainings."""
    return [Unit(*one) for one in itertools.product(names, splits, range(seeds))]


def row_of(folder: Path, unit: Unit, tiny: bool, on_progress: Any = None) -> dict[str, Any]:
    """Train once and return the row."""
    kb, questions = read_set(folder, unit.name)
    parts = divide(questions, unit.split, unit.seed)
    hops = int(unit.name[-2])
    recipe = KnowledgeRecipe(num_hops=hops, epochs=1 if tiny else KnowledgeRecipe.epochs)
    start = time.process_time()
    result = train(
        kb, parts[0], parts[2], valid_questions=parts[1], recipe=recipe, seed=unit.seed,
        on_progress=on_progress,
    )  # fmt: skip
    assert result.test is not None
    assert result.valid is not None
    network = result.model.network
    return {
        "set": unit.name,
        "split": unit.split,
        "seed": unit.seed,
        **dict(zip(("train", "valid", "test"), map(len, parts), strict=True)),
        "hits": result.test.hits,
        "listed_hits": result.test.listed_hits,
        "valid_error": result.valid.error,
        "epoch": result.epoch,
        "epochs": result.epochs,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "cpu_seconds": round(time.process_time() - start, 1),
        "tiny": tiny,
        **provenance(),
    }


def sheet(rows: Rows) -> Sheet:
    """Return mean and range of hits@1 over the seeds, next to the published numbers."""
    lines = []
    for name in FACTS:
        own = [row for row in rows if row["set"] == name]
        if not own:
            continue
        cells = [cell(own, split, column) for split in SPLITS for column in ("hits", "listed_hits")]
        published = [f"{number:.1f}" for number in PUBLISHED[name]]
        seconds = np.mean([float(row["cpu_seconds"]) for row in own])
        lines.append([name, *published, *cells, f"{seconds:.0f}"])
    columns = ("set", "key-value memory", "best published", "random split", "listed",
               "path split", "listed", "CPU s")  # fmt: skip
    note = (
        "hits@1 in %, mean of the seeds and in parentheses the lowest. A first answer counts that "
        'is right; "listed": only the answer of the line counts. The published numbers do not '
        "say which of both they are. CPU s: mean time of one training."
    )
    return Sheet("", columns, lines, note)


def cell(rows: Sequence[Row], split: str, column: str) -> str:
    """Return mean and lowest value of a column; "-" without rows."""
    values = [float(row[column]) for row in rows if row["split"] == split]
    return f"{np.mean(values):.1f} ({min(values):.1f})" if values else "-"
