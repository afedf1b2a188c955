"""State dicts that an earlier version wrote load unchanged and give the same results.

``tests/golden/layers`` has a file for each configuration below. To add a configuration, add it to
``LAYERS`` and run ``python -m tests.nn.test_golden``: it writes the missing files with the memhop
that is imported (PYTHONPATH selects one) and replaces none.
"""

import copy
import io
import json
import pickle
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import memhop

FOLDER = Path(__file__).parents[1] / "golden" / "layers"
STATE = "state."  # before the names of the weights in a file
SLOTS, INPUT_DIM, MEMORY_DIM = 7, 5, 4

# The layer, its arguments in JSON, and the leading axes of query and memories.
LAYERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "hop": ("MemoryHop", {"dtype": "float32"}, (3,), (3,)),
    "hop_temporal_relu": (
        "MemoryHop", {"bias": False, "relu": True, "temporal_slots": 3, "dtype": "float32"}, (), (),
    ),
    "hops_none": ("MultiHop", {"tying": "none", "dtype": "float32"}, (3,), (3,)),
    "hops_none_linear": (
        "MultiHop",
        {"bias": False, "softmax": False, "temporal_slots": 2, "num_hops": 2, "dtype": "float64"},
        (3,), (3,),
    ),
    "hops_adjacent_temporal": (
        "MultiHop", {"tying": "adjacent", "temporal_slots": 9, "dtype": "float32"}, (3,), (),
    ),
    "hops_adjacent_bfloat16": (
        "MultiHop", {"tying": "adjacent", "bias": False, "relu": True, "dtype": "bfloat16"},
        (3,), (3,),
    ),
    "hops_layerwise": (
        "MultiHop", {"tying": "layerwise", "bias": False, "relu": True, "dtype": "float32"},
        (3,), (3,),
    ),
    "network": ("MemoryNetwork", {"num_hops": 2, "dtype": "float32"}, (3,), (3,)),
    "network_adjacent": (
        "MemoryNetwork",
        {
            "num_hops": 2, "output_dim": 3, "tying": "adjacent", "softmax": False, "relu": True,
            "temporal_slots": 3, "dtype": "float32",
        },
        (3,), (3,),
    ),
    "network_layerwise": (
        "MemoryNetwork",
        {"num_memories": SLOTS, "tying": "layerwise", "temporal_slots": 1, "dtype": "float64"},
        (3,), (),
    ),
    "network_layerwise_bfloat16": (
        "MemoryNetwork",
        {"output_dim": 6, "tying": "layerwise", "temporal_slots": 3, "dtype": "bfloat16"},
        (3,), (3,),
    ),
}  # fmt: skip


class Inputs(NamedTuple):
    """The inputs of a layer."""

    query: Tensor
    memories: Tensor
    mask: Tensor


class Stored(NamedTuple):
    """A golden file.

    Attributes:
        layer, arguments: the class and the arguments, JSON values, of its constructor.
        keys: the keys of the state dict in their order, which is that of the optimizer's state.
        state: the state dict.
        query, memories, mask: the inputs, in the dtype of the layer.
        result, attention: computed in float64 from the same weights and inputs.
    """

    layer: str
    arguments: dict[str, Any]
    keys: list[str]
    state: dict[str, Tensor]
    query: Tensor
    memories: Tensor
    mask: Tensor
    result: Tensor
    attention: Tensor


def make(layer: str, arguments: dict[str, Any]) -> nn.Module:
    """Return a layer with new weights."""
    dtype = getattr(torch, arguments["dtype"])
    made: nn.Module = getattr(memhop, layer)(**{**arguments, "dtype": dtype})
    return made


def result_of(layer: nn.Module, inputs: Inputs, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return result and attention of a copy of a layer, computed in a dtype."""
    query, memories, mask = inputs
    result, attention = copy.deepcopy(layer).to(dtype)(
        query.to(dtype), memories.to(dtype), memory_padding_mask=mask, need_weights=True
    )
    return result.detach(), attention.detach()


def check_results(layer: nn.Module, stored: Stored) -> None:
    """Check the results of a layer against those of a file, in its own dtype and in float64."""
    budgets = {torch.bfloat16: 2**-6, torch.float32: 1e-5, torch.float64: 1e-12}
    inputs = Inputs(stored.query, stored.memories, stored.mask)
    for dtype in {stored.query.dtype, torch.float64}:
        found = result_of(layer, inputs, dtype)
        for one, exact in zip(found, (stored.result, stored.attention), strict=True):
            budget = budgets[dtype]
            torch.testing.assert_close(one.double(), exact, rtol=budget, atol=budget)


def write(name: str) -> None:
    """Compute and write the file of a configuration."""
    layer_name, given, batch, lead = LAYERS[name]
    arguments = {"input_dim": INPUT_DIM, "memory_dim": MEMORY_DIM, **given}
    torch.manual_seed(zlib.crc32(name.encode()))
    layer = make(layer_name, arguments)
    state = layer.state_dict()
    dtype = getattr(torch, given["dtype"])
    query = torch.randn(*batch, INPUT_DIM if layer_name == "MemoryNetwork" else MEMORY_DIM)
    memories = torch.randn(*lead, SLOTS, INPUT_DIM)
    mask = torch.rand(*batch, SLOTS) < 0.3
    if batch:
        mask[1] = True
    inputs = Inputs(query.to(dtype), memories.to(dtype), mask)
    results = zip(("result", "attention"), result_of(layer, inputs, torch.float64), strict=True)
    tensors = {**{STATE + key: state[key] for key in state}, **inputs._asdict(), **dict(results)}
    settings = {"layer": layer_name, "arguments": arguments, "keys": list(state)}
    FOLDER.mkdir(exist_ok=True)
    save_file(
        {key: tensor.contiguous() for key, tensor in tensors.items()},
        FOLDER / f"{name}.safetensors",
        {"settings": json.dumps(settings)},  # one entry: their order is not fixed
    )


def read(name: str) -> Stored:
    """Return the file of a configuration."""
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    state = {key: tensors.pop(STATE + key) for key in settings["keys"]}
    return Stored(**settings, state=state, **tensors)


def test_every_configuration_has_a_file() -> None:
    assert sorted(LAYERS) == sorted(path.stem for path in FOLDER.iterdir())
    for name, (layer, given, *_) in LAYERS.items():
        stored = read(name)
        assert (layer, given.items() <= stored.arguments.items()) == (stored.layer, True)


@pytest.mark.parametrize("name", LAYERS)
def test_a_stored_state_dict_gives_the_same_results(name: str) -> None:
    stored = read(name)
    layer = make(stored.layer, stored.arguments)
    missing, unexpected = layer.load_state_dict(stored.state, strict=True)
    assert (missing, unexpected) == ([], [])
    for key, tensor in layer.state_dict().items():
        assert tensor.dtype == stored.state[key].dtype
        assert torch.equal(tensor, stored.state[key])
    check_results(layer, stored)


@pytest.mark.parametrize("name", LAYERS)
def test_a_new_layer_has_the_stored_keys_and_shapes(name: str) -> None:
    stored = read(name)
    layer = make(stored.layer, stored.arguments)
    state = layer.state_dict()
    assert list(state) == stored.keys == [key for key, _ in layer.named_parameters()]
    for key, tensor in state.items():
        assert (tensor.shape, tensor.dtype) == (stored.state[key].shape, stored.state[key].dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_survives_torch_save_pickle_and_deepcopy(name: str) -> None:
    stored = read(name)
    layer = make(stored.layer, stored.arguments)
    file = io.BytesIO()
    torch.save(stored.state, file)
    file.seek(0)
    layer.load_state_dict(torch.load(file, weights_only=True))
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert str(other) == str(layer)
        ours, theirs = dict(layer.named_parameters()), dict(other.named_parameters())
        assert list(ours) == list(theirs) == stored.keys
        assert not {id(weight) for weight in ours.values()} & {id(w) for w in theirs.values()}
        check_results(other, stored)


if __name__ == "__main__":
    for name in LAYERS:
        if not (FOLDER / f"{name}.safetensors").exists():
            write(name)
