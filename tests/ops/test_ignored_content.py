"""What an ignored slot holds reaches neither results nor gradients: as if it held zeros."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from memhop.ops import IMPLEMENTATIONS, Hop, Table, eager, ignored_content, multi_hop, read
from memhop.ops.reference import MemoryView, Readable
from tests.seeds import pairs

LOWEST = torch.finfo(torch.float32).min
FILLERS = [LOWEST, torch.nan, torch.inf, -torch.inf]
B, N, WIDTH, D, K = 3, 70, 8, 4, 2

every_form = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
every_filler = pytest.mark.parametrize("filler", FILLERS)

Outcome = list[Tensor | None]


def table(value_dim: int = WIDTH, temporal: int | None = 3) -> Table:
    age_rows = None if temporal is None else torch.randn(temporal, D)
    return Table(torch.randn(D, value_dim) / value_dim**0.5, torch.randn(D), age_rows)


def some_hops(value_dim: int = WIDTH, **options: Any) -> list[Hop]:
    return [Hop(table(), table(value_dim), **options) for _ in range(K)]


def weights_of(hops: list[Hop]) -> list[Tensor]:
    return [
        weight for hop in hops for part in (hop.a, hop.c) for weight in part if weight is not None
    ]


def outcome(call: Callable[..., Any], *leaves: Tensor) -> Outcome:
    """Result, weights, and the gradients of all leaves."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    result, weights = call(*leaves)
    total = result.cos().sum() + weights.square().sum()
    grads = torch.autograd.grad(total, leaves, allow_unused=True)
    return [result.detach(), weights.detach(), *grads]


def assert_same(found: Outcome, expected: Outcome) -> None:
    for got, want in zip(found, expected, strict=True):
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            assert got.isfinite().all()
            scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * scale)


def ways_to_ignore() -> dict[str, dict[str, Any]]:
    """Options of a call, each with the first rows' last slots ignored, and one row whole."""
    mask = torch.rand(B, N) < 0.5
    mask[1] = True
    no_bias = torch.zeros(B, N)
    of_each_hop = torch.stack([mask, torch.rand(B, N) < 0.5], 1)
    return {
        "mask": {"padding_mask": mask},
        "one mask": {"padding_mask": mask[0]},
        "lengths": {"lengths": torch.tensor([N - 3, 0, 1])},
        "bias": {"score_bias": no_bias.masked_fill(mask, -torch.inf)},
        "bias of each hop": {
            "score_bias": torch.zeros(B, K, N).masked_fill(of_each_hop, -torch.inf)
        },
    }


def ignored_by(options: dict[str, Tensor]) -> Tensor:
    """Bool [B, N]: the slots that a row reads in no hop."""
    if "lengths" in options:
        return torch.arange(N) >= options["lengths"].unsqueeze(-1)
    if "score_bias" in options:
        excluded = options["score_bias"] == -torch.inf
        return excluded.all(1) if excluded.dim() == 3 else excluded
    return options["padding_mask"].expand(B, N)


@pytest.mark.parametrize(
    ("is_softmax", "way", "filler", "impl"),
    pairs([True, False], list(ways_to_ignore()), FILLERS, IMPLEMENTATIONS),
)
def test_of_memories_of_each_row(impl: str, filler: float, way: str, is_softmax: bool) -> None:
    torch.manual_seed(0)
    options = ways_to_ignore()[way]
    hops, query = some_hops(softmax=is_softmax), torch.randn(B, D)
    ignored = ignored_by(options).unsqueeze(-1)
    memories = torch.randn(B, N, WIDTH)

    def call(query: Tensor, memories: Tensor, *_: Tensor) -> Any:
        return multi_hop(query, memories, hops, need_weights=True, impl=impl, **options)

    for hop_weight in weights_of(hops):
        hop_weight.requires_grad_()
    filled, zeros = (memories.masked_fill(ignored, number) for number in (filler, 0.0))
    assert_same(outcome(call, query, filled), outcome(call, query, zeros))
    of_weights = []
    for rows in (filled, zeros):
        result, weights = call(query, rows)
        total = result.cos().sum() + weights.square().sum()
        of_weights.append(torch.autograd.grad(total, weights_of(hops), allow_unused=True))
    assert_same(list(of_weights[0]), list(of_weights[1]))


@pytest.mark.parametrize(
    ("way", "filler", "impl"),
    pairs(["one mask", "mask", "lengths", "bias"], FILLERS, IMPLEMENTATIONS),
)
def test_of_a_memory_that_rows_share(impl: str, filler: float, way: str) -> None:
    """Slots that no row reads, and one that the last row alone reads: it spoils only that row."""
    torch.manual_seed(0)
    options = ways_to_ignore()[way]
    hops, query, memories = some_hops(), torch.randn(B, D), torch.randn(N, WIDTH)
    ignored = ignored_by(options)
    by_all = ignored.all(0)
    if way == "lengths":
        by_all = torch.arange(N) >= N - 3
    elif way != "one mask":  # one more, which the last row reads
        only_last = (ignored[:-1].all(0) & ~ignored[-1]).nonzero()[0]
        by_all[only_last] = True
    clean = slice(None) if way in ("one mask", "lengths") else slice(0, B - 1)

    def call(query: Tensor, memories: Tensor) -> Any:
        result, weights = multi_hop(query, memories, hops, need_weights=True, impl=impl, **options)
        return result[clean], weights[clean]

    filled, zeros = (memories.masked_fill(by_all[:, None], number) for number in (filler, 0.0))
    if clean == slice(None):
        assert_same(outcome(call, query, filled), outcome(call, query, zeros))
    else:  # the gradient of what the last row reads is NaN, as its result is
        with torch.no_grad():
            assert_same(list(call(query, filled)), list(call(query, zeros)))


@every_form
@every_filler
def test_of_a_bank_whose_rows_nobody_reads(impl: str, filler: float) -> None:
    torch.manual_seed(0)
    hops, query, bank = some_hops(), torch.randn(B, D), torch.randn(90, WIDTH)
    slots, mask = torch.randint(0, 80, (B, N)), torch.rand(B, N) < 0.3
    slots[mask] = 85  # named by ignored slots only; 86 to 89 are not named at all
    unread = (torch.arange(90) >= 80).unsqueeze(-1)

    def call(query: Tensor, bank: Tensor) -> Any:
        options: dict[str, Any] = {"slots": slots, "padding_mask": mask, "impl": impl}
        return multi_hop(query, bank, hops, need_weights=True, **options)

    filled, zeros = (bank.masked_fill(unread, number) for number in (filler, 0.0))
    assert_same(outcome(call, query, filled), outcome(call, query, zeros))

    def named(query: Tensor, bank: Tensor) -> Any:
        return multi_hop(query, bank, hops, need_weights=True, slots=slots % 80, impl=impl)

    assert_same(outcome(named, query, filled), outcome(named, query, zeros))


@pytest.mark.parametrize(
    ("is_shared", "filler", "impl"), pairs([True, False], FILLERS, IMPLEMENTATIONS)
)
def test_of_a_read_of_keys_and_values(impl: str, filler: float, is_shared: bool) -> None:
    torch.manual_seed(0)
    lead = () if is_shared else (B,)
    query, keys, values = (
        torch.randn(B, WIDTH),
        torch.randn(*lead, N, WIDTH),
        torch.randn(*lead, N, 5),
    )
    ignored = torch.rand(*lead, N) < 0.4

    def call(query: Tensor, keys: Tensor, values: Tensor) -> Any:
        return read(query, keys, values, padding_mask=ignored, need_weights=True, impl=impl)

    found = [
        outcome(call, query, *(rows.masked_fill(ignored[..., None], x) for rows in (keys, values)))
        for x in (filler, 0.0)
    ]
    assert_same(*found)


@every_form
@pytest.mark.parametrize("filler", [torch.nan, torch.inf])
def test_of_a_memory_in_fewer_bytes(impl: str, filler: float) -> None:
    torch.manual_seed(0)
    hops, query, mask = some_hops(), torch.randn(B, D), torch.rand(B, N) < 0.4
    rows = torch.randn(B, N, WIDTH)
    for dtype in (torch.bfloat16, torch.float16):
        filled, zeros = (rows.masked_fill(mask[..., None], x).to(dtype) for x in (filler, 0.0))
        found = [
            multi_hop(query, stored, hops, padding_mask=mask, impl=impl)
            for stored in (filled, zeros)
        ]
        assert_same([found[0]], [found[1]])


@pytest.mark.parametrize("impl", ["auto", "eager", "project", "reference"])
def test_where_values_cannot_be_looked_at(impl: str) -> None:
    torch.manual_seed(0)
    hops, query, mask = some_hops(), torch.randn(B, D), torch.rand(B, N) < 0.4
    rows = torch.randn(B, N, WIDTH)
    filled, zeros = (rows.masked_fill(mask[..., None], x) for x in (torch.nan, 0.0))
    expected = multi_hop(query, zeros, hops, padding_mask=mask, impl="reference")

    def each(query: Tensor, memories: Tensor, mask: Tensor) -> Tensor:
        return multi_hop(query, memories, hops, padding_mask=mask, impl=impl)

    assert_same([torch.func.vmap(each)(query, filled, mask)], [expected])
    compiled = torch.compile(each, fullgraph=True, backend="aot_eager")
    assert_same([compiled(query, filled, mask)], [expected])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that jit.trace is old, and keeps sizes
        traced: Any = torch.jit.trace(each, (query, zeros, mask), check_trace=False)  # type: ignore[no-untyped-call]
    assert_same([traced(query, filled, mask)], [expected])


@pytest.mark.parametrize(
    ("is_shared", "way", "impl"),
    pairs([True, False], ["mask", "lengths", "bias", "bias of each hop"], IMPLEMENTATIONS),
)
def test_an_infinite_gradient_of_an_ignored_weight(impl: str, way: str, is_shared: bool) -> None:
    """The square root has an infinite slope at 0, the weight of an ignored slot."""
    torch.manual_seed(0)
    options = ways_to_ignore()[way]
    hops = some_hops()
    leaves = [
        torch.randn(B, D).double(),
        torch.randn(*(() if is_shared else (B,)), N, WIDTH).double(),
    ]
    hops = [
        hop._replace(a=Table(*(x.double() for x in hop.a)), c=Table(*(x.double() for x in hop.c)))  # type: ignore[union-attr]
        for hop in hops
    ]
    options = {k: x.double() if x.is_floating_point() else x for k, x in options.items()}
    found = []
    for form in (impl, "reference"):
        given = [leaf.clone().requires_grad_() for leaf in leaves]
        query, memories = given
        _, weights = multi_hop(query, memories, hops, need_weights=True, impl=form, **options)
        total = torch.special.entr(weights).sum() + weights.sqrt().sum()
        found.append(list(torch.autograd.grad(total, given)))
    assert all(grad.isfinite().all() for grad in found[0])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("of", "is_shared", "filler", "impl"),
    pairs(["keys", "values"], [True, False], FILLERS, IMPLEMENTATIONS),
)
def test_content_of_keys_or_of_values_alone(
    impl: str, filler: float, is_shared: bool, of: str
) -> None:
    """The result may be finite where the gradients would not be."""
    torch.manual_seed(0)
    lead = () if is_shared else (B,)
    query, memories, others = (
        torch.randn(B, D),
        torch.randn(*lead, N, WIDTH),
        torch.randn(*lead, N, 5),
    )
    mask = torch.zeros(*lead, N, dtype=torch.bool)
    mask[..., -1] = True
    hops = some_hops(5)

    def call(query: Tensor, memories: Tensor, others: Tensor) -> Any:
        options: dict[str, Any] = {"padding_mask": mask, "need_weights": True, "impl": impl}
        return multi_hop(query, memories, hops, values=others, **options)

    found = []
    for x in (filler, 0.0):
        fill = mask.unsqueeze(-1)
        keys, values = memories, others
        if of == "keys":
            keys = memories.masked_fill(fill, x)
        else:
            values = others.masked_fill(fill, x)
        found.append(outcome(call, query, keys, values))
    assert_same(*found)


@every_form
def test_embeddings_of_the_lowest_number_overflow(impl: str) -> None:
    torch.manual_seed(0)
    hops = [Hop(Table(3 * torch.randn(D, WIDTH)), Table(0.01 * torch.randn(D, WIDTH)))] * K
    query, memories = torch.randn(B, D), torch.randn(B, N, WIDTH)
    mask = torch.zeros(N, dtype=torch.bool)
    mask[-1] = True
    weights = weights_of(hops[:1])
    found = []
    for x in (LOWEST, 0.0):
        leaves = [query, memories.masked_fill(mask.unsqueeze(-1), x), *weights]

        def call(query: Tensor, memories: Tensor, a: Tensor, c: Tensor) -> Any:
            tables = [Hop(Table(a), Table(c))] * K
            return multi_hop(
                query, memories, tables, padding_mask=mask, need_weights=True, impl=impl
            )

        found.append(outcome(call, *leaves))
    assert_same(*found)


@every_form
def test_a_large_score_does_not_outweigh_the_mask(impl: str) -> None:
    query = torch.tensor([[-1.0, 0.0], [0.5, 0.0]])
    keys = torch.tensor([[0.0, 0.0], [0.0, 0.0], [LOWEST, 0.0]])
    values = torch.arange(6.0).view(3, 2)
    mask = torch.tensor([False, False, True])
    found, weights = read(query, keys, values, padding_mask=mask, need_weights=True, impl=impl)
    assert torch.equal(found, torch.tensor([[1.0, 2.0], [1.0, 2.0]]))
    assert torch.equal(weights, torch.tensor([[0.5, 0.5, 0.0]] * 2))
    nothing = read(torch.eye(2), torch.full((1, 2), 2e38), padding_mask=mask[2:], impl=impl)
    assert torch.equal(nothing, torch.zeros(2, 2))


@pytest.mark.parametrize("needs_grad", [False, True])
def test_a_query_that_is_not_finite_expands_no_memory(needs_grad: bool) -> None:
    query = torch.randn(5, D)
    query[2, 1] = torch.nan
    memories, mask = torch.randn(N, WIDTH), torch.rand(5, N) < 0.5
    query.requires_grad_(needs_grad)
    sizes: list[int] = []

    class Sizes(TorchFunctionMode):
        def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            sizes.append(found.numel() if isinstance(found, Tensor) else 0)
            return found

    hops = [Hop(table(temporal=None), table(temporal=None))] * K
    given: dict[str, Any] = {
        "query": query, "hops": hops,
        "memory": MemoryView(memories, memories, None, [Readable(mask)] * K),
    }  # fmt: skip
    with torch.set_grad_enabled(needs_grad):
        expected = eager.raw_multi_hop(**given)
        found = ignored_content.multi_hop(eager.raw_multi_hop, **given)
    torch.testing.assert_close(found, expected, equal_nan=True)
    with Sizes():  # a mode, under which values are not visible
        found = ignored_content.multi_hop(eager.raw_multi_hop, **given)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert max(sizes) < 5 * N * WIDTH


@pytest.mark.parametrize("has_slots", [False, True])
def test_blind_calls_keep_rows_apart(has_slots: bool) -> None:
    """Compiled: a row that reads a slot that is not finite is NaN, the others are as with zeros."""
    torch.manual_seed(0)
    hops, query, bank = some_hops(), torch.randn(B, D), torch.randn(N, WIDTH)
    bank[3] = torch.inf
    mask = torch.zeros(B, N, dtype=torch.bool)
    mask[:2, 3] = True
    slots = torch.arange(N).expand(B, N) if has_slots else None

    def call(query: Tensor, bank: Tensor, mask: Tensor) -> Tensor:
        return multi_hop(query, bank, hops, slots=slots, padding_mask=mask)

    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    found, zeros = compiled(query, bank, mask), bank.clone()
    zeros[3] = 0
    torch.testing.assert_close(found[:2], call(query, zeros, mask)[:2], rtol=1e-4, atol=1e-5)
    assert found[2].isnan().all()
    if has_slots:  # a row of the bank that no slot names
        slots = slots[:, 4:]  # type: ignore[index]
        torch.compiler.reset()
        found = compiled(query, bank, mask[:, 4:])
        torch.testing.assert_close(found, call(query, zeros, mask[:, 4:]), rtol=1e-4, atol=1e-5)
