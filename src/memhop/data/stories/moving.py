"""The tasks in which people move: a declaration for each, and the generator of their stories."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from memhop.data.stories import questions
from memhop.data.stories.reader import Reader
from memhop.data.stories.task import (
    GOING,
    TAKING,
    WOMEN,
    StorySettings,
    Task,
    check_length,
    check_range,
    draw_length,
)
from memhop.data.stories.world import (
    BE,
    BE_EITHER,
    BE_GONE,
    GIVE,
    GO,
    GO_ON,
    GO_ON_TOGETHER,
    GO_TOGETHER,
    PUT,
    TAKE,
    Action,
    Event,
    World,
)
from memhop.data.story import Question, Story
from memhop.rng import Rng

_GAP = 2  # statements before each attempt to ask a question
_QUESTIONS = 5  # per story

# Attempts to generate a story of a given length that ends in a question, before its last events
# are chosen to allow one. Such stories end in the supporting facts, so they should be rare.
_ATTEMPTS = 50


@dataclass(frozen=True)
class MovingTask:
    """The declaration of a task.

    Attributes:
        actions: what people do, each equally likely if possible; an action that is listed twice
            is twice as likely.
        phrases: the wordings of each action, each equally likely; ``{0}`` is the person, ``{1}``
            the place or thing, ``{2}`` the other person, thing or place, ``{3}`` she or he.
        ask: return a question about the subject of an event, or None if the reader cannot answer
            one.
        follow: if set, every second event is this action by the person of the event before.
        min_statements: the smallest number of statements before a question.
        closing: events that allow a question after ``num_closing`` of them, or after
            ``min_statements`` if everybody starts at the place of a thing; then after each event.
        num_closing: 0 if a question is always possible.
        min_reach: how old a statement a question may need.
        min_people, min_places: how many are needed for anything to happen.
    """

    actions: tuple[Action, ...]
    phrases: Mapping[str, tuple[str, ...]]
    ask: Callable[[Reader, Event, Rng], Question | None]
    follow: Action | None = None
    min_statements: int = 1
    closing: Callable[[World], Iterator[Event]] | None = None
    num_closing: int = 0
    min_reach: int = 1
    min_people: int = 1
    min_places: int = 2

    def generate(self, rng: Rng, settings: StorySettings) -> Story:
        """Return a story in the released shape, or of a length from ``settings.statements``."""
        length = draw_length(rng, settings, self.min_statements)
        if length:
            return _story_of_length(self, rng, settings, length)
        story = _StoryBuilder(self, rng, settings)
        while len(story.questions) < _QUESTIONS:
            for _ in range(_GAP):
                story.add_statement()
            story.add_question()
        return story.build()

    def check(self, settings: StorySettings) -> None:
        """Raise MemhopError for settings under which nothing can happen."""
        check_range("people", len(settings.people), self.min_people)
        check_range("places", len(settings.places), self.min_places)
        check_length(settings, self.min_statements)
        if settings.reach is not None:
            check_range("reach", settings.reach, self.min_reach)


class _StoryBuilder:
    """A story under construction.

    With ``skip_follow`` nothing follows the first event in a task in which every second event
    follows the one before.
    """

    def __init__(
        self, task: MovingTask, rng: Rng, settings: StorySettings, skip_follow: bool = False
    ) -> None:
        self.task, self.rng, self.reach = task, rng, settings.reach
        self.skip_follow = skip_follow
        self.world = World(settings.people, settings.places, settings.things, rng)
        self.reader = Reader(settings.places)
        self.statements: list[str] = []
        self.questions: list[Question] = []

    def build(self) -> Story:
        return Story(tuple(self.statements), tuple(self.questions))

    def add_statement(self, event: Event | None = None) -> None:
        """Apply an event, a random one if None, and add its statement."""
        event = self.world.apply(event) if event else self._random_event()
        self.reader.read(event)
        phrase = self.rng.choice(self.task.phrases[event.action])
        pronoun = "she" if event.person in WOMEN else "he"
        self.statements.append(phrase.format(event.person, event.target, event.other, pronoun))

    def _random_event(self) -> Event:
        events, follow = self.reader.events, self.task.follow
        if not follow or not events or (len(events) - self.skip_follow) % 2 == 0:
            return self.world.random_event(self.task.actions)
        _, person, here, other = events[-1]
        place = self.rng.choice([place for place in self.world.places if place != here])
        return self.world.apply(Event(follow.name, person, place, other))

    def add_question(self) -> bool:
        """Add a question about a recent act; return False if none can be answered."""
        acts = self.reader.acts
        recent = acts if self.reach is None else acts[-self.reach :]
        answerable = [q for act in recent if (q := self.task.ask(self.reader, act, self.rng))]
        if answerable:
            self.questions.append(self.rng.choice(answerable))
        return bool(answerable)

    def fill(self, length: int, first: int, num_closing: int = 0) -> bool:
        """Add ``length`` statements, the last ``num_closing`` from the closing events of the task.

        Questions come after statement ``first`` at the earliest. Return whether a question comes
        after the last statement.
        """
        closing = self.task.closing(self.world) if self.task.closing else None
        is_asked = False
        for count in range(1, length + 1):
            self.add_statement(next(closing) if closing and count > length - num_closing else None)
            if count >= first and (length - count) % _GAP == 0:
                is_asked = self.add_question()
        return is_asked


def _story_of_length(task: MovingTask, rng: Rng, settings: StorySettings, length: int) -> Story:
    """Return a story of ``length`` statements that ends in a question."""
    assert settings.statements is not None
    first = max(settings.statements[0], task.min_statements, length - _GAP * (_QUESTIONS - 1))
    for _ in range(_ATTEMPTS):
        story = _StoryBuilder(task, rng, settings, skip_follow=length % 2 == 1)
        if story.fill(length, first):
            return story.build()
    story = _StoryBuilder(task, rng, settings, skip_follow=length % 2 == 1)
    if length < task.num_closing:
        story.world.gather()
    story.fill(length, first, task.num_closing)
    return story.build()


def _go_to_a_thing(world: World) -> Iterator[Event]:
    """Move somebody to a thing that nobody holds, unless somebody is there."""
    if not any(TAKE.targets(world, person) for person in world.people):
        place = world.rng.choice(list(world.thing_at.values()))
        yield Event("go", world.rng.choice(world.people), place)


def _take_any(world: World) -> Iterator[Event]:
    """Let somebody take a thing, unless somebody holds one."""
    if not world.held_by:
        yield from _go_to_a_thing(world)
        able = [person for person in world.people if TAKE.targets(world, person)]
        person = world.rng.choice(able)
        yield Event("take", person, *world.rng.choice(TAKE.targets(world, person)))


def _carry(world: World) -> Iterator[Event]:
    """Let somebody take a thing, after at most one step, and carry it from place to place."""
    rng = world.rng
    if world.held_by:
        thing, person = rng.choice(list(world.held_by.items()))
        yield Event("put", person, thing)
    else:
        able = [person for person in world.people if TAKE.targets(world, person)]
        person = rng.choice(able or world.people)
        if not able:
            yield Event("go", person, rng.choice(list(world.thing_at.values())))
        (thing,) = rng.choice(TAKE.targets(world, person))
    yield Event("take", person, thing)
    while True:
        yield Event("go", person, *rng.choice(GO.targets(world, person)))


def _give_to_and_fro(world: World) -> Iterator[Event]:
    """Let two people give a thing to each other repeatedly."""
    yield from _take_any(world)
    thing, giver = world.rng.choice(list(world.held_by.items()))
    receiver = world.rng.choice([person for person in world.people if person != giver])
    if world.person_at[receiver] != world.person_at[giver]:
        yield Event("go", receiver, world.person_at[giver])
    while True:
        yield Event("give", giver, thing, receiver)
        giver, receiver = receiver, giver


def _put_and_take(world: World) -> Iterator[Event]:
    """Let somebody put down and take a thing repeatedly."""
    yield from _take_any(world)
    thing, person = world.rng.choice(list(world.held_by.items()))
    while True:
        yield Event("put", person, thing)
        yield Event("take", person, thing)


def _walk(world: World) -> Iterator[Event]:
    while True:
        person = world.rng.choice(world.people)
        yield Event("go", person, *world.rng.choice(GO.targets(world, person)))


def _phrases(verbs: tuple[str, ...], *endings: str) -> tuple[str, ...]:
    return tuple(f"{{0}} {verb} the {{1}}{ending}." for ending in endings for verb in verbs)


def _follow_phrases(pronoun: str) -> tuple[str, ...]:
    starts = ("After that", "Afterwards", "Following that", "Then")
    return tuple(f"{start} {pronoun} {verb} the {{1}}." for start in starts for verb in GOING)


_GOING = {"go": _phrases(GOING, "")}
_GOING_TOGETHER = {"go together": tuple(f"{{0}} and {{2}} {verb} the {{1}}." for verb in GOING)}
# In the released stories one taking or putting in five says "there"; outside task 3 each taking.
_ONE_IN_FIVE = ("", "", "", "", " there")
_HANDLING = {
    **_GOING,
    "take": _phrases(TAKING, " there"),
    "put": _phrases(("dropped", "discarded", "left", "put down"), *_ONE_IN_FIVE),
}
_GIVING = {
    "give": tuple(f"{{0}} {verb} the {{1}} to {{2}}." for verb in ("gave", "handed", "passed"))
}
_BEING = {**_GOING, "be": ("{0} is in the {1}.",)}
_MOVE_AND_HANDLE = (GO, TAKE, PUT)
# These weights give each action, and gifts after gifts, their shares in the released stories.
_MOSTLY_GIVE = (*[GO] * 3, *[TAKE] * 4, *[PUT] * 4, *[GIVE] * 14)

_DECLARATIONS = {
    1: MovingTask((GO,), _GOING, questions.where_is_person),
    2: MovingTask(
        _MOVE_AND_HANDLE, _HANDLING, questions.where_is_thing,
        min_statements=2, closing=_carry, num_closing=3, min_reach=3,
    ),
    3: MovingTask(
        _MOVE_AND_HANDLE, _HANDLING | {"take": _phrases(TAKING, *_ONE_IN_FIVE)},
        questions.where_was_thing, min_statements=3, closing=_carry, num_closing=4, min_reach=4,
    ),
    5: MovingTask(
        _MOSTLY_GIVE, _HANDLING | _GIVING, questions.who_gave_what,
        min_statements=2, closing=_give_to_and_fro, num_closing=4, min_people=2,
    ),
    6: MovingTask(
        _MOVE_AND_HANDLE, _HANDLING, questions.is_person_there, closing=_walk, num_closing=1
    ),
    7: MovingTask(
        _MOSTLY_GIVE, _HANDLING | _GIVING, questions.how_many, closing=_put_and_take, num_closing=2
    ),
    8: MovingTask(
        _MOVE_AND_HANDLE, _HANDLING, questions.what_is_held, closing=_put_and_take, num_closing=2
    ),
    9: MovingTask(
        (GO, GO, BE, BE_GONE),
        _BEING | {"be gone": ("{0} is not in the {1}.", "{0} is no longer in the {1}.")},
        questions.is_person_there_or_gone,
    ),
    10: MovingTask(
        (GO, GO, BE, BE_EITHER),
        _BEING | {"be either": ("{0} is either in the {1} or the {2}.",
                                "{0} is either in the {2} or the {1}.")},
        questions.is_person_maybe_there,
    ),
    11: MovingTask(
        (GO,), _GOING | {"go on": _follow_phrases("{3}")}, questions.where_is_follower,
        follow=GO_ON, min_statements=2,
    ),
    12: MovingTask(
        (GO_TOGETHER,), _GOING_TOGETHER, questions.where_is_person, min_people=2, min_places=3
    ),
    13: MovingTask(
        (GO_TOGETHER,), _GOING_TOGETHER | {"go on together": _follow_phrases("they")},
        questions.where_is_follower,
        follow=GO_ON_TOGETHER, min_statements=2, min_people=2, min_places=3,
    ),
}  # fmt: skip
_PEOPLE = {5: ("Mary", "Fred", "Bill", "Jeff"), 10: ("Fred", "Mary", "Bill", "Julie")}
_PLACES = {10: ("school", "park", "office", "kitchen", "bedroom", "cinema")}

MOVING: dict[int, Task] = {
    number: Task(
        task.generate,
        task.check,
        frozenset({"people", "places", *(["objects"] if TAKE in task.actions else [])}),
        _PEOPLE.get(number, ()),
        _PLACES.get(number, ()),
    )
    for number, task in _DECLARATIONS.items()
}
"""The tasks by their released numbers."""
