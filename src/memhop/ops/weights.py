"""The weights of a hop, grouped as the paper groups them: a table A, a table C, and what follows.

Tying is sharing of these objects. With tables E_0 .. E_K, adjacent tying is
``[Hop(a, c) for a, c in itertools.pairwise(tables)]`` and layer-wise tying is
``[Hop(a, c, transform=h)] * num_hops``. Work on a weight that several hops share is done once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Table(NamedTuple):
    """One embedding of the memory: slot i becomes ``weight @ m_i + bias + temporal[age of i]``.

    Attributes:
        weight: [memory_dim, input_dim].
        bias: [memory_dim], or None.
        temporal: [T, memory_dim], or None; row 0 is for the last readable slot, row 1 for the one
            before it, and the last row for all that are older (section 4.1, "Temporal Encoding").
    """

    weight: Tensor
    bias: Tensor | None = None
    temporal: Tensor | None = None


class Hop(NamedTuple):
    """One hop: attend by the table ``a``, read by the table ``c``, update the query.

    Attributes:
        a: the embedding that the query is matched with.
        c: the embedding that is read.
        transform: H of layer-wise tying, [memory_dim, memory_dim]: q <- H q + o in place of q + o.
        relu: apply ReLU to the updated query.
        softmax: False leaves the softmax out, so that the scores are the weights (linear start).
    """

    a: Table
    c: Table
    transform: Tensor | None = None
    relu: bool = False
    softmax: bool = True


class OncePerTensor:
    """Calls a function of a tensor once for each tensor object, however many hops share it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._known: list[tuple[Tensor, Tensor]] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        for known, result in self._known:
            if known is tensor:
                return result
        result = self._function(tensor)
        self._known.append((tensor, result))
        return result

    def optional(self, tensor: Tensor | None) -> Tensor | None:
        """The same, where None stays None."""
        return None if tensor is None else self(tensor)


def with_short_tables(hops: Sequence[Hop], num_slots: int) -> Sequence[Hop]:
    """Return the hops, temporal tables cut to the rows that ages of N slots can name."""
    for (_, _, a), (_, _, c), _, _, _ in hops:
        if a is not None or c is not None:
            break
    else:
        return hops
    if torch.compiler.is_exporting():  # the graph keeps the number of slots open
        return hops
    rows = max(1, num_slots)
    tables = [table.temporal for hop in hops for table in (hop.a, hop.c)]
    if not any(temporal is not None and temporal.shape[0] > rows for temporal in tables):
        return hops
    cut = OncePerTensor(lambda temporal: temporal[:rows])
    return [
        hop._replace(
            a=hop.a._replace(temporal=cut.optional(hop.a.temporal)),
            c=hop.c._replace(temporal=cut.optional(hop.c.temporal)),
        )
        for hop in hops
    ]
