"""Hops over a ragged memory: each query reads only the slots that its frontier reaches."""

from memhop.ops.ragged.frontier import (
    Frontier,
    RaggedMemory,
    Reads,
    is_in,
    mixture,
    prune,
    ragged_memory,
    uniform_frontier,
)
from memhop.ops.ragged.read import read_ragged

__all__ = [
    "Frontier",
    "RaggedMemory",
    "Reads",
    "is_in",
    "mixture",
    "prune",
    "ragged_memory",
    "read_ragged",
    "uniform_frontier",
]
