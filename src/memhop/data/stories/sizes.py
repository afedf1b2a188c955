"""Task 18: which thing is bigger than which, or fits in it, by chains of such statements."""

from collections.abc import Container, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind, check_range
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.story import Question, Story

# From small to big; of the last four each story draws the order.
_SMALL = ("chocolate", "box of chocolates")
_BIG = ("box", "container", "chest", "suitcase")
_MOST_LINKS = len(_SMALL) + len(_BIG) - 1
# The links of the released questions; in three of ten the two things were also compared directly.
_RELEASED_LINKS = 2

_TELLING = ("The {0} fits inside the {1}.", "The {1} is bigger than the {0}.")
_ASKING = ("Does the {0} fit in the {1}?", "Is the {1} bigger than the {0}?")

_BLOCK = 5  # statements told before somebody looks for something to ask
_QUESTIONS = 5  # a story

_Pair = tuple[str, str]  # a thing, and a bigger one


class _Statement(NamedTuple):
    pair: _Pair
    wording: str


class _Proof(NamedTuple):
    """The statements that answer a question, from the one that somebody starts with.

    Attributes:
        facts: their positions.
        rising: whether they lead from the smaller thing to the bigger one.
    """

    facts: tuple[int, ...]
    rising: bool


class _Comparing:
    """A story while it is being told.

    Attributes:
        links: in how many steps a question is to be answered.
        order: the things, from small to big.
        chain: the things of one question that may be asked.
        pairs: what may be told.
        told: the statements.
    """

    def __init__(self, chance: Chance, links: int) -> None:
        self.chance = chance
        self.links = links
        self.order = (*_SMALL, *chance.sample(_BIG, len(_BIG)))
        self.chain = [self.order[i] for i in chance.choose(len(self.order), links + 1)]
        self.pairs = list(combinations(self.order, 2))
        if links > _RELEASED_LINKS:
            self.pairs = self._without_short_cuts()
        self.told: list[_Statement] = []

    def _without_short_cuts(self) -> list[_Pair]:
        """The pairs that do not leave out a thing of the chain.

        Each climbs the chain by one step at most, so nothing leads up it in fewer.
        """
        steps, step = {}, 0
        for thing in self.order:
            step += thing in self.chain
            steps[thing] = step
        return [(small, big) for small, big in self.pairs if steps[big] - steps[small] <= 1]

    def tell(self, count: int) -> None:
        """Compares ``count`` pairs by chance."""
        for _ in range(count):
            self.told.append(_Statement(self.chance.pick(self.pairs), self.chance.pick(_TELLING)))

    def tell_chain(self) -> None:
        """Tells the links of the chain in place of pairs drawn by chance."""
        places = self.chance.choose(len(self.told), self.links)
        links = self.chance.sample(list(pairwise(self.chain)), self.links)
        for place, link in zip(places, links, strict=True):
            self.told[place] = self.told[place]._replace(pair=link)

    def proofs(self) -> list[_Proof]:
        """What can be asked, each entry as likely."""
        return self._proofs_of_two() if self.links == _RELEASED_LINKS else self._proofs()

    def _proofs_of_two(self) -> list[_Proof]:
        """Somebody picks a statement and one of its things, and goes on to the first about that.

        The way in which the released questions arise, as far as can be seen. It matters, since it
        makes their answers depend on the order of the two statements: 69% of the questions have
        their first fact later than their second. Wherever there are two links, some are found.
        """
        about: dict[str, list[int]] = {}
        latest: dict[_Statement, int] = {}
        for fact, statement in enumerate(self.told):
            latest[statement] = fact
            for thing in statement.pair:
                facts = about.setdefault(thing, [])
                if len(facts) < 2:
                    facts.append(fact)
        found = []
        for statement in self.told:
            fact = latest[statement]
            for end, thing in enumerate(statement.pair):
                other = next((one for one in about[thing] if one != fact), None)
                if other is not None and self.told[other].pair[1 - end] == thing:
                    found.append(_Proof((fact, other), rising=end == 1))
        return found

    def _proofs(self) -> list[_Proof]:
        """All chains of so many links, both ways, but for those that have a short cut."""
        first: dict[_Pair, int] = {}
        for fact, statement in enumerate(self.told):
            first.setdefault(statement.pair, fact)
        found = []
        for things in combinations(self.order, self.links + 1):
            links = tuple(pairwise(things))
            if all(link in first for link in links) and not self._cut_short(things, first):
                facts = tuple(first[link] for link in links)
                found += [_Proof(facts, rising=True), _Proof(facts[::-1], rising=False)]
        return found

    def _cut_short(self, things: Sequence[str], known: Container[_Pair]) -> bool:
        start, end = things[0], things[-1]
        between = self.order[self.order.index(start) + 1 : self.order.index(end)]
        return any(
            all(link in known for link in pairwise((start, *steps, end)))
            for count in range(self.links - 1)
            for steps in combinations(between, count)
        )

    def ask(self, proof: _Proof) -> Question:
        """A question after the last statement: going up says no, going down says yes."""
        ends = self.told[proof.facts[0]].pair, self.told[proof.facts[-1]].pair
        low, high = ends if proof.rising else ends[::-1]
        smaller, bigger = low[0], high[1]
        claim = (bigger, smaller) if proof.rising else (smaller, bigger)
        text = self.chance.pick(_ASKING).format(*claim)
        return Question(len(self.told), text, "no" if proof.rising else "yes", proof.facts)


def _tell(chance: Chance, dials: Dials) -> Story:
    """Comparisons of six things, some told again, and five questions at the end.

    A question needs as many statements as ``hops`` says. With 2, as released, the two things may
    have been compared directly as well; with more, no shorter chain was told. In the released shape
    the story goes on by five statements at a time until something can be asked.
    """
    length = draw_length(chance, dials, dials.hops)
    story = _Comparing(chance, dials.hops)
    story.tell(length or _BLOCK)
    while not (proofs := story.proofs()):
        if length:
            story.tell_chain()
        else:
            story.tell(_BLOCK)
    statements = tuple(wording.format(*pair) for pair, wording in story.told)
    return Story(statements, tuple(story.ask(chance.pick(proofs)) for _ in range(_QUESTIONS)))


def _check(dials: Dials) -> None:
    check_range("hops", dials.hops, 1, _MOST_LINKS)
    check_length(dials, dials.hops)


SIZES = Kind(_tell, _check, frozenset({"hops"}))
"""Task 18: chains of sizes."""
