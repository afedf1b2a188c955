"""What does each hop read? The small model of README, asked about the story of README."""

from typing import Any

import torch

from benchmarks.hop.summary import Rows
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.record import surroundings
from memhop.text.answer import Answer
from memhop.training.loop import train

STORY = "Mary took the milk. John went to the office. Mary went to the garden."
QUESTION = "Where is the milk?"
RECIPE = Recipe(epochs=20, linear_start_epochs=5, halve_every=5)
TINY = Recipe(epochs=2, linear_start_epochs=1)


def examples() -> list[Example]:
    """What the model is trained on."""
    return list(to_examples(generate(2, questions=1000, seed=1, statements=(2, 10))))


def measure(recipe: Recipe = RECIPE) -> list[dict[str, Any]]:
    """A row for each hop and sentence, with the answer that they led to."""
    answer = train(examples(), recipe=recipe, restarts=1).model.answer(STORY, QUESTION)
    said = {"question": QUESTION, "answer": answer.answer, "probability": answer.probability}
    return [
        {"hop": hop, "sentence": sentence, "weight": weight, **said, **surroundings()}
        for hop, weights in enumerate(answer.attention.tolist(), start=1)
        for sentence, weight in zip(answer.sentences, weights, strict=True)
    ]


def answer_of(rows: Rows) -> Answer:
    """The answer that the rows are of, to be drawn."""
    first = rows[0]
    weights = torch.tensor([float(row["weight"]) for row in rows])
    sentences = tuple(row["sentence"] for row in rows if row["hop"] == first["hop"])
    attention = weights.reshape(-1, len(sentences))
    share = float(first["probability"])
    return Answer(first["question"], first["answer"], share, (), sentences, attention, ())


def svg(rows: Rows) -> str:
    """The picture with its question, as a file."""
    answer = answer_of(rows)
    return f"{answer.picture().svg(answer.title())}\n"


def markdown(rows: Rows) -> str:
    """The picture as it is printed."""
    return f"```text\n{answer_of(rows).picture().text()}\n```\n"
