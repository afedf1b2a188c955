"""The layers: what they compute, hold, print and refuse."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor, nn

from memhop.nn import MemoryHop, MemoryNetwork, MultiHop
from memhop.ops import Hop, Table

TYINGS = ["none", "adjacent", "layerwise"]


def stated_hops(state: dict[str, Tensor], tying: str, num_hops: int, **flags: bool) -> list[Hop]:
    """The hops that a state dict of ``MultiHop`` stands for, by the names of its keys."""

    def table(name: str) -> Table:
        return Table(*(state.get(f"{name}.{part}") for part in Table._fields))  # type: ignore[arg-type]

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
    assert table.weight.abs().max() <= bound
    assert linear.weight.abs().max() <= bound


def test_a_layer_prints_its_sizes_and_options() -> None:
    assert repr(MemoryHop(5, 4, relu=True)).startswith(
        "MemoryHop(\n  5, 4, relu=True, softmax=True"
    )
    assert "EmbeddingTable(5, 4, bias=True, temporal_slots=2)" in repr(
        MemoryHop(5, 4, temporal_slots=2)
    )
    assert "5, 4, num_hops=2, tying='adjacent', relu=False, softmax=True" in repr(
        MultiHop(5, 4, 2, tying="adjacent")
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
        net(torch.randn(2, 3), torch.randn(2, 5, 3)).sum().backward()
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


IN = "memories [4, 7, 5] float32 on cpu"
LAYER = "query [B, 3] with memories [B, N, 5] or [N, 5], or query [3] with memories [N, 5]; got "


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"query": torch.zeros(4, 2)}, f"MultiHop needs {LAYER}query [4, 2] float32 on cpu, {IN}"),
        ({"query": torch.zeros(5, 3)}, f"MultiHop needs {LAYER}query [5, 3] float32 on cpu, {IN}"),
        ({"query": torch.zeros(3)}, f"MultiHop needs {LAYER}query [3] float32 on cpu, {IN}"),
        (
            {"memories": torch.zeros(4, 7, 6)},
            f"MultiHop needs {LAYER}query [4, 3] float32 on cpu, memories [4, 7, 6] float32 on cpu",
        ),
        (
            {"memories": torch.zeros(4, 7, 5).double()},
            "MultiHop needs one dtype (several only under torch.autocast); got query [4, 3] "
            "float32 on cpu, memories [4, 7, 5] float64 on cpu, weights [3, 5] float32 on cpu",
        ),
        (
            {"memories": torch.zeros(4, 7, 5, device="meta")},
            "MultiHop needs all tensors on one device; got query [4, 3] float32 on cpu, memories "
            "[4, 7, 5] float32 on meta, weights [3, 5] float32 on cpu",
        ),
        (
            {"memory_padding_mask": torch.zeros(7, dtype=torch.bool)},
            "MultiHop needs memory_padding_mask [4, 7] of bool (True = ignore that slot); got "
            f"query [4, 3] float32 on cpu, {IN}, memory_padding_mask [7] bool on cpu",
        ),
        (
            {"memories": torch.zeros(7, 5), "memory_padding_mask": torch.zeros(4, 7)},
            "MultiHop needs memory_padding_mask [4, 7] or [7] of bool (True = ignore that slot); "
            "got query [4, 3] float32 on cpu, memories [7, 5] float32 on cpu, memory_padding_mask "
            "[4, 7] float32 on cpu",
        ),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(inputs: dict[str, Tensor], words: str) -> None:
    given = {"query": torch.zeros(4, 3), "memories": torch.zeros(4, 7, 5), **inputs}
    with pytest.raises(ValueError, match="needs") as error:
        MultiHop(5, 3)(**given)
    assert str(error.value) == words


def test_a_network_refuses_before_any_work() -> None:
    net = MemoryNetwork(5, 3, num_memories=7)
    net.query_proj.register_forward_pre_hook(lambda *_: pytest.fail("work was begun"))
    query, memories = torch.zeros(4, 5), torch.zeros(4, 6, 5)
    with pytest.raises(ValueError, match="needs 7 slots") as error:
        net(query, memories)
    assert str(error.value) == (
        "MemoryNetwork needs 7 slots (num_memories), not 6; got query [4, 5] float32 on cpu, "
        "memories [4, 6, 5] float32 on cpu"
    )
    with pytest.raises(ValueError, match="MemoryNetwork needs one dtype"):
        net(query.double(), torch.zeros(4, 7, 5).double())
    with pytest.raises(ValueError, match=r"MemoryNetwork needs query \[B, 5\] with memories"):
        net(torch.zeros(4, 3), torch.zeros(4, 7, 5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: MemoryHop(0),
            "MemoryHop needs input_dim to be an integer of at least 1; got input_dim=0, "
            "memory_dim=128, temporal_slots=None",
        ),
        (
            lambda: MultiHop(4, 4, 0),
            "MultiHop needs num_hops to be an integer of at least 1; got input_dim=4, "
            "memory_dim=4, num_hops=0, temporal_slots=None",
        ),
        (
            lambda: MultiHop(4, 2.0),  # type: ignore[arg-type]
            "MultiHop needs memory_dim to be an integer of at least 1; got input_dim=4, "
            "memory_dim=2.0, num_hops=3, temporal_slots=None",
        ),
        (
            lambda: MemoryNetwork(4, 4, 3, output_dim=0),
            "MemoryNetwork needs output_dim to be an integer of at least 1; got input_dim=4, "
            "memory_dim=4, num_hops=3, output_dim=0, num_memories=None",
        ),
        (
            lambda: MemoryNetwork(4, 4, temporal_slots=-1),
            "MultiHop needs temporal_slots to be an integer of at least 1; got input_dim=4, "
            "memory_dim=4, num_hops=3, temporal_slots=-1",
        ),
        (
            lambda: MultiHop(4, tying="both"),  # type: ignore[arg-type]
            "MultiHop needs tying to be one of 'none', 'adjacent', 'layerwise'; got 'both'",
        ),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match="needs") as error:
        make()
    assert str(error.value) == words
