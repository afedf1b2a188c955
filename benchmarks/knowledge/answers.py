"""Loading a million facts, and answers over them by a model trained on a small world."""

import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.knowledge.rows import row
from benchmarks.knowledge.zipf import HUB
from memhop.errors import MemhopError
from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.generate import ask, generate
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.training import train
from memhop.picture.graph import VISIBLE

MODEL, FACTS_FILE = "model", "facts.tsv"
NUM_QUESTIONS, NUM_HUB_QUESTIONS = 900, 100


class Answered(NamedTuple):
    """An answered question: its time by the clock and of the CPU, and what came of it."""

    seconds: float
    cpu_seconds: float
    is_right: bool
    is_estimated: bool


def trained(tiny: bool) -> KnowledgeModel:
    """Train on questions of 1 to 3 hops over a small generated world."""
    kb = generate(facts=2_000)
    asked = ask(kb, hops=(1, 2, 3), questions=300 if tiny else 3_000)
    recipe = KnowledgeRecipe(epochs=1 if tiny else 8, patience=3)
    return train(kb, asked, recipe=recipe).model


def transferred(model: KnowledgeModel, kb: KnowledgeBase) -> KnowledgeModel:
    """Return a model with the same weights over other facts with the same relations.

    Raises:
        MemhopError: the facts have other relations.
    """
    known = model.kb.relations
    if set(kb.relations) != set(known):
        odd = ", ".join(sorted(set(kb.relations) ^ set(known)))
        raise MemhopError(f"expected facts with the same relations, got a difference: {odd:.200}")
    rows = torch.tensor([known.index(name) for name in kb.relations])
    if model.recipe.inverse:
        rows = torch.cat([rows, rows + len(known)])
    weights = model.network.state_dict()
    other = KnowledgeModel(kb, model.vocabulary, model.recipe)
    other.network.load_state_dict(weights | {"relations": weights["relations"][rows]})
    return other


def load(folder: Path, tiny: bool) -> Iterator[dict[str, Any]]:
    """Measure how long facts take to load, and the largest memory of the process."""
    small = KnowledgeModel.load(folder / MODEL)
    start, cpu = time.perf_counter(), time.process_time()
    kb = read_facts(folder / FACTS_FILE)
    for case in ("read the file", "and build the model"):
        if case != "read the file":
            transferred(small, kb)
        yield row(
            "load", case, facts=len(kb), seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - cpu, peak_bytes=peak_bytes(),
        )  # fmt: skip


def peak_bytes() -> int:
    """Return the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def answers(folder: Path, tiny: bool) -> Iterator[dict[str, Any]]:
    """Measure answers to questions of 3 hops, those about the hub apart."""
    kb = read_facts(folder / FACTS_FILE)
    model = transferred(KnowledgeModel.load(folder / MODEL), kb)
    counts = (18, 2) if tiny else (NUM_QUESTIONS, NUM_HUB_QUESTIONS)
    questions = ask(kb, hops=[3], questions=counts[0])
    about_hub = ask(kb, hops=[3], questions=counts[1], about=[HUB], max_answers=None)
    for question in (*questions[:5], about_hub[0]):  # kernels are loaded
        model.answer(question.text)
    found = [answered(model, question) for question in questions]
    at_hub = [answered(model, question) for question in about_hub]
    for case, own in (("any topic", found), ("about the hub", at_hub), ("all", found + at_hub)):
        yield row("answers", case, facts=len(kb), questions=len(own), **summary(own))


def answered(model: KnowledgeModel, question: Question) -> Answered:
    """Answer a question, whose topic the model has to find."""
    start, cpu = time.perf_counter(), time.process_time()
    answer = model.answer(question.text)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Answered(seconds, cpu, answer.answer in question.answers, answer.dropped >= VISIBLE)


def summary(found: Sequence[Answered]) -> dict[str, float]:
    """Return the shares in %, and medians and 99th percentiles of the times."""
    clock, cpu = (sorted(one[place] for one in found) for place in (0, 1))
    slow = int(0.99 * len(found))
    return {
        "median_seconds": statistics.median(clock),
        "slow_seconds": clock[slow],
        "median_cpu_seconds": statistics.median(cpu),
        "slow_cpu_seconds": cpu[slow],
        "hits": 100 * sum(one.is_right for one in found) / len(found),
        "estimated": 100 * sum(one.is_estimated for one in found) / len(found),
    }
