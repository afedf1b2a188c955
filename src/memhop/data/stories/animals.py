"""Tasks 15 and 16: what an animal is afraid of, and what colour it has, by its kind."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.story import Question, Story

_PLURALS = {"mouse": "Mice", "sheep": "Sheep", "wolf": "Wolves", "cat": "Cats"}
_FEARERS = tuple(_PLURALS)
_FEARFUL_NAMES = ("Gertrude", "Winona", "Emily", "Jessica")

_COLOURED = ("swan", "rhino", "lion", "frog")
_COLOURED_NAMES = ("Lily", "Bernhard", "Brian", "Julius", "Greg")
_COLOURS = ("yellow", "green", "gray", "white")
# How many others of its kind the animal asked for may have; two it never has in the released
# stories, though kinds drawn by chance would often give it two.
_COMPANIONS = (1, 3, 4)

_QUESTIONS = 4  # a story of deduction


class _Fears:
    """Animals, and what each kind is afraid of; no animal is met before its kind's fear is told.

    Attributes:
        told: the statements.
        fears: for each kind what it is afraid of, and the statement that told it.
        met: for each animal its kind, and the statement that told it.
    """

    def __init__(self, chance: Chance) -> None:
        self.told: list[str] = []
        self.fears: dict[str, tuple[str, int]] = {}
        self.met: dict[str, tuple[str, int]] = {}
        while len(self.fears) < len(_FEARERS) or len(self.met) < len(_FEARFUL_NAMES):
            kind, name = chance.pick(_FEARERS), chance.pick(_FEARFUL_NAMES)
            if kind not in self.fears:
                feared = chance.pick([other for other in _FEARERS if other != kind])
                self.fears[kind] = feared, len(self.told)
                self.told.append(f"{_PLURALS[kind]} are afraid of {_PLURALS[feared].lower()}.")
            elif name not in self.met:
                self.met[name] = kind, len(self.told)
                self.told.append(f"{name} is a {kind}.")

    def fear_of(self, name: str) -> tuple[str, tuple[int, int]]:
        """What an animal is afraid of, by its kind and by the fear of that kind."""
        kind, met = self.met[name]
        feared, told = self.fears[kind]
        return feared, (met, told)


def _tell_deduction(chance: Chance, dials: Dials) -> Story:
    """Four kinds with a fear each, four animals, and four questions at the end.

    Longer stories tell statements again, at any time after the first; the supporting facts are the
    first tellings. Shorter ones leave statements out, and ask only of what is left.
    """
    animals = _Fears(chance)
    names = list(animals.met)
    length = draw_length(chance, dials, 2) or len(animals.told)
    needed = animals.fear_of(chance.pick(names))[1]
    told, moved = _fitted(chance, animals.told, needed, length)
    known = [name for name in names if all(fact in moved for fact in animals.fear_of(name)[1])]
    questions = []
    for _ in range(_QUESTIONS):
        name = chance.pick(known)
        feared, facts = animals.fear_of(name)
        text = f"What is {name.lower()} afraid of?"
        questions.append(Question(length, text, feared, tuple(moved[fact] for fact in facts)))
    return Story(told, tuple(questions))


class _Animal(NamedTuple):
    """An animal that was met.

    Attributes:
        kind: its kind, and ``met`` the statement that told it.
        colour: its colour, and ``seen`` the statement that told it; empty before.
    """

    kind: str
    met: int
    colour: str = ""
    seen: int = -1


class _Colours:
    """Five animals whose kinds are told, four of them with their colours.

    An animal has the colour that was last told of its kind, unless another of the kind was met
    since: then it may have any. So as many animals of a kind agree as in the released stories.

    Attributes:
        told: the statements.
        animals: by name, in the order in which they were met.
    """

    def __init__(self, chance: Chance) -> None:
        self.told: list[str] = []
        self.animals: dict[str, _Animal] = {}
        usual: dict[str, str] = {}
        uncoloured = len(_COLOURED_NAMES)
        while uncoloured > 1 or len(self.animals) < len(_COLOURED_NAMES):
            name = chance.pick(_COLOURED_NAMES)
            animal = self.animals.get(name)
            if not animal:
                kind = chance.pick(_COLOURED)
                self.animals[name] = _Animal(kind, len(self.told))
                self.told.append(f"{name} is a {kind}.")
                usual.pop(kind, None)
            elif not animal.colour and uncoloured > 1:
                colour = usual.get(animal.kind) or chance.pick(_COLOURS)
                self.animals[name] = animal._replace(colour=colour, seen=len(self.told))
                self.told.append(f"{name} is {colour}.")
                usual[animal.kind] = colour
                uncoloured -= 1

    def asked(self) -> tuple[str, list[_Animal]]:
        """The animal without a colour, and the others of its kind, as they were met."""
        asked = next(name for name, animal in self.animals.items() if not animal.colour)
        kind = self.animals[asked].kind
        others = [one for name, one in self.animals.items() if one.kind == kind and name != asked]
        return asked, others


def _tell_induction(chance: Chance, dials: Dials) -> Story:
    """Five animals, the colours of four, and a question for the colour of the fifth.

    Where the others of its kind disagree, the one whose kind was told last decides. So it is in
    every released story. (In 7.5% of them they disagree. The colour told last is the answer in 92%
    of these, that of most others in 54%.)

    Longer stories tell statements again, at any time after the first; the supporting facts are the
    first tellings, and the others of the kind agree, as who came last would be hard to say.
    Shorter stories leave out what the answer does not need.
    """
    length = draw_length(chance, dials, 3)
    while True:
        animals = _Colours(chance)
        asked, others = animals.asked()
        again = length is not None and length > len(animals.told)
        agreed = len({other.colour for other in others}) == 1
        if len(others) in _COMPANIONS and (agreed or not again):
            break
    last = others[-1]
    facts = animals.animals[asked].met, last.met, last.seen
    told, moved = _fitted(chance, animals.told, facts, length or len(animals.told))
    text, proof = f"What color is {asked}?", tuple(moved[fact] for fact in facts)
    return Story(told, (Question(len(told), text, last.colour, proof),))


def _fitted(
    chance: Chance, told: Sequence[str], needed: Collection[int], length: int
) -> tuple[tuple[str, ...], dict[int, int]]:
    """``length`` statements: without some that are not needed, or with some told again.

    Returns them, and for each old position that is left the one where it now stands first.
    """
    if length <= len(told):
        spare = [fact for fact in range(len(told)) if fact not in needed]
        chosen = [spare[i] for i in chance.choose(len(spare), length - len(needed))]
        kept = sorted([*needed, *chosen])
        return tuple(told[fact] for fact in kept), {fact: at for at, fact in enumerate(kept)}
    first = [0, *(1 + i for i in chance.choose(length - 1, len(told) - 1))]
    statements: list[str] = []
    new = 0
    for at in range(length):
        if new < len(first) and first[new] == at:
            statements.append(told[new])
            new += 1
        else:
            statements.append(told[chance.below(new)])
    return tuple(statements), dict(enumerate(first))


DEDUCTION = Kind(_tell_deduction, lambda dials: check_length(dials, 2))
"""Task 15: an animal's kind, and what that kind is afraid of."""

INDUCTION = Kind(_tell_induction, lambda dials: check_length(dials, 3))
"""Task 16: an animal's kind, another of that kind, and its colour."""
