"""A fresh process that takes measures of ``memhop bench hop`` and prints what it found.

Started by ``hop`` with a job in JSON; prints JSON lines: {"begin": what is next}, {"row": ...},
{"measure": its name} at the end of each, or {"error": why it stopped}.
"""

import gc
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.hop.bound import bound
from benchmarks.hop.choice import choice
from benchmarks.hop.cuda import cuda
from benchmarks.hop.memory import memory
from benchmarks.hop.others import others
from benchmarks.hop.rows import Setting
from benchmarks.hop.scaling import scaling_memory, scaling_time
from benchmarks.hop.speed import bars, small
from memhop.errors import MemhopError
from memhop.reproduce.record import surroundings

MEASURES: dict[str, Callable[[Setting], Iterator[dict[str, Any]]]] = {
    "bars": bars,
    "bound": bound,
    "small": small,
    "others": others,
    "memory": memory,
    "choice": choice,
    "scaling-time": scaling_time,
    "scaling-memory": scaling_memory,
    "cuda": cuda,
}


def main(job: dict[str, Any]) -> None:
    """Take the measures of a job in turn."""
    torch.set_num_threads(job["threads"])
    gc.freeze()  # what is imported stays: collecting garbage need not look at it
    where = surroundings()
    if job["device"] == "cuda":
        where["device"] = torch.cuda.get_device_name()
    for measure in job["measures"]:
        which = measure if job["process"] == 1 else f"{measure} {job['process']}"

        def begin(text: str, which: str = which) -> None:
            tell(begin=f"{which}: {text}")

        setting = Setting(job["device"], job["tiny"], job["process"], begin)
        for row in MEASURES[measure](setting):
            tell(row={name: rounded(value) for name, value in row.items()} | where)
        tell(measure=measure)
    gc.unfreeze()  # else libraries find at the end that something of theirs has leaked


def rounded(value: Any) -> Any:
    """Six digits are more than a clock gives."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def tell(**line: Any) -> None:
    """A line to the process that listens."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except MemhopError as error:
        tell(error=str(error))
    except KeyboardInterrupt:
        sys.exit(130)
