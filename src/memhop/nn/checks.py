"""Check the sizes and the inputs of the layers."""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memhop.ops import checks
from memhop.ops.checks import Call
from memhop.ops.errors import raise_invalid
from memhop.ops.inputs import Hop, Memory, storage


def check_layer_sizes(layer: str, **sizes: int | None) -> None:
    """Check that every size is None or an integer of at least 1."""
    for name, size in sizes.items():
        if size is not None and not is_a_size(size):
            came = ", ".join(f"{name}={size!r}" for name, size in sizes.items())
            raise ValueError(f"{layer} expected {name} to be an integer of at least 1, got {came}")


def is_a_size(size: object) -> bool:
    """Return whether an object is an integer of at least 1, of any type but bool."""
    try:
        return not isinstance(size, bool | np.bool_) and operator.index(size) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False


def check_hops(
    layer: str, dims: tuple[int, int], query: Tensor, memory: Memory, hops: Sequence[Hop]
) -> Call:
    """Check the inputs of a layer that consists of hops, and all of its weights.

    ``dims`` are the sizes of its query and of a slot.
    """
    check_layer_inputs(layer, dims, query, memory, hops[0].a.weight)
    return checks.check_multi_hop(query, memory, hops)


def check_layer_inputs(
    layer: str,
    dims: tuple[int, int],
    query: Tensor,
    memory: Memory,
    weight: Tensor | None,
    num_memories: int | None = None,
) -> None:
    """Check that the inputs fit each other and the layer.

    ``dims`` are the sizes of its query and of a slot; ``weight`` is one of its weights, or None if
    they are unknown.
    """
    mask = memory.padding_mask
    given = {"query": query, "memories": memory.keys, "memory_padding_mask": mask}
    checks.check_together(layer, given if weight is None else {**given, "weights": weight})
    shape, (query_dim, input_dim) = storage(memory.keys).shape, dims
    batched = query.dim() == 2
    if (
        query.dim() not in (1, 2)
        or len(shape) not in ((2, 3) if batched else (2,))
        or query.shape[-1] != query_dim
        or shape[-1] != input_dim
        or (len(shape) == 3 and shape[0] != query.shape[0])
    ):
        expected = (
            f"query [B, {query_dim}] with memories [B, N, {input_dim}] or [N, {input_dim}], "
            f"or query [{query_dim}] with memories [N, {input_dim}]"
        )
        raise_invalid(layer, expected, given)
    num_slots = shape[-2]
    if num_memories is not None and num_slots != num_memories:
        raise_invalid(layer, f"{num_memories} slots (num_memories), not {num_slots}", given)
    if mask is not None:
        each = (*query.shape[:-1], num_slots)
        shapes = [each, (1, num_slots), (num_slots,)] if batched else [each]
        # Separate comparisons: B and N stay dynamic in an exported graph, without a guard on B = 1.
        fits = mask.shape == each or (batched and mask.shape in ((num_slots,), (1, num_slots)))
        if mask.dtype != torch.bool or not fits:
            *others, last = dict.fromkeys(str(list(fitting)) for fitting in shapes)
            choices = f"{', '.join(others)} or {last}" if others else last
            expected = f"memory_padding_mask {choices} of bool (True = ignore that slot)"
            raise_invalid(layer, expected, given)
