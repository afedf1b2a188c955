"""Cut recorded calls at random points, drop what was not synced, and open the store."""

import random
import tempfile
from collections.abc import Iterator
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.store_crash.child import STORE, model_after
from benchmarks.store_crash.disk import after_power_failure
from benchmarks.store_crash.recording import Call, Replay
from benchmarks.store_crash.workload import Difference, Model, draw
from memhop.errors import MemhopError
from memhop.storage.folder import DATABASE
from memhop.storage.store import Store

_RECOVERIES = 3  # one of so many power failures
_CALLS_OF_OPENING = 30


class Outcome(NamedTuple):
    """What came of a power failure.

    Attributes:
        call: the number of the call before which the power failed.
        in_flight: the method that was running, or "".
        lost, wrong: rows, as in `Difference`.
        error: of opening or reading the store.
    """

    call: int
    in_flight: str
    lost: int
    wrong: int
    error: str = ""


def replay(
    recorded: list[list[Call]], folder: Path, seed: int, cuts: int, cut_seed: int
) -> Iterator[Outcome]:
    """Yield the outcome of each power failure."""
    rng = random.Random(f"replay {seed} {cut_seed}")
    ends = list(accumulate(map(len, recorded)))
    calls = list(chain.from_iterable(recorded))
    begins = [0, *(place for place, call in enumerate(calls) if is_begin(call)), len(calls)]
    changes = list(pairwise(begins))
    for number in range(cuts):
        first, last = rng.choice(changes)  # a compaction has more calls than the others
        cut = rng.randint(first + 1, last)
        if number % _RECOVERIES == 0 and len(ends) > 1:  # while a store is opened after a kill
            cut = rng.choice(ends[:-1]) + rng.randrange(_CALLS_OF_OPENING)
        done = Replay(folder / "killed")
        acknowledged = apply_until(done, recorded, cut)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            after_power_failure(done.disk.root, Path(name, "disk"), rng)
            yield Outcome(cut, *_compare(Path(name, "disk", STORE), acknowledged, seed))


def is_begin(call: Call) -> bool:
    """Return whether a call writes down that a change begins."""
    content = call.arguments[1] if call.name == "write" else b""
    return isinstance(content, bytes) and content.startswith(b"begun ")


def apply_until(done: Replay, recorded: list[list[Call]], cut: int) -> list[str]:
    """Apply the first calls of all processes; return the acknowledgements until then."""
    lines = b""
    for calls in recorded:
        for call in calls[:cut]:
            lines += done.apply(call)
        cut -= len(calls)
        if cut <= 0:
            break
        done.end_process()
    return lines.decode().splitlines()


def _compare(path: Path, acknowledged: list[str], seed: int) -> tuple[str, int, int, str]:
    model, number = model_after(acknowledged, seed)
    last = acknowledged[-1] if acknowledged else ""
    flying = draw(model, seed, number) if last.startswith("begun") else None
    method = flying.method if flying else ""
    if not acknowledged and not (path / DATABASE).exists():
        return "create", 0, 0, ""
    try:
        with Store(path) as store:
            found, right = model.difference(store), model
            if found != (0, 0) and flying is not None:
                with_change = model.copy()
                with_change.apply(flying)
                found, right = min(
                    (found, model), (with_change.difference(store), with_change), key=_difference
                )
            if found == (0, 0):  # the store that is left can be changed
                change = draw(right, seed + 1, 0)
                change.apply(store)
                right.apply(change)
                found = right.difference(store)
            return method, *found, ""
    except MemhopError as error:
        return method, len(model.live), 0, str(error)


def _difference(found: tuple[Difference, Model]) -> Difference:
    return found[0]
