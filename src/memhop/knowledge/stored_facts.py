"""Facts as safetensors bytes, verified on reading."""

import struct
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from memhop.errors import MemhopError, shown

_NAME = "facts"


def facts_to_bytes(facts: NDArray[np.int64]) -> bytes:
    """Return facts int64 [F, 3] as a safetensors file with int32, or int64 for large numbers.

    >>> facts = np.array([[0, 0, 1]])
    >>> facts_from_bytes(facts_to_bytes(facts), 2, 1, Path("facts.safetensors")).tolist()
    [[0, 0, 1]]
    """
    is_small = facts.max() <= np.iinfo(np.int32).max
    stored = facts.astype(np.int32) if is_small else facts
    return safetensors.numpy.save({_NAME: np.ascontiguousarray(stored)})


def facts_from_bytes(
    content: bytes, num_entities: int, num_relations: int, path: Path
) -> NDArray[np.int64]:
    """Return facts int64 [F, 3], read-only, from untrusted bytes; ``path`` is named in errors.

    Raises:
        MemhopError: no safetensors file of distinct facts with numbers in range.
    """
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError,
            OverflowError, struct.error) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MemhopError(f"{path}: corrupt safetensors file: {reason:.120}") from error
    if tensors.keys() != {_NAME}:
        odd = ", ".join(map(shown, sorted(tensors.keys() ^ {_NAME})))
        raise MemhopError(f"{path}: missing or unexpected tensors: {odd:.200}")
    facts = tensors[_NAME]
    is_integer = facts.dtype in (np.dtype(np.int32), np.dtype(np.int64))
    if not is_integer or facts.ndim != 2 or facts.shape[1] != 3 or not len(facts):
        got = f"{facts.dtype} {list(facts.shape)}"
        raise MemhopError(f"{path}: corrupt: expected int32 or int64 [F, 3], got {got}")
    for column, (name, most) in enumerate(
        (("subjects", num_entities), ("relations", num_relations), ("objects", num_entities))
    ):
        low, high = int(facts[:, column].min()), int(facts[:, column].max())
        if low < 0 or high >= most:
            raise MemhopError(
                f"{path}: corrupt: expected numbers of {name} from 0 to {most - 1:,}, "
                f"got {low if low < 0 else high:,}"
            )
    wide = facts.astype(np.int64)
    if len(first_of_equal(wide)) < len(wide):
        raise MemhopError(f"{path}: corrupt: expected distinct facts, got one twice")
    wide.flags.writeable = False
    return wide


def first_of_equal(facts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the increasing positions of the rows of int64 [F, 3] that no earlier row equals.

    >>> first_of_equal(np.array([[0, 0, 1], [0, 0, 2], [0, 0, 1]])).tolist()
    [0, 1]
    """
    order = np.lexsort((facts[:, 2], facts[:, 1], facts[:, 0]))  # stable: the first stays first
    ordered = facts[order]
    is_first = np.ones(len(facts), dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.sort(order[is_first])
