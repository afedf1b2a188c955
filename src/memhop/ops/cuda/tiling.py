"""Tile sizes, grid and splits of the triton kernels, from sizes alone.

The rules follow from counting registers, shared memory and bytes read; no GPU was available to tune
them. This module does not import triton.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.problem import Problem, value_rows

TILE_ELEMENTS = 4096  # with 4 warps, 32 registers of each thread
GROUP_ROWS = 16  # rows of a program where there are many; the minimum of tl.dot
MAX_WARPS = 16
SMALL_ROW_BYTES = 1 << 16  # a row of this size takes as long to read as the weights of a hop
MIN_SPLIT_BYTES = 1 << 18  # a split of this size is worth its own program
PROGRAMS_PER_SM = 4  # that fit a multiprocessor, with 4 warps of 128 registers
MAX_SPLITS = 1024  # one program merges them
MAX_STAGES = 3  # of the software pipeline, in loops over tiles of slots or of a weight
PIPELINE_BYTES = 1 << 16  # of prefetched tiles; GPUs since 2020 have at least 99 KiB
NORMALIZE_SLOTS = 1024  # slots per program of ``normalize``


@dataclass(frozen=True)  # no tuple: triton would pass its elements as arguments
class TileConfig:
    """Compile-time constants of the kernels; each combination compiles once. All powers of two.

    Attributes:
        unit: the columns and strides of rows are multiples of this many elements, as far as the
            compiler knows; it decides how wide loads are.
        rows: rows of the batch in a program.
        slots: slots of each row in a tile.
        key_width, value_width, query_width: I, V and D, padded.
        terms: terms of a matrix-vector product in a tile.
        ages: rows of a temporal table in a tile.
        splits: splits of a row that are merged in one step.
        num_warps: warps of a program.
        num_stages: stages of the software pipeline; all tiles but one are in shared memory.
    """

    unit: int
    rows: int
    slots: int
    key_width: int
    value_width: int
    query_width: int
    terms: int
    ages: int
    splits: int
    num_warps: int
    num_stages: int


class Plan(NamedTuple):
    """Tiles and splits of a problem; with one split per row, one launch runs all hops."""

    config: TileConfig
    num_splits: int
    split_slots: int


class Sizes(NamedTuple):
    """The inputs of ``plan_for``: sizes of a problem, and multiprocessors of the GPU.

    ``itemsize`` is that of the dtype computed in; ``slot_bytes`` counts keys and values.
    """

    rows: int
    slots: int
    keys: int
    values: int
    memory: int
    itemsize: int
    slot_bytes: int
    multiprocessors: int


def plan_for(sizes: Sizes) -> Plan:
    """Return the plan for sizes.

    A program works on several rows, so that they share each load of a weight, if rows are many and
    weights cost as much to read as slots. Rows are split if there are too few to fill the GPU.

    >>> plan = plan_for(Sizes(4096, 50, 128, 128, 128, 4, slot_bytes=512, multiprocessors=132))
    >>> plan.num_splits, plan.config.rows, plan.config.slots, plan.config.num_warps
    (1, 16, 4, 8)
    >>> plan_for(Sizes(64, 8192, 128, 128, 128, 4, slot_bytes=256, multiprocessors=132)).num_splits
    8
    """
    keys, values, memory = map(next_power_of_two, (sizes.keys, sizes.values, sizes.memory))
    widest, row_bytes = max(keys, values), sizes.slots * sizes.slot_bytes
    use_dot = (
        sizes.rows >= GROUP_ROWS * sizes.multiprocessors
        and row_bytes <= SMALL_ROW_BYTES
        and min(keys, values, memory) >= GROUP_ROWS
        and max(widest, memory) <= 256
        and sizes.itemsize == 4
    )
    rows, tile = 1, TILE_ELEMENTS * 4 // sizes.itemsize
    if use_dot:
        rows, tile = GROUP_ROWS, 2 * TILE_ELEMENTS
    slots = max(1, min(next_power_of_two(sizes.slots), tile // (rows * widest)))
    idle = PROGRAMS_PER_SM * sizes.multiprocessors // max(1, sizes.rows)
    wanted = max(1, min(idle, row_bytes // MIN_SPLIT_BYTES, MAX_SPLITS))
    split_slots = -(-sizes.slots // (wanted * slots)) * slots
    num_splits = max(1, -(-sizes.slots // max(1, split_slots)))
    config = TileConfig(
        unit=1,
        rows=rows,
        slots=slots,
        key_width=keys,
        value_width=values,
        query_width=memory,
        terms=16 if use_dot else max(1, min(64, tile // max(widest, memory))),
        ages=16,
        splits=max(1, min(next_power_of_two(num_splits), tile // (rows * widest))),
        num_warps=min(MAX_WARPS, max(4, rows * slots * widest // 1024, memory // 1024)),
        num_stages=1,
    )
    return Plan(config, num_splits, split_slots)


def next_power_of_two(size: int) -> int:
    """Return the next power of two.

    >>> [next_power_of_two(size) for size in (0, 1, 2, 3, 128, 129)]
    [1, 1, 2, 4, 128, 256]
    """
    return 1 << max(0, size - 1).bit_length()


def plan_of(problem: Problem) -> Plan:
    """Return the plan for a problem on its device."""
    values, _ = value_rows(problem)
    slot_bytes = problem.keys.shape[-1] * problem.keys.element_size()
    if problem.values is not None:
        slot_bytes += values.shape[-1] * values.element_size()
    rows, memory_dim = problem.query.shape
    sizes = Sizes(
        rows, problem.num_slots, problem.keys.shape[-1], values.shape[-1], memory_dim,
        problem.query.element_size(), slot_bytes, multiprocessors_of(problem.query),
    )  # fmt: skip
    plan = plan_for(sizes)
    strides = [stride for rows in (problem.keys, values) for stride in row_strides(rows)]
    unit = math.gcd(16, memory_dim, *strides)
    num_stages = num_stages_of(plan.config, problem)
    return plan._replace(config=replace(plan.config, unit=unit, num_stages=num_stages))


def num_stages_of(config: TileConfig, problem: Problem) -> int:
    """Return how many stages of the pipeline fit shared memory; a launch fails beyond that.

    A tile of slots has keys and values as they are stored; one of a product has factors too.
    """
    slot_bytes = config.key_width * problem.keys.element_size()
    if problem.values is not None:
        slot_bytes += config.value_width * problem.values.element_size()
    widest = max(config.key_width, config.value_width, config.query_width, config.ages)
    term_bytes = (widest + config.rows) * problem.query.element_size()
    tile_bytes = max(config.rows * config.slots * slot_bytes, config.terms * term_bytes)
    return min(MAX_STAGES, 1 + PIPELINE_BYTES // tile_bytes)


def row_strides(rows: Tensor) -> list[int]:
    """Return the columns and strides of stored rows."""
    return [rows.shape[-1], *(rows.stride(axis) for axis in range(rows.dim() - 1))]


def multiprocessors_of(tensor: Tensor) -> int:
    """Return the multiprocessors of the tensor's GPU; 1 in triton's interpreter."""
    if not tensor.is_cuda:
        return 1
    count: int = torch.cuda.get_device_properties(tensor.device).multi_processor_count
    return count


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which launches go to the tensor's GPU."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def launch_options(config: TileConfig) -> dict[str, Any]:
    """Return the options of a launch; triton warns if ``enable_fp_fusion`` is left out."""
    return {"num_warps": config.num_warps, "enable_fp_fusion": True}
