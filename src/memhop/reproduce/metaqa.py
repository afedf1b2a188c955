"""Train one model on MetaQA's questions of 1, 2 and 3 hops (Zhang et al. 2018, arXiv 1709.04071).

The facts are read in both directions. The model is trained on nine tenths of the questions of
``1hop_dev.txt``, ``2hop_dev.txt`` and ``3hop_dev.txt`` together; the last tenth of each is its
test. The questions that choose the epoch are held out of the training questions.

Films of the same title are one entity of the facts. A question about one of them lists the answers
for it alone, while its relation also leads to those of the others.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memhop.knowledge.encoding import EncodedQuestion
from memhop.knowledge.evaluation import encode_all, evaluate
from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.model import KnowledgeModel, Ranked
from memhop.knowledge.questions import Question, read_questions
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.training import train
from memhop.reproduce.record import Row, Rows, Sheet, check_equal, provenance

HOPS = (1, 2, 3)
FACTS = "kb.txt"
EPOCHS = 3
TEST_SHARE = 0.1
CHECKED = 100  # questions that are also answered without pruning
TINY_QUESTIONS = 400  # of each file
# hits@1 as published, trained on the full training files: key-value memory and the best of all
PUBLISHED = {1: (96.2, 99.1), 2: (82.7, 100.0), 3: (48.9, 100.0)}

COLUMNS = (
    "hops", "seed", "facts", "train", "test", "hits", "estimated", "seconds_per_1000", "epoch",
    "epochs", "train_cpu_seconds", "peak_megabytes", "checked", "checked_equal",
    "checked_difference", "unlisted", "unlisted_errors", "tiny",
)  # fmt: skip

OnEpoch = Callable[[int, int, str], None]


class Parts(NamedTuple):
    """Questions to train on, and test questions by their number of hops."""

    train: list[Question]
    test: dict[int, list[Question]]


class Check(NamedTuple):
    """A comparison with reads without pruning.

    Attributes:
        questions: their number.
        equal: the share in % of equal first answers.
        difference: the largest difference of the first answer's probability.
    """

    questions: int
    equal: float
    difference: float


class SharedTitles(NamedTuple):
    """One-hop questions about entities that share their name.

    Attributes:
        unlisted: the share in % of questions whose relation leads to more than the listed answers.
        errors: the share in % of the wrong first answers that are such answers.
    """

    unlisted: float
    errors: float


def questions_file(hops: int) -> str:
    """Return the name of the file with the questions of so many hops."""
    return f"{hops}hop_dev.txt"


def divide(folder: Path, seed: int, most: int | None = None) -> Parts:
    """Read the questions, at most ``most`` of each file, and hold out a tenth of each file.

    Equal questions stay in one part.

    Raises:
        MemhopError: a file is missing or malformed.
    """
    training: list[Question] = []
    test = {}
    for hops in HOPS:
        questions = read_questions(folder / questions_file(hops))[:most]
        groups: dict[tuple[object, ...], list[Question]] = {}
        for one in questions:
            groups.setdefault((one.text, one.topics), []).append(one)
        together = list(groups.values())
        seeds = np.random.SeedSequence([seed, hops])
        order = np.random.Generator(np.random.Philox(seeds)).permutation(len(together)).tolist()
        count = max(1, round(len(together) * TEST_SHARE))
        test[hops] = [one for place in order[:count] for one in together[place]]
        training += [one for place in sorted(order[count:]) for one in together[place]]
    return Parts(training, test)


def rows_of(
    folder: Path, seed: int, tiny: bool, on_epoch: OnEpoch | None = None
) -> list[dict[str, Any]]:
    """Train once; return a row for each number of hops."""
    kb = read_facts(folder / FACTS)
    parts = divide(folder, seed, TINY_QUESTIONS if tiny else None)
    start = time.process_time()
    result = train(
        kb, parts.train, recipe=KnowledgeRecipe(num_hops=max(HOPS), epochs=EPOCHS), seed=seed,
        on_progress=on_epoch and (
            lambda now: on_epoch(now.epoch, now.epochs, f"loss {now.metric.loss:.3f}")
        ),
    )  # fmt: skip
    train_seconds = time.process_time() - start
    model = result.model
    scored = [_scored(model, parts.test[hops]) for hops in HOPS]
    peak = peak_megabytes()  # of reading, training and answering; the checks need more
    checks = [compared(model, own) for own in _spread(list(parts.test.values()), CHECKED)]
    titles = shared_titles(model, parts.test[1])
    return [
        {
            "hops": hops,
            "seed": seed,
            "facts": model.memory.num_slots,
            "train": len(parts.train),
            **own,
            "epoch": result.epoch,
            "epochs": result.epochs,
            "train_cpu_seconds": round(train_seconds, 1),
            "peak_megabytes": peak,
            "checked": check.questions,
            "checked_equal": check.equal,
            "checked_difference": check.difference,
            "unlisted": titles.unlisted if hops == 1 else None,
            "unlisted_errors": titles.errors if hops == 1 else None,
            "tiny": tiny,
            **provenance(),
        }
        for hops, own, check in zip(HOPS, scored, checks, strict=True)
    ]


def _scored(model: KnowledgeModel, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the columns of an evaluation, with its CPU time for 1,000 questions."""
    start = time.process_time()
    found = evaluate(model, questions)
    seconds = time.process_time() - start
    return {
        "test": found.questions,
        "hits": found.hits,
        "estimated": found.estimated,
        "seconds_per_1000": round(1000 * seconds / found.questions, 3),
    }


def peak_megabytes() -> int:
    """Return the largest resident set of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def _spread(parts: Sequence[list[Question]], count: int) -> Iterator[list[Question]]:
    """Yield the first questions of each part, ``count`` in all if there are enough."""
    for number, part in enumerate(parts):
        yield part[: (count - number + len(parts) - 1) // len(parts)]


def compared(model: KnowledgeModel, questions: Sequence[Question]) -> Check:
    """Compare the answers with those of reads that follow every entity with weight."""
    network, encoded = model.network, encode_all(model, questions)
    pruned = _ranked(model, encoded)
    recipe = network.recipe
    try:
        network.recipe = replace(recipe, max_entities=model.memory.num_nodes, min_weight=0.0)
        full = _ranked(model, encoded)
    finally:
        network.recipe = recipe
    pairs = list(zip(pruned, full, strict=True))
    equal = sum(ours.entities[:1].tolist() == all_.entities[:1].tolist() for ours, all_ in pairs)
    difference = max((abs(_first(ours) - _first(all_)) for ours, all_ in pairs), default=0.0)
    return Check(len(pairs), 100 * equal / max(1, len(pairs)), difference)


def _ranked(model: KnowledgeModel, encoded: Sequence[EncodedQuestion]) -> list[Ranked]:
    # one by one: without pruning a question reads a large part of the facts
    return [row for _, ranked in model.ranked(encoded, batch_size=1) for row in ranked]


def _first(ranked: Ranked) -> float:
    return float(ranked.probabilities[0]) if len(ranked.probabilities) else 0.0


def shared_titles(model: KnowledgeModel, questions: Sequence[Question]) -> SharedTitles:
    """Return how often the right relation of a one-hop question leads to unlisted answers.

    The right relation is the one that leads from the topic to the most listed answers; of several
    such the one that leads to the fewest others.
    """
    encoded = encode_all(model, questions)
    unlisted = wrong = wrong_by_title = 0
    for one, ranked in zip(encoded, _ranked(model, encoded), strict=True):
        reached = right_relation(model, one)
        unlisted += bool(reached - set(one.answers))
        first = int(ranked.entities[0]) if len(ranked.entities) else None
        if first not in one.answers:
            wrong += 1
            wrong_by_title += first in reached
    count = max(1, len(encoded))
    return SharedTitles(100 * unlisted / count, 100 * wrong_by_title / max(1, wrong))


def right_relation(model: KnowledgeModel, question: EncodedQuestion) -> set[int]:
    """Return the entities that the right relation of a one-hop question leads to."""
    memory, answers = model.memory, set(question.answers)
    reached: dict[int, set[int]] = {}
    for topic in question.topics:
        begin, end = memory.offsets[topic : topic + 2].tolist()
        keys, targets = memory.keys[begin:end].tolist(), memory.targets[begin:end].tolist()
        for key, target in zip(keys, targets, strict=True):
            reached.setdefault(key, set()).add(target)
    ordered = sorted(reached.values(), key=lambda own: (-len(own & answers), len(own)))
    return ordered[0] if ordered else set()


def missing(seeds: int, rows: Rows) -> list[int]:
    """Return the seeds without rows."""
    found = {int(row["seed"]) for row in rows}
    return [seed for seed in range(seeds) if seed not in found]


def hits_of(row: Row) -> str:
    """Return a few words on a row."""
    return f"seed {row['seed']}, {row['hops']} hops: {float(row['hits']):.1f}%"


def check_rows(file: Path | None, folder: Path, rows: Rows, tiny: bool) -> None:
    """Check that the rows to resume from are of the questions in a folder."""
    if rows:
        count = len(divide(folder, 0, TINY_QUESTIONS if tiny else None).train)
        check_equal(file, "training questions", int(rows[0]["train"]), count)


def sort_key(row: Row) -> tuple[int, int]:
    """Return the place of a row in the file."""
    return int(row["seed"]), int(row["hops"])


def sheet(rows: Rows) -> Sheet:
    """Return the means over the seeds, a line for each number of hops."""
    lines = []
    for hops in HOPS:
        own = [row for row in rows if int(row["hops"]) == hops]
        hits, estimated = column(own, "hits"), column(own, "estimated")
        shares = 100 * estimated / column(own, "test")
        published = [f"{number:.1f}" for number in PUBLISHED[hops]]
        lines.append([
            str(hops), *published, f"{hits.mean():.1f} ({hits.min():.1f})", f"{shares.mean():.1f}",
            f"{column(own, 'seconds_per_1000').mean():.2f}",
            f"{column(own, 'checked_equal').mean():.1f}",
            f"{column(own, 'checked_difference').max():.1e}",
        ])  # fmt: skip
    columns = ("hops", "key-value", "best", "hits@1", "estimated", "s / 1,000", "equal",
               "difference")  # fmt: skip
    return Sheet("", columns, lines, _note(rows))


def _note(rows: Rows) -> str:
    first = [row for row in rows if int(row["hops"]) == 1]
    minutes = column(rows, "train_cpu_seconds").mean() / 60
    checked = sum(int(row["checked"]) for row in rows) / len(first)
    return (
        f"hits@1 in % on {column(rows, 'test').sum() / len(first):,.0f} held-out questions, mean "
        f"of {len(first)} seeds and in parentheses the lowest; one model for all hops, trained in "
        f"{minutes:.1f} minutes of CPU time on {int(first[0]['train']):,} questions over "
        f"{int(first[0]['facts']):,} directed facts. Key-value, best: published hits@1 of models "
        "trained on the full training files, which are not used here. Estimated: % of questions "
        "for which a hop dropped 0.5% or more of the weight. s / 1,000: CPU time for 1,000 "
        "questions on one core; "
        f"the process needs {column(rows, 'peak_megabytes').max():.0f} MB, training included. "
        f"Equal, difference: {checked:.0f} questions are also answered without pruning; the share "
        "of equal first answers, and the largest difference of their probability. Films that "
        "share a title are one entity: in "
        f"{column(first, 'unlisted').mean():.1f}% of the questions of one hop the right relation "
        "leads to answers that the question does not list, and "
        f"{column(first, 'unlisted_errors').mean():.0f}% of the wrong first answers are such."
    )


def column(rows: Rows, name: str) -> np.ndarray:
    """Return a column as numbers."""
    return np.array([float(row[name]) for row in rows])
