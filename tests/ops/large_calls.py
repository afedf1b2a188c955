"""Calls of ``ops.multi_hop`` with enough memory that several threads share the work."""

import sys
import traceback
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from memhop.ops import IMPLEMENTATIONS, Hop, Table, multi_hop

DIM = 32
FORMS = ("rows", "one row", "shared", "bank")


def each_word(check: Callable[[str], None]) -> None:
    """Call a check with every word for ``impl``, and only then fail."""
    failed = []
    for impl in IMPLEMENTATIONS:
        print(impl, flush=True)
        try:
            check(impl)
        except AssertionError:
            failed.append(impl)
            traceback.print_exc()
    if failed:
        sys.exit(f"failed: {failed}")


@cache
def inputs(form: str) -> tuple[Tensor, Tensor, Tensor | None, list[Table]]:
    """Query, memories, slots and tables; the same for all threads, which only read them."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).requires_grad_()

    shapes = {
        "rows": (9, 9, 2003),
        "one row": (1, 1, 70_001),
        "shared": (60, 3001),
        "bank": (9, 700),
    }
    rows, *shape = shapes[form]
    slots = torch.randint(700, (9, 2003), generator=draw) if form == "bank" else None
    tables = [Table((normal(DIM, DIM) / 16).detach().requires_grad_()) for _ in range(3)]
    return normal(rows, DIM), normal(*shape, DIM), slots, tables


def forward(impl: str, form: str) -> Tensor:
    """The result of two hops."""
    query, memories, slots, tables = inputs(form)
    hops = [Hop(a, c) for a, c in pairwise(tables)]
    return multi_hop(query, memories, hops, slots=slots, impl=impl)


def results(impl: str, form: str) -> list[Tensor]:
    """The result of two hops and its gradients."""
    query, memories, _, tables = inputs(form)
    result = forward(impl, form)
    weights = [table.weight for table in tables if table.weight is not None]
    leaves = [query, memories, *weights]
    return [result.detach(), *torch.autograd.grad(result.cos().sum(), leaves)]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    """They agree as far as float32 does."""
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4 * float(right.abs().max()))


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    """They agree bit for bit."""
    for left, right in zip(found, expected, strict=True):
        assert torch.equal(left, right), f"differ by {float((left - right).abs().max())}"
