"""The overhead of a layer: how many Python functions a forward runs."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

import memhop
from memhop import MemoryNetwork, MultiHop
from tests.work import calls


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("loads_dtensors", [False, True])
@pytest.mark.parametrize("layer", [MemoryNetwork, MultiHop])
def test_a_repeated_call_runs_few_functions(
    layer: type[nn.Module], loads_dtensors: bool, grad: bool
) -> None:
    """The kernels dominate a call of [7, 100, 32] only if little Python runs around them."""
    files = files_of_calls(layer, loads_dtensors, grad, need_first=False)
    assert any(file.endswith("cpu/prepared.py") for file in files)
    assert len(files) <= 45
    assert len(set(files)) <= 14


@pytest.mark.parametrize("layer", [MemoryNetwork, MultiHop])
def test_a_call_of_new_sizes_runs_few_functions(layer: type[nn.Module]) -> None:
    files = files_of_calls(layer, False, False, need_first=True)
    assert any(file.endswith("cpu/launch.py") for file in files)
    assert len(files) <= 150


def files_of_calls(
    layer: type[nn.Module], loads_dtensors: bool, grad: bool, need_first: bool
) -> list[str]:
    """Return the file of each function that a call runs, the first one of its sizes or the next."""
    memhop.warmup()
    if loads_dtensors:  # then an argument may be one
        importlib.import_module("torch.distributed.tensor")
    model = layer(32, memory_dim=32, num_hops=3)
    query, memories = torch.randn(7, 32), torch.randn(7, 100, 32)
    mask = torch.rand(7, 100) < 0.3

    def forward() -> object:
        with torch.set_grad_enabled(grad):
            return model(query, memories, memory_padding_mask=mask)

    for _ in range(0 if need_first else 2):
        forward()
    return calls(forward, Path(memhop.__file__).parent)
