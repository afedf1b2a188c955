"""Small knowledge bases, questions and models for tests."""

import hashlib
import json
from functools import cache
from pathlib import Path

import torch

from memhop.knowledge import KnowledgeBase, KnowledgeModel, KnowledgeRecipe, Question
from memhop.knowledge.generate import ask, generate

TINY = KnowledgeRecipe(word_dim=8, num_hops=2, epochs=4, batch_size=32, learning_rate=0.02)

FILMS = [
    ("Metropolis", "directed by", "Fritz Lang"),
    ("M", "directed by", "Fritz Lang"),
    ("Fritz Lang", "born in", "Vienna"),
    ("Nosferatu", "directed by", "Murnau"),
    ("Murnau", "born in", "Bielefeld"),
    ("Metropolis", "genre", "science fiction"),
    ("Nosferatu", "genre", "horror"),
]
FILM_QUESTIONS = [
    Question("who directed Metropolis?", ("Fritz Lang",)),
    Question("who directed Nosferatu?", ("Murnau",)),
    Question("where was the director of Metropolis born?", ("Vienna",)),
    Question("where was the director of Nosferatu born?", ("Bielefeld",)),
    Question("which films did Fritz Lang direct?", ("Metropolis", "M")),
]


def films() -> KnowledgeBase:
    """Return a few facts about films."""
    return KnowledgeBase.from_triples(FILMS)


def film_model(recipe: KnowledgeRecipe = TINY, seed: int = 0) -> KnowledgeModel:
    """Return an untrained model of these facts, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return KnowledgeModel.untrained(films(), FILM_QUESTIONS, recipe)


@cache
def world() -> KnowledgeBase:
    """Return 200 generated facts."""
    return generate(facts=200, seed=0)


@cache
def asked(count: int = 80, hops: int = 1, seed: int = 0) -> tuple[Question, ...]:
    """Return generated questions about `world`."""
    return tuple(ask(world(), hops=(hops,), questions=count, seed=seed))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file of a checkpoint, with its checksum."""
    (folder / name).write_bytes(content)
    manifest = folder / "checkpoint.json"
    sums = json.loads(manifest.read_bytes())
    sums["files"][name] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(sums))


def same_bits(one: KnowledgeModel, other: KnowledgeModel) -> bool:
    """Return whether two models have the same words and weights."""
    states = one.network.state_dict(), other.network.state_dict()
    return (
        one.vocabulary == other.vocabulary
        and states[0].keys() == states[1].keys()
        and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    )
