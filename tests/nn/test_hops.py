"""The layers: what they compute, hold, print and refuse."""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

import memhop
from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop
from memhop.ops import Hop, Quantized, Table
from memhop.ops.inputs import Stored
from tests.ops import oracle

TYINGS = ["none", "adjacent", "layerwise"]


def stated_hops(state: dict[str, Tensor], tying: str, num_hops: int, **flags: bool) -> list[Hop]:
    """Return the hops of a state dict of ``MultiHop``, by the names of its keys."""

    def table(name: str) -> Table:
        return Table(*(state.get(f"{name}.{part}") for part in Table._fields))

    if tying == "adjacent":
        pairs = list(pairwise(table(f"tables.{k}") for k in range(num_hops + 1)))
    elif tying == "layerwise":
        pairs = [(table("embed_a"), table("embed_c"))] * num_hops
    else:
        pairs = [(table(f"{k}.embed_a"), table(f"{k}.embed_c")) for k in range(num_hops)]
    return [Hop(a, c, state.get("transform.weight"), **flags) for a, c in pairs]


def close(found: Tensor, exact: Any) -> None:
    assert found.shape == exact.shape
    np.testing.assert_allclose(found.detach().numpy(), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("temporal_slots", [None, 2])
@pytest.mark.parametrize(("relu", "softmax"), [(False, True), (True, False)])
def test_multi_hop_equals_the_formulas(
    tying: Any, bias: bool, temporal_slots: int | None, relu: bool, softmax: bool
) -> None:
    layer = MultiHop(
        5, 4, 3, tying=tying, bias=bias, relu=relu, softmax=softmax,
        temporal_slots=temporal_slots, dtype=torch.float64,
    )  # fmt: skip
    hops = stated_hops(layer.state_dict(), tying, 3, relu=relu, softmax=softmax)
    query, memories = torch.randn(3, 4).double(), torch.randn(3, 6, 5).double()
    mask = torch.rand(3, 6) < 0.4
    mask[1] = True
    for mine in (memories, memories[0]):
        for padding in (None, mask):
            exact = oracle.multi_hop(query, mine, hops, padding_mask=padding)
            answer, attention = layer(query, mine, memory_padding_mask=padding, need_weights=True)
            close(answer, exact[0])
            close(attention, exact[1])
            assert torch.equal(layer(query, mine, memory_padding_mask=padding), answer)


@pytest.mark.parametrize("tying", TYINGS)
def test_memory_network_projects_hops_and_projects(tying: Any) -> None:
    net = MemoryNetwork.build(
        input_dim=5, memory_dim=4, num_hops=2, output_dim=3, tying=tying, dtype=torch.float64
    )
    query, memories = torch.randn(3, 5).double(), torch.randn(3, 6, 5).double()
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    hidden = query.numpy() @ state["query_proj.weight"].T + state["query_proj.bias"]
    hops = stated_hops(net.hops.state_dict(), tying, 2)
    hidden, weights = oracle.multi_hop(torch.from_numpy(hidden), memories, hops)
    answer, attention = net(query, memories, need_weights=True)
    close(answer, hidden @ state["output_proj.weight"].T + state["output_proj.bias"])
    close(attention, weights)


def test_one_hop_is_multi_hop_with_one_hop() -> None:
    one = MemoryHop(5, 4, relu=True, temporal_slots=2)
    many = MultiHop(5, 4, 1, relu=True, temporal_slots=2)
    many.load_state_dict({f"0.{name}": tensor for name, tensor in one.state_dict().items()})
    query, memories = torch.randn(3, 4), torch.randn(3, 6, 5)
    answer, attention = one(query, memories, need_weights=True)
    again, each = many(query, memories, need_weights=True)
    assert torch.equal(answer, again)
    assert torch.equal(attention, each[:, 0])
    assert torch.equal(one(query, memories), answer)
    one.softmax = False  # as linear start does
    many.softmax = False
    assert torch.equal(one(query, memories), many(query, memories))
    assert not torch.equal(one(query, memories), answer)


def test_state_dict_has_the_keys_that_were_promised() -> None:
    def keys(layer: nn.Module) -> list[str]:
        return list(layer.state_dict())

    def linear(*names: str) -> list[str]:
        return [f"{name}.{part}" for name in names for part in ("weight", "bias")]

    assert keys(MemoryHop(3)) == linear("embed_a", "embed_c")
    each = [f"{k}.{side}" for k in range(3) for side in ("embed_a", "embed_c")]
    assert keys(MultiHop(3)) == linear(*each)
    assert keys(MemoryNetwork(3)) == linear(
        "query_proj", *(f"hops.{name}" for name in each), "output_proj"
    )
    tables = [f"tables.{k}" for k in range(4)]
    assert keys(MultiHop(3, tying="adjacent")) == linear(*tables)
    assert keys(MultiHop(3, tying="layerwise", bias=False, temporal_slots=2)) == [
        *(f"{side}.{part}" for side in ("embed_a", "embed_c") for part in ("weight", "temporal")),
        "transform.weight",
    ]
    for tying in TYINGS:  # safetensors refuses shared storage
        tensors = MemoryNetwork(3, tying=tying).state_dict().values()  # type: ignore[arg-type]
        assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


def test_sizes_of_the_weights_and_defaults() -> None:
    net = MemoryNetwork.build(input_dim=6)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes["query_proj.weight"] == (128, 6)
    assert shapes["hops.2.embed_c.weight"] == (128, 6)
    assert shapes["hops.2.embed_c.bias"] == (128,)
    assert shapes["output_proj.weight"] == (6, 128)
    assert MultiHop(6, 4, temporal_slots=5).state_dict()["0.embed_a.temporal"].shape == (5, 4)


def test_build_equals_the_constructor() -> None:
    torch.manual_seed(0)
    built = MemoryNetwork.build(input_dim=5, memory_dim=4, num_hops=2, relu=True, num_memories=3)
    torch.manual_seed(0)
    made = MemoryNetwork(5, 4, 2, num_memories=3, relu=True)
    assert str(built) == str(made)
    for one, other in zip(built.parameters(), made.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dtype_device_and_drawing_anew() -> None:
    layers: list[Any] = [
        MemoryHop(5, 4, temporal_slots=2, dtype=torch.float64, device="meta"),
        MultiHop(5, 4, tying="layerwise", dtype=torch.float64, device="meta"),
        MemoryNetwork(5, 4, dtype=torch.float64, device="meta"),
    ]
    for layer in layers:
        assert all(p.is_meta and p.dtype == torch.float64 for p in layer.parameters())
        layer.to_empty(device="cpu")
        for parameter in layer.parameters():
            nn.init.constant_(parameter, 7.0)
        layer.reset_parameters()
        assert all((p != 7.0).all() and p.abs().max() < 1 for p in layer.parameters())
    torch.manual_seed(0)
    table = MemoryHop(5, 4).embed_a
    torch.manual_seed(0)
    linear = nn.Linear(5, 4)
    bound = 5**-0.5
    assert table.weight is not None
    assert table.weight.abs().max() <= bound
    assert linear.weight.abs().max() <= bound


@pytest.mark.parametrize("bias", [True, False])
def test_an_embedding_alone_is_a_linear_layer(bias: bool) -> None:
    hop = MemoryHop(5, 4, bias=bias, temporal_slots=2)
    linear = nn.Linear(5, 4, bias)
    linear.load_state_dict({k: v for k, v in hop.embed_c.state_dict().items() if k != "temporal"})
    for memories in (torch.randn(3, 6, 5), torch.randn(6, 5), torch.randn(5)):
        assert torch.equal(hop.embed_c(memories), linear(memories))


def test_hops_find_their_tables_by_name() -> None:
    layer = MultiHop(5, 4, 2)
    query, memories = torch.randn(3, 4), torch.randn(3, 6, 5)
    answer = layer(query, memories)
    hop = layer.get_submodule("0")
    a = hop.get_submodule("embed_a")
    del hop.embed_a  # and C comes first
    hop.add_module("dropout", nn.Dropout())
    hop.add_module("embed_a", a)
    layer.add_module("norm", nn.LayerNorm(4))
    assert torch.equal(layer(query, memories), answer)


def test_a_layer_prints_its_sizes_and_options() -> None:
    assert repr(MemoryHop(5, 4)).startswith("MemoryHop(\n  5, 4\n")
    hop = MemoryHop(5, 4, value_dim=3, num_heads=2, dropout=0.1, relu=0.5, softmax=False)
    options = "value_dim=3, num_heads=2, dropout=0.1, relu=0.5, softmax=False"
    assert repr(hop).startswith(f"MemoryHop(\n  5, 4, {options}\n")
    assert "EmbeddingTable(5, 4, temporal_slots=2)" in repr(MemoryHop(5, 4, temporal_slots=2))
    assert "EmbeddingTable(5, 4, bias=False)" in repr(MemoryHop(5, 4, bias=False))
    assert "EmbeddingTable(4, 4, embed=False)" in repr(MemoryHop(4, 4, embed="a"))
    assert "5, 4, num_hops=2, tying='adjacent', slot_order='newest_first'\n" in repr(
        MultiHop(5, 4, 2, tying="adjacent", slot_order="newest_first")
    )
    assert "num_memories=9" in repr(MemoryNetwork(5, 4, num_memories=9))


@pytest.mark.parametrize("layer", [MemoryHop(5, 4), MultiHop(5, 4), MemoryNetwork(5, 4)])
def test_unbatched_shared_and_empty_shapes(layer: nn.Module) -> None:
    dim = 5 if isinstance(layer, MemoryNetwork) else 4
    hops = () if isinstance(layer, MemoryHop) else (3,)
    for num_slots in (0, 1, 6):
        memories = torch.randn(num_slots, 5)
        mask = torch.rand(num_slots) < 0.5
        alone, weights = layer(torch.ones(dim), memories, need_weights=True)
        assert (alone.shape, weights.shape) == ((dim,), (*hops, num_slots))
        masked = layer(torch.ones(dim), memories, memory_padding_mask=mask)
        for batch in (0, 1, 3):
            query = torch.ones(batch, dim)
            shared, weights = layer(query, memories, need_weights=True)
            assert (shared.shape, weights.shape) == ((batch, dim), (batch, *hops, num_slots))
            own = layer(query, memories.expand(batch, -1, -1))
            torch.testing.assert_close(shared, own)
            torch.testing.assert_close(shared, alone.expand(batch, -1))
            for padding in (mask, mask.expand(batch, -1)):
                found = layer(query, memories, memory_padding_mask=padding)
                torch.testing.assert_close(found, masked.expand(batch, -1))


def test_padding_leaves_a_memory_of_the_readable_slots_only() -> None:
    net = MemoryNetwork(5, 4, dtype=torch.float64, temporal_slots=3)
    query, memories = torch.randn(1, 5).double(), torch.randn(1, 6, 5).double()
    mask = torch.tensor([[True, False, True, False, False, True]])
    answer, attention = net(query, memories, memory_padding_mask=mask, need_weights=True)
    fewer, weights = net(query, memories[~mask][None], need_weights=True)
    torch.testing.assert_close(answer, fewer)
    torch.testing.assert_close(attention[..., ~mask[0]], weights)
    assert (attention[..., mask[0]] == 0).all()


@pytest.mark.parametrize("tying", TYINGS)
def test_gradients_of_every_weight_equal_finite_differences(tying: Any) -> None:
    net = MemoryNetwork(3, 2, 2, output_dim=1, tying=tying, temporal_slots=2, dtype=torch.float64)
    query = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    memories = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False, True, False], [True, True, True]])
    names, weights = zip(*net.named_parameters(), strict=True)

    def call(query: Tensor, memories: Tensor, *weights: Tensor) -> Any:
        return torch.func.functional_call(
            net,
            dict(zip(names, weights, strict=True)),
            (query, memories),
            {"memory_padding_mask": mask, "need_weights": True},
        )

    assert torch.autograd.gradcheck(call, (query, memories, *weights))


def test_every_weight_has_a_gradient() -> None:
    for tying in TYINGS:
        net = MemoryNetwork(3, 2, tying=tying, temporal_slots=2)  # type: ignore[arg-type]
        torch.autograd.backward(net(torch.randn(2, 3), torch.randn(2, 5, 3)).sum())
        assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("layer", [MemoryHop(5, 4), MultiHop(5, 4), MemoryNetwork(5, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_layer_in_another_dtype(layer: nn.Module, dtype: torch.dtype) -> None:
    other = copy.deepcopy(layer).to(dtype)
    query = torch.randn(3, 5 if isinstance(layer, MemoryNetwork) else 4).to(dtype)
    memories = torch.randn(3, 6, 5).to(dtype)
    answer, attention = other(query, memories, need_weights=True)
    assert answer.dtype == attention.dtype == dtype
    exact = copy.deepcopy(other).double()(query.double(), memories.double())
    ulps = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(answer.double(), exact, rtol=ulps, atol=ulps)


@pytest.mark.parametrize("make", [MemoryHop, MultiHop, MemoryNetwork])
@pytest.mark.parametrize("store", [Quantized.of, Tensor.bfloat16, Tensor.half])
def test_a_memory_in_fewer_bytes_beside_a_layer_in_float32(
    make: Callable[..., nn.Module], store: Callable[[Tensor], Stored]
) -> None:
    layer = make(5, 4, temporal_slots=2, relu=True)
    query = torch.randn(3, 5 if isinstance(layer, MemoryNetwork) else 4, requires_grad=True)
    mask = torch.rand(3, 6) < 0.4
    mask[1] = True
    weights = [query, *layer.parameters()]
    for rows in (torch.randn(3, 6, 5), torch.randn(6, 5), torch.randn(3, 0, 5)):
        memories = store(rows)
        same = oracle.array(memories)
        for padding in (None, mask[:, : rows.shape[-2]]):
            found = layer(query, memories, memory_padding_mask=padding, need_weights=True)
            exact = copy.deepcopy(layer).double()(
                query.double(), torch.from_numpy(same), memory_padding_mask=padding,
                need_weights=True,
            )  # fmt: skip
            assert found[0].dtype == found[1].dtype == torch.float32
            for one, other in zip(found, exact, strict=True):
                torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
            by_float = layer(query, torch.from_numpy(same).float(), memory_padding_mask=padding)
            torch.testing.assert_close(
                torch.autograd.grad(found[0].sum(), weights),
                torch.autograd.grad(by_float.sum(), weights),
            )


def test_a_parametrized_weight_is_the_one_that_is_read() -> None:
    class Double(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    memhop.warmup()
    for layer, table in ((MemoryHop(5, 4), "embed_c"), (MultiHop(5, 4, 2), "1.embed_c")):
        twice = copy.deepcopy(layer)
        for part in ("weight", "bias"):
            parametrize.register_parametrization(layer.get_submodule(table), part, Double())
            with torch.no_grad():
                twice.get_submodule(table).get_parameter(part).mul_(2)
        query, memories = torch.randn(3, 4), torch.randn(3, 9000, 5)  # for one form
        assert torch.equal(layer(query, memories), twice(query, memories))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_only_a_half_memory_is_copied_into_float32(dtype: torch.dtype, autocast: bool) -> None:
    net = MemoryNetwork(8, 4, dtype=dtype)
    made: list[int] = []

    class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            held = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
            if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in held:
                made.append(out.untyped_storage().nbytes())
            return out

    query, memories = torch.randn(3, 8, dtype=dtype), torch.randn(500, 8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Made():  # type: ignore[no-untyped-call]
        net(query, memories)
    copy_of_it = 4 * memories.numel()
    if dtype == torch.float32:
        assert max(made) < copy_of_it
    else:  # as the documents say, until a kernel reads it as it is
        assert made.count(copy_of_it) == 1
        assert max(made) == copy_of_it
