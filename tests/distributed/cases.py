"""Drawn calls over a group, compared in each rank with one process that has all slots."""

from typing import Any

import torch
from torch import Tensor

from memhop.ops import Hop, Parts, Quantized, Table, multi_hop, read
from memhop.ops.inputs import Stored
from tests.distributed.ranks import Collectives, first_ranks
from tests.ops.test_streaming import D, N, Options, Overwritten, drawn, leaves_of, normal

STORES = ("tensor", "overwritten", "parts", "bfloat16", "float16", "quantized")


class Case:
    """One call: its options with all slots, its cuts, and its storage.

    Attributes:
        options: of ``multi_hop``, with all slots.
        rows: the memory and the values, if they are apart.
    """

    def __init__(self, seed: int, num_ranks: int, dtype: torch.dtype, store: str) -> None:
        self.options = drawn(seed)
        self.store = store
        batch = self.options["query"].shape[:-1]
        if batch and seed % 5 in (1, 4) and store not in ("overwritten", "parts"):
            for name in ("memories", "values"):  # one memory for each row of the batch
                if self.options[name] is not None:
                    self.options[name] = normal(*batch, *self.options[name].shape)
        generator = torch.Generator().manual_seed(seed)
        cuts = torch.randint(0, N + 1, (num_ranks - 1,), generator=generator).sort().values
        self.cuts = [0, *cuts.tolist(), N]
        self.options = {name: cast(value, dtype) for name, value in self.options.items()}
        if store == "quantized" and dtype == torch.float32:
            self._replace_rows(lambda rows: Quantized.of(rows).dequantized())
        elif store in ("bfloat16", "float16"):
            self._replace_rows(lambda rows: rows.to(getattr(torch, store)).to(dtype))

    def _replace_rows(self, function: Any) -> None:
        for name in ("memories", "values"):
            if self.options[name] is not None:
                self.options[name] = function(self.options[name])

    @property
    def rows(self) -> list[Tensor]:
        rows = [self.options["memories"], self.options["values"]]
        return [each for each in rows if each is not None]

    def local(self, rank: int) -> Options:
        """Return the options of a rank."""
        first, last = self.cuts[rank], self.cuts[rank + 1]
        local = dict(self.options)
        for name in ("memories", "values"):
            if local[name] is not None:
                local[name] = self.stored(local[name][..., first:last, :])
        for name in ("padding_mask", "score_bias"):
            if local.get(name) is not None:
                local[name] = local[name][..., first:last]
        if local.get("lengths") is not None:
            local["lengths"] = (local["lengths"] - first).clamp(0, last - first)
        return local

    def stored(self, rows: Tensor) -> Any:
        """Return a shard in the storage of the case."""
        half = len(rows) // 2
        stores: dict[str, Any] = {
            "tensor": lambda: rows,
            "overwritten": lambda: Overwritten(rows.detach(), [half, len(rows) - half]),
            "parts": lambda: Parts([rows[:half], rows[half:half], rows[half:]]),
            "bfloat16": lambda: rows.to(torch.bfloat16),
            "float16": lambda: rows.to(torch.float16),
            "quantized": lambda: self._quantized(rows),
        }
        return stores[self.store]()

    def _quantized(self, rows: Tensor) -> Stored:
        if rows.numel() == 0:
            empty = torch.empty(rows.shape, dtype=torch.int8)
            return Quantized(empty, torch.empty(rows.shape[:-1]))
        return Quantized.of(rows)

    def part_of(self, tensor: Tensor, grad: Tensor | None, rank: int) -> Tensor:
        """Return the gradient of a tensor in one process without what is not of this rank."""
        grad = torch.zeros_like(tensor) if grad is None else grad
        axis = -1 if tensor is self.options.get("score_bias") else -2
        if axis == -2 and not any(tensor is rows for rows in self.rows):
            return grad
        own = torch.zeros(grad.shape[axis], dtype=torch.bool)
        own[self.cuts[rank] : self.cuts[rank + 1]] = True
        return grad.where(own if axis == -1 else own.unsqueeze(-1), 0.0)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Return an option with its floating tensors in a dtype."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (Hop, Table)):
        return type(value)(*(cast(part, dtype) for part in value))
    return [cast(part, dtype) for part in value] if isinstance(value, list) else value


def assert_near(found: Tensor | None, expected: Tensor, bound: float, what: str) -> None:
    """Check the largest error against the largest number of the expected tensor, at least 1."""
    found = torch.zeros_like(expected) if found is None else found
    assert found.shape == expected.shape, what
    if found.numel():
        found, expected = found.detach().double(), expected.detach().double()
        error, largest = float((found - expected).abs().max()), float(expected.abs().max())
        assert error <= bound * max(1.0, largest), f"{what}: {error}"


def compare(
    rank: int, seed: int, num_ranks: int, dtype: torch.dtype, store: str, bound: float
) -> tuple[bytes, bytes, dict[str, int], dict[str, int]] | None:
    """Compare a drawn call over a group with one process.

    Returns:
        the bits of the result and of the gradients of the weights, and the number of collectives
        forward and backward.
    """
    group = first_ranks(rank, num_ranks)
    if rank >= num_ranks:
        return None
    case = Case(seed, num_ranks, dtype, store)
    options, first, last = case.options, case.cuts[rank], case.cuts[rank + 1]
    leaves = leaves_of(options)
    with_rows = [*leaves, *case.rows] if store in ("tensor", "parts") else leaves
    for rows in case.rows:
        rows.requires_grad_(store in ("tensor", "parts"))
    both: dict[str, Any] = {"need_weights": True, "average_attn_weights": False}
    expected = multi_hop(**options, **both, impl="reference")
    torch.manual_seed(seed)
    grads = [torch.randn_like(each) for each in expected]
    expected_grads = torch.autograd.grad(expected, with_rows, grads, allow_unused=True)
    impl = ["auto", "eager", "fused", "reference"][seed % 4 if dtype == torch.float64 else 0]
    with Collectives() as forward:
        result, weights = multi_hop(**case.local(rank), **both, impl=impl, group=group)
    local_grads = [grads[0], grads[1][..., first:last]]
    with Collectives() as backward:
        found = torch.autograd.grad([result, weights], with_rows, local_grads, allow_unused=True)
    assert_near(result, expected[0], bound, "result")
    assert_near(weights, expected[1][..., first:last], bound, "weights")
    shared = []
    for number, (tensor, grad, other) in enumerate(zip(with_rows, found, expected_grads)):  # noqa: B905
        assert_near(grad, case.part_of(tensor, other, rank), bound, f"gradient {number}")
        is_local = tensor is options.get("score_bias") or any(tensor is r for r in case.rows)
        if not is_local and grad is not None:
            shared.append(bits(grad))
    return bits(result), b"".join(shared), forward, backward


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def compare_all(
    rank: int, seeds: list[int], num_ranks: int, dtype: torch.dtype, store: str, bound: float
) -> list[Any]:
    """Compare several drawn calls."""
    return [compare(rank, seed, num_ranks, dtype, store, bound) for seed in seeds]


def compare_reads(rank: int, seed: int, num_ranks: int) -> None:
    """Compare ``read`` with its log-sum-exp, its weights and gradients."""
    group = first_ranks(rank, num_ranks)
    if rank >= num_ranks:
        return
    torch.manual_seed(seed)
    query, keys = normal(3, D), normal(N, D)
    values, bias = normal(N, 5) if seed % 2 else None, normal(3, N)
    mask = torch.rand(3, N) < 0.4
    mask[0] = True
    cut = torch.tensor([0, *torch.randint(0, N + 1, (num_ranks - 1,)).tolist(), N]).sort().values
    own = slice(*cut[rank : rank + 2].tolist())
    leaves = [query.requires_grad_(), keys.requires_grad_(), bias.requires_grad_()]
    for softmax in (True, False):
        options: Any = {"softmax": softmax, "need_weights": True, "need_lse": softmax}
        expected = read(query, keys, values, padding_mask=mask, score_bias=bias, **options)
        found = read(
            query, keys[own], None if values is None else values[own],
            padding_mask=mask[:, own], score_bias=bias[:, own], group=group, **options,
        )  # fmt: skip
        grads = [torch.randn_like(each) for each in expected]
        local = [grads[0], grads[1][:, own], *grads[2:]]
        all_found = torch.autograd.grad(found, leaves, local, retain_graph=True)
        all_expected = torch.autograd.grad(expected, leaves, grads, retain_graph=True)
        assert_near(found[0], expected[0], 1e-12, "o")
        assert_near(found[1], expected[1][:, own], 1e-12, "p")
        if softmax:
            assert_near(found[2].exp(), expected[2].exp(), 1e-12, "exp(lse)")
        assert_near(all_found[0], all_expected[0], 1e-12, "gradient of the query")
        assert_near(all_found[1][own], all_expected[1][own], 1e-12, "gradient of the keys")
        assert_near(all_found[2][:, own], all_expected[2][:, own], 1e-12, "gradient of the bias")
