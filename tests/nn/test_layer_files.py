"""Layers as files: what comes back is the layer, and what would be lost is an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from memhop import MemoryHop, MemoryNetwork, MultiHop
from memhop.errors import MemhopError
from memhop.nn.layer_files import arguments_of
from tests.nn.drawn_layers import Drawer, draw_options, make_layer
from tests.pretrained.test_folders import forge, header_of
from tests.seeds import seeds

Layer = MemoryHop | MultiHop | MemoryNetwork


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(**options: Any) -> MemoryNetwork:
    torch.manual_seed(1)
    sizes = {"input_dim": 6, "memory_dim": 4, "num_hops": 2}
    return MemoryNetwork.build(**{**sizes, **options}).eval()


def call(layer: Layer) -> torch.Tensor:
    """Return the result of the same call for equal layers."""
    hops = layer.hops if isinstance(layer, MemoryNetwork) else layer
    size = layer.input_dim if isinstance(layer, MemoryNetwork) else hops.memory_dim
    draw, dtype = torch.Generator().manual_seed(2), torch.float64
    weight = next(layer.parameters(), None)
    to = dtype if weight is None else weight.dtype
    query, memories, values = (
        torch.randn(2, *shape, generator=draw, dtype=dtype).to(to)
        for shape in ((size,), (5, hops.input_dim), (5, hops.value_dim))
    )
    return layer(query, memories, values=values)


@pytest.mark.parametrize("seed", seeds(40, 2000))
def test_every_layer_comes_back_bit_for_bit(seed: int) -> None:
    draw = Drawer(seed)
    layer: Any = make_layer(draw, *draw_options(draw)).eval()
    if draw.chance(0.3):
        (layer.hops if isinstance(layer, MemoryNetwork) else layer).softmax = draw.chance(0.5)
    state = torch.random.get_rng_state()
    layer.save_pretrained("layer")
    again = type(layer).from_pretrained("layer")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert repr(again) == repr(layer)
    assert list(again.state_dict()) == list(layer.state_dict())
    for name, weight in layer.state_dict().items():
        other = again.state_dict()[name]
        assert other.dtype == weight.dtype
        assert torch.equal(other, weight)
    assert torch.equal(call(again), call(layer))
    assert all(one.requires_grad and one.is_leaf for one in again.parameters())
    assert not again.training
    assert again.to_files() == layer.to_files()


def test_the_arguments_are_in_the_config() -> None:
    network(tying="layerwise", relu=0.5, num_memories=3, output_dim=2).save_pretrained("net")
    config = json.loads(Path("net/config.json").read_text())
    assert config["library_name"] == "memhop"
    assert config["model_type"] == "MemoryNetwork"
    assert config["settings"] == {
        "input_dim": 6, "memory_dim": 4, "value_dim": 6, "num_heads": 1, "dropout": 0.0,
        "embed": True, "bias": True, "relu": 0.5, "softmax": True, "temporal_slots": None,
        "slot_order": "oldest_first", "num_hops": 2, "tying": "layerwise", "output_dim": 2,
        "num_memories": 3,
    }  # fmt: skip


def test_weights_of_several_dtypes_come_back() -> None:
    net = network()
    net.output_proj.double()
    net.save_pretrained("net")
    again = MemoryNetwork.from_pretrained("net")
    dtypes = {name: weight.dtype for name, weight in again.state_dict().items()}
    assert dtypes == {name: weight.dtype for name, weight in net.state_dict().items()}
    assert again.output_proj.weight.dtype == torch.float64


def test_weights_that_a_caller_shares_are_stored_once_and_stay_shared() -> None:
    net = network(num_hops=3)
    hops: Any = net.hops._modules
    hops["1"]["embed_a"] = hops["0"]["embed_a"]  # a module
    hops["2"]["embed_c"].weight = hops["0"]["embed_c"].weight  # a weight
    assert b"hops.1.embed_a.weight" not in net.to_files()["model.safetensors"]
    net.save_pretrained("net")
    again = MemoryNetwork.from_pretrained("net")
    assert torch.equal(call(again), call(net))
    weights = dict(again.named_parameters(remove_duplicate=False))
    assert weights["hops.1.embed_a.weight"] is weights["hops.0.embed_a.weight"]
    assert weights["hops.1.embed_a.bias"] is weights["hops.0.embed_a.bias"]
    assert weights["hops.2.embed_c.weight"] is weights["hops.0.embed_c.weight"]
    assert weights["hops.2.embed_c.bias"] is not weights["hops.0.embed_c.bias"]
    assert again.to_files() == net.to_files()


def test_a_device_is_taken() -> None:
    network().save_pretrained("net")
    again = MemoryNetwork.from_pretrained("net", device="meta")
    assert {weight.device.type for weight in again.parameters()} == {"meta"}


# What would be lost.


class Mine(MemoryNetwork):
    """A subclass."""


class Adapter(nn.Module):
    """A low-rank adapter around a layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


def hooked(net: MemoryNetwork) -> None:
    net.query_proj.register_forward_hook(lambda *_: None)


def hooked_state(net: MemoryNetwork) -> None:
    net.register_state_dict_post_hook(lambda *_: None)  # type: ignore[no-untyped-call]


def patched(net: MemoryNetwork) -> None:
    net.output_proj.forward = lambda input: input  # type: ignore[method-assign]


def parametrized(net: MemoryNetwork) -> None:
    parametrizations.orthogonal(net.output_proj)


def parametrized_table(net: MemoryNetwork) -> None:
    parametrizations.weight_norm(net.hops.get_submodule("0.embed_a"))


def pruned(net: MemoryNetwork) -> None:
    prune.l1_unstructured(net.query_proj, "weight", amount=1)  # type: ignore[no-untyped-call]


def adapted(net: MemoryNetwork) -> None:
    net.query_proj = Adapter(net.query_proj)  # type: ignore[assignment]


def adapted_table(net: MemoryNetwork) -> None:
    hop: Any = net.hops.get_submodule("0")
    hop["embed_a"] = Adapter(hop["embed_a"])


def quantized(net: MemoryNetwork) -> None:
    linear: Any = torch.ao.nn.quantized.dynamic.Linear
    net.output_proj = linear(4, 6)


class Doubled(nn.Linear):
    """A linear layer with another formula and the same weights."""


def subclassed(net: MemoryNetwork) -> None:
    net.output_proj = Doubled(4, 6)


def without_bias(net: MemoryNetwork) -> None:
    net.output_proj.bias = None  # type: ignore[assignment]


def more(net: MemoryNetwork) -> None:
    net.extra = nn.Linear(2, 2)


def buffered(net: MemoryNetwork) -> None:
    net.register_buffer("seen", torch.zeros(3), persistent=False)


def annotated(net: MemoryNetwork) -> None:
    net.tokenizer = str.split  # type: ignore[assignment]


def other_hops(net: MemoryNetwork) -> None:
    net.hops = nn.Identity()  # type: ignore[assignment]


def overlapping(net: MemoryNetwork) -> None:
    net.query_proj.bias = nn.Parameter(net.query_proj.weight.data[0, :4])


def overlapping_in_part(net: MemoryNetwork) -> None:
    weight = net.query_proj.weight
    both = torch.zeros(weight.numel() + 3)
    net.query_proj.weight = nn.Parameter(both[3:].view_as(weight))
    net.query_proj.bias = nn.Parameter(both[:4])


def hooked_gradient(net: MemoryNetwork) -> None:
    weight: Any = net.query_proj.weight
    weight.register_hook(lambda grad: 2 * grad)


def hooked_step(net: MemoryNetwork) -> None:
    weight: Any = net.query_proj.weight
    weight.register_post_accumulate_grad_hook(lambda _: None)


def private(net: MemoryNetwork) -> None:
    hops: Any = net.hops
    hops._scale = 3.0


def other_value(net: MemoryNetwork) -> None:
    net.query_proj.in_features = 7


def infinite(net: MemoryNetwork) -> None:
    net.output_proj.bias.data[1] = torch.nan


def complex_(net: MemoryNetwork) -> None:
    net.to(torch.complex64)


def on_meta(net: MemoryNetwork) -> None:
    net.to("meta")


LOSSES: dict[Callable[[MemoryNetwork], None], str] = {
    hooked: "hooks in query_proj would be lost",
    hooked_state: "hooks would be lost",
    patched: "the attribute 'forward' in output_proj would be lost",
    parametrized: "unexpected module 'output_proj.parametrizations'",
    parametrized_table: "unexpected module 'hops.0.embed_a.parametrizations'",
    pruned: "hooks in query_proj would be lost",
    adapted: "unexpected module 'query_proj.inner'",
    adapted_table: "expected its own hops, got Adapter",
    quantized: "unexpected module 'output_proj._packed_params'",
    subclassed: "expected Linear in output_proj, got Doubled",
    without_bias: "missing weight 'output_proj.bias'",
    more: "unexpected module 'extra'",
    buffered: "unexpected weight 'seen'",
    annotated: "the attribute 'tokenizer' would be lost",
    other_hops: "expected its own hops, got Identity",
    overlapping: "'query_proj.weight' and 'query_proj.bias' share their memory",
    overlapping_in_part: "'query_proj.weight' and 'query_proj.bias' share their memory",
    hooked_gradient: "hooks of 'query_proj.weight' would be lost",
    hooked_step: "hooks of 'query_proj.weight' would be lost",
    private: "the attribute '_scale' in hops would be lost",
    other_value: "the attribute 'in_features' in query_proj would be lost",
    infinite: "'output_proj.bias' holds values that are not finite",
    complex_: "expected float16 or bfloat16 or float32 or float64 [4, 6] for 'query_proj.weight', "
    "got complex64 [4, 6]",
    on_meta: "expected a plain tensor as 'query_proj.weight', got one on the meta device",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about complex modules
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.ao
@pytest.mark.parametrize("change", LOSSES, ids=lambda change: change.__name__)
def test_what_would_be_lost_is_an_error(change: Callable[[MemoryNetwork], None]) -> None:
    net = network()
    change(net)
    with pytest.raises(MemhopError) as caught:
        net.save_pretrained("net")
    message = str(caught.value)
    assert message.startswith("MemoryNetwork cannot be stored: ")
    assert LOSSES[change] in message
    assert not Path("net").exists()


def test_a_subclass_is_not_stored_but_loads_what_its_base_stored() -> None:
    with pytest.raises(MemhopError) as caught:
        Mine(6, 4).save_pretrained("net")
    assert str(caught.value) == "Mine cannot be stored: expected a MemoryNetwork, got a subclass"
    network().save_pretrained("net")
    assert type(Mine.from_pretrained("net")) is Mine


def test_more_hops_than_a_file_may_have_are_an_error() -> None:
    with pytest.raises(MemhopError, match=r"num_hops: expected an integer from 1 to 1,000, got 10"):
        MultiHop(2, 2, 1001, tying="layerwise").save_pretrained("hops")


def test_sharded_weights_are_an_error() -> None:
    class Sharded(torch.Tensor):
        pass

    net = network()
    net.output_proj.bias = nn.Parameter(torch.zeros(6).as_subclass(Sharded))
    with pytest.raises(MemhopError, match=r"expected a plain tensor as 'output_proj.bias', got"):
        net.save_pretrained("net")


# Hostile files: every checksum fits.


@pytest.fixture
def saved() -> Path:
    network().save_pretrained("net")
    return Path("net")


def refused(folder: Path, because: str) -> None:
    with pytest.raises(MemhopError) as caught:
        MemoryNetwork.from_pretrained(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert because in message
    assert len(message) < 400


ODD: list[Any] = [None, [], {}, "x", -1, 0, 1.5, True, 10**10, 1e308, 10**4000]


@pytest.mark.parametrize("name", sorted(arguments_of(MemoryNetwork(2))))
def test_arguments_of_another_kind(saved: Path, name: str) -> None:
    stored = json.loads((saved / "layer.json").read_text())
    usual = stored["arguments"][name]
    may_be: dict[str, list[Any]] = {
        "bias": [True],
        "softmax": [True],
        "relu": [0, True],
        "dropout": [0],
    }
    may_be |= {"embed": [True], "temporal_slots": [None], "num_memories": [None]}
    for value in ODD:
        if value in may_be.get(name, []) and type(value) is not float:
            continue
        stored["arguments"][name] = value
        forge(saved, "layer.json", json.dumps(stored).encode())
        refused(saved, "layer.json: ")
    stored["arguments"][name] = usual
    forge(saved, "layer.json", json.dumps(stored).encode())
    MemoryNetwork.from_pretrained(saved)


def test_other_arguments_and_layers(saved: Path) -> None:
    stored = json.loads((saved / "layer.json").read_text())
    for change, because in (
        ({"arguments": None}, "missing or odd: 'bias'"),
        ({"arguments": []}, "missing or odd"),
        ({"arguments": {**stored["arguments"], "device": "cuda"}}, "missing or odd: 'device'"),
        ({"arguments": {**stored["arguments"], "\x1b[2J": 1}}, "missing or odd"),
        ({"layer": "MultiHop"}, "expected a MemoryNetwork, got 'MultiHop'"),
        ({"layer": "os.system"}, "expected a MemoryNetwork, got 'os.system'"),
        ({"layer": ["\n" * 99]}, "expected a MemoryNetwork, got"),
        ({"schema": 2}, "expected schema 1, got 2: written by a newer version"),
        ({"dtype": "int8"}, "dtype: expected"),
        ({"dtype": "float64"}, "expected float64"),
        ({"dtype": None}, "dtype: expected"),
        ({"dtype": {}}, "dtype: expected"),
        ({"dtype": ["float32"]}, "dtype: expected"),
        ({"shared": []}, "shared: expected names of weights"),
        ({"shared": {"query_proj.weight": "query_proj.weight"}}, "shared: expected"),
        ({"shared": {"query_proj.weight": "query_proj.bias"}}, "shared: expected"),
        ({"shared": {"query_proj.weight": "__class__"}}, "shared: expected"),
        ({"shared": {"__class__": "query_proj.weight"}}, "shared: expected"),
        ({"shared": {"query_proj.weight": [1]}}, "shared: expected"),
        ({"shared": {"hops.0.embed_a.weight": "hops.1.embed_a.weight"}}, "unexpected tensors"),
    ):
        forge(saved, "layer.json", json.dumps({**stored, **change}).encode())
        refused(saved, because)


def test_huge_arguments_allocate_nothing(saved: Path) -> None:
    stored = json.loads((saved / "layer.json").read_text())
    huge = {"input_dim": 10**9, "memory_dim": 10**9, "num_hops": 1000, "value_dim": 10**9}
    stored["arguments"] |= huge | {"output_dim": 10**9}
    forge(saved, "layer.json", json.dumps(stored).encode())
    refused(saved, "missing or unexpected tensors")


def test_other_tensors(saved: Path) -> None:
    weights = network().state_dict()
    nan = weights["query_proj.bias"].clone()
    nan[0] = torch.nan
    extra = {"query_proj.more": torch.zeros(2)}
    for change, because in (
        (extra, "missing or unexpected tensors: 'query_proj.more'"),
        ({"query_proj.bias": None}, "missing or unexpected tensors: 'query_proj.bias'"),
        ({"query_proj.bias": nan}, "expected finite values for 'query_proj.bias'"),
        ({"query_proj.bias": nan[:3]}, "expected float32 [4] for 'query_proj.bias', got float32"),
        ({"query_proj.bias": torch.zeros(4).half()}, "got float16 [4]"),
        ({"query_proj.bias": torch.zeros(4).int()}, "got int32 [4]"),
    ):
        forge(saved, "model.safetensors", header_of({**weights, **change}))
        refused(saved, because)
