"""What is attached to the modules of a layer counts: the layer calls them then."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from memhop import MemoryHop, MemoryNetwork, MultiHop, Quantized
from memhop.nn.embedding import EmbeddingTable
from memhop.nn.hop_weights import must_be_called
from tests.seeds import pairs, slow

TYINGS = ["none", "adjacent", "layerwise"]
SIZES = [(4, 10), (4, 40_000)]  # [B, N]; "auto" reads the second one by compiled code
IN, DIM = 16, 8


def layer(tying: Any = "none", **options: Any) -> MultiHop:
    torch.manual_seed(0)
    return MultiHop(IN, DIM, 2, tying=tying, dtype=torch.float64, **options)


def inputs(rows: int = 4, slots: int = 10) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    query, memories = torch.randn(rows, DIM), torch.randn(rows, slots, IN)
    return query.double(), memories.double()


def tables(net: MultiHop) -> list[tuple[Any, Any]]:
    """The modules that embed keys and values in each hop."""
    if net.tying == "adjacent":
        return list(zip(net.tables[:-1], net.tables[1:], strict=True))
    if net.tying == "layerwise":
        return [(net.embed_a, net.embed_c)] * net.num_hops
    modules: Any = net._modules
    return [(hop["embed_a"], hop["embed_c"]) for hop in (modules[str(k)] for k in range(2))]


def formula(net: MultiHop, query: Tensor, memories: Tensor) -> tuple[Tensor, Tensor]:
    """The hops by calling the modules, without masks and temporal rows."""
    attention = []
    for embed_a, embed_c in tables(net):
        keys, values = embed_a(memories), embed_c(memories)
        scores = (query.unsqueeze(-2) * keys).sum(-1)
        weights = torch.softmax(scores, -1) if net.softmax else scores
        carried = net.transform(query) if net.tying == "layerwise" else query
        query = carried + (weights.unsqueeze(-1) * values).sum(-2)
        query = query.relu() if net.relu else query
        attention.append(weights)
    return query, torch.stack(attention, -2)


def first(net: MultiHop) -> Any:
    return tables(net)[0][0]


def with_hook(net: MultiHop) -> None:
    first(net).register_forward_hook(lambda module, given, result: result * 2)


def with_pre_hook(net: MultiHop) -> None:
    first(net).register_forward_pre_hook(lambda module, given: (given[0] * 2,))


def with_pruning(net: MultiHop) -> None:
    prune.l1_unstructured(first(net), "weight", 0.5)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        first(net).weight_orig.mul_(3)  # what the hook makes the weight of at the next call


def with_spectral_norm(net: MultiHop) -> None:
    torch.nn.utils.spectral_norm(first(net))
    with torch.no_grad():
        first(net).weight_orig.mul_(3)
    net.eval()  # training updates its estimate at every call


def with_parametrization(net: MultiHop) -> None:
    parametrizations.weight_norm(first(net))
    with torch.no_grad():
        first(net).parametrizations.weight.original0.mul_(3)


def with_patched_forward(net: MultiHop) -> None:
    plain = first(net).forward
    first(net).forward = lambda memories: plain(memories) * 2


class Twice(EmbeddingTable):
    def forward(self, memories: Tensor) -> Tensor:
        return super().forward(memories) * 2


def with_subclass(net: MultiHop) -> None:
    first(net).__class__ = Twice


class LowRank(nn.Module):
    """A table and a product of two small matrices, as fine-tuning adds them."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(IN, 2, False), nn.Linear(2, DIM, False)
        self.double()

    def forward(self, memories: Tensor) -> Tensor:
        return self.base(memories) + self.up(self.down(memories))  # type: ignore[no-any-return]


def with_adapter(net: MultiHop) -> None:
    if net.tying == "none":
        net._modules["0"]["embed_a"] = LowRank(first(net))  # type: ignore[index, operator]
    elif net.tying == "adjacent":
        net.tables[0] = LowRank(net.tables[0])
    else:
        net.embed_a = LowRank(net.embed_a)  # type: ignore[assignment]


def with_other_transform(net: MultiHop) -> None:
    if net.tying == "layerwise":
        net.transform = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh()).double()  # type: ignore[assignment]
    else:
        with_hook(net)


ATTACHMENTS: list[Callable[[MultiHop], None]] = [
    with_hook, with_pre_hook, with_pruning, with_spectral_norm, with_parametrization,
    with_patched_forward, with_subclass, with_adapter, with_other_transform,
]  # fmt: skip


@pytest.mark.parametrize(("attach", "tying", "size"), pairs(ATTACHMENTS, TYINGS, SIZES))
def test_what_is_attached_to_a_table_counts(
    attach: Callable[[MultiHop], None], tying: str, size: tuple[int, int]
) -> None:
    net = layer(tying).requires_grad_(size == SIZES[0])
    plain = copy.deepcopy(net)
    attach(net)
    query, memories = inputs(*size)
    expected, attention = formula(net, query, memories)
    found = net(query, memories, need_weights=True)
    torch.testing.assert_close(found, (expected, attention))
    assert not torch.allclose(found[0], plain(query, memories), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net(query, memories), expected)
    if size == SIZES[0]:
        of_formula, of_layer = (
            torch.autograd.grad(y.cos().sum(), list(net.parameters()), allow_unused=True)
            for y in (formula(net, query, memories)[0], net(query, memories))
        )
        for got, want in zip(of_layer, of_formula, strict=True):
            if want is not None:
                torch.testing.assert_close(got, want)


@pytest.fixture
def global_hook() -> Iterator[list[str]]:
    seen: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, result: seen.append(type(module).__name__)
    )
    yield seen
    handle.remove()


def test_global_hooks_see_every_table(global_hook: list[str]) -> None:
    net = layer("adjacent")
    net(*inputs())
    assert global_hook == ["EmbeddingTable"] * 3 + ["MultiHop"]


def test_backward_hooks_see_a_table() -> None:
    net, seen = layer(), []
    first(net).register_full_backward_hook(lambda *_: seen.append("full"))
    tables(net)[1][1].register_full_backward_pre_hook(lambda *_: seen.append("pre"))
    query, memories = inputs()
    torch.autograd.backward(net(query, memories.requires_grad_()).sum())
    assert sorted(seen) == ["full", "pre"]


def test_a_table_gets_the_memory_as_it_is_given() -> None:
    net, seen = layer(), []
    first(net).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    query, memories = inputs()
    net(query, memories)
    net(query, memories[0])
    assert seen[0] is memories
    assert torch.equal(seen[1], memories[0])
    net, query, int8 = net.float(), query.float(), Quantized.of(memories)
    torch.testing.assert_close(net(query, int8), net(query, int8.dequantized()))
    assert torch.equal(seen[2], int8.dequantized())
    half, plain = memories.bfloat16(), layer().float()
    torch.testing.assert_close(net(query, half), plain(query, half))


MASKS = {
    "[B, N]": torch.rand(4, 10, generator=torch.Generator().manual_seed(0)) < 0.5,
    "[1, N]": torch.arange(10)[None] > 6,
    "[N]": torch.arange(10) < 3,
    "all": torch.ones(4, 10, dtype=torch.bool),
}


@pytest.mark.parametrize(
    ("tying", "softmax", "temporal_slots", "mask", "shared"),
    pairs(TYINGS, [True, False], [None, 3, 99], list(MASKS), [False, True]),
)
def test_a_hook_that_does_nothing_changes_nothing(
    tying: str, softmax: bool, temporal_slots: int | None, mask: str, shared: bool
) -> None:
    net = layer(tying, relu=not softmax, softmax=softmax, temporal_slots=temporal_slots)
    query, memories = inputs()
    memories = memories[0] if shared else memories
    given: dict[str, Any] = {"memory_padding_mask": MASKS[mask], "need_weights": True}

    def outcome(memories: Tensor) -> list[Tensor]:
        result = net(query, memories, **given)
        total = result[0].cos().sum() + result[1].square().sum()
        # of a, which drops out of a softmax, plain layers give none and called ones next to nothing
        grads = torch.autograd.grad(total, list(net.parameters()), materialize_grads=True)
        return [*result, *grads]

    plain = outcome(memories)
    first(net).register_forward_hook(lambda *_: None)
    torch.testing.assert_close(outcome(memories), plain)
    ignored = MASKS[mask].expand(4, 10)
    ignored = ignored.all(0) if shared else ignored
    filled = memories.masked_fill(ignored.unsqueeze(-1), torch.nan)
    torch.testing.assert_close(outcome(filled), plain)


def test_a_query_alone_has_no_batch_axis() -> None:
    net, (query, memories) = layer(), inputs()
    with_hook(net)
    result, attention = net(query[0], memories[0], need_weights=True)
    assert (result.shape, attention.shape) == ((DIM,), (2, 10))
    torch.testing.assert_close(result, net(query, memories)[0])


def test_one_hop_and_a_network_call_their_modules() -> None:
    torch.manual_seed(0)
    hop, (query, memories) = MemoryHop(IN, DIM, dtype=torch.float64), inputs()
    plain = hop(query, memories, need_weights=True)
    hop.embed_c.register_forward_hook(lambda module, given, result: result * 2)
    doubled = hop(query, memories, need_weights=True)
    torch.testing.assert_close(doubled[0] - query, 2 * (plain[0] - query))
    assert doubled[1].shape == (4, 10)
    net = MemoryNetwork(IN, DIM, 2, dtype=torch.float64)
    net.query_proj = nn.Sequential(net.query_proj, nn.Tanh())  # type: ignore[assignment]
    query = torch.randn(4, IN).double()
    expected = net.output_proj(formula(net.hops, net.query_proj(query), memories)[0])
    torch.testing.assert_close(net(query, memories), expected)


def test_temporal_rows_are_those_of_the_table_inside() -> None:
    net, (query, memories) = layer(temporal_slots=3), inputs()
    plain = net(query, memories)
    net._modules["0"]["embed_a"] = nn.Sequential(first(net))  # type: ignore[index, operator]
    torch.testing.assert_close(net(query, memories), plain)
    base = layer(temporal_slots=3)
    alone = layer()
    alone._modules["0"]["embed_a"] = first(base)  # type: ignore[index, operator]
    expected = alone(query, memories)
    first(base).register_forward_hook(lambda *_: None)
    torch.testing.assert_close(alone(query, memories), expected)


def test_two_tables_with_temporal_rows_in_one_are_refused() -> None:
    class Sum(nn.Module):
        def __init__(self, *tables: nn.Module) -> None:
            super().__init__()
            self.tables = nn.ModuleList(tables)

        def forward(self, memories: Tensor) -> Tensor:
            return torch.stack([table(memories) for table in self.tables]).sum(0)

    net, other = layer(temporal_slots=3), layer(temporal_slots=3)
    net._modules["0"]["embed_a"] = Sum(first(net), first(other))  # type: ignore[index, operator]
    with pytest.raises(ValueError, match="one table with temporal rows on one device, got 2 tab"):
        net(*inputs())
    with pytest.raises(ValueError, match="expected an EmbeddingTable, whose weights are read"):
        net.as_hops()
    net._modules["0"]["embed_a"] = None  # type: ignore[index, operator]
    with pytest.raises(ValueError, match="expected a module as a table of a hop, got NoneType"):
        net(*inputs())


def test_autocast_and_half_layers_give_their_dtype_with_a_hook() -> None:
    net, (query, memories) = layer().float(), inputs()
    query, memories = query.float(), memories.float()
    half, int8 = layer().bfloat16(), Quantized.of(memories)
    calls: list[Callable[[], Tensor]] = [
        lambda: net(query, memories), lambda: net(query, int8), lambda: half(query.bfloat16(), int8)
    ]  # fmt: skip
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            plain = [call() for call in calls]
            handles = [first(each).register_forward_hook(lambda *_: None) for each in (net, half)]
            for found, expected in zip((call() for call in calls), plain, strict=True):
                assert found.dtype == expected.dtype
                torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)
            for handle in handles:
                handle.remove()


def test_a_parametrized_table_that_hops_share_is_computed_once() -> None:
    class Counted(nn.Module):
        calls = 0

        def forward(self, weight: Tensor) -> Tensor:
            Counted.calls += 1
            return weight

    for tying in ("adjacent", "layerwise"):
        net = layer(tying)
        parametrize.register_parametrization(tables(net)[0][1], "weight", Counted())
        Counted.calls = 0
        net(*inputs())
        assert Counted.calls == 1


def test_a_forward_patched_on_a_class_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (query, memories) = layer("layerwise"), inputs()
    plain = net(query, memories)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, query: query)
    assert not torch.allclose(net(query, memories), plain)


def test_a_layer_that_calls_its_tables_checks_its_inputs() -> None:
    net = layer()
    with_hook(net)
    query, memories = inputs()
    for wrong in ((query[:, 1:], memories), (query, memories[..., 1:]), (query, memories[1:])):
        with pytest.raises(ValueError, match=r"MultiHop expected query \[B, 8\] with memories"):
            net(*wrong)


@pytest.mark.parametrize("attach", [slow(with_hook), with_adapter, slow(with_parametrization)])
def test_a_layer_that_calls_its_tables_compiles_whole(attach: Callable[[MultiHop], None]) -> None:
    net = layer()
    attach(net)
    query, memories = inputs()
    mask = MASKS["[B, N]"]
    expected = net(query, memories, memory_padding_mask=mask)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(query, memories, memory_padding_mask=mask), expected)


def test_a_plain_layer_calls_no_module() -> None:
    for tying in TYINGS:
        net = layer(tying)
        assert not must_be_called(net._hop_modules())
        parametrizations.weight_norm(first(net))
        assert not must_be_called(net._hop_modules())
        with_hook(net)
        assert must_be_called(net._hop_modules())
