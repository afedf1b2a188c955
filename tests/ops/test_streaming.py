"""Hops over memories that are read part by part equal hops over the same memory in one tensor."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop import MemoryHop, MemoryNetwork, MultiHop
from memhop.ops import Hop, Parts, Quantized, StreamedMemory, Table, forms, multi_hop, read
from memhop.ops.inputs import Stored, storage
from memhop.ops.streamed import Ranges
from tests.ops.fixed_order import FixedOrder
from tests.seeds import seeds

N, D, V, K = 11, 8, 5, 3
I = 6  # noqa: E741
CUTS = [[11], [0, 11], [4, 1, 6], [3, 0, 5, 2, 1], [1] * 11, [11, 0]]


class Overwritten(StreamedMemory):
    """A memory in parts whose tensors hold other numbers as soon as the next part is taken."""

    is_transient = True

    def __init__(self, rows: Stored, sizes: Sequence[int]) -> None:
        self.rows, self.sizes, self.num_streams, self.num_open = rows, sizes, 0, 0

    @property
    def shape(self) -> torch.Size:
        return storage(self.rows).shape

    @property
    def dtype(self) -> torch.dtype:
        return storage(self.rows).dtype

    def ranges(self) -> Ranges:
        ends = torch.tensor([0, *self.sizes]).cumsum(0).tolist()
        return list(pairwise(ends))

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        self.num_streams += 1
        self.num_open += 1
        try:
            for first, last in ranges:
                part = self.rows[first:last]
                if isinstance(part, Quantized):
                    part = Quantized(part.data.clone(), part.scale.clone())
                else:
                    part = part.detach().clone()
                yield part
                storage(part).fill_(torch.nan if storage(part).is_floating_point() else 99)
        finally:
            self.num_open -= 1


def in_parts(rows: Stored, sizes: Sequence[int]) -> Parts:
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return Parts([rows[a:b] for a, b in pairwise(ends)])


def normal(*shape: int) -> Tensor:
    return 0.5 * torch.randn(*shape, dtype=torch.float64)


Options = dict[str, Any]


def drawn(seed: int) -> Options:
    """Draw a query, a memory [N, I], hops and options."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)

    def chance(probability: float) -> bool:
        return torch.rand((), generator=generator).item() < probability

    batch = [(), (3,), (2, 3)][seed % 3]
    has_values = chance(0.3)
    left_out = {"a": chance(0.2), "c": chance(0.2)}
    input_dim = D if left_out["a"] else I
    value_dim = (V if has_values else input_dim) if not left_out["c"] else D
    if not has_values:
        value_dim = input_dim = D if left_out["a"] or left_out["c"] else I

    def table(side: str, size: int) -> Table:
        weight = None if left_out[side] else normal(D, size)
        temporal = normal(int(torch.randint(1, 16, (), generator=generator)), D)
        return Table(weight, normal(D) if chance(0.5) else None, temporal if chance(0.5) else None)

    softmax, transform = not chance(0.2), normal(D, D) if chance(0.3) else None
    hops = [
        Hop(table("a", input_dim), table("c", value_dim), transform, chance(0.3), softmax)
        for _ in range(K)
    ]
    options: Options = {
        "query": normal(*batch, D),
        "memories": normal(N, input_dim),
        "hops": hops,
        "values": normal(N, value_dim) if has_values else None,
        "num_heads": 2 if chance(0.3) else 1,
        "slot_order": "newest_first" if chance(0.3) else "oldest_first",
    }
    if chance(0.4):
        options["padding_mask"] = torch.rand(*batch, N) < 0.5
        if batch:
            options["padding_mask"][0] = True
    elif chance(0.4):
        options["lengths"] = torch.randint(0, N + 1, batch)
    if chance(0.5):
        shape = (*batch, K, N) if chance(0.5) else (*batch, N)
        options["score_bias"] = normal(*shape).masked_fill(torch.rand(shape) < 0.2, -torch.inf)
    return options


def leaves_of(options: Options) -> list[Tensor]:
    """Return the floating tensors of the options but the memory; each gets a gradient."""
    tensors = [options["query"], options.get("score_bias")]
    for hop in options["hops"]:
        tensors += [*hop.a, *hop.c, hop.transform]
    return [tensor.requires_grad_() for tensor in dict.fromkeys(tensors) if tensor is not None]


def outcome(
    options: Options, leaves: list[Tensor], call: Callable[..., Any] = multi_hop
) -> list[Tensor | None]:
    """Return result, weights and gradients of a call."""
    result, weights = call(**options, need_weights=True, average_attn_weights=False)
    torch.manual_seed(1)
    grads = [torch.randn_like(result), torch.randn_like(weights)]
    found = torch.autograd.grad([result, weights], leaves, grads, allow_unused=True)
    return [result, weights, *found]


def assert_same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        if one is None or other is None:
            present = one if other is None else other
            assert present is None or not present.any()
        else:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", seeds(40, 600))
def test_any_partition_gives_the_whole(seed: int) -> None:
    """Results, weights and gradients, of tensors that stay and of tensors that do not."""
    options = drawn(seed)
    leaves = leaves_of(options)
    sizes = CUTS[seed % len(CUTS)]
    rows = [part for part in (options["memories"], options["values"]) if part is not None]
    with_rows = [*leaves, *(part.requires_grad_() for part in rows)]
    expected = outcome({**options, "impl": "reference"}, with_rows)

    def replaced(cut: Callable[[Stored, Sequence[int]], StreamedMemory]) -> Options:
        parts = {
            name: None if options[name] is None else cut(options[name], sizes)
            for name in ("memories", "values")
        }
        impl = ["auto", "eager", "fused", "reference"][seed % 4]
        if options["slot_order"] == "newest_first" and impl == "fused":
            impl = "auto"  # a single part is one tensor, and fused has no newest_first
        return {**options, **parts, "impl": impl}

    assert_same(outcome(replaced(in_parts), with_rows), expected)
    del expected[len(expected) - len(rows) :]
    assert_same(outcome(replaced(Overwritten), leaves), expected)


@pytest.mark.parametrize("seed", seeds(6, 60))
@pytest.mark.parametrize("batch", [(), (4,)])
def test_a_read_of_parts(seed: int, batch: tuple[int, ...]) -> None:
    torch.manual_seed(seed)
    query, rows, values = normal(*batch, I), normal(N, I), normal(N, V) if seed % 2 else None
    mask = torch.rand(*batch, N) < 0.4
    bias = normal(N)
    leaves = [query.requires_grad_(), bias.requires_grad_()]
    sizes = CUTS[seed % len(CUTS)]
    for softmax in (True, False):
        expected = read(
            query, rows, values, padding_mask=mask, score_bias=bias, softmax=softmax,
            need_weights=True, impl="reference",
        )  # fmt: skip
        lse = read(query, rows, values, padding_mask=mask, score_bias=bias, need_lse=True)[1]
        for cut in (in_parts, Overwritten):
            found = read(
                query, cut(rows, sizes), None if values is None else cut(values, sizes),
                padding_mask=mask, score_bias=bias, softmax=softmax, need_weights=True,
                need_lse=softmax,
            )  # fmt: skip
            together = [*expected, lse] if softmax else [*expected]
            torch.testing.assert_close([*found], together, rtol=1e-11, atol=1e-12)
            grads = [torch.randn_like(part) for part in found]
            torch.testing.assert_close(
                torch.autograd.grad(found, leaves, grads, retain_graph=True),
                torch.autograd.grad(together, leaves, grads, retain_graph=True),
                rtol=1e-10, atol=1e-12,
            )  # fmt: skip


@pytest.mark.parametrize("store", [lambda rows: rows, lambda rows: rows.bfloat16(), Quantized.of])
@pytest.mark.parametrize("cut", [in_parts, Overwritten])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_float32_and_smaller_storage(store: Any, cut: Any, num_heads: int) -> None:
    """A streamed memory errs no more than twice as much as float32 in a fixed order."""
    torch.manual_seed(0)
    query = torch.randn(3, 32)
    stored = store(torch.randn(400, 32))
    table = Table(None if num_heads > 1 else torch.eye(32), torch.randn(32))
    hops = [Hop(table, table)] * 2
    exact = stored.dequantized() if isinstance(stored, Quantized) else stored.float()

    def doubled(hop: Hop) -> Hop:
        a, c = (Table(*(None if x is None else x.double() for x in t)) for t in (hop.a, hop.c))
        return Hop(a, c)

    truth = multi_hop(
        query.double(), exact.double(), [doubled(hop) for hop in hops], num_heads=num_heads,
        impl="reference",
    )  # fmt: skip
    with FixedOrder():  # type: ignore[no-untyped-call]
        one = multi_hop(query, exact, hops, num_heads=num_heads, impl="reference")
    found = multi_hop(query, cut(stored, [1, 150, 249]), hops, num_heads=num_heads)
    assert found.dtype == torch.float32
    budget = 2 * (one.double() - truth).abs().max() + 1e-6
    assert (found.double() - truth).abs().max() <= budget


def test_half_types_and_autocast_have_the_dtypes_of_one_tensor() -> None:
    torch.manual_seed(0)
    net = MultiHop(I, D, 2).bfloat16()
    query, rows = torch.randn(3, D).bfloat16(), torch.randn(N, I).bfloat16()
    for cut in (in_parts, Overwritten):
        found = net(query, cut(rows, [5, 6]), need_weights=True)
        torch.testing.assert_close(found, net(query, rows, need_weights=True), rtol=2e-2, atol=2e-2)
    full = MultiHop(I, D, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = full(query.float(), in_parts(rows.float(), [5, 6]), need_weights=True)
        expected = full(query.float(), rows.float(), need_weights=True)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


LAYERS = [
    lambda: MemoryHop(I, D, temporal_slots=4),
    lambda: MultiHop(I, D, 3, tying="adjacent", num_heads=2),
    lambda: MultiHop(I, D, 2, tying="layerwise", relu=0.5, slot_order="newest_first"),
    lambda: MemoryNetwork(I, D, 3, temporal_slots=20, num_memories=N),
    lambda: MultiHop(D, D, 2, embed=False, num_heads=4),
    lambda: MemoryHop(I, D, softmax=False),
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_layers(layer: Callable[[], Any], batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = layer().double().eval()
    size = I if isinstance(net, MemoryNetwork) else D
    query, rows = normal(*batch, size), normal(N, D if getattr(net, "input_dim", I) == D else I)
    mask = torch.rand(*batch[:1], N) < 0.3
    bias = normal(N)
    options = {"memory_padding_mask": mask, "score_bias": bias, "need_weights": True}
    parameters = [*net.parameters(), query.requires_grad_()]
    expected = net(query, rows, **options)
    grads = [torch.randn_like(part) for part in expected]
    expected_grads = torch.autograd.grad(expected, parameters, grads, allow_unused=True)
    for cut in (in_parts, Overwritten):
        memory = cut(rows, [4, 0, 7])
        found = net(query, memory, **options)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
        found_grads = torch.autograd.grad(found, parameters, grads, allow_unused=True)
        assert_same([*found_grads], [*expected_grads])
        torch.testing.assert_close(net(query, memory, values=memory, **options), expected)


def test_a_hop_reads_the_memory_once() -> None:
    memory, hops = Overwritten(normal(N, I), [4, 7]), MultiHop(I, D, 3).double()
    hops(normal(2, D), memory)
    assert memory.num_streams == 3
    torch.autograd.grad(hops(normal(2, D), memory).sum(), list(hops.parameters()))
    assert memory.num_streams == 9  # once more a hop in the backward pass


def test_an_error_closes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file behind a stream must not stay open as long as the traceback of an error."""
    memory, hops = Overwritten(normal(N, I), [4, 7]), MultiHop(I, D, 1).double()
    monkeypatch.setattr(forms, "outputs_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        hops(normal(2, D), memory)
    assert caught.tb is not None
    assert memory.num_open == 0


def test_values_in_one_tensor_and_keys_in_parts() -> None:
    query, rows, values = normal(3, I), normal(N, I), normal(3, N, V)
    table, own = Table(None), Table(normal(I, V))
    expected = multi_hop(query, rows, [Hop(table, own)], values=values)
    for cut in (in_parts, Overwritten):
        found = multi_hop(query, cut(rows, [4, 7]), [Hop(table, own)], values=values)
        torch.testing.assert_close(found, expected)
    layer = MultiHop(I, D, 2, value_dim=V).double()
    for leading in ((3,), (3, 2)):
        query = normal(*leading, D)
        expected = layer(query, rows, values=values)
        torch.testing.assert_close(layer(query, in_parts(rows, [4, 7]), values=values), expected)
    swapped = multi_hop(
        query, rows, [Hop(Table(normal(D, I)), Table(normal(D, V)))], values=values[0]
    )
    assert swapped.shape == query.shape


def test_no_slots() -> None:
    memory, hops = Overwritten(normal(0, I), []), MultiHop(I, D, 2).double()
    query = normal(2, D)
    result, attention = hops(query, memory, need_weights=True)
    assert torch.equal(result, query)
    assert attention.shape == (2, 2, 0)


def test_second_derivatives_of_parts_that_do_not_stay_are_refused() -> None:
    query = normal(2, D).requires_grad_()
    result = MultiHop(I, D, 1).double()(query, Overwritten(normal(N, I), [4, 7]))
    with pytest.raises(NotImplementedError, match="expected create_graph=False over a streamed"):
        torch.autograd.grad(result.sin().sum(), query, create_graph=True)


def test_what_cannot_be_streamed_is_refused() -> None:
    memory, query = Parts([normal(4, I), normal(7, I)]), normal(2, D)
    hops = MultiHop(I, D, 2, dropout=0.5).double()
    with pytest.raises(ValueError, match=r"expected dropout 0 over memories in parts, got 0\.5"):
        hops(query, memory)
    hops.eval()(query, memory)
    with pytest.raises(ValueError, match="slots, got memories in parts"):
        hops(query, memory, slots=torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="got impl='project'"):
        read(normal(2, I), memory, impl="project")
    with pytest.raises(NotImplementedError, match="memories in parts cannot be compiled"):
        torch.func.vmap(lambda row: hops(row, memory))(query)
    hops.get_submodule("0.embed_a").register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"MultiHop expected memories in one tensor, since its"):
        hops(query, memory)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (normal(N, I + 1), f"memories [11, {I + 1}] float64 on cpu"),
        (normal(N, I).float(), "memories [11, 6] float32 on cpu"),
    ],
)
def test_a_wrong_memory_gets_the_error_of_one_tensor(rows: Tensor, message: str) -> None:
    hops = MultiHop(I, D, 2).double()
    with pytest.raises(ValueError, match="MultiHop expected") as one_tensor:
        hops(normal(2, D), rows)
    with pytest.raises(ValueError, match="MultiHop expected") as in_two:
        hops(normal(2, D), in_parts(rows, [4, 7]))
    assert str(in_two.value) == str(one_tensor.value)
    assert message in str(in_two.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "Parts expected at least one part [n, I], got none"),
        (torch.zeros(2, 3), "Parts expected a list of parts [n, I], got Tensor"),
        ([1], "Parts expected tensors or streamed memories, got parts[0] of type int"),
        (
            [torch.zeros(2, 3), torch.zeros(2, 4)],
            "Parts expected parts [n, I] with one I, got parts[0] [2, 3] float32 on cpu, parts[1] "
            "[2, 4] float32 on cpu",
        ),
        (
            [torch.zeros(2, 3), torch.zeros(2, 3).half()],
            "Parts expected parts of one dtype on one device, got parts[0] [2, 3] float32 on cpu, "
            "parts[1] [2, 3] float16 on cpu",
        ),
    ],
)  # fmt: skip
def test_wrong_parts(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match="Parts expected") as caught:
        Parts(parts)
    assert str(caught.value) == message


@pytest.mark.parametrize("store", [lambda rows: rows, Quantized.of])
def test_parts_of_streamed_memories(store: Any) -> None:
    """Old slots in a file, new ones in a tensor."""
    query, rows = torch.randn(3, I), torch.randn(N, I)
    stored = store(rows)
    old, middle, new = stored[:6], stored[6:9], stored[9:]
    memory = Parts([Overwritten(old, [4, 2]), middle, Parts([new]), Overwritten(new[:0], [])])
    assert memory.is_transient
    assert memory.shape == (N, I)
    assert list(memory.ranges()) == [(0, 4), (4, 6), (6, 9), (9, 11)]
    layer = MultiHop(I, D, 2, temporal_slots=5)
    query = torch.randn(3, D)
    expected = layer(query, stored, need_weights=True)
    torch.testing.assert_close(layer(query, memory, need_weights=True), expected)
    weights = list(layer.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(layer(query, memory).sum(), weights, allow_unused=True),
        torch.autograd.grad(layer(query, stored).sum(), weights, allow_unused=True),
    )
    exact = stored.dequantized() if isinstance(stored, Quantized) else stored
    for sizes in ([3, 4, 4], [0, 11], [5, 1, 0, 5]):
        parts = []
        for part in memory.stream(list(pairwise(torch.tensor([0, *sizes]).cumsum(0).tolist()))):
            parts.append(part.dequantized() if isinstance(part, Quantized) else part.clone())
        assert torch.equal(torch.cat(parts), exact)
    assert not Parts([middle, new]).is_transient
    assert repr(Parts([middle, new])).startswith("Parts([3, 6], [2, 6], ")


class Reused(Overwritten):
    """A memory in parts that take turns in three buffers, as those of a file do."""

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        assert isinstance(self.rows, Tensor)
        longest = max(last - first for first, last in ranges)
        buffers = [self.rows.new_empty(longest, self.rows.shape[1]) for _ in range(3)]
        for number, (first, last) in enumerate(ranges):
            buffer = buffers[number % 3][: last - first]
            buffer.copy_(self.rows[first:last])
            yield buffer


@pytest.mark.parametrize("impl", ["auto", "eager", "fused", "reference"])
@pytest.mark.parametrize("needs", ["values", "values and query", "part", "part and query"])
@pytest.mark.parametrize("kind", [Overwritten, Reused])
def test_gradients_of_tensors_next_to_parts_that_do_not_stay(
    kind: Any, needs: str, impl: str
) -> None:
    torch.manual_seed(0)
    rows, values, new = normal(N, D), normal(N + 2, D), normal(2, D)
    query = normal(3, D).requires_grad_("query" in needs)
    tensor = (values if "values" in needs else new).requires_grad_()
    leaves = [tensor, *([query] if query.requires_grad else [])]
    hops = [Hop(Table(None), Table(None))] * 2

    def outcome(memories: StreamedMemory | Tensor, impl: str) -> Any:
        given = values if "values" in needs else None
        result, p = multi_hop(query, memories, hops, values=given, need_weights=True, impl=impl)
        grads = [torch.ones_like(result), p.detach().cos()]
        return torch.autograd.grad([result, p], leaves, grads)

    expected = outcome(torch.cat([rows, new]), "reference")
    found = outcome(Parts([kind(rows, [2, 2, 2, 2, 3]), new]), impl)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_ranges_across_parts() -> None:
    rows = normal(N, I)
    for stored in (rows, Quantized.of(rows)):
        memory = in_parts(stored, [4, 0, 7])
        ranges = [(0, 3), (3, 9), (9, 9), (9, 11)]
        for (first, last), part in zip(ranges, memory.stream(ranges), strict=True):
            exact = stored[first:last]
            pair = [
                one.dequantized() if isinstance(one, Quantized) else one for one in (part, exact)
            ]
            assert torch.equal(*pair)
    assert in_parts(rows, [N]).whole() is not None
    assert in_parts(rows, [4, 7]).whole() is None
