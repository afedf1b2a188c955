"""Take measures of the knowledge benchmark in a fresh process.

The argument is a job in JSON: measures, threads, tiny, and the folder of facts and model. For the
output see ``benchmarks.hop.child``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.hop.child import rounded, send
from benchmarks.knowledge.answers import answers, load
from benchmarks.knowledge.reads import reads
from memhop.errors import MemhopError
from memhop.reproduce.record import provenance

MEASURES = {measure.__name__: measure for measure in (load, answers, reads)}


def main(job: dict[str, Any]) -> None:
    """Take the measures of a job one after the other."""
    torch.set_num_threads(job["threads"])
    where = provenance()
    for name in job["measures"]:
        send(begin=name)
        for row in MEASURES[name](Path(job["folder"]), job["tiny"]):
            send(row={column: rounded(value) for column, value in row.items()} | where)
        send(measure=name)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except MemhopError as error:
        send(error=str(error))
    except KeyboardInterrupt:
        sys.exit(130)
