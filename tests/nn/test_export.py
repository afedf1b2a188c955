"""``torch.export`` records plain operations and leaves all sizes of a call open.

The traced sizes are so large that ``impl="auto"`` would fuse the call. An exported graph must not
contain a fused operation, nor any size that the trace had.
"""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from memhop.ops import read
from tests.nn.every_option import SIZES, STORED, Case, some_cases

DIM = 16
TRACED = {"B": 8, "L": 3, "N": 20_000, "U": 50, "W": 40}
ONES = dict.fromkeys(SIZES, 1)
OTHER_SIZES: list[dict[str, int]] = [
    {}, ONES, {"B": 1, "N": 9}, {"B": 5, "N": 1}, {"U": 1, "W": 1}, {"B": 0}, {"N": 0}, {"L": 0},
    {"B": 0, "N": 0},
]  # fmt: skip


def open_axes(case: Case) -> dict[str, Any]:
    """Return ``dynamic_shapes``: every size that the layer does not fix may be any number."""
    dims = {letter: Dim(letter) for letter in SIZES}

    def of(letters: str | None) -> dict[int, Dim] | None:
        if letters is None:
            return None
        return {axis: dims[letter] for axis, letter in enumerate(letters) if letter in dims}

    found: dict[str, Any] = dict.fromkeys(case.options)
    for name, letters in case.axes.items():
        found[name] = tuple(map(of, letters)) if isinstance(letters, tuple) else of(letters)
        if name in STORED and case["storage"] == "int8":  # the numbers, and the scale of each row
            found[name] = [found[name], found[name]]
    return found


def exported(case: Case, layer: nn.Module, **options: Any) -> ExportedProgram:
    """Return the exported program of a layer, traced at large sizes."""
    given = {**case.tensors(**TRACED), **case.options}
    return export(layer, (), given, dynamic_shapes=open_axes(case), **options)


def saved_and_loaded(program: ExportedProgram) -> ExportedProgram:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


def operations(program: ExportedProgram) -> set[str]:
    """Where the operations of a graph come from: "aten", or the module of a function of sizes."""
    found = set()
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            targets = [node.target for node in module.graph.nodes if node.op == "call_function"]
            found |= {getattr(t, "namespace", getattr(t, "__module__", "?")) for t in targets}
    return found


@some_cases(0)
@pytest.mark.parametrize("strict", [False, True])
def test_every_option_at_all_sizes(case: Case, strict: bool) -> None:
    layer = case.layer()
    program = saved_and_loaded(exported(case, layer, strict=strict))
    assert operations(program) <= {"aten", "_operator", "higher_order"}  # no autocast inside
    module = program.module()
    for sizes in [*OTHER_SIZES, TRACED]:
        tensors = case.tensors(**sizes)
        case.assert_close(case.call(module, tensors), case.call(layer, tensors))


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
    program = export(Bank(), tuple(given(8, 20_000, 50)), dynamic_shapes=axes)
    assert operations(program) <= {"aten", "_operator"}
    for sizes in ((3, 7, 1), (1, 1, 4), (2, 5, 10_000), (0, 3, 2), (2, 0, 3)):
        tensors = given(*sizes)
        torch.testing.assert_close(program.module()(*tensors), Bank()(*tensors))


def test_a_loaded_layer_can_be_trained() -> None:
    case = Case({"tying": "adjacent", "num_heads": 2, "temporal_slots": 3, "query": "several"})
    layer = case.layer()
    loaded = saved_and_loaded(exported(case, layer)).module()
    gradients = []
    for module in (loaded, layer):
        outputs = case.call(module, case.tensors())
        torch.autograd.backward(torch.stack([x.square().sum() for x in outputs]).sum())
        gradients.append({name: weight.grad for name, weight in module.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
