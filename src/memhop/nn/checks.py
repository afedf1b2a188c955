"""What the layers accept: sizes when they are made, and inputs; in the words of ``checks``."""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memhop.ops import checks
from memhop.ops.checks import Checked
from memhop.ops.errors import refuse
from memhop.ops.inputs import Hop, Memory, storage


def check_layer_sizes(layer: str, **sizes: int | None) -> None:
    """Every size is an integer of at least 1; None is a size not asked for."""
    for name, size in sizes.items():
        if size is not None and not is_a_size(size):
            came = ", ".join(f"{name}={size!r}" for name, size in sizes.items())
            raise ValueError(f"{layer} needs {name} to be an integer of at least 1; got {came}")


def is_a_size(size: object) -> bool:
    """Whether it is an integer of any type, but not bool, and at least 1."""
    try:
        return not isinstance(size, bool | np.bool_) and operator.index(size) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False


def check_hops(
    layer: str, dims: tuple[int, int], query: Tensor, memory: Memory, hops: Sequence[Hop]
) -> Checked:
    """Check the inputs of a layer that is hops alone, and all its weights.

    ``dims`` are the sizes of its query and of a slot.
    """
    checked = checks.common_case(query, memory, hops)
    if checked is not None and len(checked.batch) <= 1 and query.shape[-1] == dims[0]:
        return checked
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

    ``dims`` are the sizes of its query and of a slot; ``weight`` is one of its own, or None where
    they are not known.
    """
    mask = memory.padding_mask
    given = {"query": query, "memories": memory.keys, "memory_padding_mask": mask}
    checks.check_alike(layer, given if weight is None else {**given, "weights": weight})
    shape, (query_dim, input_dim) = storage(memory.keys).shape, dims
    batched = query.dim() == 2
    if (
        query.dim() not in (1, 2)
        or len(shape) not in ((2, 3) if batched else (2,))
        or query.shape[-1] != query_dim
        or shape[-1] != input_dim
        or (len(shape) == 3 and shape[0] != query.shape[0])
    ):
        needed = (
            f"query [B, {query_dim}] with memories [B, N, {input_dim}] or [N, {input_dim}], "
            f"or query [{query_dim}] with memories [N, {input_dim}]"
        )
        refuse(layer, needed, given)
    num_slots = shape[-2]
    if num_memories is not None and num_slots != num_memories:
        refuse(layer, f"{num_memories} slots (num_memories), not {num_slots}", given)
    if mask is not None:
        each = (*query.shape[:-1], num_slots)
        shapes = [each, (1, num_slots), (num_slots,)] if batched else [each]
        # One comparison after another: an exported graph keeps B and N open, and B = 1 is no guard.
        fits = mask.shape == each or (batched and mask.shape in ((num_slots,), (1, num_slots)))
        if mask.dtype != torch.bool or not fits:
            *others, last = dict.fromkeys(str(list(fitting)) for fitting in shapes)
            choices = f"{', '.join(others)} or {last}" if others else last
            needed = f"memory_padding_mask {choices} of bool (True = ignore that slot)"
            refuse(layer, needed, given)
