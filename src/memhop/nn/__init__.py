"""The layers: `MemoryHop`, `MultiHop` and `MemoryNetwork`."""

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop

__all__ = ["MemoryHop", "MemoryNetwork", "MultiHop"]
