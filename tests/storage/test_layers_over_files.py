"""A layer over a file equals the layer over the tensor, with gradients for query and weights."""

import copy
import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop import FileMemory, MemhopError, MemoryHop, MemoryNetwork, MultiHop, Quantized, ops
from memhop.ops.inputs import Stored
from memhop.storage import rows
from tests.seeds import pairs

from .files import FLOATS, random_memory, save_safetensors

WIDTH = 6
MODES = [False, True]
LAYERS: dict[str, Any] = {
    "hop": lambda **kinds: MemoryHop(WIDTH, 4, **kinds),
    "hops with ages": lambda **kinds: MultiHop(
        WIDTH, 4, num_hops=3, tying="adjacent", temporal_slots=5, **kinds
    ),
    "linear hops": lambda **kinds: MultiHop(WIDTH, 4, num_hops=2, softmax=False, **kinds),
    "network": lambda **kinds: MemoryNetwork(WIDTH, 4, num_hops=2, num_heads=2, **kinds),
}


@pytest.fixture(autouse=True)
def _tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 300)


def stored_in(folder: Path, count: int, dtype: torch.dtype) -> tuple[Path, Stored]:
    """Return a file and the tensor that is in it."""
    path, stored = folder / "memory.safetensors", random_memory(count, WIDTH, dtype)
    if isinstance(stored, Quantized):
        save_safetensors(path, {"data": stored.data, "scale": stored.scale})
    else:
        save_safetensors(path, {"rows": stored})
    return path, stored


def outputs_and_grads(layer: Any, query: Tensor, memory: Any, **options: Any) -> list[Tensor]:
    """Return result, weights, and the gradients of the query and of all weights of the layer."""
    layer.zero_grad()
    query = query.detach().requires_grad_()
    result, attention = layer(query, memory, need_weights=True, **options)
    total = (result * torch.arange(result.numel()).view_as(result).cos()).sum()
    (total + (attention**2).sum()).backward()
    grads = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    assert query.grad is not None
    return [result.detach(), attention.detach(), query.grad, *grads]


@pytest.mark.parametrize(
    ("name", "dtype", "is_streamed"), pairs(list(LAYERS), [*FLOATS, torch.int8], MODES)
)
def test_layers(tmp_path: Path, name: str, dtype: torch.dtype, is_streamed: bool) -> None:
    torch.manual_seed(0)
    computed = torch.float64 if dtype is torch.float64 else torch.float32
    layer = LAYERS[name](dtype=computed)
    size = WIDTH if name == "network" else 4
    for count in (0, 1, 7, 100):
        path, stored = stored_in(tmp_path, count, dtype)
        memory = FileMemory(path, stream=is_streamed)
        masks = torch.rand(2, count) < 0.4
        for query in (torch.randn(size, dtype=computed), torch.randn(2, size, dtype=computed)):
            for mask in (None, masks[0], *([masks] if query.dim() == 2 else [])):
                options = {} if mask is None else {"memory_padding_mask": mask}
                found = outputs_and_grads(layer, query, memory, **options)
                expected = outputs_and_grads(layer, query, stored, **options)
                # The gradient of the score of a single slot is zero: what is left is rounding.
                terms = max(other.abs().max().item() for other in expected if other.numel())
                rounding = 4 * torch.finfo(computed).eps * terms
                for one, other in zip(found, expected, strict=True):
                    # relative to the largest number: sums of large terms may be small
                    atol = max(1e-5 * other.abs().max().item() if other.numel() else 0, rounding)
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("is_streamed", MODES)
def test_keys_in_a_file_and_values_in_another(tmp_path: Path, is_streamed: bool) -> None:
    stored = {"keys": torch.randn(50, WIDTH), "values": torch.randn(50, 3)}
    save_safetensors(tmp_path / "both.safetensors", stored)
    keys, values = (
        FileMemory(tmp_path / "both.safetensors", name, stream=is_streamed) for name in stored
    )
    query = torch.randn(4, WIDTH)
    expected = ops.read(query, stored["keys"], stored["values"])
    torch.testing.assert_close(ops.read(query, keys, values), expected)
    torch.testing.assert_close(ops.read(query, keys, stored["values"]), expected)
    torch.testing.assert_close(ops.read(query, stored["keys"], values), expected)


def test_no_thread_remains_after_an_error_of_a_layer(tmp_path: Path) -> None:
    path, _ = stored_in(tmp_path, 100, torch.float32)
    memory = FileMemory(path, stream=True)
    layer = MultiHop(WIDTH, 4)
    with pytest.raises(ValueError, match="expected"):
        layer(torch.randn(2, 5), memory)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MemhopError, match="the file is too short"):
        layer(torch.randn(2, 4), memory)
    gc.collect()
    assert not [each for each in threading.enumerate() if each.name.startswith("memhop-read")]


def test_a_file_that_changes_before_the_backward_pass(tmp_path: Path) -> None:
    path, _ = stored_in(tmp_path, 100, torch.float32)
    result = MultiHop(WIDTH, 4)(torch.randn(2, 4), FileMemory(path, stream=True))
    path.write_bytes(path.read_bytes() + b"1")
    with pytest.raises(MemhopError, match="the file has changed since it was opened"):
        torch.autograd.backward(result.sum())


@pytest.mark.parametrize("is_streamed", MODES)
def test_old_slots_in_a_file_and_new_ones_in_a_tensor(tmp_path: Path, is_streamed: bool) -> None:
    path, stored = stored_in(tmp_path, 50, torch.float32)
    assert isinstance(stored, Tensor)
    memory = FileMemory(path, stream=is_streamed)
    new, layer = torch.randn(3, WIDTH), MultiHop(WIDTH, 4, num_hops=2, temporal_slots=9)
    query = torch.randn(2, 4)
    found = outputs_and_grads(layer, query, ops.Parts([memory, new]))
    expected = outputs_and_grads(layer, query, torch.cat([stored, new]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("is_streamed", MODES)
def test_a_pickled_file_memory_reads_the_file(tmp_path: Path, is_streamed: bool) -> None:
    """As a worker process of a ``DataLoader`` gets it."""
    path, stored = stored_in(tmp_path, 50, torch.float32)
    memory, layer = FileMemory(path, stream=is_streamed), MultiHop(WIDTH, 4, num_hops=2)
    query = torch.randn(2, 4)
    expected = layer(query, stored)
    torch.testing.assert_close(layer(query, memory), expected)
    copies = [pickle.loads(pickle.dumps(memory)), copy.deepcopy(memory)]
    for each in copies:
        torch.testing.assert_close(layer(query, each), expected)
    path.write_bytes(b"")
    with pytest.raises(MemhopError, match=r"short|changed"):
        layer(query, copies[0])
