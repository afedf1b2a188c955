"""Generate stories: simulate a world, describe it in statements, ask about the statements.

Written from the descriptions of the tasks in arXiv 1502.05698; the wording and the shape of the
stories follow the released files. `task` has the interface of a task and the settings. In `moving`
(tasks 1 to 3 and 5 to 13) people move through the `world`; `reader` infers from the statements what
`questions` can ask about. The other tasks have their own worlds: `directions` and `shapes` on a
`plane`, `times`, `animals`, `sizes`, `motives`.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from memhop.data.stories.animals import DEDUCTION, INDUCTION
from memhop.data.stories.directions import PATHS, RELATIONS
from memhop.data.stories.motives import MOTIVES
from memhop.data.stories.moving import MOVING
from memhop.data.stories.shapes import POSITIONS
from memhop.data.stories.sizes import SIZES
from memhop.data.stories.task import PEOPLE, PLACES, THINGS, StorySettings, Task, check_range
from memhop.data.stories.times import TIMES_OF_DAY
from memhop.data.story import Story
from memhop.errors import MemhopError
from memhop.rng import Rng

__all__ = ["TASKS", "TEST_SEED_OFFSET", "generate", "generate_splits"]

_UNLIMITED = 2**62  # questions
TEST_SEED_OFFSET = 2**32  # between the seeds of two splits; larger than any --seed
_MAX_DUPLICATES = 10_000  # consecutive stories that another split has already

_OTHERS = {4: RELATIONS, 14: TIMES_OF_DAY, 15: DEDUCTION, 16: INDUCTION, 17: POSITIONS, 18: SIZES}
TASKS: dict[int, Task] = dict(sorted((MOVING | _OTHERS | {19: PATHS, 20: MOTIVES}).items()))
"""The tasks by their released numbers."""


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
    """Generate stories of a task, 1 to 20, one at a time, until they have ``questions`` questions.

    The same arguments give the same stories on every machine; with fewer questions, the first of
    these. The last story is cut after its last question.

    Args:
        task: its number, 1 to 20.
        questions: the total number of questions.
        seed: seed of the random draws.
        statements: minimum and maximum number of statements before a question; the length of a
            story is drawn uniformly from this range. None gives the shape of the released files,
            which differs from task to task.
        people, places: how many there are in tasks in which people move (1 to 3, 5 to 14); places
            also in tasks 4 and 19.
        objects: how many objects there are in tasks in which people take them (2, 3, 5 to 8).
        reach: how many statements back the last mention of the subject of a question may be: 5 as
            in the released files, None for the whole story. Tasks 2 and 3 need older statements
            in addition.
        hops: number of links from the question to the answer in tasks 17 (shapes), 18 (sizes) and
            19 (a path).

    A task ignores settings that it does not use (``TASKS[task].uses``), so that one set of
    settings works for all tasks.

    Raises:
        MemhopError: the settings cannot be satisfied; raised before the first story.

    >>> story = next(generate(1, questions=1, seed=3))
    >>> print(*story.lines(), sep="\\n")  # doctest: +NORMALIZE_WHITESPACE
    1 John journeyed to the hallway.
    2 John journeyed to the bedroom.
    3 Where is John? bedroom 2
    """
    if task not in TASKS:
        raise MemhopError(f"task: expected one of {', '.join(map(str, TASKS))}, got {task!r}")
    check_range("questions", questions, 1)
    check_range("seed", seed, 0)
    check_range("people", people, 1, len(PEOPLE))
    check_range("places", places, 2, len(PLACES))
    check_range("objects", objects, 1, len(THINGS))
    check_range("hops", hops, 1)
    if reach is not None:
        check_range("reach", reach, 1)
    settings = StorySettings(
        _first(TASKS[task].people, PEOPLE)[:people], _first(TASKS[task].places, PLACES)[:places],
        THINGS[:objects], statements, reach, hops,
    )  # fmt: skip
    TASKS[task].check(settings)
    return _stories(TASKS[task], settings, Rng(1000 * seed + task), questions)


def generate_splits(
    task: int, counts: Mapping[str, int], *, seed: int = 0, **settings: Any
) -> dict[str, Iterator[Story]]:
    """Generate training and test splits that have no story in common.

    Args:
        task: its number, 1 to 20.
        counts: the number of questions of each split. Read the splits in this order: a story
            belongs to the split that generates it first.
        seed: seed of the random draws.
        settings: as for `generate`.

    Raises:
        MemhopError: the settings cannot be satisfied (raised before the first story), or there
            are not enough different stories (raised while they are generated).

    >>> splits = generate_splits(4, {"train": 2, "test": 1})
    >>> [len(list(stories)) for stories in splits.values()]
    [2, 1]
    """
    owners: dict[bytes, str] = {}  # by checksum: the stories themselves may not fit into memory

    def unique(split: str, stories: Iterator[Story], count: int) -> Iterator[Story]:
        num_duplicates = 0
        while count > 0:
            story = next(stories)
            num_duplicates += 1
            text = "\n".join(story.lines()).encode()
            if owners.setdefault(blake2b(text, digest_size=16).digest(), split) == split:
                yield _cut(story, count)
                count -= len(story.questions)
                num_duplicates = 0
            elif num_duplicates > _MAX_DUPLICATES:
                raise MemhopError(f"task {task}: too few different stories: "
                                  f"{count} questions of {split} are missing")  # fmt: skip

    splits = {}
    for number, (split, count) in enumerate(counts.items()):
        check_range(f"questions of {split}", count, 1)
        split_seed = seed + number * TEST_SEED_OFFSET
        stories = generate(task, questions=_UNLIMITED, seed=split_seed, **settings)
        splits[split] = unique(split, stories, count)
    return splits


def _stories(task: Task, settings: StorySettings, rng: Rng, questions: int) -> Iterator[Story]:
    while questions > 0:
        story = _cut(task.generate(rng, settings), questions)
        questions -= len(story.questions)
        yield story


def _cut(story: Story, questions: int) -> Story:
    """Keep the first ``questions`` questions of a story, and the statements before them."""
    if len(story.questions) <= questions:
        return story
    kept = story.questions[:questions]
    return Story(story.statements[: kept[-1].after], kept)


def _first(words: tuple[str, ...], every: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*words, *every)))
