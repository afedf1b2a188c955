"""The overhead of a layer: how many Python functions a forward runs."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

import memhop
from memhop import MemoryNetwork, MultiHop
from tests.work import calls


@pytest.mark.parametrize("loads_dtensors", [False, True])
@pytest.mark.parametrize("layer", [MemoryNetwork, MultiHop])
def test_a_forward_runs_few_functions(layer: type[nn.Module], loads_dtensors: bool) -> None:
    """The kernels dominate a forward of [32, 50, 128] only if little Python runs around them."""
    memhop.warmup()
    if loads_dtensors:  # then an argument may be one
        importlib.import_module("torch.distributed.tensor")
    model = layer(128, memory_dim=128, num_hops=3)
    query, memories = torch.randn(32, 128), torch.randn(32, 50, 128)
    mask = torch.rand(32, 50) < 0.3

    def forward() -> object:
        return model(query, memories, memory_padding_mask=mask)

    forward()
    files = calls(forward, Path(memhop.__file__).parent)
    assert any(file.endswith("cpu/launch.py") for file in files)
    assert len(files) <= 110
    assert len(set(files)) <= 18
