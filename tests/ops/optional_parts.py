"""Problems of two hops that leave tables out, or apply ReLU to a share of the units.

A test of a backend computes each of ``problem_of`` against ``problem_oracle``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.problem import Problem, Step
from tests.seeds import pairs, thorough

MEMORY_DIM = 7


class Parts(NamedTuple):
    """Which parts a problem has.

    Attributes:
        left_out: the tables that are the identity: "", "a", "c" or "ac".
        relu: the number of last units with ReLU, of ``MEMORY_DIM``.
        softmax: whether the first hop has it; the second one has not.
    """

    left_out: str
    relu: int
    softmax: bool


SHARES = (0, 2, 4, MEMORY_DIM)  # of 0, 0.3, 0.5 and 1
MEMORIES = ("values", "no values", "bank")


def parts_with(*axes: Sequence[Any]) -> list[Any]:
    """Return all combinations of ``Parts`` and other axes, most of them ``thorough``.

    By default every two choices occur together.
    """
    found = []
    for one in pairs(("", "a", "c", "ac"), SHARES, (True, False), *axes):
        left_out, relu, softmax, *others = getattr(one, "values", one)
        case = (Parts(left_out, relu, softmax), *others)
        found.append(thorough(*case) if hasattr(one, "marks") else case)
    return found


def problem_of(
    parts: Parts, memory: str, *, queries_each: int = 1, dtype: torch.dtype = torch.float64
) -> Problem:
    """Return a problem with biases, temporal tables, H, mask, lengths and a bias of each hop.

    The values of the memories "values" and "bank" have another size than the keys, unless both are
    D because both tables are left out. ``queries_each`` rows share each memory; a bank has one.
    """
    make = torch.Generator().manual_seed(sum(map(ord, memory)) + parts.relu)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=make, dtype=torch.float64).to(dtype) / 2

    rows, slots, d = 6, 5, MEMORY_DIM
    keys = d if "a" in parts.left_out or (memory == "no values" and parts.left_out) else 6
    values = keys if memory == "no values" else d if "c" in parts.left_out else 4
    leading = (9,) if memory == "bank" else (rows // queries_each, slots)
    weights = [normal(d), normal(3, d), normal(d), normal(d, d)]  # a, T, c, H
    steps = []
    for hop, relu in enumerate((parts.relu, MEMORY_DIM - parts.relu)):
        own: list[int] = []
        for name, columns in (("a", keys), ("c", values)):
            own.append(-1 if name in parts.left_out else len(weights))
            weights += [] if name in parts.left_out else [normal(d, columns)]
        transform, softmax = (-1, 3)[hop], int(parts.softmax and hop == 0)
        steps.append(Step(own[0], 0, 1, own[1], 2, 1, transform, relu, softmax))
    bias = normal(rows, 2, slots)
    bias[1, 1, 2] = bias[2, 0] = -torch.inf
    return Problem(
        query=normal(rows, d),
        keys=normal(*leading, keys),
        key_scale=None,
        values=None if memory == "no values" else normal(*leading, values),
        value_scale=None,
        slots=torch.randint(9, (rows, slots), generator=make) if memory == "bank" else None,
        ignored=torch.rand(rows, slots, generator=make) < 0.2,
        lengths=torch.tensor([5, 5, 5, 5, 0, 3]),
        score_bias=bias,
        weights=tuple(weights),
        steps=tuple(steps),
    )
