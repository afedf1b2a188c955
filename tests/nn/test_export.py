"""``torch.export`` takes the plain path and leaves batch and slots open.

The sizes traced are ones where a fused kernel is worth its while; an exported graph must not hold
it, nor any size that the trace happened to have. In float64, so that order of sums does not matter.
"""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop, Tying
from memhop.ops import read

DIM = 16
TRACED = (8, 300)
OTHER_SIZES = [(3, 7), (1, 1), (1, 9), (5, 1), (0, 3), (2, 0), (0, 0)]
TYINGS: list[Tying] = ["none", "adjacent", "layerwise"]


def arguments(
    batch: int, num_slots: int, masked: bool = True, shared: bool = False
) -> dict[str, Tensor]:
    """What a layer is called with; the second of a batch has no slot to read."""
    query = torch.randn(batch, DIM, dtype=torch.float64)
    memories = torch.randn(*(() if shared else (batch,)), num_slots, DIM, dtype=torch.float64)
    if not masked:
        return {"query": query, "memories": memories}
    mask = torch.rand(batch, num_slots) < 0.4
    mask[1:2] = True
    return {"query": query, "memories": memories, "memory_padding_mask": mask}


def open_axes(shared: bool = False) -> dict[str, dict[int, Dim]]:
    """Batch and slots may be any number."""
    batch, slots = Dim("batch"), Dim("slots")
    memories = {0: slots} if shared else {0: batch, 1: slots}
    return {
        "query": {0: batch},
        "memories": memories,
        "memory_padding_mask": {0: batch, 1: slots},
    }


def exported(layer: nn.Module, masked: bool = True, shared: bool = False, **fixed: Any) -> Any:
    """The exported program of a layer; ``fixed`` are the arguments that are no tensors."""
    given = arguments(*TRACED, masked, shared)
    axes = {name: axes for name, axes in open_axes(shared).items() if name in given}
    return export(layer, (), {**given, **fixed}, dynamic_shapes={**axes, **dict.fromkeys(fixed)})


def operations(program: ExportedProgram) -> set[str]:
    """Where the operations of a graph come from: "aten", or the module of a function of sizes."""
    found = set()
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            targets = [node.target for node in module.graph.nodes if node.op == "call_function"]
            found |= {getattr(t, "namespace", getattr(t, "__module__", "?")) for t in targets}
    return found


def assert_equal_at_all_sizes(
    program: ExportedProgram, layer: nn.Module, masked: bool, shared: bool = False, **fixed: Any
) -> None:
    assert operations(program) <= {"aten", "_operator"}
    module = program.module()
    for sizes in [*OTHER_SIZES, TRACED]:
        given = arguments(*sizes, masked, shared)
        torch.testing.assert_close(module(**given, **fixed), layer(**given, **fixed))


@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize(
    ("make", "masked", "weights", "temporal_slots"),
    [(MultiHop, False, False, None), (MemoryNetwork, True, True, 4)],
)
def test_every_tying_with_mask_weights_and_temporal_tables(
    make: Callable[..., nn.Module],
    masked: bool,
    weights: bool,
    temporal_slots: int | None,
    tying: Tying,
) -> None:
    layer = make(DIM, DIM, 2, tying=tying, temporal_slots=temporal_slots, dtype=torch.float64)
    program = exported(layer, masked, need_weights=weights)
    assert_equal_at_all_sizes(program, layer, masked, need_weights=weights)


def test_a_memory_that_the_batch_shares() -> None:
    layer = MultiHop(DIM, DIM, 2, temporal_slots=4, dtype=torch.float64)
    program = exported(layer, shared=True)
    assert_equal_at_all_sizes(program, layer, masked=True, shared=True)


def test_one_hop_with_relu_and_without_softmax() -> None:
    layer = MemoryHop(DIM, DIM, relu=True, softmax=False, dtype=torch.float64)
    assert_equal_at_all_sizes(exported(layer), layer, masked=True)


def test_a_read_of_a_bank_with_a_score_bias() -> None:
    class Bank(nn.Module):
        def forward(self, query: Tensor, bank: Tensor, slots: Tensor, bias: Tensor) -> Tensor:
            return read(query, bank, slots=slots, score_bias=bias)

    def given(batch: int, num_slots: int, num_rows: int) -> list[Tensor]:
        bias = torch.randn(batch, num_slots, dtype=torch.float64)
        bias[:, ::3] = -torch.inf
        return [
            torch.randn(batch, DIM, dtype=torch.float64),
            torch.randn(num_rows, DIM, dtype=torch.float64),
            torch.randint(num_rows, (batch, num_slots)),
            bias,
        ]

    batch, slots, rows = Dim("batch"), Dim("slots"), Dim("rows")
    over_slots = {0: batch, 1: slots}
    axes = [{0: batch}, {0: rows}, over_slots, over_slots]
    program = export(Bank(), tuple(given(*TRACED, 50)), dynamic_shapes=axes)
    assert operations(program) <= {"aten", "_operator"}
    for sizes in ((3, 7, 1), (1, 1, 4), (2, 5, 10_000), (0, 3, 2), (2, 0, 3)):
        tensors = given(*sizes)
        torch.testing.assert_close(program.module()(*tensors), Bank()(*tensors))


def test_an_exported_layer_is_kept_in_a_file_and_trained() -> None:
    layer = MultiHop(DIM, DIM, 2, tying="adjacent", dtype=torch.float64)
    file = io.BytesIO()
    torch.export.save(exported(layer), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    given: dict[str, Any] = arguments(3, 7)
    for module in (loaded, layer):
        module(**given).square().sum().backward()
    found = {name: weight.grad for name, weight in loaded.named_parameters()}
    expected = {name: weight.grad for name, weight in layer.named_parameters()}
    torch.testing.assert_close(found, expected)
