"""What does a hop reach on a GPU: of its read speed, with more hops, and beside what torch has?"""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.hop.cases import Case, make
from benchmarks.hop.check import check
from benchmarks.hop.clock import timed
from benchmarks.hop.forms import float64_reference, path
from benchmarks.hop.others import beside
from benchmarks.hop.rows import Setting, row
from benchmarks.hop.speed import interleaved_of

READ_SPEED = 0.8  # the share of it to be reached
THREE_HOPS = 1.5  # their time in times of one, no more
LONG = (
    Case(64, 8192, dtype="bfloat16", weights="bfloat16"),
    Case(1, 4_000_000, dtype="bfloat16", weights="bfloat16"),
)
SHORT = Case(4096, 50)


def cuda(setting: Setting) -> Iterator[dict[str, Any]]:
    """Forward of long memories and of many short ones, all forms in turn."""
    long = (LONG[0]._replace(batch=2, slots=64),) if setting.tiny else LONG
    short = SHORT._replace(batch=8) if setting.tiny else SHORT
    for case in (*long, short):
        for found in beside(case, setting, part="cuda"):
            yield found | {"bar": None if case is short else READ_SPEED}
        torch.cuda.empty_cache()
    yield from hops_of(short, setting)


def hops_of(case: Case, setting: Setting) -> Iterator[dict[str, Any]]:
    """One hop and three in turn: all are to take place while a row's memory is on the chip."""
    entrants, errors = [], []
    one, three = case._replace(hops=1), case._replace(hops=3)
    for varied in (one, three):
        inputs = make(varied, setting.device)
        candidate = path("auto")(inputs)
        errors.append(check([float64_reference(inputs, torch.float32), candidate], inputs)[1])
        entrants.append(timed(candidate, False)._replace(form=str(varied.hops)))
    times = interleaved_of(entrants, False, setting)
    for varied, error in zip((one, three), errors, strict=True):
        yield row(
            "cuda-hops", varied, "auto", setting, **times[str(varied.hops)]._asdict(),
            error=error.result, bar=THREE_HOPS,
        )  # fmt: skip
