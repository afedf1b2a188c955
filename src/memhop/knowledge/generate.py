"""Generate facts about an invented world of films, and questions over facts by templates.

`invented_names` invents the names, `phrases` has the English of the relations and `wording` writes
a path of relations as a question. The same arguments give the same facts and questions on every
machine.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, islice
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memhop.errors import MemhopError, check_integer, shown
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.invented_names import GENRES, YEARS, draw_names
from memhop.knowledge.questions import Question
from memhop.knowledge.wording import MAX_HOPS, RELATIONS, Path, paths, question_text
from memhop.rng import Rng

__all__ = ["Split", "ask", "generate", "split_of"]

Split = Literal["train", "development", "test"]
_SPLITS: tuple[Split, ...] = ("train",) * 8 + ("development", "test")  # 8:1:1
_MAX_FAILURES = 5_000  # consecutive draws without a new question
_Triple = tuple[str, str, str]


def generate(*, facts: int = 2_000, seed: int = 0, shared_titles: float = 0.0) -> KnowledgeBase:
    """Generate facts about invented films, people, books, companies, cities and countries.

    The relations are directed_by, starred_actors, genre, release_year, in_language, produced_by and
    based_on of a film; born_in, spouse, works_for and wrote of a person; located_in and capital_of
    of a city; official_language of a country; founded_by and headquartered_in of a company. Some
    entities have many facts (a genre, a country, a popular actor), and some films and people lack
    some. All names are different, and no name tells a fact. ``spouse`` holds in both directions and
    is a fact for each.

    Args:
        facts: the number of facts, 200 to 100,000. A few hundred may lack ``based_on``.
        seed: seed of the random draws.
        shared_titles: share of the films, 0 to 0.5, whose label is the title of another film. Their
            identifier is the title with a number: ``The Silver Harbour (2)``.

    Raises:
        MemhopError: an argument is out of its range.

    >>> kb = generate(facts=500, seed=1)
    >>> len(kb.facts), len(kb.relations)
    (500, 16)
    """
    check_integer("facts", facts, 200, 100_000)
    check_integer("seed", seed, 0)
    if not 0 <= shared_titles <= 0.5:
        raise MemhopError(f"shared_titles: expected 0 to 0.5, got {shown(shared_titles)}")
    rng = Rng(seed)
    world = _World(facts // 11, rng)
    triples = [*world.places(), *world.companies(), *world.lives()]
    labels: dict[str, str] = {}
    titles: list[str] = []  # those that no other film has
    new_titles = draw_names("film", rng)
    while len(triples) < facts:
        if titles and rng.bernoulli(shared_titles):
            title = titles.pop(rng.randrange(len(titles)))
            film = f"{title} (2)"
            labels[film] = title
        else:
            film = next(new_titles)
            titles.append(film)
        triples += world.film(film)
    return KnowledgeBase.from_triples(triples[:facts], labels=labels)


class _Ranked:
    """Draws in which the item of rank r has a weight of 1 / (r + flatness): some come often."""

    def __init__(self, items: Sequence[str], rng: Rng, flatness: int) -> None:
        self._items, self._rng = items, rng
        # integers: sums of floating-point numbers could differ between machines
        self._sums = list(accumulate(2**32 // (rank + flatness) for rank in range(len(items))))

    def draw(self) -> str:
        return self._items[bisect_right(self._sums, self._rng.randrange(self._sums[-1]))]

    def some(self, least: int, most: int) -> list[str]:
        """Return ``least`` to ``most`` draws, without their duplicates."""
        count = least + self._rng.randrange(most - least + 1)
        return list(dict.fromkeys(self.draw() for _ in range(count)))


class _World:
    """The entities of generated facts, and the facts of each kind."""

    def __init__(self, size: int, rng: Rng) -> None:
        """Invent the names, with about ``size`` people and a few of the other kinds."""

        def names(kind: str, count: int) -> list[str]:
            return list(islice(draw_names(kind, rng), count))

        self._rng = rng
        self._countries = names("country", min(5 + size // 40, 150))
        self._city_names = names("city", min(6 + 2 * len(self._countries) + size // 12, 1_000))
        self._people = names("person", size + size // 10)
        self._firms = names("company", 4 + size // 8)
        self._book_names = names("book", 2 + size // 4)
        languages = names("language", min(5 + 2 * len(self._countries) // 3, 80))
        self._languages = _Ranked(languages, rng, 3)
        self._genres = _Ranked(rng.sample(GENRES, len(GENRES)), rng, 4)
        self._years = YEARS[-min(10 + size // 4, len(YEARS)) :]
        self._cities = _Ranked(self._city_names, rng, 8)
        self._employers = _Ranked(self._firms, rng, 6)
        self._directors = _Ranked(self._some_people(size // 4), rng, 12)
        self._actors = _Ranked(self._some_people(size), rng, 16)
        self._authors = _Ranked(self._some_people(2 + size // 6), rng, 8)
        self._language_of: dict[str, str] = {}  # of a country, a city or a person

    def _some_people(self, count: int) -> list[str]:
        return self._rng.sample(self._people, count)

    def places(self) -> Iterator[_Triple]:
        """Yield the facts of countries and cities; the first cities are capitals."""
        countries = _Ranked(self._countries, self._rng, 2)
        for country in self._countries:
            spoken = self._languages.some(1, 1 + self._rng.bernoulli(0.3))
            self._language_of[country] = spoken[0]
            yield from ((country, "official_language", language) for language in spoken)
        for number, city in enumerate(self._city_names):
            is_capital = number < len(self._countries)
            country = self._countries[number] if is_capital else countries.draw()
            self._language_of[city] = self._language_of[country]
            yield city, "located_in", country
            if is_capital:
                yield city, "capital_of", country

    def companies(self) -> Iterator[_Triple]:
        """Yield the facts of companies."""
        for firm in self._firms:
            yield firm, "headquartered_in", self._cities.draw()
            founders = self._some_people(1 + self._rng.bernoulli(0.3))
            yield from ((firm, "founded_by", founder) for founder in founders)

    def lives(self) -> Iterator[_Triple]:
        """Yield the facts of people and their books."""
        for person in self._people:
            if self._rng.bernoulli(0.92):
                city = self._cities.draw()
                self._language_of[person] = self._language_of[city]
                yield person, "born_in", city
            if self._rng.bernoulli(0.3):
                yield person, "works_for", self._employers.draw()
        married = self._some_people(len(self._people) // 3 // 2 * 2)
        for one, other in zip(married[::2], married[1::2], strict=True):
            yield one, "spouse", other
            yield other, "spouse", one
        for book in self._book_names:
            yield self._authors.draw(), "wrote", book

    def film(self, film: str) -> Iterator[_Triple]:
        """Yield the facts of a film; it is often in the language of its director."""
        directors = self._directors.some(1, 1 + self._rng.bernoulli(0.08))
        yield from ((film, "directed_by", director) for director in directors)
        yield from ((film, "starred_actors", actor) for actor in self._actors.some(2, 5))
        genres = self._genres.some(1, 1 + self._rng.bernoulli(0.4))
        yield from ((film, "genre", genre) for genre in genres)
        if self._rng.bernoulli(0.96):
            yield film, "release_year", self._rng.choice(self._years)
        spoken = self._language_of.get(directors[0])
        if spoken is None or self._rng.bernoulli(0.4):
            spoken = self._languages.draw()
        yield film, "in_language", spoken
        if self._rng.bernoulli(0.85):
            yield film, "produced_by", self._employers.draw()
        if self._rng.bernoulli(0.22):
            yield film, "based_on", self._rng.choice(self._book_names)


def ask(
    kb: KnowledgeBase,
    *,
    hops: Sequence[int] = (1, 2, 3),
    questions: int = 1_000,
    seed: int = 0,
    split: Split | None = None,
    topics: bool = False,
    max_answers: int | None = 30,
    about: Sequence[str] | None = None,
) -> list[Question]:
    """Ask about paths of 1 to 3 relations from a topic, in both directions, in varied English.

    The answers are all entities that the path reaches, followed as a set from all entities with the
    name of the topic. As in MetaQA, a path never returns to its topic: the topic is removed after
    each hop ("which films share a director with X" does not ask for X). No text comes twice.

    Two parts of a split have no topic and path in common, whatever their seeds are: `split_of`
    gives the part of a topic with a path. Questions of one part with other seeds may repeat.

    Args:
        kb: facts with relations of `generate`; others are not asked about.
        hops: lengths of the paths, of which each comes equally often.
        questions: their number; with fewer questions, the first of these.
        seed: seed of the random draws.
        split: "train", "development" or "test"; None asks about all.
        topics: give the identifiers of the topics with each question; else its text names them.
        max_answers: no question has more answers, or more than half of the entities that its last
            relation reaches, so that no guess is often right. None asks without both limits.
        about: ask only about topics with these names.

    Raises:
        MemhopError: an argument is out of its range, or there are too few such questions.

    >>> kb = generate(facts=500, seed=1)
    >>> *_, question = ask(kb, hops=[2], questions=4)
    >>> question.text
    'who married the founders of Vonexa Company'
    >>> question.answers
    ('Simon Brandemann', 'Lucia Heckkvist')
    """
    check_integer("questions", questions, 0)
    check_integer("seed", seed, 0)
    if max_answers is not None:
        check_integer("max_answers", max_answers, 1)
    if not hops or not set(hops) <= set(range(1, MAX_HOPS + 1)):
        raise MemhopError(f"hops: expected numbers from 1 to {MAX_HOPS}, got {shown(hops)}")
    if split is not None and split not in _SPLITS:
        raise MemhopError(
            f"split: expected one of {', '.join(dict.fromkeys(_SPLITS))}, got {shown(split)}"
        )
    draws = _Draws(kb, seed=seed, split=split, max_answers=max_answers, about=about)
    found: dict[str, Question] = {}
    for number in range(questions):
        length = hops[number % len(hops)]
        for _ in range(_MAX_FAILURES):
            question = draws.question(length)
            if question is not None and question.text not in found:
                found[question.text] = question if topics else question._replace(topics=None)
                break
        else:
            raise MemhopError(
                f"questions: expected at most {number}, as these facts have no more questions of "
                f"length {length}, got {questions}"
            )
    return list(found.values())


def split_of(topic: str, path: Path) -> Split:
    """Return the part of the split that has a topic with a path: a hash of both, 8:1:1.

    >>> split_of("Ada Roth", ("~starred_actors", "directed_by"))
    'train'
    """
    digest = blake2b("\t".join((topic, *path)).encode(), digest_size=8).digest()
    return _SPLITS[int.from_bytes(digest, "big") % len(_SPLITS)]


class _Draws:
    """Draws of questions over the facts of a knowledge base."""

    def __init__(
        self,
        kb: KnowledgeBase,
        *,
        seed: int,
        split: Split | None,
        max_answers: int | None,
        about: Sequence[str] | None,
    ) -> None:
        self._kb, self._rng, self._split, self._max_answers = kb, Rng(seed), split, max_answers
        self._links = dict(_links(kb))
        self._namesakes = _namesakes(kb.labels)
        self._topics = {step: np.unique(link.starts) for step, link in self._links.items()}
        if about is not None:
            chosen = [number for name in about for number in _known(kb, name)]
            self._topics = {
                step: np.intersect1d(starts, np.array(chosen, dtype=np.int64))
                for step, starts in self._topics.items()
            }
        self._paths = {
            length: [
                path
                for path in paths(length)
                if self._links.keys() >= set(path) and len(self._topics[path[0]])
            ]
            for length in range(1, MAX_HOPS + 1)
        }

    def question(self, length: int) -> Question | None:
        """Return a question about a path of this length, or None if the draw gives none."""
        if not self._paths[length]:
            return None
        path = self._rng.choice(self._paths[length])
        starts = self._topics[path[0]]
        topic = int(starts[self._rng.randrange(len(starts))])
        name = self._kb.labels[topic]
        if self._split is not None and split_of(name, path) != self._split:
            return None
        topics = self._namesakes.get(name, np.array([topic]))
        answers = self._follow(topics, path)
        if not len(answers) or self._is_too_long(answers, path[-1]):
            return None
        return Question(
            question_text(path, name, self._rng),
            tuple(self._kb.entities[answer] for answer in answers),
            tuple(self._kb.entities[topic] for topic in topics),
        )

    def _follow(self, topics: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
        """Return the entities at the end of a path; the topics are removed after each hop."""
        reached = topics
        for step in path:
            reached = self._links[step].follow(reached)
            reached = reached[~np.isin(reached, topics)]
        return reached

    def _is_too_long(self, answers: NDArray[np.int64], step: str) -> bool:
        if self._max_answers is None:
            return False
        return len(answers) > min(self._max_answers, self._links[step].num_ends / 2)


class _Link(NamedTuple):
    """The facts of one relation in one direction, sorted by the entity where they start."""

    starts: NDArray[np.int64]  # [n]
    ends: NDArray[np.int64]  # [n]
    num_ends: int  # different ones

    def follow(self, entities: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the different entities that one fact connects with some of ``entities``."""
        first = np.searchsorted(self.starts, entities, side="left")
        counts = np.searchsorted(self.starts, entities, side="right") - first
        before = np.cumsum(counts) - counts
        rows = np.repeat(first - before, counts) + np.arange(counts.sum())
        return np.unique(self.ends[rows])


def _links(kb: KnowledgeBase) -> Iterator[tuple[str, _Link]]:
    """Yield the facts of each step that has words."""
    for relation, name in enumerate(kb.relations):
        if name not in RELATIONS:
            continue
        facts = kb.facts[kb.facts[:, 1] == relation]
        for step, start, end in ((name, 0, 2), (f"~{name}", 2, 0)):
            order = np.argsort(facts[:, start], kind="stable")
            ends = facts[order, end]
            yield step, _Link(facts[order, start], ends, len(np.unique(ends)))


def _namesakes(labels: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Return the entities of each label that several entities have."""
    if len(set(labels)) == len(labels):
        return {}
    entities: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        entities.setdefault(label, []).append(number)
    return {label: np.array(same) for label, same in entities.items() if len(same) > 1}


def _known(kb: KnowledgeBase, name: str) -> tuple[int, ...]:
    found = kb.find(name)
    if not found:
        raise MemhopError(f"about: expected the name of an entity, got {shown(name)}")
    return found
