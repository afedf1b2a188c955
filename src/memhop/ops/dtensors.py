"""Arguments that are a ``DTensor``: the local part of each, and the group that shares the slots.

A memory with ``Shard`` on the axis of the slots, along one axis of its mesh, is read over the group
of that axis. Nothing here imports ``torch.distributed.tensor``, which takes long: where it is not
loaded, no argument is a ``DTensor``.
"""

import sys
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn import Parameter

from memhop.ops.checks import named_weights
from memhop.ops.inputs import Hop, Quantized

# the axis of the slots, counted from the last
SLOT_AXES = {"memories": 2, "keys": 2, "values": 2}
SLOT_AXES |= {"padding_mask": 1, "memory_padding_mask": 1, "score_bias": 1}


class Sharding(NamedTuple):
    """How the slots are spread: the mesh and the number of its axis."""

    mesh: Any
    mesh_axis: int


_PLAIN = {Tensor, Parameter, NoneType, bool, int, float, str, list}  # of most arguments


def are_possible() -> bool:
    """Return whether an argument may be a ``DTensor``."""
    return not torch.compiler.is_compiling() and "torch.distributed.tensor" in sys.modules


def local_arguments(caller: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return arguments by name without ``DTensor``, and with their group; None if there is none.

    Raises:
        ValueError: for any other placement than that of the module's docstring.
    """
    if _PLAIN.issuperset(map(type, given.values())):
        return None
    found = {name: placed(value) for name, value in given.items() if placed(value)}
    if not found:
        return None
    shardings = {name: sharding_of(caller, name, tensors) for name, tensors in found.items()}
    local: dict[str, Any] = {
        name: of_this_rank(value) if name in found else value for name, value in given.items()
    }
    memories = [name for name in given if SLOT_AXES.get(name) == 2]
    sharded = next((shardings[name] for name in memories if shardings.get(name)), None)
    for name, sharding in shardings.items():
        if sharding and sharding != sharded:
            fail(caller, f"{name} sharded as the {memories[0]}", found[name])
    if sharded is None:
        return local
    if given.get("lengths") is not None and "lengths" in found:
        expected = "lengths of the slots of this rank, a plain tensor, with sharded memories"
        fail(caller, expected, found["lengths"])
    if given.get("group") is not None:
        raise ValueError(
            f"{caller} expected no group with {memories[0]} as a DTensor, whose mesh has one"
        )
    local["group"] = group_of(caller, sharded)
    return local


def check_weights(caller: str, hops: Sequence[Hop]) -> None:
    """Check that no weight is a ``DTensor``.

    Raises:
        ValueError: a weight is one; its module was sharded, and its own ``forward`` is not called.
    """
    kinds = {type(weight) for hop in hops for table in (hop.a, hop.c) for weight in table}
    if _PLAIN.issuperset(kinds | {type(hop.transform) for hop in hops}):
        return  # most calls
    for name, weight in named_weights(hops):
        if is_dtensor(weight):
            expected = f"{name} as a plain tensor (fully_shard the layer, not parts of it)"
            fail(caller, expected, [weight])


def is_dtensor(value: object) -> bool:
    """Return whether an object is a ``DTensor``."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def placed(value: object) -> list[Any]:
    """Return the tensors of an argument if one of them is a ``DTensor``."""
    tensors = [value.data, value.scale] if isinstance(value, Quantized) else [value]
    if isinstance(value, tuple):  # slots of the keys and of the values
        tensors = [*value]
    return tensors if any(is_dtensor(tensor) for tensor in tensors) else []


def sharding_of(caller: str, name: str, tensors: Sequence[Any]) -> Sharding | None:
    """Return how an argument spreads the slots, or None if it is replicated."""
    shardings = set()
    for number, tensor in enumerate(tensors):
        if not is_dtensor(tensor):
            fail(caller, f"{name} with all of its tensors as DTensor", tensors)
        if tensor.device_mesh.get_coordinate() is None:
            fail(caller, f"{name} on a mesh with this process", tensors)
        from_last = SLOT_AXES.get(name)
        slot_axis = None if from_last is None else tensor.dim() - from_last + number
        axes = [
            axis for axis, placement in enumerate(tensor.placements) if not is_replicate(placement)
        ]
        is_valid = all(is_shard(tensor.placements[axis], slot_axis) for axis in axes)
        if slot_axis is None and axes:
            fail(caller, f"{name} with Replicate", tensors)
        if not is_valid or len(axes) > 1:
            expected = f"{name} with Replicate, or Shard({slot_axis}) on one axis of the mesh"
            fail(caller, expected, tensors)
        shardings.add(Sharding(tensor.device_mesh, axes[0]) if axes else None)
    if len(shardings) > 1:
        fail(caller, f"{name} with one sharding of all its tensors", tensors)
    return shardings.pop()


def is_replicate(placement: Any) -> bool:
    """Return whether a placement is ``Replicate``."""
    return type(placement).__name__ == "Replicate"


def is_shard(placement: Any, axis: int | None) -> bool:
    """Return whether a placement is ``Shard`` of an axis, without a stride."""
    return type(placement).__name__ == "Shard" and placement.dim == axis


def of_this_rank(value: Any) -> Any:
    """Return the local part of an argument; gradients reach the ``DTensor``."""
    if isinstance(value, Quantized):
        return Quantized(value.data.to_local(), value.scale.to_local())  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return tuple(each.to_local() if is_dtensor(each) else each for each in value)
    return value.to_local()


def group_of(caller: str, sharding: Sharding) -> Any:
    """Return the group that shares the slots, whose ranks have them in the order of the mesh."""
    mesh, axis = sharding
    ranks = mesh.mesh
    if (ranks.diff(dim=axis) < 0).any():  # a group has its ranks in ascending order
        raise ValueError(f"{caller} expected a mesh of ascending ranks, got {ranks.tolist()}")
    return mesh.get_group(axis)


def fail(caller: str, expected: str, tensors: Sequence[Any]) -> NoReturn:
    """Raise the ValueError of a wrong placement."""
    came = ", ".join(
        f"a DTensor {list(tensor.shape)} with ({', '.join(map(str, tensor.placements))}) on mesh "
        f"{list(tensor.device_mesh.shape)}"
        if is_dtensor(tensor)
        else "a plain tensor"
        for tensor in tensors
    )
    raise ValueError(f"{caller} expected {expected}, got {came}")
