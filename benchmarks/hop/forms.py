"""The forms of several hops that are timed against each other, on the same numbers.

Each takes the inputs of a case and gives a ``Candidate``; what it does before it returns (gather,
expand, compile) is not timed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.hop.cases import Inputs, numbers_in
from memhop import ops


class Candidate(NamedTuple):
    """A form and the tensors it runs on, those that get gradients among them."""

    form: str
    inputs: Inputs
    forward: Callable[[], Tensor]


Build = Callable[[Inputs], Candidate]


def path(word: str) -> Build:
    """``memhop.ops.multi_hop`` with ``impl=word``."""

    def build(inputs: Inputs) -> Candidate:
        query, memories, slots, hops, _ = inputs
        return Candidate(
            word, inputs, lambda: ops.multi_hop(query, memories, hops, slots=slots, impl=word)
        )

    return build


def baseline(inputs: Inputs) -> Candidate:
    """What a case is measured against: the textbook form, or, for a memory that many queries
    share, two products a hop."""
    shared = inputs.tensor.dim() == 2 and inputs.slots is None
    return two_products(inputs) if shared else textbook(inputs)


def textbook(inputs: Inputs) -> Candidate:
    """A hop as the paper writes it: two Linear, bmm, softmax, bmm, on rows gathered before."""
    given = gathered(inputs)
    run = partial(as_the_paper, given.query, given.tensor, given.hops)
    return Candidate("textbook", given, run)


def as_the_paper(query: Tensor, memories: Tensor, hops: Sequence[ops.Hop]) -> Tensor:
    """p = softmax(q . (A m_i + a)), q <- q + sum_i p_i (C m_i + c), hop by hop."""
    for hop in hops:
        keys = functional.linear(memories, hop.a.weight, hop.a.bias)
        values = functional.linear(memories, hop.c.weight, hop.c.bias)
        weights = torch.softmax(torch.bmm(keys, query.unsqueeze(-1)).squeeze(-1), -1)
        query = query + torch.bmm(weights.unsqueeze(1), values).squeeze(1)
    return query


def two_products(inputs: Inputs) -> Candidate:
    """Two plain matrix products a hop, over the raw memory, with a softmax between."""
    run = partial(over_shared, inputs.query, inputs.tensor, inputs.hops)
    return Candidate("two products", inputs, run)


def over_shared(query: Tensor, memories: Tensor, hops: Sequence[ops.Hop]) -> Tensor:
    """Keys and values are the raw memory [N, I]; the small products go before and after."""
    for hop in hops:
        weights = torch.softmax((query @ hop.a.weight) @ memories.mT, -1)
        query = query + functional.linear(weights @ memories, hop.c.weight, hop.c.bias)
    return query


def float64_reference(inputs: Inputs, dtype: torch.dtype = torch.float64) -> Candidate:
    """The formula over the raw memory, in float64: what all others are compared with."""
    given = cast(inputs, dtype)
    memories, slots = given.tensor, given.slots

    def forward() -> Tensor:
        state = given.query
        if slots is None and memories.dim() == 2:
            return over_shared(state, memories, given.hops)
        held = memories if slots is None else memories[slots]
        for hop in given.hops:
            weights = torch.softmax((held @ (state @ hop.a.weight).unsqueeze(-1)).squeeze(-1), -1)
            read_out = (weights.unsqueeze(1) @ held).squeeze(1)
            state = state + functional.linear(read_out, hop.c.weight, hop.c.bias)
        return state

    return Candidate(f"formula in {dtype}", given, forward)


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """The same numbers in another dtype, as leaves of their own."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype).requires_grad_(tensor.requires_grad)

    def table(single: ops.Table) -> ops.Table:
        return ops.Table(leaf(single.weight), None if single.bias is None else leaf(single.bias))

    wanted = isinstance(inputs.memories, Tensor) and inputs.memories.requires_grad
    return inputs._replace(
        query=leaf(inputs.query),
        memories=numbers_in(inputs.memories, dtype).requires_grad_(wanted),
        hops=[ops.Hop(table(hop.a), table(hop.c)) for hop in inputs.hops],
        direction=inputs.direction.to(dtype),
    )


def compiled(backend: str) -> Build:
    """``torch.compile`` of the form to measure against."""

    def build(inputs: Inputs) -> Candidate:
        candidate = baseline(inputs)
        form = as_the_paper if candidate.form == "textbook" else over_shared
        torch.compiler.reset()  # what was compiled for other shapes counts against a limit
        run = torch.compile(form, backend=backend, fullgraph=True, dynamic=False)
        given = candidate.inputs
        return Candidate("compiled", given, lambda: run(given.query, given.tensor, given.hops))

    return build


def attention_of_torch(inputs: Inputs) -> Candidate:
    """``scaled_dot_product_attention`` by the query A^T q; the raw memory is keys and values."""
    given = gathered(inputs)

    def forward() -> Tensor:
        state = given.query
        for hop in given.hops:
            key = state @ hop.a.weight
            read_out = attend(key, given.tensor)
            state = state + functional.linear(read_out, hop.c.weight, hop.c.bias)
        return state

    def attend(key: Tensor, memories: Tensor) -> Tensor:
        if memories.dim() == 2:  # one row of the batch with all queries
            key, memories = key[None, None], memories[None, None]
        else:
            key, memories = key[:, None, None], memories[:, None]
        read_out = functional.scaled_dot_product_attention(key, memories, memories, scale=1.0)
        return read_out.reshape(-1, memories.shape[-1])

    return Candidate("SDPA, raw form", given, forward)


def attention_module(inputs: Inputs) -> Candidate:
    """``torch.nn.MultiheadAttention`` with one head for each hop; needs input_dim = memory_dim.

    A and C are its projections of keys and values. Those of query and output, which a hop does not
    have, are made to change nothing.
    """
    given = gathered(inputs)
    size = given.query.shape[-1]
    modules = [attention_of(hop, size).to(given.query) for hop in given.hops]
    shared = given.tensor.dim() == 2
    memories = given.tensor.unsqueeze(0) if shared else given.tensor
    axis = 0 if shared else 1

    def forward() -> Tensor:
        state = given.query.unsqueeze(axis)
        for module in modules:
            state = state + module(state, memories, memories, need_weights=False)[0]
        return state.squeeze(axis)

    return Candidate("MultiheadAttention", given, forward)


def attention_of(hop: ops.Hop, size: int) -> nn.MultiheadAttention:
    """The module that computes a hop's read; scores are not to be divided by sqrt(size)."""
    module = nn.MultiheadAttention(size, num_heads=1, batch_first=True)
    same = torch.eye(size).to(hop.a.weight)
    biases = [part for part in (hop.a.bias, hop.c.bias) if part is not None]
    state: dict[str, Any] = {
        "in_proj_weight": torch.cat([same * size**0.5, hop.a.weight, hop.c.weight]),
        "in_proj_bias": torch.cat([torch.zeros_like(biases[0]), *biases]),
        "out_proj.weight": same,
        "out_proj.bias": torch.zeros_like(biases[0]),
    }
    module.load_state_dict(state)
    return module


def gathered(inputs: Inputs) -> Inputs:
    """The inputs with the rows of a bank gathered: a memory for each query, with its gradient."""
    if inputs.slots is None:
        return inputs
    rows = inputs.tensor.detach()[inputs.slots]
    rows.requires_grad_(inputs.tensor.requires_grad)
    return inputs._replace(memories=rows, slots=None)
