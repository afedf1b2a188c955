"""How the fused hop is shared out on a GPU: tiles, programs and parts, from sizes alone.

Triton's interpreter can try no sizes out, and one GPU says little of another: the rules here are
counted, and no more has been done for speed. Nothing here needs triton.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.problem import Problem

TILE = 4096  # numbers in a tile of one program; with 4 warps, 32 registers of each thread
TOGETHER = 16  # rows in a program, where there are many; the least that are multiplied in blocks
MOST_WARPS = 16
SMALL_ROW = 1 << 16  # bytes of a row that cost no more to read than the weights of a hop
LEAST_PART = 1 << 18  # bytes of a row worth a program of their own
PROGRAMS = 4  # on each multiprocessor: as many have room there, of 4 warps and 128 registers
MOST_PARTS = 1024  # one program merges them
MOST_STAGES = 3  # tiles under way at once, of slots or of a weight
UNDER_WAY = 1 << 16  # bytes of those that wait; the least shared memory of late is 99 KiB
SETTLED = 1024  # slots of a row that one program turns from scores to weights


@dataclass(frozen=True)  # triton takes a tuple apart
class Block:
    """What the compiler is told; each other one compiles anew. All are powers of two.

    Attributes:
        rows: rows of the batch in a program.
        slots: slots of each row in a tile.
        unit: columns and strides of rows are counted in so many numbers, the most that can be, so
            that the compiler knows where rows begin.
        key_width, value_width, query_width: I, V and D, padded.
        terms: terms of a product in a tile.
        ages: rows of a temporal table that are multiplied at once.
        parts: parts of a row that are merged at once.
        warps: warps of a program.
        stages: tiles under way at once; all but one of them wait in shared memory.
    """

    unit: int
    rows: int
    slots: int
    key_width: int
    value_width: int
    query_width: int
    terms: int
    ages: int
    parts: int
    warps: int
    stages: int


class Plan(NamedTuple):
    """How a problem is shared out; with one part a row, all hops are one launch."""

    block: Block
    parts: int
    part_slots: int


class Sizes(NamedTuple):
    """What ``plan_for`` goes by.

    ``itemsize`` is of the dtype computed in; ``slot_bytes`` are all that a slot holds.
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
    """Tiles and parts for a problem.

    Several rows share a program, and what it reads of the weights, where there are many of them
    and the weights cost as much as the slots. A row is split where the rows alone would leave the
    GPU idle.

    >>> plan = plan_for(Sizes(4096, 50, 128, 128, 128, 4, slot_bytes=512, multiprocessors=132))
    >>> plan.parts, plan.block.rows, plan.block.slots, plan.block.warps
    (1, 16, 4, 8)
    >>> plan_for(Sizes(64, 8192, 128, 128, 128, 4, slot_bytes=256, multiprocessors=132)).parts
    8
    """
    keys, values, memory = map(padded, (sizes.keys, sizes.values, sizes.memory))
    widest, row_bytes = max(keys, values), sizes.slots * sizes.slot_bytes
    together = (
        sizes.rows >= TOGETHER * sizes.multiprocessors
        and row_bytes <= SMALL_ROW
        and min(keys, values, memory) >= TOGETHER
        and max(widest, memory) <= 256
        and sizes.itemsize == 4
    )
    rows, tile = (TOGETHER, 2 * TILE) if together else (1, TILE * 4 // sizes.itemsize)
    slots = max(1, min(padded(sizes.slots), tile // (rows * widest)))
    room = PROGRAMS * sizes.multiprocessors // max(1, sizes.rows)
    wanted = max(1, min(room, row_bytes // LEAST_PART, MOST_PARTS))
    part_slots = -(-sizes.slots // (wanted * slots)) * slots
    parts = max(1, -(-sizes.slots // max(1, part_slots)))
    block = Block(
        unit=1,
        rows=rows,
        slots=slots,
        key_width=keys,
        value_width=values,
        query_width=memory,
        terms=16 if together else max(1, min(64, tile // max(widest, memory))),
        ages=16,
        parts=max(1, min(padded(parts), tile // (rows * widest))),
        warps=min(MOST_WARPS, max(4, rows * slots * widest // 1024, memory // 1024)),
        stages=1,
    )
    return Plan(block, parts, part_slots)


def padded(size: int) -> int:
    """The next power of two.

    >>> [padded(size) for size in (0, 1, 2, 3, 128, 129)]
    [1, 1, 2, 4, 128, 256]
    """
    return 1 << max(0, size - 1).bit_length()


def plan_of(problem: Problem) -> Plan:
    """The plan for a problem on the device that it is on."""
    values = problem.keys if problem.values is None else problem.values
    slot_bytes = problem.keys.shape[-1] * problem.keys.element_size()
    if problem.values is not None:
        slot_bytes += values.shape[-1] * values.element_size()
    rows, memory_dim = problem.query.shape
    sizes = Sizes(
        rows, problem.num_slots, problem.keys.shape[-1], values.shape[-1], memory_dim,
        problem.query.element_size(), slot_bytes, multiprocessors_of(problem.query),
    )  # fmt: skip
    plan = plan_for(sizes)
    starts = [memory_dim, *(size for rows in (problem.keys, values) for size in starts_of(rows))]
    unit = math.gcd(16, *starts)
    stages = stages_of(plan.block, problem)
    return plan._replace(block=replace(plan.block, unit=unit, stages=stages))


def stages_of(block: Block, problem: Problem) -> int:
    """As many tiles under way as have room, or a launch that asks for more is refused.

    A tile of slots holds keys and values as they are stored, one of a product its factors too.
    """
    slot_bytes = block.key_width * problem.keys.element_size()
    if problem.values is not None:
        slot_bytes += block.value_width * problem.values.element_size()
    widest = max(block.key_width, block.value_width, block.query_width, block.ages)
    term_bytes = (widest + block.rows) * problem.query.element_size()
    tile_bytes = max(block.rows * block.slots * slot_bytes, block.terms * term_bytes)
    return min(MOST_STAGES, 1 + UNDER_WAY // tile_bytes)


def starts_of(rows: Tensor) -> list[int]:
    """The columns and strides of what slots hold: where a row can begin."""
    return [rows.shape[-1], *(rows.stride(axis) for axis in range(rows.dim() - 1))]


def multiprocessors_of(tensor: Tensor) -> int:
    """How many the GPU has; one for triton's interpreter."""
    if not tensor.is_cuda:
        return 1
    count: int = torch.cuda.get_device_properties(tensor.device).multi_processor_count
    return count


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Launches go to the tensor's GPU, whichever is the current one."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def options(block: Block) -> dict[str, Any]:
    """What a launch is told beside its arguments; fusion is said, or triton warns of a change."""
    return {"num_warps": block.warps, "enable_fp_fusion": True}
