"""``read_ragged`` against the dense formula in float64, and its properties."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from memhop.ops.ragged import read as module
from memhop.ops.ragged.frontier import (
    Frontier,
    RaggedMemory,
    Reads,
    offsets_of,
    ragged_memory,
    uniform_frontier,
)
from memhop.ops.ragged.read import read_ragged
from tests.seeds import seeds

FORMS = {"compiled": 0, "eager": 10**9}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make all reads compiled or eager."""
    monkeypatch.setattr(module, "WORTH_COMPILING", FORMS[request.param])
    return str(request.param)


class Problem(NamedTuple):
    query: Tensor
    keys: Tensor
    memory: RaggedMemory
    weights: Tensor  # x of every node, [B, E]
    bias: Tensor | None


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> Problem:
    """Draw a memory and queries; some nodes have no slot, some weights are zero."""
    torch.manual_seed(seed)
    nodes, relations, slots, queries, width = (
        int(torch.randint(low, high, ()))
        for low, high in ((1, 12), (1, 5), (0, 60), (0, 6), (1, 5))
    )
    starts, targets = torch.randint(nodes, (2, slots))
    memory = ragged_memory(starts, torch.randint(relations, (slots,)), targets, nodes)
    weights = torch.rand(queries, nodes, dtype=dtype) * (torch.rand(queries, nodes) < 0.6)
    bias = torch.randn(slots, dtype=dtype) if seed % 2 else None
    if bias is not None:
        bias = bias.masked_fill(torch.rand(slots) < 0.2, -torch.inf)
    query, keys = torch.randn(queries, width), 3 * torch.randn(relations, width)
    return Problem(query.to(dtype), keys.to(dtype), memory, weights, bias)


def frontier_of(weights: Tensor) -> Frontier:
    """Return the frontier of all nodes that are not zero, in descending order of their number."""
    flipped = weights.detach().flip(1)
    rows, places = flipped.nonzero(as_tuple=True)
    nodes = weights.shape[1] - 1 - places
    counts = torch.bincount(rows, minlength=len(weights))
    return Frontier(offsets_of(counts), nodes, weights[rows, nodes])


def dense(frontier: Frontier, num_nodes: int) -> Tensor:
    """Return the weights of all nodes, [B, E]."""
    empty = frontier.weights.new_zeros(len(frontier.offsets) - 1, num_nodes)
    return empty.index_put((frontier.rows(), frontier.nodes), frontier.weights)


def dense_read(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return x' [B, E] and p [B, S] by the formula, over all slots of the memory."""
    query, keys, memory, weights, bias = problem
    starts = torch.arange(memory.num_nodes).repeat_interleave(memory.offsets.diff())
    scores = weights.log()[:, starts] + (query @ keys.T)[:, memory.keys]
    if bias is not None:
        scores = scores + bias
    readable = scores > -torch.inf
    shares = torch.where(readable, scores, -1e9).softmax(-1) * readable
    one_hot = torch.nn.functional.one_hot(memory.targets, memory.num_nodes).to(shares.dtype)
    return shares @ one_hot, shares


def outcome(after: Frontier, reads: Reads, memory: RaggedMemory) -> tuple[Tensor, Tensor]:
    shares = reads.weights.new_zeros(len(reads.offsets) - 1, memory.num_slots)
    rows = Frontier(*reads).rows()
    return dense(after, memory.num_nodes), shares.index_put((rows, reads.slots), reads.weights)


@pytest.mark.parametrize("seed", seeds(40, 400))
def test_read_equals_the_dense_formula_with_its_gradients(seed: int, form: str) -> None:
    problem = drawn(seed)
    leaves = [one for one in (*problem[:2], problem.weights, problem.bias) if one is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    read = read_ragged(*problem[:3], frontier_of(problem.weights), score_bias=problem.bias)
    results = [outcome(*read, problem.memory), dense_read(problem)]
    probes = [torch.randn_like(one) for one in results[0]]
    gradients = []
    for after, shares in results:
        loss = (after * probes[0]).sum() + (shares * probes[1]).sum()
        gradients.append(torch.autograd.grad(loss, leaves, allow_unused=True))
    for ours, right in zip(results[0], results[1], strict=True):
        torch.testing.assert_close(ours, right, rtol=0, atol=1e-12)
    for ours, right, leaf in zip(*gradients, leaves, strict=True):
        right = torch.zeros_like(leaf) if right is None else right
        right = right.masked_fill(leaf == 0, 0) if leaf is problem.weights else right
        ours = torch.zeros_like(leaf) if ours is None else ours
        torch.testing.assert_close(ours, right, rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_refused_or_right(form: str) -> None:
    problem = drawn(2)
    problem.query.requires_grad_()
    after, _ = read_ragged(*problem[:3], frontier_of(problem.weights), score_bias=problem.bias)
    total = (after.weights * torch.arange(len(after.weights))).sum()
    if form == "compiled":
        with pytest.raises(NotImplementedError, match="expected create_graph=False over compiled"):
            torch.autograd.grad(total, problem.query, create_graph=True)
        return
    (grad,) = torch.autograd.grad(total, problem.query, create_graph=True)
    assert grad.requires_grad


def test_float32_errs_by_rounding_only(form: str) -> None:
    for seed in range(10):
        problem = drawn(seed)
        bias = None if problem.bias is None else problem.bias.float()
        single = Problem(
            problem.query.float(),
            problem.keys.float(),
            problem.memory,
            problem.weights.float(),
            bias,
        )
        read = read_ragged(*single[:3], frontier_of(single.weights), score_bias=single.bias)
        right, _ = dense_read(problem)
        torch.testing.assert_close(
            dense(read[0], problem.memory.num_nodes).double(), right, rtol=0, atol=1e-6
        )


def hub(slots: int, targets: int) -> RaggedMemory:
    """Return a memory in which node 0 has all slots, which lead to a few nodes."""
    numbers = torch.arange(slots)
    return ragged_memory(torch.zeros(slots).long(), numbers % 2, 1 + numbers % targets, targets + 1)


def test_a_hub_of_many_slots_sums_exactly(form: str) -> None:
    memory = hub(100_000, 3)
    start = uniform_frontier([(0,)])
    after, reads = read_ragged(torch.zeros(1, 1), torch.ones(2, 1), memory, start)
    assert after.nodes.tolist() == [1, 2, 3]
    expected = torch.tensor([33334, 33333, 33333]) / 100_000
    torch.testing.assert_close(after.weights, expected, rtol=1e-6, atol=0)
    assert len(reads.slots) == 100_000


def test_the_scale_of_the_weights_has_no_effect(form: str) -> None:
    problem = drawn(3)
    scales = torch.logspace(-300, -2, len(problem.weights), dtype=torch.float64)
    small = problem.weights * scales.unsqueeze(1)
    results = [
        read_ragged(*problem[:3], frontier_of(weights), score_bias=problem.bias)[0].weights
        for weights in (problem.weights, small)
    ]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-14)


def test_huge_scores_and_tiny_weights_do_not_overflow(form: str) -> None:
    memory = ragged_memory(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([2, 3]), 4)
    start = Frontier(torch.tensor([0, 2]), torch.tensor([0, 1]), torch.tensor([1.0, 1e-30]))
    query, keys = torch.tensor([[3e4]]), torch.tensor([[1.0], [1.01]])
    after, _ = read_ragged(query, keys, memory, start)
    torch.testing.assert_close(after.weights, torch.tensor([0.0, 1.0]))


def test_nan_stays_in_its_own_query(form: str) -> None:
    memory = hub(4, 2)
    start = uniform_frontier([(0,), (0,)])
    query = torch.tensor([[torch.nan], [1.0]])
    after, _ = read_ragged(query, torch.ones(2, 1), memory, start)
    assert after.weights[:2].isnan().all()
    assert after.weights[2:].tolist() == [0.5, 0.5]


def test_a_query_without_slots_or_with_all_hidden_reads_nothing(form: str) -> None:
    memory = hub(2, 2)
    start = uniform_frontier([(), (1,), (0,)])
    bias = torch.full((2,), -torch.inf, requires_grad=True)
    query = torch.ones(3, 1, requires_grad=True)
    after, reads = read_ragged(query, torch.ones(2, 1), memory, start, score_bias=bias)
    assert after.offsets.tolist() == [0, 0, 0, 2]
    assert after.weights.tolist() == reads.weights.tolist() == [0, 0]
    after.weights.sum().backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert not query.grad.any()


def test_the_order_of_the_slots_leaves_the_answer(form: str) -> None:
    torch.manual_seed(0)
    starts, keys, targets = torch.randint(5, (3, 40))
    start = Frontier(torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([0.3, 0.7]))
    query, table = torch.randn(1, 4), torch.randn(5, 4)
    results = []
    for order in (torch.arange(40), torch.randperm(40)):
        memory = ragged_memory(starts[order], keys[order], targets[order], 5)
        results.append(dense(read_ragged(query, table, memory, start)[0], 5))
    torch.testing.assert_close(*results)


def test_both_forms_give_the_nodes_in_the_same_order() -> None:
    for seed in range(20):
        problem = drawn(seed)
        reads = []
        for least in FORMS.values():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "WORTH_COMPILING", least)
                reads.append(read_ragged(*problem[:3], frontier_of(problem.weights)))
        for one, other in zip(*reads, strict=True):
            for ours, theirs in zip(one, other, strict=True):
                torch.testing.assert_close(ours, theirs)


WRONG: dict[str, dict[str, Any]] = {
    "read_ragged expected query [B, d] and keys [R, d], got query [2, 3] float32 on cpu, keys "
    "[2, 1] float32 on cpu, weights of the frontier [2] float32 on cpu": {
        "query": torch.zeros(2, 3)
    },
    "read_ragged expected a frontier of 1 queries, got query [1, 1] float32 on cpu, keys [2, 1] "
    "float32 on cpu, weights of the frontier [2] float32 on cpu, its offsets [3] int64 on cpu": {
        "query": torch.zeros(1, 1)
    },
    "read_ragged expected one dtype and device, got query [2, 1] float64 on cpu, keys [2, 1] "
    "float32 on cpu, weights of the frontier [2] float32 on cpu": {
        "query": torch.zeros(2, 1, dtype=torch.float64)
    },
    "read_ragged expected score_bias [4], got query [2, 1] float32 on cpu, keys [2, 1] float32 on "
    "cpu, weights of the frontier [2] float32 on cpu, score_bias [3] float32 on cpu": {
        "score_bias": torch.zeros(3)
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message: str) -> None:
    right: dict[str, Any] = {
        "query": torch.zeros(2, 1), "keys": torch.ones(2, 1), "memory": hub(4, 2),
        "frontier": uniform_frontier([(0,), (0,)]),
    }  # fmt: skip
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        read_ragged(**(right | WRONG[message]))
    assert str(caught.value) == message


def test_rounded_scores_keep_their_maximum(form: str) -> None:
    memory = hub(400, 3)
    query, keys = torch.tensor([[1e6]]), torch.tensor([[1e6], [1e6]])
    bias = 1e5 * torch.rand(400, generator=torch.Generator().manual_seed(0))
    after, _ = read_ragged(query, keys, memory, uniform_frontier([(0,)]), score_bias=bias)
    assert abs(float(after.weights.sum()) - 1) < 1e-5
