"""Check the large generated knowledge base at a fiftieth of its size, and once at full size."""

import doctest
import hashlib
import re

import numpy as np
import pytest

from benchmarks.knowledge import zipf
from benchmarks.knowledge.zipf import HUB, generate_zipf
from memhop.errors import MemhopError
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.generate import ask
from memhop.knowledge.wording import RELATIONS
from tests.knowledge.question_reader import TOPIC, FactReader, read_path


def degrees(kb: KnowledgeBase) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number of facts of each entity."""
    return np.bincount(kb.facts[:, [0, 2]].ravel(), minlength=len(kb.entities))


def check_degrees(kb: KnowledgeBase, facts: int, hub: int) -> None:
    """Check the number of facts, the hub, and that entities above a degree halve as it doubles."""
    assert len(np.unique(kb.facts, axis=0)) == len(kb.facts) == facts
    assert len(set(kb.labels)) == len(kb.labels) > facts / 5
    assert set(kb.relations) == set(RELATIONS)
    counts = degrees(kb)
    (number,) = kb.find(HUB)
    assert counts[number] == hub
    assert counts.max() == hub
    assert np.sort(counts)[-2] < hub / 2
    above = np.array([(counts >= 2**power).sum() for power in range(4, 10)])
    assert (above[1:] / above[:-1] > 0.35).all()
    assert (above[1:] / above[:-1] < 0.75).all()


@pytest.mark.parametrize("seed", range(2))
def test_degrees_follow_zipfs_law(seed: int) -> None:
    check_degrees(generate_zipf(facts=40_000, hub=4_000, seed=seed), 40_000, 4_000)


@pytest.mark.slow
def test_a_million_facts_have_a_hub_of_a_hundred_thousand() -> None:
    check_degrees(generate_zipf(), 1_000_000, 100_000)


def test_facts_are_the_same_on_every_machine() -> None:
    kb = generate_zipf(facts=20_000, hub=2_000, seed=3)
    names = [[kb.entities[one], kb.relations[by], kb.entities[two]] for one, by, two in kb.facts]
    assert hashlib.sha256(repr(names).encode()).hexdigest()[:16] == "1788979fddf918eb"
    other = generate_zipf(facts=20_000, hub=2_000, seed=4)
    assert not np.array_equal(kb.facts, other.facts)


@pytest.mark.parametrize("about", [None, [HUB]], ids=["all", "hub"])
def test_the_answers_follow_from_the_facts_alone(about: list[str] | None) -> None:
    kb = generate_zipf(facts=20_000, hub=2_000)
    reader = FactReader(
        (kb.entities[one], kb.relations[by], kb.entities[two]) for one, by, two in kb.facts
    )
    questions = ask(
        kb, hops=(2, 3), questions=60, topics=True, max_answers=None, about=about, seed=1
    )
    for question in questions:
        assert question.topics is not None
        (topic,) = question.topics
        path, _ = read_path(re.sub(rf"(?<!\w){re.escape(topic)}(?!\w)", TOPIC, question.text))
        assert set(question.answers) == reader.answers({topic}, path)
    if about:
        assert max(len(question.answers) for question in questions) > 1_000


def test_the_example_runs() -> None:
    failed, tried = doctest.testmod(zipf, report=True)
    assert tried
    assert not failed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"facts": 1_000}, "facts: expected an integer from 20000 to 2,500,000, got 1000"),
        (
            {"facts": 20_000, "hub": 2_501},
            "hub: expected an integer from 1 to 2,500, got 2501",
        ),
        ({"seed": 2**32}, "seed: expected an integer from 0 to 4,294,967,295, got 4294967296"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(settings: dict[str, int], message: str) -> None:
    with pytest.raises(MemhopError, match=rf"^{re.escape(message)}$"):
        generate_zipf(**settings)
