"""The forms of several hops that are compared, and the check of their results.

Each form takes the inputs of a case and returns a ``Candidate``; the work before it returns
(gather, expand, compile) is not timed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.hop.cases import Inputs, dequantized
from memhop import ops
from memhop.errors import MemhopError

ROUNDING_STEPS = 16  # of the dtype: below that, an error is chance


class Candidate(NamedTuple):
    """A form with its tensors, and its forward pass."""

    form: str
    inputs: Inputs
    forward: Callable[[], Tensor]


Build = Callable[[Inputs], Candidate]


def path(impl: str) -> Build:
    """Build ``memhop.ops.multi_hop`` with ``impl``."""

    def build(inputs: Inputs) -> Candidate:
        query, memories, slots, hops, _ = inputs
        return Candidate(
            impl, inputs, lambda: ops.multi_hop(query, memories, hops, slots=slots, impl=impl)
        )

    return build


def baseline(inputs: Inputs) -> Candidate:
    """Build the baseline: the textbook form, or for a shared memory two products a hop."""
    shared = inputs.tensor.dim() == 2 and inputs.slots is None
    return two_products(inputs) if shared else textbook(inputs)


def textbook(inputs: Inputs) -> Candidate:
    """Build the paper's hop: two Linear, bmm, softmax, bmm, on rows gathered before."""
    given = gathered(inputs)
    run = partial(textbook_hops, given.query, given.tensor, given.hops)
    return Candidate("textbook", given, run)


def weights_of(hop: ops.Hop) -> tuple[Tensor, Tensor]:
    """Return A and C of a hop that has both."""
    assert hop.a.weight is not None
    assert hop.c.weight is not None
    return hop.a.weight, hop.c.weight


def textbook_hops(query: Tensor, memories: Tensor, hops: Sequence[ops.Hop]) -> Tensor:
    """Compute p = softmax(q . (A m_i + a)), q <- q + sum_i p_i (C m_i + c), hop by hop."""
    for hop in hops:
        a, c = weights_of(hop)
        keys = functional.linear(memories, a, hop.a.bias)
        values = functional.linear(memories, c, hop.c.bias)
        if memories.dim() == 2:
            query = query + torch.softmax(query @ keys.mT, -1) @ values
        else:
            weights = torch.softmax(torch.bmm(keys, query.unsqueeze(-1)).squeeze(-1), -1)
            query = query + torch.bmm(weights.unsqueeze(1), values).squeeze(1)
    return query


def two_products(inputs: Inputs) -> Candidate:
    """Build two matrix products a hop over the raw memory, with a softmax between."""
    run = partial(shared_hops, inputs.query, inputs.tensor, inputs.hops)
    return Candidate("two products", inputs, run)


def shared_hops(query: Tensor, memories: Tensor, hops: Sequence[ops.Hop]) -> Tensor:
    """Read the raw memory [N, I] as keys and values; project query and read-out instead."""
    for hop in hops:
        a, c = weights_of(hop)
        weights = torch.softmax((query @ a) @ memories.mT, -1)
        query = query + functional.linear(weights @ memories, c, hop.c.bias)
    return query


def float64_reference(inputs: Inputs, dtype: torch.dtype = torch.float64) -> Candidate:
    """Build the formula over the raw memory in float64: the reference of all forms."""
    given = cast(inputs, dtype)
    memories, slots = given.tensor, given.slots

    def forward() -> Tensor:
        state = given.query
        if slots is None and memories.dim() == 2:
            return shared_hops(state, memories, given.hops)
        rows = memories if slots is None else memories[slots]
        for hop in given.hops:
            a, c = weights_of(hop)
            weights = torch.softmax((rows @ (state @ a).unsqueeze(-1)).squeeze(-1), -1)
            read_out = (weights.unsqueeze(1) @ rows).squeeze(1)
            state = state + functional.linear(read_out, c, hop.c.bias)
        return state

    return Candidate(f"formula in {dtype}", given, forward)


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Return the inputs in another dtype, as new leaves."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype).requires_grad_(tensor.requires_grad)

    def table(single: ops.Table) -> ops.Table:
        assert single.weight is not None
        return ops.Table(leaf(single.weight), None if single.bias is None else leaf(single.bias))

    needs_grad = isinstance(inputs.memories, Tensor) and inputs.memories.requires_grad
    return inputs._replace(
        query=leaf(inputs.query),
        memories=dequantized(inputs.memories, dtype).requires_grad_(needs_grad),
        hops=[ops.Hop(table(hop.a), table(hop.c)) for hop in inputs.hops],
        grad_out=inputs.grad_out.to(dtype),
    )


def compiled(backend: str) -> Build:
    """Build ``torch.compile`` of the textbook form."""

    def build(inputs: Inputs) -> Candidate:
        given = gathered(inputs)
        run = torch.compile(textbook_hops, backend=backend, fullgraph=True, dynamic=False)
        return Candidate("compiled", given, lambda: run(given.query, given.tensor, given.hops))

    return build


def attention_of_torch(inputs: Inputs) -> Candidate:
    """Build ``scaled_dot_product_attention`` over the raw memory, with query A^T q."""
    given = gathered(inputs)

    def forward() -> Tensor:
        state = given.query
        for hop in given.hops:
            a, c = weights_of(hop)
            read_out = attend(state @ a, given.tensor)
            state = state + functional.linear(read_out, c, hop.c.bias)
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
    """Build ``torch.nn.MultiheadAttention`` with one head a hop; needs input_dim = memory_dim.

    A and C project keys and values. The projections of query and output are the identity.
    """
    given = gathered(inputs)
    size = given.query.shape[-1]
    modules = [module_of(hop, size).to(given.query) for hop in given.hops]
    shared = given.tensor.dim() == 2
    memories = given.tensor.unsqueeze(0) if shared else given.tensor
    axis = 0 if shared else 1

    def forward() -> Tensor:
        state = given.query.unsqueeze(axis)
        for module in modules:
            state = state + module(state, memories, memories, need_weights=False)[0]
        return state.squeeze(axis)

    return Candidate("MultiheadAttention", given, forward)


def module_of(hop: ops.Hop, size: int) -> nn.MultiheadAttention:
    """Return the module of a hop; the query is scaled, as scores are not divided by sqrt(size)."""
    module = nn.MultiheadAttention(size, num_heads=1, batch_first=True)
    a, c = weights_of(hop)
    identity = torch.eye(size).to(a)
    biases = [part for part in (hop.a.bias, hop.c.bias) if part is not None]
    state: dict[str, Any] = {
        "in_proj_weight": torch.cat([identity * size**0.5, a, c]),
        "in_proj_bias": torch.cat([torch.zeros_like(biases[0]), *biases]),
        "out_proj.weight": identity,
        "out_proj.bias": torch.zeros_like(biases[0]),
    }
    module.load_state_dict(state)
    return module


def gathered(inputs: Inputs) -> Inputs:
    """Return the inputs with the rows of a bank gathered: a memory for each query."""
    if inputs.slots is None:
        return inputs
    rows = inputs.tensor.detach()[inputs.slots]
    rows.requires_grad_(inputs.tensor.requires_grad)
    return inputs._replace(memories=rows, slots=None)


class Errors(NamedTuple):
    """The relative error ||x - exact|| / ||exact|| of the result, and the largest of a gradient."""

    result: float
    gradients: float | None


def check(
    candidates: list[Candidate], inputs: Inputs, rounding: int = ROUNDING_STEPS
) -> list[Errors]:
    """Return the errors of the candidates; the first is the yardstick of the others.

    Raises:
        MemhopError: an error is too large.
    """
    found = errors(candidates, inputs)
    for candidate, measured in zip(candidates, found, strict=True):
        yardstick = None if candidate is candidates[0] else found[0]
        if reason := refusal(measured, yardstick, inputs, rounding):
            raise MemhopError(f"{candidate.form} is not timed: {reason}")
    return found


def refusal(
    measured: Errors, yardstick: Errors | None, inputs: Inputs, rounding: int = ROUNDING_STEPS
) -> str | None:
    """Return why a form is not timed, or None.

    Allowed are four times the error of the yardstick plus ``rounding`` steps of the dtype; for the
    yardstick itself half of the digits.
    """
    step = torch.finfo(inputs.query.dtype).eps
    for error, base in zip(measured, yardstick or measured, strict=True):
        if error is None or base is None:
            continue
        allowed = step**0.5 if yardstick is None else 4 * base + rounding * step
        if not error <= allowed:  # refuses NaN too
            return f"error {error:.1e} against float64, allowed {allowed:.1e}"
    return None


def errors(candidates: list[Candidate], inputs: Inputs) -> list[Errors]:
    """Return the errors of each against the formula in float64."""
    truth = outcome(float64_reference(inputs), inputs)
    return [errors_of(outcome(candidate, inputs), truth) for candidate in candidates]


def errors_of(results: list[Tensor], truth: list[Tensor]) -> Errors:
    """Return the errors of an outcome against another."""
    each = [float((x - y).norm() / y.norm()) for x, y in zip(results, truth, strict=True)]
    return Errors(each[0], max(each[1:]) if each[1:] else None)


def outcome(candidate: Candidate, inputs: Inputs) -> list[Tensor]:
    """Return the result and, if there are leaves, the gradients of query, memory, all weights."""
    given = candidate.inputs
    for leaf in given.leaves:
        leaf.grad = None
    if not given.leaves:
        with torch.no_grad():
            return [candidate.forward().double()]
    result = candidate.forward()
    result.backward(given.grad_out)  # type: ignore[no-untyped-call]
    weights = [leaf.new_zeros(leaf.shape) if leaf.grad is None else leaf.grad
               for leaf in given.weights]  # fmt: skip
    found = [
        result.detach().double(),
        grad_of(given.query).double(),
        grad_bank(grad_of(given.tensor).double(), given, inputs),
        torch.cat([weight.double().flatten() for weight in weights]),
    ]
    for leaf in given.leaves:
        leaf.grad = None
    return found


def grad_of(leaf: Tensor) -> Tensor:
    """Return the gradient of a leaf."""
    if leaf.grad is None:
        raise MemhopError(f"no gradient of a tensor of shape {list(leaf.shape)}")
    return leaf.grad


def grad_bank(grad_memories: Tensor, given: Inputs, inputs: Inputs) -> Tensor:
    """Return the gradient of a bank; sum that of the gathered rows if a form ran on those."""
    if given.slots is inputs.slots or inputs.slots is None:
        return grad_memories
    bank = grad_memories.new_zeros(inputs.tensor.shape)
    return bank.index_add_(0, inputs.slots.flatten(), grad_memories.flatten(0, 1))
