"""The types that a type checker sees: mypy checks this file, and the calls run."""

import subprocess
import sys
from pathlib import Path
from typing import assert_type

import pytest
import torch
from torch import Tensor

from memhop import MemoryHop, MemoryNetwork, MultiHop, Quantized
from memhop.ops import Hop, Table, multi_hop, read

ROOT = Path(__file__).parents[2]
Both = Tensor | tuple[Tensor, Tensor]
query, memories = torch.zeros(2, 4), torch.zeros(2, 3, 4)
bank, slots = torch.zeros(7, 4), torch.zeros(2, 3, dtype=torch.long)


@pytest.mark.parametrize("flag", [False, True])
def test_layers(flag: bool) -> None:
    hop, hops = MemoryHop(4, 4), MultiHop(4, 4, tying="adjacent", relu=0.5)
    net = MemoryNetwork.build(input_dim=4, memory_dim=4, embed="a", num_heads=2)

    assert_type(hop(query, memories), Tensor)
    assert_type(hop(query, memories, need_weights=False), Tensor)
    assert_type(hop(query, memories, need_weights=True), tuple[Tensor, Tensor])
    assert_type(hop(query, memories, need_weights=flag), Both)
    assert_type(hop.forward(query, memories), Tensor)

    assert_type(hops(query, memories), Tensor)
    assert_type(hops(query, memories, need_weights=False), Tensor)
    assert_type(hops(query, memories, need_weights=True), tuple[Tensor, Tensor])
    assert_type(hops(query, memories, need_weights=flag), Both)
    assert_type(hops.forward(query, memories, need_weights=True), tuple[Tensor, Tensor])

    assert_type(net(query, memories), Tensor)
    assert_type(net(query, memories, need_weights=False), Tensor)
    assert_type(net(query, memories, need_weights=True), tuple[Tensor, Tensor])
    assert_type(net(query, memories, need_weights=flag), Both)
    assert_type(net.forward(query, memories, need_weights=flag), Both)


@pytest.mark.parametrize("flag", [False, True])
def test_operations(flag: bool) -> None:
    hops = [Hop(Table(torch.eye(4)), Table(None))] * 2

    assert_type(read(query, memories), Tensor)
    assert_type(read(query, memories, need_weights=False), Tensor)
    assert_type(read(query, memories, need_weights=True), tuple[Tensor, Tensor])
    assert_type(read(query, memories, need_weights=flag), Both)

    assert_type(multi_hop(query, memories, hops), Tensor)
    assert_type(multi_hop(query, memories, hops, need_weights=False), Tensor)
    assert_type(multi_hop(query, memories, hops, need_weights=True), tuple[Tensor, Tensor])
    assert_type(multi_hop(query, memories, hops, need_weights=flag), Both)


def test_arguments() -> None:
    layer = MultiHop(4, 4, value_dim=4, slot_order="newest_first", dtype=torch.float32)
    assert_type(layer(query, Quantized.of(memories), values=memories), Tensor)
    assert_type(layer(query, bank, slots=slots, lengths=torch.tensor([1, 3])), Tensor)
    assert_type(layer(query, bank, values=bank, slots=(slots, slots)), Tensor)
    assert_type(layer(query, bank, values=memories, slots=(slots, None)), Tensor)
    with pytest.raises(TypeError):
        layer(query, memories, memories)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        layer(query, memories, padding_mask=None)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="expected tying to be one of"):
        MultiHop(4, 4, tying="adjacency")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected slot_order to be one of"):
        MemoryHop(4, 4, slot_order="oldest")  # type: ignore[arg-type]


@pytest.mark.thorough  # .ci/run checks all files
def test_mypy_finds_these_types(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), __file__]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
