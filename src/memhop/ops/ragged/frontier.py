"""A ragged memory in compressed sparse rows, and the weighted nodes that queries have reached."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class RaggedMemory(NamedTuple):
    """Slots that lead from node to node, grouped by the node at which they start.

    Attributes:
        offsets: int64 [num_nodes + 1]; the slots offsets[n] to offsets[n + 1] - 1 start at node n.
        keys: int64 [S], the row of the key table of each slot.
        targets: int64 [S], the node to which each slot leads.
    """

    offsets: Tensor
    keys: Tensor
    targets: Tensor

    @property
    def num_nodes(self) -> int:
        """The number of nodes."""
        return len(self.offsets) - 1

    @property
    def num_slots(self) -> int:
        """The number of slots."""
        return len(self.keys)


class Frontier(NamedTuple):
    """The nodes that each of B queries has reached, with their weights.

    Attributes:
        offsets: int64 [B + 1]; the entries offsets[b] to offsets[b + 1] - 1 belong to query b.
        nodes: int64 [M], distinct for each query.
        weights: [M], x, not negative.
    """

    offsets: Tensor
    nodes: Tensor
    weights: Tensor

    def rows(self) -> Tensor:
        """Return the query of each entry, int64 [M]."""
        return rows_of(self.offsets)

    def sums(self) -> Tensor:
        """Return the sum of the weights of each query, [B]."""
        return row_sums(self.weights, self.offsets)


class Reads(NamedTuple):
    """The slots that each query read.

    Attributes:
        offsets: int64 [B + 1], as in `Frontier`.
        slots: int64 [P], in the order of the frontier.
        weights: p, [P]; the sum is 1 for each query that reads anything.
    """

    offsets: Tensor
    slots: Tensor
    weights: Tensor


def ragged_memory(starts: Tensor, keys: Tensor, targets: Tensor, num_nodes: int) -> RaggedMemory:
    """Return a memory of slots in any order; those of a node keep their order.

    >>> ragged_memory(torch.tensor([2, 0]), torch.tensor([5, 6]), torch.tensor([1, 1]), 3)
    RaggedMemory(offsets=tensor([0, 1, 1, 2]), keys=tensor([6, 5]), targets=tensor([1, 1]))
    """
    order = torch.argsort(starts, stable=True)
    counts = torch.bincount(starts, minlength=num_nodes)
    return RaggedMemory(offsets_of(counts), keys[order], targets[order])


def uniform_frontier(nodes: list[tuple[int, ...]], dtype: torch.dtype | None = None) -> Frontier:
    """Return the frontier of queries that start at nodes of equal weight; the sum of a query is 1.

    >>> uniform_frontier([(7, 9), ()]).weights
    tensor([0.5000, 0.5000])
    """
    counts = [len(own) for own in nodes]
    weights = [1 / count for count in counts for _ in range(count)]
    flat = [node for own in nodes for node in own]
    return Frontier(
        offsets_of(torch.tensor(counts, dtype=torch.int64)),
        torch.tensor(flat, dtype=torch.int64),
        torch.tensor(weights, dtype=dtype or torch.get_default_dtype()),
    )


def offsets_of(counts: Tensor) -> Tensor:
    """Return the offsets [B + 1] of B rows with these numbers of entries."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def rows_of(offsets: Tensor) -> Tensor:
    """Return the row of each entry, given the offsets of the rows.

    >>> rows_of(torch.tensor([0, 2, 2, 3]))
    tensor([0, 0, 2])
    """
    rows = torch.arange(len(offsets) - 1, device=offsets.device)
    return rows.repeat_interleave(offsets.diff())


def row_sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Return the sum of the values of each row, [B]; added in float64."""
    sums = values.new_zeros(len(offsets) - 1, dtype=torch.float64)
    return sums.index_add(0, rows_of(offsets), values.double()).to(values.dtype)


def chosen_entries(frontier: Frontier, chosen: Tensor) -> Frontier:
    """Return the frontier of some entries.

    Args:
        frontier: the frontier.
        chosen: bool [M], the entries to keep.
    """
    counts = torch.zeros_like(frontier.offsets[1:])
    counts = counts.index_add(0, frontier.rows(), chosen.to(counts.dtype))
    return Frontier(offsets_of(counts), frontier.nodes[chosen], frontier.weights[chosen])


def prune(frontier: Frontier, max_nodes: int, min_share: float = 0.0) -> tuple[Frontier, Tensor]:
    """Return the entries with the largest weights of each query, and the share that is dropped.

    Args:
        frontier: the frontier.
        max_nodes: the largest number of entries of a query; of equal weights the first ones stay.
        min_share: entries with less than this share of the largest weight of their query are
            dropped too; the strongest entry always stays.

    Returns:
        The frontier with weights as they were, and the dropped share of each query, [B]: above 0
        if any weight was dropped.

    >>> weights = torch.tensor([1.0, 6.0, 3.0])
    >>> frontier = Frontier(torch.tensor([0, 3]), torch.tensor([4, 5, 6]), weights)
    >>> kept, dropped = prune(frontier, 2)
    >>> kept.nodes, dropped
    (tensor([5, 6]), tensor([0.1000]))
    """
    weights, rows = frontier.weights.detach(), frontier.rows()
    order = torch.argsort(weights, descending=True, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - frontier.offsets[rows]
    largest = weights.new_zeros(len(frontier.offsets) - 1)
    largest = largest.scatter_reduce(0, rows, weights, "amax")
    chosen = (rank < max_nodes) & (weights >= min_share * largest[rows])
    sums = frontier.sums().detach()
    dropped = row_sums(weights.masked_fill(chosen, 0), frontier.offsets)
    return chosen_entries(frontier, chosen), dropped / sums.masked_fill(sums == 0, 1.0)


def is_in(frontier: Frontier, offsets: Tensor, nodes: Tensor, num_nodes: int) -> Tensor:
    """Return which entries are among the nodes that are listed for their query, bool [M].

    Args:
        frontier: the frontier.
        offsets: int64 [B + 1], the rows of the lists.
        nodes: int64 [L], the nodes of all lists.
        num_nodes: the number of nodes of the memory.
    """
    listed = rows_of(offsets) * num_nodes + nodes
    return torch.isin(frontier.rows() * num_nodes + frontier.nodes, listed)


def mixture(frontiers: Sequence[Frontier], shares: Tensor, num_nodes: int) -> Frontier:
    """Return sum_k s_k x_k of K frontiers of the same queries, without gradients.

    Args:
        frontiers: x, K of them.
        shares: s, [B, K].
        num_nodes: the number of nodes of the memory.

    Returns:
        The nodes in increasing order, with their weights.

    >>> ends = uniform_frontier([(3,)]), uniform_frontier([(1, 3)])
    >>> mixture(ends, torch.tensor([[0.5, 0.5]]), 4)
    Frontier(offsets=tensor([0, 2]), nodes=tensor([1, 3]), weights=tensor([0.2500, 0.7500]))
    """
    shares = shares.detach()
    rows = [frontier.rows() for frontier in frontiers]
    places = [row * num_nodes + one.nodes for row, one in zip(rows, frontiers, strict=True)]
    weights = [
        one.weights.detach() * shares[row, k]
        for k, (row, one) in enumerate(zip(rows, frontiers, strict=True))
    ]
    distinct, inverse = torch.unique(torch.cat(places), return_inverse=True)
    summed = shares.new_zeros(len(distinct)).index_add(0, inverse, torch.cat(weights))
    counts = torch.bincount(distinct // num_nodes, minlength=len(shares))
    return Frontier(offsets_of(counts), distinct % num_nodes, summed)
