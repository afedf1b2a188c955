"""The numbered operators of the fused form keep their schema; programs that contain them load."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memhop import MultiHop
from memhop.ops import multi_hop
from memhop.ops.fused import custom_op
from memhop.ops.fused.problem import Step

# Other arguments or another meaning need operators with the next number: exported programs contain
# these.
MEMORY = (
    "Tensor query, Tensor keys, Tensor? key_scale, Tensor? values, Tensor? value_scale, "
    "Tensor? slots, Tensor? ignored, Tensor? lengths, Tensor? score_bias, Tensor[] weights, "
    "SymInt[] steps"
)
SCHEMAS = (
    f"memhop::fused_v1({MEMORY}, bool keep_weights) -> ({', '.join(['Tensor'] * 9)})",
    f"memhop::fused_backward_v1({MEMORY}, Tensor[] trace, Tensor? grad_result, "
    "Tensor? grad_weights, bool[] needed) -> Tensor[]",
)
STEP = (
    "a", "a_bias", "a_temporal", "c", "c_bias", "c_temporal", "transform", "relu", "softmax",
    "carry",
)  # fmt: skip


class Fused(nn.Module):
    """A module whose exported program contains the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.hops = MultiHop(5, 4, 2)

    def forward(self, query: Tensor, memories: Tensor) -> Tensor:
        return multi_hop(query, memories, self.hops.as_hops(), impl="fused")


def test_the_operators_of_version_1_keep_their_schema() -> None:
    found = [torch.ops.memhop.fused_v1.default, torch.ops.memhop.fused_backward_v1.default]
    assert tuple(str(one._schema) for one in found) == SCHEMAS
    assert Step._fields == STEP
    assert len(STEP) == custom_op.STEP_FIELDS


@pytest.mark.slow
def test_an_exported_program_with_the_operator_loads_in_another_process(tmp_path: Path) -> None:
    given = torch.randn(3, 4), torch.randn(3, 6, 5)
    module = Fused()
    program = torch.export.export(module, given, strict=True)
    assert "memhop.fused_v1.default" in {str(node.target) for node in program.graph.nodes}
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save((given, module(*given)), tmp_path / "expected.pt")
    code = (
        "import torch, memhop.ops.fused.custom_op\n"
        "given, expected = torch.load('expected.pt')\n"
        "found = torch.export.load('program.pt2').module()(*given)\n"
        "torch.testing.assert_close(found, expected)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
