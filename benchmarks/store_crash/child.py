"""Change a store, and write down what it has acknowledged: the process that is recorded.

The argument is a job in JSON: folder, seed, changes.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.store_crash.recording import ACKNOWLEDGEMENTS
from benchmarks.store_crash.workload import DIM, Model, draw
from memhop.errors import MemhopError
from memhop.storage.store import Store

STORE = "new/below/store"  # the parents are created with it


def main(job: dict[str, Any]) -> None:
    """Continue where the last process was killed."""
    folder, seed = Path(job["folder"]), job["seed"]
    path = folder / ACKNOWLEDGEMENTS
    lines = path.read_text().splitlines() if path.exists() else []
    model, number = model_after(lines, seed)
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Store(folder / STORE, DIM, model.dtype) as store:
        if model.difference(store) != (0, 0):
            model.apply(draw(model, seed, number))  # the change during which the process ended
            number += 1
            if model.difference(store) != (0, 0):
                raise MemhopError(f"the store differs from its model before change {number}")
        os.write(out, f"open {number}\n".encode())
        for each in range(number, number + job["changes"]):
            change = draw(model, seed, each)
            os.write(out, f"begun {each}\n".encode())
            change.apply(store)
            os.write(out, f"done {each + 1}\n".encode())
            model.apply(change)


def model_after(lines: list[str], seed: int) -> tuple[Model, int]:
    """Return the model after all acknowledged changes, and their number."""
    model = Model((torch.float32, torch.int8)[seed % 2])
    numbers = [int(line.split()[1]) for line in lines if not line.startswith("begun")]
    number = max(numbers, default=0)
    for each in range(number):
        model.apply(draw(model, seed, each))
    return model, number


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(json.loads(sys.argv[1]))
