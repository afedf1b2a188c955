"""A large generated knowledge base in which a few entities have most of the facts.

The relations and names are those of `memhop.knowledge.generate`, so that its ``ask`` asks about
these facts.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memhop.errors import check_integer
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.invented_names import GENRES, YEARS, capacity, invented_name
from memhop.knowledge.wording import RELATIONS

HUB = GENRES[0]
"""The entity with the most facts."""

Numbers = NDArray[np.int64]


def generate_zipf(*, facts: int = 1_000_000, hub: int = 100_000, seed: int = 0) -> KnowledgeBase:
    """Generate facts whose objects follow Zipf's law: the one of rank r has a weight of 1 / r.

    A million facts name about 290,000 entities. The same arguments give the same facts on every
    machine.

    Args:
        facts: the number of facts, at least 20,000 and at most 2,500,000.
        hub: the number of facts of the entity `HUB`, at most an eighth of ``facts``.
        seed: seed of the random draws, below 2^32.

    Raises:
        MemhopError: an argument is out of its range.

    >>> kb = generate_zipf(facts=20_000, hub=2_000)
    >>> (hub,) = kb.find(HUB)
    >>> len(kb.facts), int((kb.facts[:, 2] == hub).sum())
    (20000, 2000)
    """
    check_integer("facts", facts, 20_000, 2_500_000)
    check_integer("seed", seed, 0, 2**32 - 1)
    check_integer("hub", hub, 1, facts // 8)
    world = _World(facts, seed)
    others = np.concatenate(list(world.relations()))
    others = others[world.some(len(others), facts - hub)]
    rows = np.concatenate([world.hub(hub), others])[world.some(facts, facts)]
    return KnowledgeBase.from_triples(
        (world.names[subject], RELATIONS[relation], world.names[target])
        for subject, relation, target in rows.tolist()
    )


class _World:
    """Entities, numbered kind by kind, and draws of facts [n, 3] about them."""

    def __init__(self, facts: int, seed: int) -> None:
        # RandomState has the same draws in every version of NumPy
        self._random = np.random.RandomState(seed).random_sample
        self._counts = {
            "genre": len(GENRES),
            "year": len(YEARS),
            "film": 14 * facts // 100,
            "person": 12 * facts // 100,
            "book": 2 * facts // 100,
            "company": min(facts // 100, capacity("company")),
            "city": min(facts // 300, capacity("city")),
            "country": min(facts // 2_000, capacity("country")),
            "language": min(facts // 5_000, capacity("language")),
        }
        self.names = [*GENRES, *YEARS]
        self._numbers: dict[str, Numbers] = {}
        first = 0
        for kind, count in self._counts.items():
            self._numbers[kind] = np.arange(first, first + count)
            first += count
            if kind not in {"genre", "year"}:
                self.names += (invented_name(kind, number) for number in range(count))
        self._num_facts = facts

    def some(self, stop: int, count: int) -> Numbers:
        """Return ``count`` different numbers below ``stop`` in random order."""
        return np.argsort(self._random(stop), kind="stable")[:count]

    def hub(self, count: int) -> Numbers:
        """Return the facts of ``count`` films of the genre `HUB`."""
        films = self._numbers["film"][self.some(self._counts["film"], count)]
        return _rows(films, "genre", np.zeros(count, dtype=np.int64))

    def relations(self) -> Iterator[Numbers]:
        """Yield the facts of each relation, without those of the hub; no fact comes twice."""
        yield self._many("film", "genre", "genre", 6)
        yield self._many("film", "starred_actors", "person", 32)
        yield self._many("person", "works_for", "company", 3)
        yield self._once("film", "directed_by", "person", 1.0)
        yield self._once("film", "release_year", "year", 0.7)
        yield self._once("film", "in_language", "language", 0.8)
        yield self._once("film", "produced_by", "company", 0.6)
        yield self._once("film", "based_on", "book", 0.2)
        yield self._once("person", "born_in", "city", 0.7)
        yield self._once("book", "wrote", "person", 1.0)[:, [2, 1, 0]]
        yield self._once("company", "founded_by", "person", 1.0)
        yield self._once("company", "headquartered_in", "city", 1.0)
        yield self._once("country", "official_language", "language", 1.0)
        pairs = self.some(self._counts["person"], self._counts["person"] // 10 * 2).reshape(2, -1)
        one, other = self._numbers["person"][pairs]
        yield _rows(one, "spouse", other)
        yield _rows(other, "spouse", one)
        countries, cities = self._numbers["country"], self._numbers["city"]
        capitals, rest = cities[: len(countries)], cities[len(countries) :]
        yield _rows(capitals, "capital_of", countries)
        yield _rows(capitals, "located_in", countries)
        yield _rows(rest, "located_in", self._zipf("country", len(rest)))

    def _zipf(self, kind: str, count: int) -> Numbers:
        """Draw ``count`` entities of a kind by Zipf's law, in an order of ranks of their own."""
        numbers = self._numbers[kind]
        if kind == "genre":
            numbers = numbers[1:]  # the hub has its exact number of facts already
        ranks = numbers[self.some(len(numbers), len(numbers))]
        # integers: sums of floating-point numbers could differ between machines
        sums = np.cumsum(2**40 // np.arange(1, len(ranks) + 1))
        drawn = (self._random(count) * sums[-1]).astype(np.int64)
        found: Numbers = ranks[np.searchsorted(sums, drawn, side="right")]
        return found

    def _many(self, subject: str, relation: str, target: str, percent: int) -> Numbers:
        """Draw ``percent`` of all facts, less their duplicates, about random subjects."""
        count = percent * self._num_facts // 100
        subjects = (self._random(count) * self._counts[subject]).astype(np.int64)
        pairs = self._numbers[subject][subjects] * len(self.names) + self._zipf(target, count)
        first, second = np.divmod(np.unique(pairs), len(self.names))
        return _rows(first, relation, second)

    def _once(self, subject: str, relation: str, target: str, share: float) -> Numbers:
        """Draw one fact about each of a share of the subjects."""
        count = round(share * self._counts[subject])
        subjects = self._numbers[subject][self.some(self._counts[subject], count)]
        return _rows(subjects, relation, self._zipf(target, count))


def _rows(subjects: Numbers, relation: str, targets: Numbers) -> Numbers:
    relations = np.full(len(subjects), RELATIONS.index(relation))
    return np.stack([subjects, relations, targets], axis=1)
