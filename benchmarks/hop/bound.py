"""What share of the speed at which memory can be read does a hop reach?

Asked of memories larger than the last cache, so that every hop must read every byte again: in a
row, and by random rows of a bank; and in dtypes that take fewer bytes.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.hop.cases import Case, make
from benchmarks.hop.check import Errors, check
from benchmarks.hop.clock import Timed, reading, timed
from benchmarks.hop.forms import float64_reference, path
from benchmarks.hop.rows import Setting, row
from benchmarks.hop.speed import interleaved_of

IN_A_ROW, RANDOM_ROWS = 0.7, 0.3  # shares of the read speed to be reached
TIMES_FLOAT32 = {"float32": None, "bfloat16": 1.4, "int8": 1.8}
TIMES_CACHE = 4
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN_CACHE = 32 * 2**20
ROW_BYTES = 128 * 4


def bound(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time float32 with the smaller dtypes and with a sum, for each way to hold the memory."""
    rows = 640 if setting.tiny else TIMES_CACHE * last_cache() // ROW_BYTES // 64 * 64
    one, many = Case(1, rows), Case(64, rows // 64)
    bank = many._replace(held="bank", bank_rows=rows)
    for case, share in ((one, IN_A_ROW), (many, IN_A_ROW), (bank, RANDOM_ROWS)):
        dtypes = ["float32"] if case is bank else list(TIMES_FLOAT32)
        yield from of_storages(case, dtypes, share, setting)


def of_storages(
    case: Case, dtypes: list[str], share: float, setting: Setting
) -> Iterator[dict[str, Any]]:
    """Rows of one memory in several dtypes; ``bar`` is a share, or times of float32."""
    entrants: list[Timed] = []
    errors: dict[str, Errors] = {}
    for dtype in dtypes:
        one = case._replace(dtype=dtype)
        setting.begin(one.name)
        inputs = make(one, setting.device)
        candidate = path("auto")(inputs)
        errors[dtype] = check([float64_reference(inputs, torch.float32), candidate], inputs)[1]
        entrants.append(timed(candidate, gradients=False)._replace(form=dtype))
        if dtype == "float32":
            entrants.append(reading(inputs.tensor))
    times = interleaved_of(entrants, False, setting)
    speed = case.bytes_held / times["sum"].seconds
    for dtype in dtypes:
        yield row(
            "bound", case._replace(dtype=dtype), "auto", setting, **times[dtype]._asdict(),
            error=errors[dtype].result, read_speed=speed, bar=TIMES_FLOAT32[dtype] or share,
        )  # fmt: skip


def last_cache() -> int:
    """The bytes of the last cache of the first core, where the system tells them.

    >>> last_cache() > 0
    True
    """
    sizes = [UNKNOWN_CACHE]
    found = CACHES.glob("index*/size")
    with suppress(OSError, ValueError):
        sizes = [int(file.read_text().strip().removesuffix("K")) * 1024 for file in found] or sizes
        sizes.append(os.sysconf("SC_LEVEL3_CACHE_SIZE"))
    return max(sizes)
