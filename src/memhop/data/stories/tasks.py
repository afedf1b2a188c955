"""All kinds of story by their released numbers."""

from functools import partial

from memhop.data.stories.animals import DEDUCTION, INDUCTION
from memhop.data.stories.directions import PATHS, RELATIONS
from memhop.data.stories.kind import Kind
from memhop.data.stories.motives import MOTIVES
from memhop.data.stories.moving import MOVING
from memhop.data.stories.shapes import POSITIONS
from memhop.data.stories.sizes import SIZES
from memhop.data.stories.telling import check, tell
from memhop.data.stories.times import TIMES_OF_DAY
from memhop.data.stories.world import TAKE

_PEOPLE = {5: ("Mary", "Fred", "Bill", "Jeff"), 10: ("Fred", "Mary", "Bill", "Julie")}
_PLACES = {10: ("school", "park", "office", "kitchen", "bedroom", "cinema")}

_CAST, _OBJECTS = frozenset({"people", "places"}), frozenset({"objects"})
_MOVING = {
    number: Kind(
        partial(tell, task),
        partial(check, task),
        _CAST | _OBJECTS if TAKE in task.actions else _CAST,
        _PEOPLE.get(number, ()),
        _PLACES.get(number, ()),
    )
    for number, task in MOVING.items()
}
_OTHERS = {
    4: RELATIONS, 14: TIMES_OF_DAY, 15: DEDUCTION, 16: INDUCTION, 17: POSITIONS, 18: SIZES,
    19: PATHS, 20: MOTIVES,
}  # fmt: skip

TASKS: dict[int, Kind] = dict(sorted((_MOVING | _OTHERS).items()))
