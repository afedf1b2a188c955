"""Split the units of a hop into heads, as in "Attention Is All You Need" (arXiv 1706.03762).

With H heads of d = D / H units, head h has the units h d to (h + 1) d of the query, of the rows of
A and C, of their biases and of the temporal rows. Heads are one more axis of the batch, before the
slots or the units; the memory is shared along it.
"""

from torch import Tensor

from memhop.ops.inputs import Hop, Table


def split_units(tensor: Tensor, num_heads: int) -> Tensor:
    """Return [..., D] as [..., H, d]."""
    return tensor.reshape(*tensor.shape[:-1], num_heads, tensor.shape[-1] // num_heads)


def split_rows(rows: Tensor, num_heads: int) -> Tensor:
    """Return embedded rows [..., N, D] as [..., H, N, d]."""
    return split_units(rows, num_heads).transpose(-3, -2)


def shared_rows(rows: Tensor) -> Tensor:
    """Return rows [..., N, I] with an axis along which heads share them; [N, I] needs none."""
    return rows if rows.dim() == 2 else rows.unsqueeze(-3)


def split_hop(hop: Hop, num_heads: int) -> Hop:
    """Return a hop with the tables of every head: [H, d, I], [H, d] and [H, T, d]."""
    return hop._replace(a=split_table(hop.a, num_heads), c=split_table(hop.c, num_heads))


def split_weight(weight: Tensor, num_heads: int) -> Tensor:
    """Return a weight [D, I] as [H, d, I]."""
    return weight.reshape(num_heads, weight.shape[0] // num_heads, weight.shape[1])


def split_table(table: Table, num_heads: int) -> Table:
    """Return a table of every head."""
    weight, bias, temporal = table
    return Table(
        None if weight is None else split_weight(weight, num_heads),
        None if bias is None else split_units(bias, num_heads),
        None if temporal is None else split_rows(temporal, num_heads),
    )
