"""The hops in float64 NumPy, one question and one row at a time; written from docs/retrieval.md."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def attention(
    keys: Array, values: Array, question: Array, topic: Array | None, maps: Array, scale: float
) -> Array:
    """The attention of each hop to the rows of the memory, [K, N], for one question."""
    state = np.zeros(values.shape[1]) if topic is None else topic
    hops = []
    for question_map in maps:
        wanted = question_map @ question
        scores = np.zeros(len(keys))
        for row, key in enumerate(keys):
            if len(key) == len(state):  # one vector for both parts
                scores[row] = state @ key + wanted @ key
            else:
                scores[row] = state @ key[: len(state)] + wanted @ key[len(state) :]
        powers = np.exp(scale * (scores - scores.max()))
        weights = powers / powers.sum()
        state = np.zeros(values.shape[1])
        for weight, value in zip(weights, values, strict=True):
            state = state + weight * value
        hops.append(weights)
    return np.array(hops)


def loss(weights: Array, right: list[list[int]]) -> float:
    """- sum over the hops of which something is known of the log of the weight of right rows."""
    return -sum(
        float(np.log(hop[rows].sum())) for hop, rows in zip(weights, right, strict=True) if rows
    )
