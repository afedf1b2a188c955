"""Tasks 15 and 16: what an animal is afraid of, and its colour, inferred from its species."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from memhop.data.stories.task import StorySettings, Task, check_length, draw_length
from memhop.data.story import Question, Story
from memhop.rng import Rng

_PLURALS = {"mouse": "Mice", "sheep": "Sheep", "wolf": "Wolves", "cat": "Cats"}
_AFRAID = tuple(_PLURALS)
_AFRAID_NAMES = ("Gertrude", "Winona", "Emily", "Jessica")

_COLOURED = ("swan", "rhino", "lion", "frog")
_COLOURED_NAMES = ("Lily", "Bernhard", "Brian", "Julius", "Greg")
_COLOURS = ("yellow", "green", "gray", "white")
# How many others of its species the animal of the question may have. Two never occur in the
# released stories, though random species would often give two.
_COMPANIONS = (1, 3, 4)

_QUESTIONS = 4  # per story of deduction


class _Fears:
    """Animals, and what each species is afraid of; an animal comes after the fear of its species.

    Attributes:
        statements: the statements.
        fears: for each species what it is afraid of, and the statement that says so.
        species: for each animal its species, and the statement that says so.
    """

    def __init__(self, rng: Rng) -> None:
        self.statements: list[str] = []
        self.fears: dict[str, tuple[str, int]] = {}
        self.species: dict[str, tuple[str, int]] = {}
        while len(self.fears) < len(_AFRAID) or len(self.species) < len(_AFRAID_NAMES):
            species, name = rng.choice(_AFRAID), rng.choice(_AFRAID_NAMES)
            if species not in self.fears:
                fear = rng.choice([other for other in _AFRAID if other != species])
                self.fears[species] = fear, len(self.statements)
                text = f"{_PLURALS[species]} are afraid of {_PLURALS[fear].lower()}."
                self.statements.append(text)
            elif name not in self.species:
                self.species[name] = species, len(self.statements)
                self.statements.append(f"{name} is a {species}.")

    def fear_of(self, name: str) -> tuple[str, tuple[int, int]]:
        """Return what an animal is afraid of, and the two statements that prove it."""
        species, species_fact = self.species[name]
        fear, fear_fact = self.fears[species]
        return fear, (species_fact, fear_fact)


def _generate_deduction(rng: Rng, settings: StorySettings) -> Story:
    """Return a story of four species with a fear each, four animals, and four questions at the end.

    Longer stories repeat statements, at any position after the first; the supporting facts are the
    first occurrences. Shorter stories omit statements, and ask only about the rest.
    """
    animals = _Fears(rng)
    names = list(animals.species)
    length = draw_length(rng, settings, 2) or len(animals.statements)
    needed = animals.fear_of(rng.choice(names))[1]
    statements, position = _fit_length(rng, animals.statements, needed, length)
    known = [name for name in names if all(fact in position for fact in animals.fear_of(name)[1])]
    questions = []
    for _ in range(_QUESTIONS):
        name = rng.choice(known)
        fear, facts = animals.fear_of(name)
        text = f"What is {name.lower()} afraid of?"
        questions.append(Question(length, text, fear, tuple(position[fact] for fact in facts)))
    return Story(statements, tuple(questions))


class _Animal(NamedTuple):
    """An animal, and the statements of its species and its colour ("" before it has one)."""

    species: str
    species_fact: int
    colour: str = ""
    colour_fact: int = -1


class _Colours:
    """Five animals with their species, four of them with their colours.

    An animal has the last colour of its species, unless another animal of the species came since:
    then it may have any. So as many animals of a species agree as in the released stories.

    Attributes:
        statements: the statements.
        animals: by name, in the order of their first statement.
    """

    def __init__(self, rng: Rng) -> None:
        self.statements: list[str] = []
        self.animals: dict[str, _Animal] = {}
        usual: dict[str, str] = {}
        num_uncoloured = len(_COLOURED_NAMES)
        while num_uncoloured > 1 or len(self.animals) < len(_COLOURED_NAMES):
            name, fact = rng.choice(_COLOURED_NAMES), len(self.statements)
            animal = self.animals.get(name)
            if not animal:
                species = rng.choice(_COLOURED)
                self.animals[name] = _Animal(species, fact)
                self.statements.append(f"{name} is a {species}.")
                usual.pop(species, None)
            elif not animal.colour and num_uncoloured > 1:
                colour = usual.get(animal.species) or rng.choice(_COLOURS)
                self.animals[name] = animal._replace(colour=colour, colour_fact=fact)
                self.statements.append(f"{name} is {colour}.")
                usual[animal.species] = colour
                num_uncoloured -= 1

    def subject(self) -> tuple[str, list[_Animal]]:
        """Return the animal without a colour, and the others of its species, in order."""
        name = next(name for name, animal in self.animals.items() if not animal.colour)
        species = self.animals[name].species
        others = [
            one for key, one in self.animals.items() if one.species == species and key != name
        ]
        return name, others


def _generate_induction(rng: Rng, settings: StorySettings) -> Story:
    """Return a story of five animals, the colours of four, and a question about the fifth.

    If others of its species disagree, the one whose species came last decides, as in every
    released story. (In 7.5% of them they disagree. The last colour is the answer in 92% of these,
    that of most others in 54%.)

    Longer stories repeat statements, at any position after the first; the supporting facts are the
    first occurrences, and the others of the species agree, since repetitions would hide which came
    last. Shorter stories omit what the answer does not need.
    """
    length = draw_length(rng, settings, 3)
    while True:
        animals = _Colours(rng)
        name, others = animals.subject()
        has_repetitions = length is not None and length > len(animals.statements)
        agree = len({other.colour for other in others}) == 1
        if len(others) in _COMPANIONS and (agree or not has_repetitions):
            break
    last = others[-1]
    facts = animals.animals[name].species_fact, last.species_fact, last.colour_fact
    length = length or len(animals.statements)
    statements, position = _fit_length(rng, animals.statements, facts, length)
    text, proof = f"What color is {name}?", tuple(position[fact] for fact in facts)
    return Story(statements, (Question(len(statements), text, last.colour, proof),))


def _fit_length(
    rng: Rng, statements: Sequence[str], needed: Collection[int], length: int
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Omit statements that are not needed, or repeat some, to get ``length`` statements.

    Return them, and the new position of each old one that is left (the first if repeated).
    """
    if length <= len(statements):
        spare = [fact for fact in range(len(statements)) if fact not in needed]
        chosen = [spare[i] for i in rng.combination(len(spare), length - len(needed))]
        kept = sorted([*needed, *chosen])
        return tuple(statements[fact] for fact in kept), {fact: at for at, fact in enumerate(kept)}
    first = [0, *(1 + i for i in rng.combination(length - 1, len(statements) - 1))]
    longer: list[str] = []
    new = 0
    for at in range(length):
        if new < len(first) and first[new] == at:
            longer.append(statements[new])
            new += 1
        else:
            longer.append(statements[rng.randrange(new)])
    return tuple(longer), dict(enumerate(first))


DEDUCTION = Task(_generate_deduction, lambda settings: check_length(settings, 2))
"""Task 15: an animal's species, and what that species is afraid of."""

INDUCTION = Task(_generate_induction, lambda settings: check_length(settings, 3))
"""Task 16: an animal's species, another animal of that species, and its colour."""
