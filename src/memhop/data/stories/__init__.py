"""Our own generator of stories: a simulated world, and questions about what was told of it.

Written from the descriptions of the tasks in arXiv 1502.05698; the wording and the shape of the
stories follow the released files. ``chance`` holds the seeded draws, ``kind`` what every kind of
story is made by, ``lengths`` how long one is, ``tasks`` all 20 kinds. Where people move: ``words``,
``world`` (what is and what can happen), ``reader`` (what can be known from the statements),
``questions`` asked of that, ``moving`` (a declaration for each kind), ``telling`` (one story). The
others have a world of their own each: ``directions`` and ``shapes`` on a ``plane``, ``times``,
``animals``, ``sizes``, ``motives``.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind, check_range
from memhop.data.stories.tasks import TASKS
from memhop.data.stories.words import PEOPLE, PLACES, THINGS
from memhop.data.story import Story
from memhop.errors import MemhopError

__all__ = ["ENDLESS", "FRESH", "TASKS", "generate", "generate_splits"]

ENDLESS = 2**62  # questions
FRESH = 2**32  # between the seeds of two files, which no --seed reaches
_IN_VAIN = 10_000  # stories told in a row that were all told in another file


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
    hops: int = 2,
) -> Iterator[Story]:
    """Generates stories of a task, 1 to 20, one at a time, until ``questions`` were asked.

    ``statements=(min, max)`` keeps the number of statements before each question in that range and
    draws the length of a story evenly from it; None gives the shape of the released files, which
    differs from task to task. The last story is cut where the questions end.

    ``people`` and ``places`` are how many there are where people move (tasks 1 to 3 and 5 to 14;
    places in 4 and 19 too), ``objects`` how many where people take them (2, 3 and 5 to 8), ``hops``
    the links from the question to the answer in tasks 17 (shapes), 18 (sizes) and 19 (a path). A
    setting that a task does not use (``TASKS[task].uses``) has no meaning there, so that one set
    of settings serves all tasks.

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
    check_range("questions", questions, 1)
    check_range("seed", seed, 0)
    check_range("people", people, 1, len(PEOPLE))
    check_range("places", places, 2, len(PLACES))
    check_range("objects", objects, 1, len(THINGS))
    check_range("hops", hops, 1)
    if reach is not None:
        check_range("reach", reach, 1)
    dials = Dials(
        _first(kind.people, PEOPLE)[:people], _first(kind.places, PLACES)[:places],
        THINGS[:objects], statements, reach, hops,
    )  # fmt: skip
    kind.check(dials)
    # Each task draws from a sequence of its own.
    return _stories(kind, dials, Chance(1000 * seed + task), questions)


def generate_splits(
    task: int, counts: Mapping[str, int], *, seed: int = 0, **dials: Any
) -> dict[str, Iterator[Story]]:
    """Stories for training and test files: no story of one is in another.

    ``counts`` says how many questions each has, ``dials`` are those of `generate`. The files must
    be made in their order: whether a story was told before is known when it is told.

    Raises MemhopError for settings that cannot be met, before the first story; and later, where
    there are not so many different stories.

    >>> splits = generate_splits(4, {"train": 2, "test": 1})
    >>> [len(list(stories)) for stories in splits.values()]
    [2, 1]
    """
    owners: dict[bytes, str] = {}  # by a checksum: all stories together may be too large to keep

    def own(split: str, stories: Iterator[Story], count: int) -> Iterator[Story]:
        in_vain = 0
        while count > 0:
            story = next(stories)
            in_vain += 1
            text = "\n".join(story.lines()).encode()
            if owners.setdefault(blake2b(text, digest_size=16).digest(), split) == split:
                yield _cut(story, count)
                count -= len(story.questions)
                in_vain = 0
            elif in_vain > _IN_VAIN:
                raise MemhopError(f"task {task}: no more stories that are in no other file; "
                                  f"{count} questions of {split} are missing")  # fmt: skip

    found = {}
    for number, (split, count) in enumerate(counts.items()):
        check_range(f"questions of {split}", count, 1)
        endless = generate(task, questions=ENDLESS, seed=seed + number * FRESH, **dials)
        found[split] = own(split, endless, count)
    return found


def _stories(kind: Kind, dials: Dials, chance: Chance, questions: int) -> Iterator[Story]:
    while questions > 0:
        story = _cut(kind.tell(chance, dials), questions)
        questions -= len(story.questions)
        yield story


def _cut(story: Story, questions: int) -> Story:
    """A story with no more questions than that, and nothing told after the last."""
    if len(story.questions) <= questions:
        return story
    asked = story.questions[:questions]
    return Story(story.statements[: asked[-1].after], asked)


def _first(words: tuple[str, ...], every: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*words, *every)))
