"""Take measures of the hop benchmark in a fresh process.

The argument is a job in JSON. Prints JSON lines: {"begin": TEXT} before each measurement,
{"row": ROW}, {"measure": NAME} after each measure, or {"error": TEXT}.
"""

import gc
import json
import sys
from typing import Any

import torch

from benchmarks.hop.cases import Setting
from benchmarks.hop.choice import choice
from benchmarks.hop.memory import memory, scaling_memory
from benchmarks.hop.speed import bars, bound, cuda, others, scaling_time, small
from memhop.errors import MemhopError
from memhop.reproduce.record import provenance

_MEASURES = (bars, bound, small, others, memory, choice, scaling_time, scaling_memory, cuda)
MEASURES = {measure.__name__.replace("_", "-"): measure for measure in _MEASURES}


def main(job: dict[str, Any]) -> None:
    """Take the measures of a job one after the other."""
    torch.set_num_threads(job["threads"])
    gc.freeze()  # the collector need not scan the imports
    where = provenance()
    if job["device"] == "cuda":
        where["device"] = torch.cuda.get_device_name()
    for measure in job["measures"]:
        name = measure if job["process"] == 1 else f"{measure} {job['process']}"

        def on_begin(text: str, name: str = name) -> None:
            send(begin=f"{name}: {text}")

        setting = Setting(job["device"], job["tiny"], job["process"], on_begin)
        for row in MEASURES[measure](setting):
            send(row={column: rounded(value) for column, value in row.items()} | where)
        send(measure=measure)
    gc.unfreeze()  # otherwise libraries report leaks at exit


def rounded(value: Any) -> Any:
    """Return a float with six digits, more than a clock has."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def send(**line: Any) -> None:
    """Print a line for the parent process."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except MemhopError as error:
        send(error=str(error))
    except KeyboardInterrupt:
        sys.exit(130)
