"""Task 18: which thing is bigger, or fits into which, by chains of such statements."""

from collections.abc import Container, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from memhop.data.stories.task import StorySettings, Task, check_length, check_range, draw_length
from memhop.data.story import Question, Story
from memhop.rng import Rng

# From small to big; each story draws the order of the last four.
_SMALL = ("chocolate", "box of chocolates")
_BIG = ("box", "container", "chest", "suitcase")
_MAX_LINKS = len(_SMALL) + len(_BIG) - 1
# The links of the released questions; in three of ten a statement compares the two directly.
_RELEASED_LINKS = 2

_STATEMENTS = ("The {0} fits inside the {1}.", "The {1} is bigger than the {0}.")
_QUESTIONS = ("Does the {0} fit in the {1}?", "Is the {1} bigger than the {0}?")

_BLOCK = 5  # statements before each attempt to ask
_NUM_QUESTIONS = 5  # per story

_Pair = tuple[str, str]  # a thing, and a bigger one


class _Statement(NamedTuple):
    pair: _Pair
    wording: str


class _Proof(NamedTuple):
    """The statements that answer a question, in the order of the chain.

    Attributes:
        facts: their positions.
        ascending: whether they lead from the smaller thing to the bigger one.
    """

    facts: tuple[int, ...]
    ascending: bool


class _StoryBuilder:
    """A story under construction.

    Attributes:
        links: the number of links between a question and its answer.
        order: the things, from small to big.
        chain: the things of one possible question.
        pairs: the pairs that statements may compare.
        statements: the statements.
    """

    def __init__(self, rng: Rng, links: int) -> None:
        self.rng = rng
        self.links = links
        self.order = (*_SMALL, *rng.sample(_BIG, len(_BIG)))
        self.chain = [self.order[i] for i in rng.combination(len(self.order), links + 1)]
        self.pairs = list(combinations(self.order, 2))
        if links > _RELEASED_LINKS:
            self.pairs = self._pairs_without_shortcuts()
        self.statements: list[_Statement] = []

    def _pairs_without_shortcuts(self) -> list[_Pair]:
        """Return the pairs that skip no thing of the chain, so that no shorter chain exists."""
        steps, step = {}, 0
        for thing in self.order:
            step += thing in self.chain
            steps[thing] = step
        return [(small, big) for small, big in self.pairs if steps[big] - steps[small] <= 1]

    def add_random(self, count: int) -> None:
        """Add statements that compare random pairs."""
        for _ in range(count):
            pair = self.rng.choice(self.pairs)
            self.statements.append(_Statement(pair, self.rng.choice(_STATEMENTS)))

    def insert_chain(self) -> None:
        """Replace random statements by the links of the chain."""
        places = self.rng.combination(len(self.statements), self.links)
        links = self.rng.sample(list(pairwise(self.chain)), self.links)
        for place, link in zip(places, links, strict=True):
            self.statements[place] = self.statements[place]._replace(pair=link)

    def proofs(self) -> list[_Proof]:
        """Return the possible questions, each entry equally likely."""
        return self._proofs_of_two() if self.links == _RELEASED_LINKS else self._proofs()

    def _proofs_of_two(self) -> list[_Proof]:
        """Start from each statement and each of its things, and take the first statement on that.

        The released questions seem to be chosen in this way. It makes their answers depend on the
        order of the two statements: 69% of the questions have their first fact later than their
        second. If two statements are linked, the result is not empty.
        """
        about: dict[str, list[int]] = {}
        latest: dict[_Statement, int] = {}
        for fact, statement in enumerate(self.statements):
            latest[statement] = fact
            for thing in statement.pair:
                facts = about.setdefault(thing, [])
                if len(facts) < 2:
                    facts.append(fact)
        proofs = []
        for statement in self.statements:
            fact = latest[statement]
            for end, thing in enumerate(statement.pair):
                other = next((one for one in about[thing] if one != fact), None)
                if other is not None and self.statements[other].pair[1 - end] == thing:
                    proofs.append(_Proof((fact, other), ascending=end == 1))
        return proofs

    def _proofs(self) -> list[_Proof]:
        """Return all chains of ``links`` links without a shortcut, in both directions."""
        first: dict[_Pair, int] = {}
        for fact, statement in enumerate(self.statements):
            first.setdefault(statement.pair, fact)
        proofs = []
        for things in combinations(self.order, self.links + 1):
            links = tuple(pairwise(things))
            if all(link in first for link in links) and not self._has_shortcut(things, first):
                facts = tuple(first[link] for link in links)
                proofs += [_Proof(facts, ascending=True), _Proof(facts[::-1], ascending=False)]
        return proofs

    def _has_shortcut(self, things: Sequence[str], known: Container[_Pair]) -> bool:
        start, end = things[0], things[-1]
        between = self.order[self.order.index(start) + 1 : self.order.index(end)]
        return any(
            all(link in known for link in pairwise((start, *steps, end)))
            for count in range(self.links - 1)
            for steps in combinations(between, count)
        )

    def question(self, proof: _Proof) -> Question:
        """Return a question after the last statement: "no" if ascending, "yes" if descending."""
        ends = self.statements[proof.facts[0]].pair, self.statements[proof.facts[-1]].pair
        low, high = ends if proof.ascending else ends[::-1]
        smaller, bigger = low[0], high[1]
        claim = (bigger, smaller) if proof.ascending else (smaller, bigger)
        text = self.rng.choice(_QUESTIONS).format(*claim)
        return Question(len(self.statements), text, "no" if proof.ascending else "yes", proof.facts)


def _generate(rng: Rng, settings: StorySettings) -> Story:
    """Return a story of comparisons of six things, some repeated, and five questions at the end.

    A question needs ``hops`` statements. With 2, as released, a statement may also compare the two
    things directly; with more, there is no shorter chain. In the released shape the story grows by
    five statements at a time until a question is possible.
    """
    length = draw_length(rng, settings, settings.hops)
    story = _StoryBuilder(rng, settings.hops)
    story.add_random(length or _BLOCK)
    while not (proofs := story.proofs()):
        if length:
            story.insert_chain()
        else:
            story.add_random(_BLOCK)
    statements = tuple(wording.format(*pair) for pair, wording in story.statements)
    questions = (story.question(rng.choice(proofs)) for _ in range(_NUM_QUESTIONS))
    return Story(statements, tuple(questions))


def _check(settings: StorySettings) -> None:
    check_range("hops", settings.hops, 1, _MAX_LINKS)
    check_length(settings, settings.hops)


SIZES = Task(_generate, _check, frozenset({"hops"}))
"""Task 18: chains of sizes."""
