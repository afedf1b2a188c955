"""Train the model of docs/how-it-works.md, and take its two hops apart."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.registry import DocumentTable, Plot
from memhop.cli.reproduce import Tiny
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.picture import Picture, picture
from memhop.recipe import Recipe
from memhop.reproduce.record import Row, Rows, Sheet, document, provenance
from memhop.text.model import MemN2N
from memhop.tokenizer import split_words
from memhop.training.loop import train

STORY = ["Mary took the milk.", "John went to the office.", "Mary went to the garden."]
QUESTION = "Where is the milk?"
RECIPE = Recipe(position="bag", num_hops=2, epochs=20, linear_start_epochs=5, halve_every=5)
TINY = Recipe(position="bag", num_hops=2, epochs=2, linear_start_epochs=1)
PLACES = 6  # all that the training stories have


def examples() -> list[Example]:
    """Return the training examples."""
    return list(to_examples(generate(2, questions=600, seed=1, statements=(2, 6))))


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train docs/how-it-works.md's model; take its hops apart."""
    model = train(examples(), recipe=TINY if tiny else RECIPE, restarts=1).model
    yield [{**row, **provenance()} for row in _rows(model)]


def _rows(model: MemN2N) -> Iterator[Row]:
    """Compute the hops by the formulas, and yield the parts of each."""
    tables = model.tables.detach()
    query = _embed(model, tables[0], QUESTION)
    for hop in (1, 2):
        table_a, table_c = tables[hop - 1], tables[hop]
        scores = _memory(model, table_a) @ query
        weights = scores.softmax(0)
        words = dict.fromkeys(word for sentence in STORY for word in split_words(sentence))
        parts = [(word, table_a[_row(model, word)]) for word in words]
        parts += [(f"age {age}", table_a[age]) for age in range(1, len(STORY) + 1)]
        values = [("word", name, vector @ query) for name, vector in parts]
        values += [("score", *pair) for pair in zip(STORY, scores, strict=True)]
        values += [("weight", *pair) for pair in zip(STORY, weights, strict=True)]
        read = weights @ _memory(model, table_c)
        next_mary = table_c[_row(model, "mary")]  # A of the next hop is C of this one
        values += [("mary", "query", next_mary @ query), ("mary", "read", next_mary @ read)]
        query = query + read
        best = model.word_scores((tables[-1] @ query).softmax(0)).topk(PLACES)
        answers = map(model.vocabulary.spelling, (best.indices + 2).tolist())
        values += [("answer", *pair) for pair in zip(answers, best.values, strict=True)]
        for part, name, value in values:
            yield {"hop": hop, "part": part, "name": name, "value": float(value)}


def _row(model: MemN2N, word: str) -> int:
    return model.sizes.memory_slots + model.vocabulary.ids([word])[0]


def _embed(model: MemN2N, table: Tensor, sentence: str) -> Tensor:
    return table[[_row(model, word) for word in split_words(sentence)]].sum(0)


def _memory(model: MemN2N, table: Tensor) -> Tensor:
    ages = range(len(STORY), 0, -1)
    pairs = zip(STORY, ages, strict=True)
    return torch.stack([_embed(model, table, sentence) + table[age] for sentence, age in pairs])


def values_of(rows: Rows, part: str, hop: int) -> dict[str, float]:
    """Return the values of a part in a hop, by name."""
    chosen = (row for row in rows if (row["part"], row["hop"]) == (part, str(hop)))
    return {row["name"]: float(row["value"]) for row in chosen}


def picture_of(rows: Rows, part: str) -> Picture:
    """Return the picture of a part: a column for each hop, names in the order of the first."""
    first, second = (values_of(rows, part, hop) for hop in (1, 2))
    names = list(first)
    return picture([list(first.values()), [second.get(name, 0.0) for name in names]], names)


def svg(part: str, rows: Rows) -> str:
    """Return the picture of a part as SVG."""
    return f"{picture_of(rows, part).svg(TITLES[part])}\n"


def sheets(rows: Rows) -> list[Sheet]:
    """Return the pictures as text."""
    return [Sheet(text=picture_of(rows, part).text()) for part in TITLES]


TITLES = {
    "weight": f"{QUESTION}  The attention to each sentence",
    "word": "What each word and age adds to the score of its sentence",
    "answer": "The answer if the network stopped after the hop",
}
TABLES = {"explained": DocumentTable("explained", lambda rows: document(rows))}
PLOTS = {
    f"explained_{part}": Plot(f"how-{part}.svg", "explained", title, partial(svg, part))
    for part, title in TITLES.items()
}
