"""Torch's forms of several hops over the raw memory: eager and compiled.

A hop needs the memory only as it is: r = A^T q, p = softmax(M r), q <- q + C (p M) + c. The bias a
adds one number to all scores of a query, so the softmax does not depend on it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.hop.cases import Case, Inputs
from benchmarks.hop.forms import Build, Candidate, gathered, weights_of

Tables = Sequence[tuple[Tensor, Tensor, Tensor | None]]
"""A [D, I], C [D, I] and c [D] of every hop."""

MAX_SUM_NUMEL = 2**28  # of the product that the sum form sums: 1 GiB if it is stored


class RawHops(Protocol):
    """Hops of queries [B, D] over memories [B, N, I], or over one memory [N, I]."""

    def __call__(self, query: Tensor, memories: Tensor, tables: Tables) -> Tensor: ...


def tables_of(inputs: Inputs) -> Tables:
    """Return the weights that the raw form needs."""
    return [(*weights_of(hop), hop.c.bias) for hop in inputs.hops]


def bmm_hops(query: Tensor, memories: Tensor, tables: Tables) -> Tensor:
    """Score and sum the slots with two matrix products a hop."""
    for a, c, bias in tables:
        projected = query @ a
        if memories.dim() == 2:
            read_out = torch.softmax(projected @ memories.mT, -1) @ memories
        else:
            scores = torch.bmm(memories, projected.unsqueeze(-1)).squeeze(-1)
            read_out = torch.bmm(torch.softmax(scores, -1).unsqueeze(1), memories).squeeze(1)
        query = query + functional.linear(read_out, c, bias)
    return query


def sum_hops(query: Tensor, memories: Tensor, tables: Tables) -> Tensor:
    """Score and sum the slots with elementwise products and sums, which a compiler can fuse."""
    for a, c, bias in tables:
        scores = (memories * (query @ a).unsqueeze(-2)).sum(-1)
        read_out = (torch.softmax(scores, -1).unsqueeze(-1) * memories).sum(-2)
        query = query + functional.linear(read_out, c, bias)
    return query


RAW_HOPS: dict[str, RawHops] = {"bmm": bmm_hops, "sum": sum_hops}


def raw(inputs: Inputs) -> Candidate:
    """Build the eager form with two matrix products a hop."""
    given = gathered(inputs)
    return Candidate("raw", given, partial(bmm_hops, given.query, given.tensor, tables_of(given)))


def compiled_raw(backend: str, products: str) -> Build:
    """Build ``torch.compile`` of the form with ``products`` "bmm" or "sum"."""

    def build(inputs: Inputs) -> Candidate:
        given = gathered(inputs)
        run = torch.compile(RAW_HOPS[products], backend=backend, fullgraph=True, dynamic=False)
        tables = tables_of(given)
        return Candidate(
            f"compiled raw {products}", given, lambda: run(given.query, given.tensor, tables)
        )

    return build


def sum_is_feasible(case: Case) -> bool:
    """Return whether the sum form is measured: it has B N I products, for a shared memory too."""
    return case.batch * case.slots * case.input_dim <= MAX_SUM_NUMEL
