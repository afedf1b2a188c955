"""Multi-hop memory as layers: ``MemoryHop``, ``MultiHop`` and ``MemoryNetwork``.

They hold the weights and compute ``memhop.ops.multi_hop``. See "End-To-End Memory Networks", arXiv
1503.08895, sections 2 and 4.1. Their ``forward`` has one signature, documented there.

B = 0 and N = 0 are allowed. Without readable slots a hop adds nothing to its query: all its weights
are zero and so are the gradients through them. The content of an ignored slot has no effect, not
even NaN. Query and weights have one dtype (float32, float64, bfloat16 or float16), and so have the
results. Memories and values have it too, or bfloat16 or float16 with float32, or they are
``ops.Quantized``, int8 with a scale for each row, with all dtypes but float64. Under
``torch.autocast`` dtypes may differ and results have autocast's dtype, as those of
``torch.nn.Linear``. All but float64 is computed in float32: a large memory of a smaller dtype is
read in place, a small one is converted for the call.
"""

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop

__all__ = ["MemoryHop", "MemoryNetwork", "MultiHop"]
