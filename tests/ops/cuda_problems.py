"""Small problems for the triton kernels, and plans that a small problem would not get.

A test module that imports this one needs a GPU or triton's interpreter, and is skipped without.
"""

import dataclasses
import importlib.util
import os

import pytest
import torch
from torch import Tensor

from memhop.ops.cuda.tiling import Plan, Sizes, next_power_of_two, plan_for
from memhop.ops.fused.problem import Problem, Step, Wanted, tensors_of

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU; test_interpreted runs these tests too", allow_module_level=True)

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
EVERYTHING = Wanted(keys=True, values=True, scores=True)


def as_planned(sizes: Sizes) -> Plan:
    return plan_for(sizes)


def in_tiles(sizes: Sizes) -> Plan:
    """Return a plan with one launch: programs of four rows, tiles of two slots and four terms."""
    config = dataclasses.replace(plan_for(sizes).config, rows=4, slots=2, terms=4)
    return Plan(config, num_splits=1, split_slots=sizes.slots)


def grouped_rows(sizes: Sizes) -> Plan:
    """Return a plan with one launch: programs of sixteen rows, with tl.dot; for float32."""
    config = plan_for(sizes).config
    widths = {
        width: max(16, getattr(config, width))
        for width in ("key_width", "value_width", "query_width")
    }
    slots = min(4, config.slots)
    config = dataclasses.replace(config, rows=16, slots=slots, terms=16, **widths)
    return Plan(config, num_splits=1, split_slots=sizes.slots)


def in_splits(sizes: Sizes) -> Plan:
    """Return a plan with two launches per hop: splits of two tiles of two slots."""
    rows = min(4, next_power_of_two(sizes.rows))  # 1 in use; 4 are faster to interpret
    config = dataclasses.replace(plan_for(sizes).config, rows=rows, slots=2, splits=2, ages=2)
    return Plan(config, num_splits=max(2, -(-sizes.slots // 4)), split_slots=4)


def with_plans(*plans: object) -> pytest.MarkDecorator:
    names = [plan.__name__ for plan in plans]  # type: ignore[attr-defined]
    return pytest.mark.parametrize("planned", plans, ids=names, indirect=True)


def moved(problem: Problem) -> Problem:
    """Return the problem on the device, with the same strides."""
    tensors = [None if tensor is None else tensor.to(DEVICE) for tensor in tensors_of(problem)]
    return Problem.of_tensors(tensors, problem.steps)


def hops_over(memory: Tensor, query: Tensor, values: Tensor | None = None) -> Problem:
    """Return a problem of two hops without weights."""
    return Problem(query, memory, None, values, None, None, None, None, None, (), (Step(),) * 2)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)
