"""The questions of PathQuestion (arXiv 1801.04726), their right facts, and splits of them.

A line of a question file is: question, tab, answer(answers/...), tab, gold path
``subject#relation#object#relation#object#<end>#answer``; PQL has no ``<end>``. Answers may hold
parentheses, so they are read from the path. A line of a fact file is a triple with tabs.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memhop.errors import MemhopError, shown

FILES = {
    "PQ-2H": ("PQ-2H.txt", "2H-kb.txt"),
    "PQL-3H": ("PQL-3H.txt", "PQL3-KB.txt"),
}
SPLITS = ("path", "random")
_TRAIN, _VALID = 8, 1  # tenths of the questions

Triple = tuple[str, str, str]


class PathQuestion(NamedTuple):
    """A question with the facts of its gold path, one for each hop."""

    text: str
    path: tuple[Triple, ...]

    @property
    def topic(self) -> str:
        return self.path[0][0]

    @property
    def relations(self) -> tuple[str, ...]:
        return tuple(relation for _, relation, _ in self.path)


class Parts(NamedTuple):
    """The numbers of the questions to train on, to choose the epoch by, and to test."""

    train: list[int]
    valid: list[int]
    test: list[int]


def read_facts(path: Path) -> list[Triple]:
    """Return the distinct facts of a file, in its order."""
    facts: dict[Triple, None] = {}
    for number, line in enumerate(_lines(path), 1):
        parts = [part.strip() for part in line.split("\t")]
        if line.strip() and len(parts) != 3:
            raise MemhopError(
                f"{path}:{number}: expected subject, relation, object with tabs, got {shown(line)}"
            )
        if line.strip():
            facts[parts[0], parts[1], parts[2]] = None
    return list(facts)


def read_questions(path: Path) -> list[PathQuestion]:
    """Return the questions of a file, in its order."""
    questions = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        parts = line.split("\t")
        steps = parts[-1].strip().split("#")
        steps = steps[: steps.index("<end>")] if "<end>" in steps else steps
        if len(parts) != 3 or len(steps) < 3 or len(steps) % 2 == 0:
            raise MemhopError(
                f"{path}:{number}: expected question, answers, path with tabs, got {shown(line)}"
            )
        hops = range(0, len(steps) - 1, 2)
        facts = tuple((steps[hop], steps[hop + 1], steps[hop + 2]) for hop in hops)
        questions.append(PathQuestion(parts[0].strip(), facts))
    return questions


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MemhopError(f"{path}: expected UTF-8 text") from error


def right_facts(
    facts: Sequence[Triple], questions: Sequence[PathQuestion]
) -> list[list[list[Triple]]]:
    """Return all right facts of each question and hop.

    They are those on any path from the topic with the relations of the gold path: a question does
    not say which of two children it means.
    """
    by_start: dict[tuple[str, str], list[Triple]] = defaultdict(list)
    for fact in facts:
        by_start[fact[:2]].append(fact)
    found = []
    for question in questions:
        reached, hops = [question.topic], []
        for relation in question.relations:
            hops.append([fact for entity in reached for fact in by_start[entity, relation]])
            reached = list(dict.fromkeys(fact[2] for fact in hops[-1]))
        found.append(hops)
    return found


def split(questions: Sequence[PathQuestion], by: str, seed: int) -> Parts:
    """Return a split 8:1:1 in which questions of one text are in one part.

    Args:
        questions: all questions of a file.
        by: "random", or "path": no (topic, relations) is in two parts either.
        seed: of the order.
    """
    leader: dict[object, object] = {}

    def find(key: object) -> object:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    groups: dict[object, list[int]] = defaultdict(list)
    if by == "path":
        for question in questions:
            leader[find(question.text)] = find((question.topic, question.relations))
    for number, question in enumerate(questions):
        groups[find(question.text)].append(number)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    parts = Parts([], [], [])
    for group in order:
        part = parts.train if 10 * len(parts.train) < _TRAIN * len(questions) else parts.valid
        part = parts.test if 10 * len(parts.valid) >= _VALID * len(questions) else part
        part.extend(group)
    return parts
