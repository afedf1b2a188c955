"""Our own generator of stories: a simulated world, and questions about what was told of it.

Written from the descriptions of the tasks in arXiv 1502.05698; the wording and the shape of the
stories follow the released files. From the bottom up: ``chance`` (the seeded draws), ``words``,
``world`` (what is and what can happen), ``reader`` (what can be known from the statements),
``tasks`` (a declaration for each kind of story), ``telling`` (one story).
"""

from collections.abc import Iterator

from memhop.data.stories.chance import Chance
from memhop.data.stories.tasks import TASKS, Task
from memhop.data.stories.telling import Cast, tell_at_length, tell_freely
from memhop.data.stories.words import PEOPLE, PLACES, THINGS
from memhop.data.story import Story
from memhop.errors import MemhopError

__all__ = ["TASKS", "generate"]


def generate(
    task: int,
    *,
    questions: int,
    seed: int = 0,
    statements: tuple[int, int] | None = None,
    people: int = 4,
    places: int = 6,
    objects: int = 3,
    reach: int | None = 5,
) -> Iterator[Story]:
    """Generates stories of a task, one at a time, until ``questions`` were asked.

    ``statements=(min, max)`` keeps the number of statements before each question in that range and
    draws the length of a story evenly from it; None gives the shape of the released files. Up to 5
    questions a story; the last story is cut where the questions end.

    ``reach`` is how far back, counted in statements, the last word about the person or thing asked
    for may lie: 5 as in the released files, None for the whole story. (Tasks 2 and 3 need older
    statements besides.)

    The same arguments give the same stories everywhere, and fewer questions the beginning of them.

    Raises MemhopError for settings that cannot be met, before the first story.

    >>> story = next(generate(1, questions=1, seed=3))
    >>> print(*story.lines(), sep="\\n")  # doctest: +NORMALIZE_WHITESPACE
    1 John journeyed to the hallway.
    2 John journeyed to the bedroom.
    3 Where is John? bedroom 2
    """
    if task not in TASKS:
        known = ", ".join(map(str, TASKS))
        raise MemhopError(f"task {task!r} cannot be generated; needed one of {known}")
    kind = TASKS[task]
    _check("questions", questions, 1)
    _check("seed", seed, 0)
    _check("people", people, 1, len(PEOPLE))
    _check("places", places, 2, len(PLACES))
    _check("objects", objects, 1, len(THINGS))
    if statements is not None:
        fewest, most = statements
        _check("statements, at the least", fewest, 1)
        _check("statements, at the most", most, max(fewest, kind.fewest))
        statements = max(fewest, kind.fewest), most
    if reach is not None:
        _check("reach", reach, kind.fewest + 1 if kind.lead else 1)
    cast = Cast(PEOPLE[:people], PLACES[:places], THINGS[:objects], reach)
    # Each task draws from a sequence of its own.
    return _stories(kind, cast, Chance(1000 * seed + task), statements, questions)


def _stories(
    task: Task, cast: Cast, chance: Chance, statements: tuple[int, int] | None, questions: int
) -> Iterator[Story]:
    while questions > 0:
        if statements is None:
            story = tell_freely(task, cast, chance)
        else:
            story = tell_at_length(task, cast, chance, *statements)
        if len(story.questions) > questions:
            asked = story.questions[:questions]
            story = Story(story.statements[: asked[-1].after], asked)
        questions -= len(story.questions)
        yield story


def _check(name: str, came: int, fewest: int, most: int | None = None) -> None:
    if came < fewest or (most is not None and came > most):
        needed = f"at least {fewest}" if most is None else f"{fewest} to {most}"
        raise MemhopError(f"{name}: {came}; needed {needed}")
