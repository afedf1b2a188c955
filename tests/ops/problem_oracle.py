"""What a fused kernel must give for a ``Problem``: the textbook formula in float64, by autograd.

Every slot is embedded, A m_i + a + T_A(i) and C m_i + c + T_C(i), and attended to by plain
operations on tensors that are gathered and repeated; nothing here is shared with the package but
the names of the interface. ``draw_problem`` makes problems with odd sizes and layouts,
``assert_kernel_agrees`` runs a kernel on one.
"""

import itertools
import math
import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.problem import Gradients, Problem, Step, Trace, Wanted

Forward = Callable[[Problem, bool], Trace]
Backward = Callable[[Problem, Trace, Tensor, Tensor | None, Wanted, Tensor | None], Gradients]


class Outcome(NamedTuple):
    """All in float64; the gradients in the shapes of what they are the gradients of.

    Attributes:
        result: [B, D], or [B, V] of one read alone.
        weights: p, [B, K, N].
        weight_sum: sum_i p_i, [B, K].
        log_totals: log sum_i exp(s_i) over readable slots, [B, K]; 0 where there is none.
        grad_query: [B, D].
        grad_keys, grad_values: of the rows as stored; None for int8 or where there are none.
        grad_scores: [B, K, N].
        grad_score_bias: as the bias, or None.
        grad_weights: of each of ``Problem.weights``.
    """

    result: Tensor
    weights: Tensor
    weight_sum: Tensor
    log_totals: Tensor
    grad_query: Tensor
    grad_keys: Tensor | None
    grad_values: Tensor | None
    grad_scores: Tensor
    grad_score_bias: Tensor | None
    grad_weights: tuple[Tensor, ...]


def outcome(
    problem: Problem,
    grad_result: Tensor,
    grad_weights: Tensor | None = None,
    grad_lse: Tensor | None = None,
) -> Outcome:
    """Return results and gradients of sum(result * grad_result) + sum(weights * grad_weights).

    With ``grad_lse`` the gradients are also those of sum(lse * grad_lse), of a single read.
    """
    query, weights = leaf(problem.query), [leaf(weight) for weight in problem.weights]
    stored_keys = leaf(problem.keys)
    stored_values = None if problem.values is None else leaf(problem.values)
    bias = None if problem.score_bias is None else leaf(problem.score_bias)
    shape = (query.shape[0], len(problem.steps), problem.num_slots)
    probe = query.new_zeros(shape, requires_grad=True)  # its gradient is that of the scores
    keys = values = rows_of_each(problem, stored_keys, problem.key_scale)
    if stored_values is not None:
        values = rows_of_each(problem, stored_values, problem.value_scale)
    q, attentions, log_totals = query, [], []
    for k, step in enumerate(problem.steps):
        readable = readable_slots(problem, k)
        ages = (readable.flip(1).cumsum(1).flip(1) - readable.long()).clamp(min=0)
        # The same term in every score, q . a, is no part of a softmax and has zeros as gradient.
        a_bias = -1 if step.softmax else step.a_bias
        embedded = embed(keys, weights, (step.a, a_bias, step.a_temporal), ages)
        scores = (embedded @ q.unsqueeze(2)).squeeze(2) + probe[:, k]
        if bias is not None:
            scores = scores + bias[:, min(k, bias.shape[1] - 1)].where(readable, 0.0)
        p, log_total = attend(scores, readable, bool(step.softmax))
        embedded = embed(values, weights, (step.c, step.c_bias, step.c_temporal), ages)
        read = (p.unsqueeze(1) @ embedded).squeeze(1)
        carried = q if step.transform < 0 else q @ weights[step.transform].T
        q = read + carried if step.carry else read
        linear = q.shape[1] - step.relu
        q = torch.cat([q[:, :linear], q[:, linear:].relu()], 1)
        attentions.append(p)
        log_totals.append(log_total)
    p = torch.stack(attentions, 1)
    total = (q * grad_result.double()).sum()
    if grad_weights is not None:
        total = total + (p * grad_weights.double()).sum()
    if grad_lse is not None:
        total = total + (log_totals[0] * grad_lse.double()).sum()
    total.backward()  # type: ignore[no-untyped-call]
    return Outcome(
        result=q.detach(),
        weights=p.detach(),
        weight_sum=p.detach().sum(2),
        log_totals=torch.stack(log_totals, 1).detach(),
        grad_query=gradient(query),
        grad_keys=gradient(stored_keys) if is_floating(problem.keys) else None,
        grad_values=gradient(stored_values) if is_floating(problem.values) else None,
        grad_scores=gradient(probe),
        grad_score_bias=None if bias is None else gradient(bias),
        grad_weights=tuple(gradient(weight) for weight in weights),
    )


def leaf(tensor: Tensor) -> Tensor:
    """A copy of its own in float64, whatever the strides were."""
    return (
        tensor.detach()
        .to(torch.float64)
        .clone(memory_format=torch.contiguous_format)
        .requires_grad_()
    )


def gradient(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def is_floating(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.is_floating_point()


def rows_of_each(problem: Problem, stored: Tensor, scale: Tensor | None) -> Tensor:
    """The rows that each query reads, [B, N, I]."""
    rows = stored if scale is None else stored * scale.double().unsqueeze(-1)
    if problem.slots is not None:
        return rows[problem.slots.long()]
    return rows.repeat_interleave(problem.query.shape[0] // max(1, len(rows)), 0)


def readable_slots(problem: Problem, hop: int) -> Tensor:
    """bool [B, N]: neither ignored, nor at or after the row's length, nor with a bias of -inf."""
    shape = (problem.query.shape[0], problem.num_slots)
    readable = torch.ones(shape, dtype=torch.bool, device=problem.query.device)
    if problem.ignored is not None:
        readable = readable & ~problem.ignored
    if problem.lengths is not None:
        places = torch.arange(shape[1], device=readable.device)
        readable = readable & (places < problem.lengths.unsqueeze(1))
    if problem.score_bias is not None:
        bias = problem.score_bias[:, min(hop, problem.score_bias.shape[1] - 1)]
        readable = readable & (bias != -torch.inf)
    return readable


def embed(rows: Tensor, weights: list[Tensor], table: tuple[int, int, int], ages: Tensor) -> Tensor:
    """W m_i + bias + temporal(age of i), [B, N, D]; -1 for what the table has not."""
    weight, bias, temporal = table
    embedded = rows if weight < 0 else rows @ weights[weight].T
    if bias >= 0:
        embedded = embedded + weights[bias]
    if temporal >= 0:
        embedded = embedded + weights[temporal][ages.clamp(max=len(weights[temporal]) - 1)]
    return embedded


def attend(scores: Tensor, readable: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    """The weights [B, N] and log sum exp of the readable scores [B], 0 where there are none."""
    some = readable.any(1)
    if readable.shape[1] == 0 or not softmax:
        return scores.where(readable, 0.0), torch.zeros_like(scores.sum(1))
    # -inf gives exp 0 without a NaN as long as one score in the row is finite.
    safe = scores.where(readable, -torch.inf).where(some.unsqueeze(1), 0.0)
    log_total = safe.logsumexp(1)
    weights = (safe - log_total.unsqueeze(1)).exp().where(readable, 0.0)
    return weights, log_total.where(some, 0.0)


def weight_gradients_from(
    problem: Problem, trace: Trace, gradients: Gradients
) -> tuple[Tensor, ...]:
    """The gradients of all weights, float64, as products of what a kernel gives back."""
    found = [torch.zeros_like(weight, dtype=torch.float64) for weight in problem.weights]

    def add(place: int, gradient: Tensor) -> None:
        if place >= 0:
            found[place] += gradient

    def add_temporal(place: int, summed: Tensor | None, vectors: Tensor) -> None:
        if place >= 0:
            assert summed is not None
            for age, by_row in enumerate(summed.double().T @ vectors):
                found[place][min(age, len(found[place]) - 1)] += by_row

    for k, step in enumerate(problem.steps):
        q, g = trace.queries[:, k].double(), gradients.grad_out[:, k].double()
        add(step.a, q.T @ gradients.grad_u[:, k].double())
        if not step.softmax:
            add(step.a_bias, gradients.grad_weight_sum[:, k].double() @ q)
        add(step.c, g.T @ trace.read[:, k].double())
        add(step.c_bias, trace.weight_sum[:, k].double() @ g)
        grad_aged = None if gradients.grad_aged is None else gradients.grad_aged[:, k]
        add_temporal(step.a_temporal, grad_aged, q)
        add_temporal(step.c_temporal, None if trace.aged is None else trace.aged[:, k], g)
        add(step.transform, g.T @ q)
    return tuple(found)


def assert_kernel_agrees(
    forward: Forward,
    backward: Backward,
    problem: Problem,
    *,
    rtol: float,
    atol: float = 0.0,
    keep: tuple[bool, ...] = (True, False),
    seed: int = 0,
) -> None:
    """A kernel's results and gradients are those of ``outcome``, and it writes into no input.

    Each tensor may be off by ``atol`` and by ``rtol`` times its largest number; the gradients of
    rows in a half type also by that type's rounding. With weights kept, their gradient is given,
    and that of the log-sum-exp of a single read.
    """
    make = torch.Generator().manual_seed(seed)
    shape = (problem.query.shape[0], len(problem.steps), problem.num_slots)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=make, dtype=torch.float64).to(problem.query)

    for keep_weights in keep:
        values = problem.keys if problem.values is None else problem.values
        ends_in = problem.query if problem.steps[-1].carry else values
        grad_result = draw(shape[0], ends_in.shape[-1])
        grad_weights = draw(*shape) if keep_weights else None
        first = problem.steps[0]
        has_lse = keep_weights and bool(first.softmax) and not first.carry
        grad_lse = draw(shape[0]) if has_lse else None
        before = copies(problem)
        trace = forward(problem, keep_weights)
        kept = copies(trace)
        everything = Wanted(
            is_floating(problem.keys), is_floating(problem.values), True,
            (True,) * len(problem.weights),
        )  # fmt: skip
        gradients = backward(problem, trace, grad_result, grad_weights, everything, grad_lse)
        truth = outcome(problem, grad_result, grad_weights, grad_lse)
        assert (trace.weights is not None) == keep_weights
        for name, (got, want) in compared(problem, trace, gradients, truth).items():
            rounding = 0.0 if got.dtype == torch.float64 else 2 * torch.finfo(got.dtype).eps
            assert_close(name, got, want, max(rtol, rounding), atol)
        nothing = Wanted(False, False, False)
        small = backward(problem, trace, grad_result, grad_weights, nothing, grad_lse)
        assert small.grad_keys is small.grad_values is small.grad_scores is None
        assert_close("grad_query alone", small.grad_query, truth.grad_query, rtol, atol)
        for old, new in ((before, copies(problem)), (kept, copies(trace))):
            for was, now in zip(old, new, strict=True):
                assert torch.equal(was.nan_to_num(), now.nan_to_num()), "an input was written into"


def compared(
    problem: Problem, trace: Trace, gradients: Gradients, truth: Outcome
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the results of a kernel with the expected ones, by name."""
    softmax = torch.tensor([bool(step.softmax) for step in problem.steps]).to(
        trace.score_max.device
    )
    log_totals = (trace.score_max + trace.exp_sum.log()).where(softmax, 0.0)
    result = trace.queries[:, -1] if problem.steps[-1].carry else trace.read[:, 0]
    pairs: dict[str, tuple[Tensor | None, Tensor | None]] = {
        "result": (result, truth.result),
        "first query": (trace.queries[:, 0], problem.query.double()),
        "weight_sum": (trace.weight_sum, truth.weight_sum),
        "score_max and exp_sum": (log_totals, truth.log_totals),
        "grad_query": (gradients.grad_query, truth.grad_query),
        "grad_scores": (gradients.grad_scores, truth.grad_scores),
        "grad_keys": (gradients.grad_keys, truth.grad_keys),
        "grad_values": (gradients.grad_values, truth.grad_values),
    }
    if trace.weights is not None:
        pairs["weights"] = (trace.weights, truth.weights)
    grad_weights = weight_gradients_from(problem, trace, gradients)
    for place, pair in enumerate(zip(grad_weights, truth.grad_weights, strict=True)):
        pairs[f"by weight {place}"] = pair
    if gradients.of_weights is not None:
        for place, grad in enumerate(gradients.of_weights):
            pairs[f"gradient of weight {place}"] = grad, truth.grad_weights[place]
    given = {}
    for name, (got, want) in pairs.items():
        assert (got is None) == (want is None), f"{name} is there, or not, against the wish"
        if got is not None and want is not None:
            given[name] = (got, want)
    for name, rows in (("grad_keys", problem.keys), ("grad_values", problem.values)):
        assert name not in given or (rows is not None and given[name][0].dtype == rows.dtype)
    return given


def assert_close(name: str, got: Tensor, want: Tensor, rtol: float, atol: float) -> None:
    """No further apart than atol + rtol * the largest number wanted; a NaN is far."""
    assert got.shape == want.shape, f"{name}: {list(got.shape)}, not {list(want.shape)}"
    if want.numel():
        worst = float((got.double() - want).abs().max())
        allowed = atol + rtol * float(want.abs().max())
        assert worst <= allowed, f"{name} is off by {worst:.3g}, more than {allowed:.3g}"


def copies(tensors: Problem | Trace) -> list[Tensor]:
    weights = tensors.weights if isinstance(tensors, Problem) else ()
    return [part.clone() for part in (*tensors, *weights) if isinstance(part, Tensor)]


def draw_problem(
    seed: int,
    *,
    dtype: torch.dtype = torch.float64,
    storage: torch.dtype | None = None,
    shared: bool = False,
    slots: bool | None = None,
    num_rows: int | None = None,
    num_slots: int | None = None,
) -> Problem:
    """A small problem of odd sizes and layouts, with any of the parts that a problem may have.

    With ``shared`` several rows read each memory; ``slots`` says whether the rows name slots of a
    bank, None for either. Rows and slots may be none at all where their number is not given.
    """
    chance, make = random.Random(seed), torch.Generator().manual_seed(seed)
    storage = dtype if storage is None else storage
    slots = chance.random() < 0.3 and not shared if slots is None else slots
    queries_each = chance.choice([2, 3, 5]) if shared else 1
    rows = chance.choice([0, 1, 1, 2, 3, 4]) * queries_each if num_rows is None else num_rows
    n = chance.choice([0, 1, 2, 3, 5, 7, 9, 17]) if num_slots is None else num_slots
    i, d, v = (chance.choice([1, 2, 3, 5, 8]) for _ in range(3))
    alone = chance.random() < 0.1
    d, v = i if alone else chance.choice([d, i]), chance.choice([v, i])
    weights, steps = draw_steps(chance, make, (i, d, v, n))
    if alone:
        weights, steps = [], (Step(softmax=steps[0].softmax, carry=0),)
    hops = len(steps)
    leading = (chance.randint(1, 6),) if slots else (rows // queries_each, n)
    keys, key_scale = draw_rows(chance, make, (*leading, i), storage)
    ignored = lengths = bias = values = value_scale = None
    if v != i or chance.random() < 0.3:
        values, value_scale = draw_rows(chance, make, (*leading, v), storage)
    if chance.random() < 0.5:
        ignored = torch.rand(chance.choice([1, rows]), n, generator=make) < 0.3
        ignored[: chance.choice([0, 0, 1])] = True
        ignored = laid_out(chance, ignored.expand(rows, n))
    if chance.random() < 0.4:
        lengths = torch.randint(0, n + 1, (rows,), generator=make)
    if chance.random() < 0.5:
        sizes = (chance.choice([1, rows]), chance.choice([1, hops]), n)
        bias = torch.randn(sizes, generator=make, dtype=torch.float64).to(dtype)
        bias[torch.rand(sizes, generator=make) < 0.2] = -torch.inf
        bias[-1:, : chance.choice([0, 0, 1])] = -torch.inf
        bias = laid_out(chance, bias.expand(rows, -1, -1))
    query = torch.randn(rows, d, generator=make, dtype=torch.float64).to(dtype)
    named = draw_slots(chance, make, (rows, n), leading[0]) if slots else None
    return Problem(
        query, keys, key_scale, values, value_scale, named, ignored, lengths, bias,
        tuple(weight.to(dtype) for weight in weights), steps,
    )  # fmt: skip


def draw_rows(
    chance: random.Random, make: torch.Generator, shape: tuple[int, ...], storage: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Rows as they are stored, and their scale where they are int8; the more, the smaller."""
    size = (1 + shape[-2]) ** -0.5
    if storage == torch.int8:
        scale = (torch.rand(shape[:-1], generator=make) / 64 + 1 / 128) * size
        stored = torch.randint(-127, 128, shape, generator=make).to(storage)
        return laid_out(chance, stored), scale
    return laid_out(chance, (torch.randn(shape, generator=make) * size).to(storage)), None


def draw_slots(
    chance: random.Random, make: torch.Generator, shape: tuple[int, int], num_rows: int
) -> Tensor:
    """Rows of a bank, the same in every row of the batch at times."""
    named = torch.randint(0, num_rows, (chance.choice([1, shape[0]]), shape[1]), generator=make)
    return laid_out(chance, named.to(chance.choice([torch.int64, torch.int32])).expand(shape))


def draw_steps(
    chance: random.Random, make: torch.Generator, sizes: tuple[int, int, int, int]
) -> tuple[list[Tensor], tuple[Step, ...]]:
    """Weights and the hops that use them: each its own, the same in all, or C of one A of the next.

    In each hop any part may be missing; A and C may only where no change of size is asked of them.
    """
    (i, d, v, n), hops = sizes, chance.choice([1, 2, 3])
    weights: list[Tensor] = []

    def new(*shape: int) -> int:
        weight = torch.randn(shape, generator=make, dtype=torch.float64)
        weights.append(weight / max(shape) ** 0.5)
        return len(weights) - 1

    def table(width: int) -> tuple[int, int, int]:
        return (
            -1 if width == d and chance.random() < 0.3 else new(d, width),
            new(d) if chance.random() < 0.6 else -1,
            new(chance.randint(1, n + 2), d) if chance.random() < 0.5 else -1,
        )

    def step(a: tuple[int, int, int], c: tuple[int, int, int]) -> Step:
        transform = new(d, d) if chance.random() < 0.4 else -1
        share = {0: 0.3, 1: 0.5, 2: 1.0}.get(int(10 * chance.random()), 0.0)
        relu = math.ceil(share * d)
        return Step(*a, *c, transform, relu, int(chance.random() < 0.7))

    tying = chance.choice(["none", "layerwise", "adjacent"])
    if tying == "none" or (tying == "adjacent" and i != v):
        return weights, tuple(step(table(i), table(v)) for _ in range(hops))
    if tying == "layerwise":
        return weights, (step(table(i), table(v)),) * hops
    tables = [table(i) for _ in range(hops + 1)]
    return weights, tuple(step(a, c) for a, c in itertools.pairwise(tables))


def laid_out(chance: random.Random, tensor: Tensor) -> Tensor:
    """The same numbers, as they are, or cut out of a larger tensor, or with two axes exchanged."""
    how = chance.choice(["as it is", "cut out", "exchanged"])
    if how == "cut out":
        larger = tensor.new_ones([size + 2 for size in tensor.shape])
        inner = larger[tuple(slice(1, 1 + size) for size in tensor.shape)]
        return inner.copy_(tensor)
    if how == "exchanged" and tensor.dim() == 3:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)
    return tensor
