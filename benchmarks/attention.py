"""Train README's model, and show which sentence of README's story each hop reads."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.registry import DocumentTable, Plot
from memhop.cli.reproduce import Tiny
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.text.answer import Answer
from memhop.training.loop import train

STORY = "Mary took the milk. John went to the office. Mary went to the garden."
QUESTION = "Where is the milk?"
RECIPE = Recipe(epochs=20, linear_start_epochs=5, halve_every=5)
TINY = Recipe(epochs=2, linear_start_epochs=1)


def examples() -> list[Example]:
    """Return the training examples."""
    return list(to_examples(generate(2, questions=1000, seed=1, statements=(2, 10))))


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train README's model; measure what each hop of it reads."""
    model = train(examples(), recipe=TINY if tiny else RECIPE, restarts=1).model
    answer = model.answer(STORY, QUESTION)
    common = {"question": QUESTION, "answer": answer.answer, "probability": answer.probability}
    yield [
        {"hop": hop, "sentence": sentence, "weight": weight, **common, **provenance()}
        for hop, weights in enumerate(answer.attention.tolist(), start=1)
        for sentence, weight in zip(answer.sentences, weights, strict=True)
    ]


def answer_of(rows: Rows) -> Answer:
    """Return the answer of the rows."""
    first = rows[0]
    weights = torch.tensor([float(row["weight"]) for row in rows])
    sentences = tuple(row["sentence"] for row in rows if row["hop"] == first["hop"])
    attention = weights.reshape(-1, len(sentences))
    share = float(first["probability"])
    return Answer(first["question"], first["answer"], share, (), sentences, attention, ())


def svg(rows: Rows) -> str:
    """Return the picture with its question as SVG."""
    answer = answer_of(rows)
    return f"{answer.picture().svg(answer.title())}\n"


def sheets(rows: Rows) -> list[Sheet]:
    """Return the picture as text."""
    return [Sheet(text=answer_of(rows).picture().text())]


TABLES = {"attention": DocumentTable("attention", lambda rows: sheets(rows)[0].markdown())}
PLOTS = {"attention": Plot("attention.svg", "attention", "What each hop reads", svg)}
