"""Compiled code reads plain tensors only; other kinds use the eager form or raise an error."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from memhop import MultiHop
from memhop.ops import Hop, Table, multi_hop, read
from memhop.ops.fused.addresses import address, has_address
from memhop.ops.text.embedding_bag import WeightedBags, embedding_bag
from memhop.ops.text.two_row_attention import TwoRowMemory
from tests.ops.processes import run_script

DIM = 8


def table() -> Table:
    return Table(torch.randn(DIM, DIM) / DIM)


def case(is_shared: bool = False) -> tuple[Tensor, Tensor, list[Hop]]:
    torch.manual_seed(0)
    memories = torch.randn(*(() if is_shared else (3,)), 70, DIM)
    return torch.randn(3, DIM), memories, [Hop(table(), table())] * 2


class Wrapped(torch.Tensor):
    """A tensor that holds another, and no numbers of its own."""

    inner: Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapped":
        wrapped: Wrapped = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        wrapped.inner = inner
        return wrapped

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        def unwrapped(value: Any) -> Any:
            return value.inner if isinstance(value, cls) else value

        return func(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs or {}))


class Doubled(torch.Tensor):
    """A subclass whose weights are twice as large."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        return found * 2 if func is torch.softmax else found


every_sharing = pytest.mark.parametrize("is_shared", [False, True])


@every_sharing
def test_a_view_with_the_negative_bit(is_shared: bool) -> None:
    query, memories, hops = case(is_shared)
    expected = multi_hop(-query, -memories, hops, impl="reference")
    found = multi_hop(torch._neg_view(query), torch._neg_view(memories), hops, impl="fused")
    torch.testing.assert_close(found, expected)
    compiled = torch.compile(
        lambda q, m: multi_hop(q, m, hops, impl="fused"), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(
        compiled(torch._neg_view(query), torch._neg_view(memories)), expected
    )


@every_sharing
def test_a_gradient_with_the_negative_bit(is_shared: bool) -> None:
    query, memories, hops = case(is_shared)
    grad_result, grad_weights = torch.randn(3, DIM), torch.randn(3, 2, 70)
    found = []
    for sign in (torch.neg, torch._neg_view):
        leaves = [query.clone().requires_grad_(), memories.clone().requires_grad_()]
        outputs = multi_hop(leaves[0], leaves[1], hops, need_weights=True, impl="fused")
        grads = [sign(grad_result), sign(grad_weights)]
        found.append(torch.autograd.grad(outputs, leaves, grads))
    torch.testing.assert_close(*found)


@every_sharing
def test_a_tensor_that_wraps_another(is_shared: bool) -> None:
    query, memories, hops = case(is_shared)
    expected = multi_hop(query, memories, hops, impl="reference")
    found = multi_hop(query, Wrapped(memories), hops, impl="fused")
    torch.testing.assert_close(found, expected)
    assert not has_address(Wrapped(memories))
    with pytest.raises(RuntimeError, match="address"):
        address(Wrapped(memories))


def test_a_subclass_counts_at_every_size() -> None:
    query, memories, hops = case()
    doubled = memories.as_subclass(Doubled)
    expected = multi_hop(query, doubled, hops, impl="eager")
    assert not torch.allclose(expected, multi_hop(query, memories, hops), atol=0.1)
    torch.testing.assert_close(multi_hop(query, doubled, hops, impl="fused"), expected)


@every_sharing
def test_a_default_device_moves_nothing(is_shared: bool) -> None:
    query, memories, hops = case(is_shared)
    mask, slots = torch.rand(3, 70) < 0.5, torch.randint(0, 70, (3, 9))
    query.requires_grad_()

    def results() -> list[Tensor]:
        bank = memories if is_shared else memories[0]
        results = [
            multi_hop(query, memories, hops, padding_mask=mask, impl="fused"),
            multi_hop(query, bank, hops, slots=slots, impl="fused"),
            read(query, memories, lengths=torch.tensor([0, 70, 9], device="cpu"), impl="fused"),
        ]
        return [*results, *torch.autograd.grad(sum(x.sum() for x in results), [query])]  # type: ignore[arg-type]

    expected = results()
    with torch.device("meta"):
        torch.testing.assert_close(results(), expected)


@every_sharing
def test_fake_and_meta_tensors_have_shapes(is_shared: bool) -> None:
    query, memories, hops = case(is_shared)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = multi_hop(mode.from_tensor(query), mode.from_tensor(memories), hops, impl="fused")
    assert fake.shape == (3, DIM)
    assert type(fake).__name__ == "FakeTensor"

    def on_meta(table: Table) -> Table:
        assert table.weight is not None
        return Table(table.weight.to("meta"))

    meta_hops = [Hop(on_meta(a), on_meta(c)) for a, c, *_ in hops]
    found = multi_hop(query.to("meta"), memories.to("meta"), meta_hops, impl="fused")
    assert (found.shape, found.device.type) == ((3, DIM), "meta")


def trace_by_jit(call: Callable[..., Tensor], *given: Tensor) -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that jit.trace is old, and keeps sizes
        traced: Callable[..., Tensor] = torch.jit.trace(call, given)  # type: ignore[no-untyped-call]
        return traced


def trace_by_fx(call: Callable[..., Tensor], *given: Tensor) -> Callable[..., Tensor]:
    return make_fx(call)(*given)


@every_sharing
@pytest.mark.parametrize("impl", ["auto", "fused"])
@pytest.mark.parametrize("trace", [trace_by_jit, trace_by_fx])
def test_a_traced_call_takes_other_inputs(trace: Any, impl: str, is_shared: bool) -> None:
    query, memories, hops = case(is_shared)

    def call(query: Tensor, memories: Tensor) -> Tensor:
        return multi_hop(query, memories, hops, impl=impl)

    traced = trace(call, query, memories)
    torch.testing.assert_close(traced(query + 1, memories * 2), call(query + 1, memories * 2))


@pytest.mark.parametrize("tying", ["none", "adjacent", "layerwise"])
def test_a_traced_layer_takes_other_inputs(tying: Any) -> None:
    net = MultiHop(DIM, DIM, 2, tying=tying, temporal_slots=4)
    query, memories, _ = case()
    traced = trace_by_jit(net, query, memories)
    torch.testing.assert_close(traced(query + 1, memories * 2), net(query + 1, memories * 2))


def test_traced_sums_of_rows_take_other_inputs() -> None:
    """The operations of the text model."""
    torch.manual_seed(0)
    rows, lengths = torch.randint(0, 30, (16, 2, 5)), torch.full((16,), 5)

    def read_once(query: Tensor, bank: Tensor) -> Tensor:
        memory = TwoRowMemory(torch.stack([bank, bank]), rows, lengths, mask_rest=True)
        return memory.read(query, 0, 1)[0]

    given = torch.randn(16, DIM), torch.randn(30, DIM)
    traced = make_fx(read_once)(*given)
    torch.testing.assert_close(traced(given[0], given[1] * 2), read_once(given[0], given[1] * 2))
    places = torch.arange(201)
    ones = torch.ones(200)
    bags = WeightedBags(places, torch.randint(0, 30, (200,)), places[:-1], ones, ones, None)
    tables = torch.randn(1, 1, 30, DIM)
    for trace in (trace_by_fx, trace_by_jit):
        summed = trace(lambda tables: embedding_bag(tables, bags, None), tables)
        torch.testing.assert_close(summed(tables * 2), embedding_bag(tables * 2, bags, None))
    torch.testing.assert_close(
        embedding_bag(torch._neg_view(tables), bags, None), embedding_bag(-tables, bags, None)
    )


@every_sharing
def test_hooks_on_saved_tensors_may_change_their_strides(is_shared: bool) -> None:
    query, memories, hops = case(is_shared)

    def other_strides(saved: Tensor) -> Tensor:
        if saved.dim() < 2 or not saved.is_floating_point():
            return saved
        return saved.transpose(0, -1).contiguous().transpose(0, -1)

    found = []
    for unpack in (lambda saved: saved, other_strides):
        leaves = [query.clone().requires_grad_(), memories.clone().requires_grad_()]
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, unpack):
            total = multi_hop(leaves[0], leaves[1], hops, impl="fused").cos().sum()
            found.append(torch.autograd.grad(total, leaves))
    torch.testing.assert_close(*found)


def test_modes_see_the_operations_of_a_fused_call() -> None:
    query, memories, hops = case()
    with FlopCounterMode(display=False) as counter:
        multi_hop(query, memories, hops, impl="fused")
    # scores and sums, 2 products of [70, DIM]; A^T q and C r, 2 of [DIM, DIM]; twice 3 rows
    assert counter.get_total_flops() == 2 * 3 * 2 * (2 * 70 * DIM + 2 * DIM * DIM)
    names: list[str] = []

    def called(_: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))

    modes: list[Any] = [
        type("Functions", (TorchFunctionMode,), {"__torch_function__": called})(),
        type("Operations", (TorchDispatchMode,), {"__torch_dispatch__": called})(),
    ]
    for mode in modes:
        names.clear()
        with mode:
            multi_hop(query, memories, hops, impl="fused")
        assert any("softmax" in name for name in names)


NESTED = "strided tensors (padded, with a mask, instead of nested ones)"


@pytest.mark.parametrize(
    ("memories", "came"),
    [
        (lambda m: m.to_sparse(), "memories [3, 70, 8] float32 sparse_coo on cpu"),
        (lambda m: m[0].to_sparse_csr(), "memories [70, 8] float32 sparse_csr on cpu"),
        (lambda m: m.to_mkldnn(), "memories [3, 70, 8] float32 _mkldnn on cpu"),
        (lambda m: torch.nested.nested_tensor(list(m)), "memories of type nested tensor float32"),
        (
            lambda m: torch.nested.nested_tensor(list(m), layout=torch.jagged),
            "memories of type nested tensor float32",
        ),
        (
            lambda m: torch.masked.masked_tensor(m, m > 0),
            "memories of type masked tensor float32",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch calls these layouts prototypes
def test_layouts_without_rows_of_numbers_are_refused(memories: Any, came: str) -> None:
    query, plain, hops = case()
    for impl in ("auto", "fused", "reference"):
        with pytest.raises(ValueError, match="strided") as error:
            multi_hop(query, memories(plain), hops, impl=impl)
        assert (
            str(error.value)
            == f"multi_hop expected {NESTED}, got query [3, 8] float32 on cpu, {came}"
        )


def test_a_sparse_mask_is_refused() -> None:
    query, memories, hops = case()
    with pytest.raises(ValueError, match="multi_hop expected strided tensors"):
        multi_hop(query, memories, hops, padding_mask=torch.ones(3, 70).bool().to_sparse())


@pytest.mark.filterwarnings("ignore")  # torch says that jit.script is old
@pytest.mark.parametrize("net", [MultiHop(3, 4), torch.nn.Sequential(MultiHop(3, 4))])
def test_a_layer_cannot_be_scripted(net: Any) -> None:
    with pytest.raises(ValueError, match=r"^MultiHop cannot be scripted: use torch\.export"):
        torch.jit.script(net)


SLOTS = """
    import itertools
    import sys
    import torch
    from memhop.ops import Hop, Table, multi_hop

    torch.manual_seed(0)
    hops = [Hop(Table(torch.randn(8, 16) / 16), Table(torch.randn(8, 16) / 16))] * 2
    bank, slots = torch.randn(100, 16), torch.randint(100, (4, 20))
    query, lengths = torch.randn(4, 8), torch.tensor([0, 20, 3, 4])
    expected = multi_hop(query, bank, hops, slots=slots)

    def check(backend, impl):
        def by_slots(query, slots):
            return multi_hop(query, bank, hops, slots=slots, impl=impl)

        def by_lengths(query, lengths):
            return multi_hop(query, bank[:20], hops, lengths=lengths, impl=impl)

        call = torch.compile(by_slots, backend=backend)
        torch.testing.assert_close(call(query, slots), expected)
        for wrong in (100, -1, 2**40):
            refuses(call, slots, wrong, f"{backend} {impl}: slots from 0 to")
        call = torch.compile(by_lengths, backend=backend)
        call(query, lengths)
        for wrong in (21, -1):
            refuses(call, lengths, wrong, f"{backend} {impl}: lengths from 0 to")

    def refuses(call, indices, wrong, message):
        indices = indices.clone()
        indices.view(-1)[0] = wrong
        print(message, wrong, flush=True)  # the last line names the call that ended the process
        try:
            call(query, indices)
        except (RuntimeError, ValueError) as error:
            assert message.partition(": ")[2] in str(error), error
        else:
            sys.exit(f"{message}: {wrong} was read")

    for case in itertools.product(("eager", "aot_eager"), ("fused", "eager", "auto")):
        torch.compiler.reset()
        check(*case)
"""


@pytest.mark.slow  # a process, which a read outside of the bank may end
def test_a_compiled_call_refuses_slots_outside_of_the_bank() -> None:
    run_script(SLOTS)
