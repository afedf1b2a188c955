"""Train on PathQuestion (Zhou, Huang, Zhu, COLING 2018, arXiv 1801.04726), with two splits.

No split is released. Lines with the same question count as one question with the answers of all,
as PQL-2H repeats questions with another answer. The questions are divided 8:1:1 at random, or so
that no topic with the same relation path is in two parts (split "path"). A random split leaks: most
pairs of topic and path of its test questions are also in its training questions.
"""

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memhop.errors import MemhopError, shown
from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.training import train
from memhop.lines import fault, filled_lines
from memhop.reproduce import key_value
from memhop.reproduce.record import Row, Rows, Sheet, check_equal, provenance

FACTS = {"PQ-2H": "2H-kb.txt", "PQ-3H": "3H-kb.txt", "PQL-2H": "PQL2-KB.txt",
         "PQL-3H": "PQL3-KB.txt"}  # fmt: skip
SPLITS = ("random", "path")
TRACKING, KEY_VALUE = MODELS = ("tracking", "key-value")
_BEST_KEY_VALUE = {"PQ-2H": (99.1, 93.7), "PQ-3H": (95.7, 87.9), "PQL-2H": (97.5, 62.2),
                   "PQL-3H": (97.1, 67.4)}  # fmt: skip
PUBLISHED = {name: dict(zip(MODELS, hits, strict=True)) for name, hits in _BEST_KEY_VALUE.items()}
"""hits@1 as published: the best of all models, and key-value memory."""
SHARES = (0.8, 0.1)  # of training and development questions
TINY_EPOCHS = 2
COLUMNS = (
    "model", "set", "split", "seed", "train", "valid", "test", "hits", "listed_hits", "valid_error",
    "valid_loss", "epoch", "epochs", "parameters", "cpu_seconds", "tiny",
)  # fmt: skip
_LINE = re.compile(r"(?P<question>[^\t]+)\t(?P<answers>[^\t]+)\t(?P<path>[^\t]+)")
_END = "<end>"
_CELLS = {"hits": "{0:.1f} ({1:.1f})", "listed_hits": "{0:.1f}"}


class PathQuestion(NamedTuple):
    """A question with the relations of its gold paths, which only the split "path" uses."""

    question: Question
    paths: tuple[tuple[str, ...], ...]


class Unit(NamedTuple):
    """One training: a model, a set, a split and a seed."""

    model: str
    name: str
    split: str
    seed: int

    @property
    def num_hops(self) -> int:
        """The length of the paths of the set."""
        return int(self.name[-2])


OnEpoch = Callable[[int, int, str], None]  # number of the epoch, largest number, figures


def read_set(folder: Path, name: str) -> tuple[KnowledgeBase, list[PathQuestion]]:
    """Return facts and questions of a set.

    Raises:
        MemhopError: a file is missing or malformed.
    """
    path = folder / f"{name}.txt"
    merged: dict[tuple[object, ...], PathQuestion] = {}
    for number, line in filled_lines(path):
        try:
            one = parse(line)
        except MemhopError as error:
            raise fault(path, number, str(error)) from None
        key = one.question.text, one.question.topics
        merged[key] = _merged(merged.get(key, one), one)
    if not merged:
        raise MemhopError(f"{path}: expected at least one question, got none")
    return read_facts(folder / FACTS[name]), list(merged.values())


def parse(line: str) -> PathQuestion:
    """Return the question of a line ``question TAB answer(answer/...) TAB gold path``.

    The answer of the line is the end of the path, as answers may hold parentheses; it is the first
    of the right answers. The topic is the start of the path.

    Raises:
        MemhopError: another form.

    >>> line = "who is ann 's son ?\\tbob(bob/carl/)\\tann#child#bob#<end>#bob"
    >>> parse(line)  # doctest: +NORMALIZE_WHITESPACE
    PathQuestion(question=Question(text="who is ann 's son ?", answers=('bob', 'carl'),
        topics=('ann',)), paths=(('child',),))
    """
    match = _LINE.fullmatch(line)
    if not match:
        raise MemhopError(f"expected question<TAB>answers<TAB>path, got {shown(line)}")
    steps = match["path"].strip().split("#")
    steps = steps[: steps.index(_END)] if _END in steps else steps
    if len(steps) < 3 or len(steps) % 2 == 0 or not all(steps):
        message = "expected a path subject#relation#object, or a longer one"
        raise MemhopError(f"{message}, got {shown(match['path'])}")
    answers = match["answers"].strip()
    if not (answers.startswith(f"{steps[-1]}(") and answers.endswith(")")):
        expected = f"{steps[-1]}({steps[-1]}/...)"
        raise MemhopError(
            f"expected the end of the path with all answers, {shown(expected)}, "
            f"got {shown(answers)}"
        )
    others = answers[len(steps[-1]) + 1 : -1].split("/")
    listed = dict.fromkeys([steps[-1], *filter(None, others)])
    question = Question(match["question"].strip(), tuple(listed), (steps[0],))
    return PathQuestion(question, (tuple(steps[1::2]),))


def _merged(one: PathQuestion, other: PathQuestion) -> PathQuestion:
    """Return two lines of the same question as one; the first listed answer is that of ``one``."""
    answers = tuple(dict.fromkeys((*one.question.answers, *other.question.answers)))
    paths = tuple(dict.fromkeys((*one.paths, *other.paths)))
    return PathQuestion(one.question._replace(answers=answers), paths)


def divide(questions: Sequence[PathQuestion], split: str, seed: int) -> list[list[Question]]:
    """Return training, development and test questions; see the module."""
    together = _with_common_paths(questions) if split == "path" else [[one] for one in questions]
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(together))
    limits = np.cumsum(SHARES) * len(questions)
    parts: list[list[Question]] = [[], [], []]
    done = 0
    for place in order:
        part = parts[int(np.searchsorted(limits, done, side="right"))]
        part += (one.question for one in together[place])
        done += len(together[place])
    return parts


def _with_common_paths(questions: Sequence[PathQuestion]) -> list[list[PathQuestion]]:
    """Return groups of questions; no two groups have a topic and a path in common."""
    group_of: dict[tuple[object, ...], list[PathQuestion]] = {}
    for one in questions:
        keys = [(one.question.topics, path) for path in one.paths]
        groups = {id(group): group for key in keys if (group := group_of.get(key)) is not None}
        joined, *others = groups.values() or [[]]
        joined += itertools.chain(*others, [one])
        own = [(each.question.topics, path) for each in joined for path in each.paths]
        group_of |= dict.fromkeys(own, joined)
    return list({id(group): group for group in group_of.values()}.values())


def units_of(
    models: Sequence[str], names: Sequence[str], splits: Sequence[str], seeds: int
) -> list[Unit]:
    """Return all trainings."""
    return [Unit(*one) for one in itertools.product(models, names, splits, range(seeds))]


def unit_of(row: Row) -> Unit:
    """Return the training of a row."""
    return Unit(row["model"], row["set"], row["split"], int(row["seed"]))


def missing(units: Sequence[Unit], rows: Rows) -> list[Unit]:
    """Return the trainings without a row."""
    found = set(map(unit_of, rows))
    return [unit for unit in units if unit not in found]


def hits_of(row: Row) -> str:
    """Return a few words on a row."""
    return f"{' '.join(map(str, unit_of(row)))}: {float(row['hits']):.1f}%"


def sort_key(row: Row) -> tuple[int, ...]:
    """Return the place of a row in the file."""
    unit = unit_of(row)
    places = ((MODELS, unit.model), (list(FACTS), unit.name), (SPLITS, unit.split))
    return (*(known.index(value) for known, value in places), unit.seed)


def check_rows(file: Path | None, folder: Path, names: Sequence[str], rows: Rows) -> None:
    """Check that the rows to resume from are of the questions in a folder."""
    for name in names:
        for row in [row for row in rows if row["set"] == name][:1]:
            stored = sum(int(row[part]) for part in ("train", "valid", "test"))
            check_equal(file, f"questions of {name}", stored, len(read_set(folder, name)[1]))


def recipe_of(unit: Unit, tiny: bool) -> KnowledgeRecipe:
    """Return the settings: the defaults, with the hops of the set."""
    epochs = TINY_EPOCHS if tiny else KnowledgeRecipe.epochs
    return KnowledgeRecipe(num_hops=unit.num_hops, epochs=epochs)


def row_of(folder: Path, unit: Unit, tiny: bool, on_epoch: OnEpoch | None = None) -> dict[str, Any]:
    """Train once and return the row."""
    kb, questions = read_set(folder, unit.name)
    parts = divide(questions, unit.split, unit.seed)
    start = time.process_time()
    trained = (_tracking if unit.model == TRACKING else _key_value)(
        kb, parts, recipe_of(unit, tiny), unit.seed, on_epoch
    )
    return {
        "model": unit.model,
        "set": unit.name,
        "split": unit.split,
        "seed": unit.seed,
        **dict(zip(("train", "valid", "test"), map(len, parts), strict=True)),
        **trained,
        "cpu_seconds": round(time.process_time() - start, 1),
        "tiny": tiny,
        **provenance(),
    }


def _tracking(
    kb: KnowledgeBase,
    parts: Sequence[Sequence[Question]],
    recipe: KnowledgeRecipe,
    seed: int,
    on_epoch: OnEpoch | None,
) -> dict[str, Any]:
    result = train(
        kb, parts[0], parts[2], valid_questions=parts[1], recipe=recipe, seed=seed,
        on_progress=on_epoch and (
            lambda now: on_epoch(now.epoch, now.epochs, f"loss {now.metric.loss:.3f}")
        ),
    )  # fmt: skip
    assert result.test is not None
    assert result.valid is not None
    return {
        "hits": result.test.hits,
        "listed_hits": result.test.listed_hits,
        "valid_error": result.valid.error,
        "valid_loss": result.valid.loss,
        "epoch": result.epoch,
        "epochs": result.epochs,
        "parameters": sum(weight.numel() for weight in result.model.network.parameters()),
    }


def _key_value(
    kb: KnowledgeBase,
    parts: Sequence[Sequence[Question]],
    recipe: KnowledgeRecipe,
    seed: int,
    on_epoch: OnEpoch | None,
) -> dict[str, Any]:
    result = key_value.train(kb, parts, recipe=recipe, seed=seed, on_epoch=on_epoch)
    return result._asdict()


def sheet(rows: Rows) -> Sheet:
    """Return mean and lowest hits@1 of the seeds, next to the published numbers."""
    columns = ("set", "model", "published", "random split", "listed", "path split", "listed", "s")
    note = (
        "hits@1 in %, mean of the seeds and in parentheses the lowest. A first answer counts that "
        'is right; "listed": only the answer of the line counts. Published: key-value memory, and '
        "the best of all, on splits at random; the papers do not say which of both they count. s: "
        "mean CPU time of one training."
    )
    return Sheet("", columns, list(_lines(rows)), note)


def _lines(rows: Rows) -> Iterator[list[str]]:
    for name, model in itertools.product(FACTS, MODELS):
        own = [row for row in rows if (row["set"], row["model"]) == (name, model)]
        if own:
            cells = (cell(own, split, column) for split in SPLITS for column in _CELLS)
            seconds = np.mean([float(row["cpu_seconds"]) for row in own])
            yield [name, model, f"{PUBLISHED[name][model]:.1f}", *cells, f"{seconds:.0f}"]


def cell(rows: Sequence[Row], split: str, column: str) -> str:
    """Return the mean of a column, for hits with the lowest value; "-" without rows."""
    values = [float(row[column]) for row in rows if row["split"] == split]
    return _CELLS[column].format(np.mean(values), min(values)) if values else "-"
