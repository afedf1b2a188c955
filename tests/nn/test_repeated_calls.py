"""Calls of a layer that repeat an earlier one, after each change that must have an effect."""

import copy
import pickle
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

import memhop
from memhop import MemoryHop, MultiHop, ops
from memhop.ops.cpu import background, launch
from memhop.ops.repeated import MAX_KEPT


@pytest.fixture(autouse=True)
def _kernels() -> None:
    memhop.warmup()


class Case:
    """A layer with the arguments of its calls."""

    def __init__(self, grad: bool = False, dtype: torch.dtype = torch.float32, **options: Any):
        torch.manual_seed(0)
        self.layer = MultiHop(5, 4, 3, dtype=dtype, **options).requires_grad_(grad)
        self.query = torch.randn(3, 4, dtype=dtype)
        self.memories = torch.randn(3, 7, 5, dtype=dtype)
        self.mask: Tensor | None = None

    def run(self) -> Tensor:
        result: Tensor = self.layer(self.query, self.memories, memory_padding_mask=self.mask)
        return result

    def exact(self) -> Tensor:
        """Return the result by the formula in float64, from the weights as they are now."""

        def cast(table: ops.Table) -> ops.Table:
            return ops.Table(*(part if part is None else part.double() for part in table))

        hops = [
            hop._replace(
                a=cast(hop.a), c=cast(hop.c),
                transform=None if hop.transform is None else hop.transform.double(),
            )
            for hop in self.layer.as_hops()
        ]  # fmt: skip
        return ops.multi_hop(
            self.query.double(), self.memories.double(), hops, padding_mask=self.mask,
            impl="reference",
        )  # fmt: skip

    def check(self) -> None:
        """Check four calls, of which the last repeat the first ones."""
        for _ in range(4):
            torch.testing.assert_close(self.run().double(), self.exact(), atol=1e-5, rtol=1e-5)

    @property
    def kept(self) -> dict[Any, Any]:
        calls = self.layer._kept_hops.hops.known.calls
        return {signature: call for signature, call in calls.items() if call is not None}


def new_numbers(case: Case) -> None:
    case.query, case.memories = torch.randn(3, 4), torch.randn(3, 7, 5)


def other_sizes(case: Case) -> None:
    case.query, case.memories = torch.randn(2, 4), torch.randn(2, 9, 5)


def strided_memories(case: Case) -> None:
    case.memories = torch.randn(3, 7, 11)[:, :, 3:8]


def transposed_memories(case: Case) -> None:
    case.memories = torch.randn(3, 5, 7).mT


def transposed_query(case: Case) -> None:
    case.query = torch.randn(4, 3).mT


def negative_memories(case: Case) -> None:
    case.memories = torch.randn(3, 7, 5, dtype=torch.complex64).conj().imag
    assert case.memories.is_neg()


def shared_memories(case: Case) -> None:
    case.memories = torch.randn(7, 5)


def expanded_memories(case: Case) -> None:
    case.memories = torch.randn(1, 7, 5).expand(3, -1, -1)


def a_mask(case: Case) -> None:
    case.mask = torch.tensor([[True] * 7, [False] * 7, [True, False] * 3 + [True]])


def weights_in_place(case: Case) -> None:
    with torch.no_grad():
        case.layer.get_parameter("1.embed_a.weight").mul_(2)


def other_data(case: Case) -> None:
    case.layer.get_parameter("1.embed_a.weight").data = torch.randn(4, 5)


def transposed_data(case: Case) -> None:
    case.layer.get_parameter("1.embed_a.weight").data = torch.randn(5, 4).mT


def another_parameter(case: Case) -> None:
    case.layer.get_submodule("2.embed_c").weight = nn.Parameter(torch.randn(4, 5))


def no_bias(case: Case) -> None:
    case.layer.get_submodule("2.embed_c").register_parameter("bias", None)


def another_table(case: Case) -> None:
    case.layer.get_submodule("0").embed_a = copy.deepcopy(case.layer.get_submodule("2.embed_c"))


def relu(case: Case) -> None:
    case.layer.relu = True


def linear(case: Case) -> None:
    case.layer.softmax = False


def other_threads(case: Case) -> None:
    torch.set_num_threads(2)


CHANGES = [
    new_numbers, other_sizes, strided_memories, transposed_memories, transposed_query,
    negative_memories, shared_memories, expanded_memories, a_mask, weights_in_place, other_data,
    transposed_data, another_parameter, no_bias, another_table, relu, linear, other_threads,
]  # fmt: skip


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_calls_counts(change: Callable[[Case], None], grad: bool) -> None:
    threads = torch.get_num_threads()
    try:
        case = Case(grad)
        case.check()
        assert case.kept
        change(case)
        case.check()
    finally:
        torch.set_num_threads(threads)


def check_gradients(case: Case, leaves: Sequence[Tensor]) -> None:
    """Check the gradients of four calls; those of a bias that cancels are zeros."""
    for _ in range(4):
        result = case.run()
        grads = torch.autograd.grad(result.square().sum(), leaves)
        exact = torch.autograd.grad(case.exact().square().sum(), leaves, materialize_grads=True)
        for mine, other in zip(grads, exact, strict=True):
            torch.testing.assert_close(mine, other.to(mine), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tying", ["none", "adjacent", "layerwise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temporal_slots", [None, 3])
def test_repeated_gradients_are_those_of_the_formula(
    tying: Any, dtype: torch.dtype, temporal_slots: int | None
) -> None:
    case = Case(True, dtype, tying=tying, temporal_slots=temporal_slots, relu=0.5)
    case.query.requires_grad_()
    case.memories.requires_grad_()
    leaves = [case.query, case.memories, *case.layer.parameters()]
    check_gradients(case, leaves)
    assert case.kept
    case.mask = torch.tensor([[True] * 7, [False] * 7, [True, False] * 3 + [True]])
    check_gradients(case, leaves)
    case.memories = torch.randn(3, 7, 8, dtype=dtype)[:, :, 2:7].requires_grad_()
    check_gradients(case, [case.memories])


def test_gradients_of_large_weights_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "MAX_OUTER_PRODUCTS", 1)
    case = Case(True, torch.float64, tying="layerwise", softmax=False)
    case.query.requires_grad_()
    case.memories.requires_grad_()
    check_gradients(case, [case.query, case.memories, *case.layer.parameters()])
    assert case.kept


@pytest.mark.parametrize("names", [["query"], ["memories"], ["weights"], ["query", "weights"]])
def test_only_needed_gradients_are_computed(names: list[str]) -> None:
    case = Case("weights" in names)
    leaves = list(case.layer.parameters()) if "weights" in names else []
    for name in names:
        if name != "weights":
            leaves.append(getattr(case, name).requires_grad_())
    check_gradients(case, leaves)
    assert case.kept
    parameters = list(case.layer.parameters())
    for parameter in parameters[1:]:
        parameter.requires_grad_(False)
    if "weights" in names:
        check_gradients(case, parameters[:1])


def test_second_derivatives_of_a_repeated_call() -> None:
    case = Case(True, torch.float64)
    case.query.requires_grad_()
    case.memories.requires_grad_()
    leaves = (case.query, case.memories, case.layer.get_parameter("1.embed_a.weight"))

    def call(query: Tensor, memories: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = case.layer(query, memories)
        return result

    case.check()
    assert case.kept
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)
    grads = torch.autograd.grad(case.run(), leaves, torch.eye(3, 4).double().expand(2, 3, 4),
                                is_grads_batched=True)  # fmt: skip
    assert all(torch.allclose(grad[0], grad[1]) for grad in grads)


def test_hooks_on_saved_tensors_may_return_other_strides() -> None:
    case = Case(True)
    case.memories.requires_grad_()
    case.check()
    leaves = [case.memories, *case.layer.parameters()]
    expected = torch.autograd.grad(case.run().sum(), leaves)

    def transposed(tensor: Tensor) -> Tensor:
        return tensor if tensor.dim() < 2 else tensor.mT.contiguous().mT

    result = case.run()
    node: Any = result.grad_fn
    assert "Repeated" in type(node).__name__
    for saved, tensor in zip(node._raw_saved_tensors, node.saved_tensors, strict=True):
        if tensor is not None:
            saved.register_hooks(transposed, lambda tensor: tensor)
    for mine, other in zip(torch.autograd.grad(result.sum(), leaves), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_another_number_of_threads_in_the_backward_pass() -> None:
    threads = torch.get_num_threads()
    layer = MultiHop(16, 16, 1, dtype=torch.float64)
    query, memories = torch.randn(1, 16).double(), torch.randn(1, 300_000, 16).double()
    leaves = list(layer.parameters())
    try:
        torch.set_num_threads(1)
        for _ in range(3):
            result = layer(query, memories)
            torch.set_num_threads(2)
            grads = torch.autograd.grad(result.sum(), leaves)
            torch.set_num_threads(1)
            exact = ops.multi_hop(query, memories, layer.as_hops(), impl="reference").sum()
            expected = torch.autograd.grad(exact, leaves, materialize_grads=True)
            for mine, other in zip(grads, expected, strict=True):
                torch.testing.assert_close(mine, other)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("sizes", [(4, 1, 16, 10), (128, 1, 256, 10), (3, 2, 16, 10)])
def test_several_queries_a_row_repeat(sizes: tuple[int, int, int, int], need_weights: bool) -> None:
    rows, queries, dim, num_slots = sizes
    layer = MultiHop(dim, dim, 2).requires_grad_(False)
    query, memories = torch.randn(rows, queries, dim), torch.randn(rows, num_slots, dim)
    view, hops = memories.unsqueeze(1), layer.as_hops()
    expected, weights = ops.multi_hop(query, view, hops, impl="reference", need_weights=True)
    for _ in range(4):
        found = layer(query, memories, need_weights=need_weights)
        result = found[0] if need_weights else found
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)
        if need_weights:
            torch.testing.assert_close(found[1], weights, atol=1e-4, rtol=1e-4)


def test_a_memory_without_its_storage_is_an_error() -> None:
    case = Case()
    case.check()
    case.memories.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"storage|address"):
        case.run()


def test_a_weight_that_is_a_buffer_counts() -> None:
    case = Case()
    table = case.layer.get_submodule("1.embed_a")
    weight = table.get_parameter("weight").detach()
    del table.weight
    table.register_buffer("weight", weight)
    case.check()
    table.register_buffer("weight", 3 * weight)
    case.check()


@pytest.mark.parametrize("calls_before", range(4))
def test_activation_checkpointing_between_repeated_calls(calls_before: int) -> None:
    case = Case(True)
    leaves = list(case.layer.parameters())
    expected = torch.autograd.grad(case.exact().sum(), leaves, materialize_grads=True)
    for _ in range(calls_before):
        case.run()
    result = checkpoint(case.layer, case.query, case.memories, use_reentrant=False)
    for mine, other in zip(torch.autograd.grad(result.sum(), leaves), expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_a_computed_weight_is_not_kept() -> None:
    case = Case(True)
    case.check()
    for _ in range(3):
        weights = {name: 2 * weight for name, weight in case.layer.named_parameters()}
        computed = [weakref.ref(weight) for weight in weights.values()]
        torch.func.functional_call(case.layer, weights, (case.query, case.memories))
        del weights
        assert all(one() is None for one in computed)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("rows", "num_slots"), [(0, 7), (3, 0), (0, 0), (1, 1)])
def test_empty_and_smallest_calls_repeat(rows: int, num_slots: int, grad: bool) -> None:
    case = Case(grad)
    case.query, case.memories = torch.randn(rows, 4), torch.randn(rows, num_slots, 5)
    case.check()
    case.query.requires_grad_()
    case.memories.requires_grad_()
    check_gradients(case, [case.query, case.memories])


@pytest.mark.parametrize("embed", [False, "a", "c"])
@pytest.mark.parametrize("grad", [False, True])
def test_calls_without_a_table_repeat(embed: Any, grad: bool) -> None:
    layer = MultiHop(5, 5, 2, embed=embed).requires_grad_(grad)
    query, memories = torch.randn(3, 5, requires_grad=grad), torch.randn(3, 7, 5)
    expected = ops.multi_hop(query, memories, layer.as_hops(), impl="reference")
    for _ in range(4):
        torch.testing.assert_close(layer(query, memories), expected)
    if grad:
        exact = torch.autograd.grad(expected.sum(), query)
        torch.testing.assert_close(torch.autograd.grad(layer(query, memories).sum(), query), exact)


def test_a_backward_pass_leaves_the_gradients_of_another() -> None:
    case = Case(True)
    case.check()
    leaves = list(case.layer.parameters())
    first, second = case.run(), case.run() * 2
    grads = torch.autograd.grad(first.sum(), leaves, retain_graph=True)
    kept = [grad.clone() for grad in grads]
    doubled = torch.autograd.grad(second.sum(), leaves)
    again = torch.autograd.grad(first.sum(), leaves)
    for one, other, twice, last in zip(grads, kept, doubled, again, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(last, other)
        torch.testing.assert_close(twice, 2 * other)


def test_a_weight_changed_before_the_backward_pass_is_an_error() -> None:
    case = Case(True)
    case.check()
    result = case.run()
    with torch.no_grad():
        case.layer.get_parameter("1.embed_a.weight").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()  # type: ignore[no-untyped-call]


def test_ignored_slots_may_hold_nan_in_a_repeated_call() -> None:
    case = Case()
    case.mask = torch.tensor([[True] * 7, [False] * 7, [True, False] * 3 + [True]])
    case.check()
    expected = case.run()
    case.memories = case.memories.masked_fill(case.mask.unsqueeze(-1), torch.nan)
    assert torch.equal(case.run(), expected)


def test_attention_on_request_leaves_the_result() -> None:
    case = Case()
    alone = [case.run() for _ in range(4)]
    for average in (True, False, True, False, True):
        result, attention = case.layer(
            case.query, case.memories, need_weights=True, average_attn_weights=average
        )
        assert all(torch.equal(result, one) for one in alone)
        assert attention.shape == ((3, 3, 7) if average else (3, 3, 1, 7))
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    kept = [attention.clone(), case.run()]
    case.layer(case.query * 2, case.memories, need_weights=True)
    assert torch.equal(attention, kept[0])  # no later call writes to it


def test_hooks_and_parametrizations_after_a_kept_call_count() -> None:
    case = Case()
    case.check()
    before, table = case.run(), case.layer.get_submodule("1.embed_a")
    hook = table.register_forward_hook(lambda module, args, output: output * 0)
    assert not torch.allclose(case.run(), before)
    hook.remove()
    assert torch.equal(case.run(), before)

    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    parametrize.register_parametrization(table, "weight", Double())
    assert not torch.allclose(case.run(), before)
    case.check()
    parametrize.remove_parametrizations(table, "weight", leave_parametrized=False)
    case.check()


def test_transforms_and_modes_see_the_call() -> None:
    case = Case()
    case.check()
    expected = case.run()
    batched = torch.vmap(lambda q: case.layer(q, case.memories))(case.query.expand(2, 3, 4))
    torch.testing.assert_close(batched[1], expected)
    found = torch.func.jvp(lambda q: case.layer(q, case.memories), (case.query,), (case.query,))
    assert found[1].any()
    with torch.autocast("cpu", torch.bfloat16):
        assert case.run().dtype == torch.bfloat16
    weights = {name: 2 * weight for name, weight in case.layer.named_parameters()}
    doubled = torch.func.functional_call(case.layer, weights, (case.query, case.memories))
    assert not torch.allclose(doubled, expected)
    assert torch.equal(case.run(), expected)


def test_gradients_are_recorded_as_the_arguments_require() -> None:
    case = Case(True)
    assert case.run().requires_grad
    with torch.no_grad():
        assert not case.run().requires_grad
        assert not case.run().requires_grad
    case.layer.requires_grad_(False)
    assert not case.run().requires_grad
    case.layer.get_parameter("2.embed_c.bias").requires_grad_()
    assert case.run().requires_grad
    case.layer.requires_grad_(False)
    case.memories.requires_grad_()
    assert case.run().requires_grad


def test_copies_share_nothing_and_nothing_is_pickled() -> None:
    case = Case()
    case.check()
    for other in (copy.deepcopy(case.layer), pickle.loads(pickle.dumps(case.layer))):
        assert not other._kept_hops.hops
        assert torch.equal(other(case.query, case.memories), case.run())
    assert case.layer._kept_hops.hops
    assert pickle.dumps(case.layer._kept_hops) == pickle.dumps(Case().layer._kept_hops)
    assert copy.copy(case.layer)._kept_hops is not case.layer._kept_hops
    older = MultiHop.__new__(MultiHop)
    state = {name: part for name, part in vars(case.layer).items() if name != "_kept_hops"}
    older.__setstate__(state)
    assert torch.equal(older(case.query, case.memories), case.run())


def test_no_argument_is_kept() -> None:
    case = Case()
    case.check()
    assert case.kept
    dead = [weakref.ref(case.query), weakref.ref(case.memories)]
    new_numbers(case)
    assert all(one() is None for one in dead)


def test_few_signatures_are_kept() -> None:
    layer = MemoryHop(5, 4).requires_grad_(False)
    for _ in range(2):
        for num_slots in range(1, MAX_KEPT + 1):
            layer(torch.randn(2, 4), torch.randn(2, num_slots, 5))
    calls = layer._kept_hops.hops.known.calls
    assert len(calls) == MAX_KEPT
    assert None not in calls.values()
    for num_slots in range(1, MAX_KEPT + 20):
        for _ in range(2):
            layer(torch.randn(2, 4), torch.randn(2, num_slots, 5))
    assert len(calls) == MAX_KEPT


def test_invalid_calls_fail_after_a_kept_one() -> None:
    case = Case()
    case.check()
    with pytest.raises(ValueError, match="expected"):
        case.layer(case.query, case.memories.double())
    with pytest.raises(ValueError, match="expected"):
        case.layer(case.query[:2], case.memories)
    with pytest.raises(ValueError, match="expected"):
        case.layer(None, case.memories)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="expected"):
        case.layer(torch.nested.nested_tensor([*case.query]), case.memories)
    with pytest.raises(ValueError, match="memory_padding_mask"):
        case.layer(case.query, case.memories, memory_padding_mask=torch.zeros(3, 7))


def test_threads_call_one_layer_at_the_same_time() -> None:
    layer = MultiHop(16, 32, 3).requires_grad_(False)
    queries, memories = torch.randn(64, 4, 32), torch.randn(64, 4, 50, 16)
    expected = [layer(q, m) for q, m in zip(queries, memories, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(layer, queries, memories))
            assert all(map(torch.equal, found, expected))


def test_small_calls_leave_kernels_that_are_not_loaded_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "is_loaded", lambda dtype, backward: False)
    case = Case()
    case.check()
    assert not case.kept
