"""Small problems for the triton kernels, and ways to share them out, forced on a small problem.

A test module that imports this one is for a GPU, or for triton's interpreter: in a process with
neither the whole module is skipped.
"""

import dataclasses
import importlib.util
import os

import pytest
import torch
from torch import Tensor

from memhop.ops.cuda.tiling import Plan, Sizes, padded, plan_for
from memhop.ops.fused.problem import Problem, Step, Wanted

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU; test_fused_cuda interprets these tests", allow_module_level=True)

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
EVERYTHING = Wanted(keys=True, values=True, scores=True)


def as_planned(sizes: Sizes) -> Plan:
    return plan_for(sizes)


def in_tiles(sizes: Sizes) -> Plan:
    """All hops in one launch: four rows in a program, tiles of two slots and of four terms."""
    block = dataclasses.replace(plan_for(sizes).block, rows=4, slots=2, terms=4)
    return Plan(block, parts=1, part_slots=sizes.slots)


def together(sizes: Sizes) -> Plan:
    """All hops in one launch: sixteen rows in a program, multiplied in blocks; for float32."""
    block = plan_for(sizes).block
    widths = {
        width: max(16, getattr(block, width))
        for width in ("key_width", "value_width", "query_width")
    }
    slots = min(4, block.slots)
    block = dataclasses.replace(block, rows=16, slots=slots, terms=16, **widths)
    return Plan(block, parts=1, part_slots=sizes.slots)


def in_parts(sizes: Sizes) -> Plan:
    """Two launches a hop: parts of two tiles of two slots, two of which are merged at once."""
    rows = min(4, padded(sizes.rows))  # one, where it is used; a few are quicker to interpret
    block = dataclasses.replace(plan_for(sizes).block, rows=rows, slots=2, parts=2, ages=2)
    return Plan(block, parts=max(2, -(-sizes.slots // 4)), part_slots=4)


def with_plans(*plans: object) -> pytest.MarkDecorator:
    names = [plan.__name__ for plan in plans]  # type: ignore[attr-defined]
    return pytest.mark.parametrize("planned", plans, ids=names, indirect=True)


def moved(problem: Problem) -> Problem:
    """The problem on the device, strides kept."""
    tensors = [None if tensor is None else tensor.to(DEVICE) for tensor in problem.tensors]
    return Problem.of_tensors(tensors, problem.steps)


def hops_over(memory: Tensor, query: Tensor, values: Tensor | None = None) -> Problem:
    """Two hops without weights over a memory."""
    return Problem(query, memory, None, values, None, None, None, None, None, (), (Step(),) * 2)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)
