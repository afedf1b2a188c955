"""Kill a process that changes a store at random moments, and compare what it has acknowledged.

The argument is a job in JSON: kills, seed, folder. A round is a line of JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.store_crash.workload import DIM, Difference, Model, draw
from memhop.errors import MemhopError
from memhop.storage.store import Store

_SECONDS = 0.15  # in which the process is killed
_EACH_DTYPE = (torch.float32, torch.int8)


class Round(NamedTuple):
    """What came of a kill.

    Attributes:
        in_flight: the method that was running, or "" between two.
        is_in: whether the change that was running is in the store.
        lost, wrong: rows, as in `Difference`.
        acknowledged: changes since the last kill.
        error: of opening or reading the store.
    """

    in_flight: str
    is_in: bool
    lost: int
    wrong: int
    acknowledged: int
    error: str = ""


def kill_rounds(folder: Path, kills: int, seed: int) -> Iterator[Round]:
    """Change a store in a child process, kill it, compare; again and again with the same store."""
    rng = random.Random(seed)
    model = Model(_EACH_DTYPE[seed % 2])
    Store(folder / "store", DIM, model.dtype).close()
    number = 0
    for _ in range(kills):
        begun, done = _killed_after(rng.random() * _SECONDS, folder / "store", model, seed, number)
        for change in range(number, done):
            model.apply(draw(model, seed, change))
        found, is_in = _compare(folder / "store", model, seed, done if begun > done else None)
        flying = draw(model, seed, done) if begun > done else None
        if isinstance(found, str):
            yield Round(flying.method if flying else "", False, len(model.live), 0, 0, found)
            return
        yield Round(flying.method if flying else "", is_in, *found, done - number)
        if is_in and flying:
            model.apply(flying)
        number = done + is_in


def _killed_after(
    seconds: float, path: Path, model: Model, seed: int, number: int
) -> tuple[int, int]:
    """Return how many changes a child had begun and acknowledged when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.close(reading)
            _change(path, model, seed, number, writing)
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as acknowledgements:
        first = acknowledgements.readline()  # the store is open
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        lines = acknowledgements.read().split()
    _, status = os.waitpid(child, 0)
    if not first or not os.WIFSIGNALED(status):
        raise MemhopError("benchmark crash: the child process failed")
    return number + lines.count(b"begun"), number + lines.count(b"done")


def _change(path: Path, model: Model, seed: int, number: int, acknowledgements: int) -> None:
    store = Store(path)
    os.write(acknowledgements, b"open\n")
    while True:
        change = draw(model, seed, number)
        os.write(acknowledgements, b"begun\n")
        change.apply(store)
        os.write(acknowledgements, b"done\n")
        model.apply(change)
        number += 1


def _compare(
    path: Path, model: Model, seed: int, flying: int | None
) -> tuple[Difference | str, bool]:
    """Open the store again; return its difference, and whether the running change is in it."""
    try:
        with Store(path) as store:
            found = model.difference(store)
            if found == (0, 0) or flying is None:
                return found, False
            with_change = model.copy()
            with_change.apply(draw(model, seed, flying))
            other = with_change.difference(store)
            return (other, True) if other < found else (found, False)
    except MemhopError as error:
        return str(error), False


def main(job: dict[str, Any]) -> None:
    """Print each round."""
    torch.set_num_threads(1)  # the child has no other thread of its parent
    for done in kill_rounds(Path(job["folder"]), job["kills"], job["seed"]):
        print(json.dumps(done._asdict()), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
