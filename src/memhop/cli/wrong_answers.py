"""The wrong answers of an evaluation: a file that lists them, and a table of what is confused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from rich.cells import cell_len, set_cell_size

from memhop.cli.answers import answer_json, place_json
from memhop.cli.screen import print_table
from memhop.data.records import Record
from memhop.picture import escaped
from memhop.text.model import MemN2N
from memhop.tokenizer import answer_word

MAX_ANSWERS = 8  # of a table
_BATCH = 512
_WIDTH = 80
_MAX_NAME = 20  # columns of a right answer
_GAP = 2

Confusion = Mapping[str, Mapping[str, int]]  # right answer -> given answer -> questions


def wrong_answers(
    model: MemN2N, records: Sequence[Record], answers: Sequence[str], task: str
) -> Iterator[str]:
    """Yield each wrong answer, with its attention, as a JSON object on one line.

    Args:
        model: the model.
        records: questions with right answers.
        answers: `Evaluation.answers` to them.
        task: the name of these questions.
    """
    pairs = zip(records, answers, strict=True)
    wrong = [one for one, given in pairs if answer_word(one.example.answer) != given]
    for start in range(0, len(wrong), _BATCH):
        batch = wrong[start : start + _BATCH]
        given = model.answers([(one.example.story, one.example.question) for one in batch])
        for record, answer in zip(batch, given, strict=True):
            fields = place_json(record) | answer_json(answer, record.example.answer)
            facts = {"supporting_facts": record.example.supporting_facts}
            yield json.dumps({"task": task, **fields, **facts})


def has_few_answers(table: Confusion) -> bool:
    """Return whether a table of right and given answers is small enough to print."""
    return 0 < len(_answers(table)) <= MAX_ANSWERS


def print_confusion(table: Confusion) -> None:
    """Print a row for each right answer, with the number of times that each answer was given."""
    answers = _answers(table)
    names = {answer: _fitted(escaped(answer) or "no answer", _MAX_NAME) for answer in answers}
    first = max(map(cell_len, (*names.values(), _CORNER)))
    most = (_WIDTH - first) // len(answers) - _GAP
    rows = [
        [names[right], *(f"{given[answer]:,}" if answer in given else "-" for answer in answers)]
        for right, given in table.items()
    ]
    print_table((_CORNER, *(_fitted(name, most) for name in names.values())), rows)


_CORNER = "right / given"


def _answers(table: Confusion) -> list[str]:
    """Return all answers, right or given, in order."""
    return sorted({*table, *chain.from_iterable(table.values())})


def _fitted(name: str, most: int) -> str:
    """Return a name in at most so many columns of a terminal."""
    if cell_len(name) <= most:
        return name
    return f"{set_cell_size(name, most - 1).rstrip()}…"
