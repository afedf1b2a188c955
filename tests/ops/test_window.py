"""A window: equal to the same call with the gathered memory of each query, in every option."""

import random
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import gradcheck, gradgradcheck

from memhop import ops
from memhop.ops import (
    Hop,
    Parts,
    Quantized,
    Table,
    dispatch,
    multi_hop,
    read,
    window_form,
    window_hops,
)
from memhop.ops.windowed import windows_of
from tests.seeds import pairs, seeds

# of its own use of what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

WIDTH, D, K = 6, 4, 2
Given = dict[str, Any]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def gathered(given: Given, num_slots: int) -> Given:
    """Return the arguments of the same call, in which each query has a memory of its own."""
    query, found = given["query"], {k: v for k, v in given.items() if k != "window"}
    for name in ("keys", "memories", "values"):
        if found.get(name) is not None:
            rows = found[name]
            found[name] = torch.stack(
                [rows[..., t : t + num_slots, :] for t in range(query.shape[-2])], -3
            )
    for name in ("padding_mask", "score_bias"):
        if found.get(name) is not None:
            over = found[name]
            parts = [over[..., t : t + num_slots] for t in range(query.shape[-2])]
            rows = given["keys" if "keys" in given else "memories"]
            is_per_hop = name == "score_bias" and over.dim() == max(query.dim(), rows.dim())
            found[name] = torch.stack(parts, -3 if is_per_hop else -2)
    return found


def outputs(function: Any, given: Given, leaves: list[Tensor], **more: Any) -> list[Tensor]:
    """Return the outputs of a call and the gradients of all leaves."""
    torch.manual_seed(1)  # of dropout
    found = function(**given, **more)
    found = [*found] if isinstance(found, tuple) else [found]
    finite = [torch.where(each.isfinite(), each, 0.0) for each in found]
    total = sum((each.sin().sum() for each in finite), start=torch.zeros((), dtype=torch.float64))
    return [*found, *torch.autograd.grad(total, leaves)]


def assert_equals_gathered(function: Any, given: Given, leaves: list[Tensor], **more: Any) -> None:
    num_slots = given["window"]
    for impl in ("auto", "reference"):
        found = outputs(function, given, leaves, impl=impl, **more)
        expected = outputs(function, gathered(given, num_slots), leaves, impl="eager", **more)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


LEADS = [
    ((), ()), ((), (2,)), ((3,), ()), ((3,), (3,)), ((3,), (1,)), ((2, 3), (3,)), ((3,), (2, 1)),
]  # fmt: skip
SIZES = [(1, 1), (1, 4), (2, 1), (5, 3), (70, 5), (130, 20), (193, 2)]  # T and N
MASKS = ["none", "beginning", "end", "some", "all"]
BIASES = ["none", "one", "each hop"]


def over_slots(kind: str, num_slots: int) -> Tensor | None:
    place = torch.arange(num_slots)
    return {
        "none": None, "beginning": place < 3, "end": place > num_slots - 2,
        "some": torch.rand(num_slots) < 0.4, "all": place >= 0,
    }[kind]  # fmt: skip


def bias_of(kind: str, num_slots: int, num_axes: int = 1) -> Tensor | None:
    if kind == "none":
        return None
    leading = () if kind == "one" else (*[1] * (num_axes - 2), K)
    bias = normal(*leading, num_slots)
    bias[..., torch.rand(num_slots) < 0.2] = -torch.inf
    return bias


def table_of(kind: str, size: int, temporal: int | None) -> Table:
    rows = None if temporal is None else normal(temporal, D)
    if kind in ("identity", "values"):
        return Table(None, None, rows)
    return Table(normal(D, size) / 2, normal(D), rows)


@pytest.mark.parametrize("seed", seeds(60, 1000))
def test_hops_equal_those_of_the_gathered_memory(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed).choice
    (of_query, of_memory), (num_queries, num_slots) = draw(LEADS), draw(SIZES)
    rows, tables = num_queries + num_slots - 1, draw(["identity", "embed", "values", "both"])
    temporal, num_heads = draw([None, 1, 4, 30]), draw([1, 2])
    size = D if tables in ("identity", "values") else WIDTH
    query, keys = normal(*of_query, num_queries, D), normal(*of_memory, rows, size)
    values = normal(rows, size) if tables in ("values", "both") else None
    first = Hop(
        table_of(tables, size, temporal),
        table_of(tables, size, temporal),
        softmax=draw([False, True]),
    )
    hops = [first._replace(relu=0.5, transform=normal(D, D) / 2), first._replace(relu=True)]
    given = {
        "query": query, "memories": keys, "values": values, "hops": hops, "window": num_slots,
        "padding_mask": over_slots(draw(MASKS), rows),
        "score_bias": bias_of(draw(BIASES), rows, max(query.dim(), keys.dim())),
        "num_heads": num_heads, "slot_order": draw(["oldest_first", "newest_first"]),
    }  # fmt: skip
    assert hops[0].transform is not None
    leaves = [query, keys, hops[0].transform, *([] if values is None else [values])]
    leaves += [part for part in first.a if part is not None and first.a.bias is not part]
    leaves += [part for part in first.c if part is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    # The draws of dropout are in the order of the weights, which heads change.
    dropout = draw([0.0, 0.3]) if num_heads == 1 else 0.0
    options = {"dropout": dropout, "need_weights": draw([True, False])}
    options["average_attn_weights"] = False
    assert_equals_gathered(multi_hop, given, leaves, **options)


@pytest.mark.parametrize(
    ("leads", "sizes", "mask", "bias", "has_values", "lse", "dropout"),
    pairs(LEADS, SIZES, MASKS, ["none", "one"], [False, True], [False, True], [0.0, 0.3]),
)
def test_a_read_equals_that_of_the_gathered_memory(
    leads: Any, sizes: Any, mask: str, bias: str, has_values: bool, lse: bool, dropout: float
) -> None:
    torch.manual_seed(0)
    num_queries, num_slots = sizes
    rows = num_queries + num_slots - 1
    query, keys = normal(*leads[0], num_queries, D), normal(*leads[1], rows, D)
    values = normal(*leads[1], rows, WIDTH) if has_values else None
    leaves = [query, keys, *([] if values is None else [values])]
    for leaf in leaves:
        leaf.requires_grad_()
    given = {
        "query": query, "keys": keys, "values": values, "window": num_slots,
        "padding_mask": over_slots(mask, rows), "score_bias": bias_of(bias, rows),
    }  # fmt: skip
    options = {"dropout": dropout, "need_weights": True, "need_lse": lse}
    assert_equals_gathered(read, given, leaves, **options)


TYINGS = ["layerwise", "none", "one memory", "embedded"]


def hops_without_biases(
    tying: str, num_slots: int, softmax: bool
) -> tuple[list[Hop], list[Tensor]]:
    """Return three hops and their weights."""
    temporal, h = [normal(num_slots, D), normal(2, D)], normal(D, D) / 2
    if tying == "embedded":
        a, b = normal(D, WIDTH) / 2, normal(D, WIDTH) / 2
        first = Hop(Table(a, None, temporal[0]), Table(b), relu=0.25, softmax=softmax)
        return [first, Hop(Table(b), Table(a), softmax=softmax), first], [a, b, temporal[0]]
    first = Hop(Table(None, None, temporal[0]), Table(None, None, temporal[1]), h, 0.5, softmax)
    if tying == "none":
        other = normal(D, D) / 2
        hops = [first, Hop(Table(None), Table(None, None, temporal[0]), other, softmax=softmax)]
        return [*hops, Hop(Table(None), Table(None), None, True)], [*temporal, h, other]
    return [first] * 3, [*temporal, h]


@pytest.mark.parametrize(
    ("tying", "leads", "sizes", "mask", "softmax"),
    pairs(TYINGS, LEADS, [(2, 3), (33, 4), (75, 9)], MASKS, [True, False]),
)
def test_hops_without_biases_are_one_operation(
    tying: str, leads: Any, sizes: Any, mask: str, softmax: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    num_queries, num_slots = sizes
    rows, size = num_queries + num_slots - 1, WIDTH if tying == "embedded" else D
    query, keys = normal(*leads[0], num_queries, D), normal(*leads[1], rows, size)
    values = None if tying == "one memory" else normal(rows, size)
    hops, leaves = hops_without_biases(tying, num_slots, softmax)
    leaves += [query, keys, *([] if values is None else [values])]
    given = {
        "query": query, "memories": keys, "values": values, "hops": hops, "window": num_slots,
        "padding_mask": over_slots(mask, rows),
    }  # fmt: skip
    steps: list[int] = []
    run_hop = window_hops.run_hop

    def counted(*given: Any) -> Any:
        steps.append(1)
        return run_hop(*given)

    monkeypatch.setattr(window_hops, "run_hop", counted)
    for one in (*leaves[-3:], None):
        needed = leaves if one is None else [one]
        for leaf in leaves:
            leaf.requires_grad_(one is None or leaf is one)
        found = outputs(multi_hop, given, needed)
        expected = outputs(multi_hop, gathered(given, num_slots), needed, impl="eager")
        for each, other in zip(found, expected, strict=True):
            largest = max(1.0, float(other.detach().abs().max()))  # some of them cancel
            torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-11 * largest)
    are_lags = mask in ("none", "beginning", "all")
    if are_lags:
        assert len(steps) == 4 * len(hops)
    with torch.no_grad():
        torch.testing.assert_close(multi_hop(**given), found[0])


def test_queries_without_slots_or_rows() -> None:
    assert read(normal(3, 0, D), normal(3, 4, D), window=5).shape == (3, 0, D)
    found = multi_hop(normal(0, D), normal(0, D), [Hop(Table(None), Table(None))], window=1)
    assert found.shape == (0, D)
    assert read(normal(0, 6, D), normal(0, 8, D), window=3).shape == (0, 6, D)
    mask = torch.zeros(4, dtype=torch.bool)
    assert read(normal(3, 0, D), normal(3, 4, D), padding_mask=mask, window=5).shape == (3, 0, D)


def language_model(requires_grad: bool = True, **sizes: int) -> tuple[list[Tensor], Any]:
    """Return the leaves and a function of them: layer-wise hops over keys and values."""
    batch, queries, slots = sizes.get("B", 2), sizes.get("T", 3), sizes.get("N", 4)
    rows = queries + slots - 1
    leaves = [
        normal(batch, queries, D), normal(batch, rows, D), normal(batch, rows, D),
        normal(slots, D), normal(slots, D), normal(D, D) / 2,
    ]  # fmt: skip

    def call(*leaves: Tensor, **options: Any) -> Any:
        query, keys, values, of_keys, of_values, transform = leaves
        hop = Hop(Table(None, None, of_keys), Table(None, None, of_values), transform, 0.5)
        return multi_hop(query, keys, [hop] * 2, values=values, window=slots, **options)

    return [leaf.requires_grad_(requires_grad) for leaf in leaves], call


def test_first_and_second_derivatives() -> None:
    torch.manual_seed(0)
    leaves, call = language_model()
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, :5] = True
    for padding_mask in (None, mask):

        def with_weights(*leaves: Tensor, padding_mask: Tensor | None = padding_mask) -> Any:
            return call(*leaves, padding_mask=padding_mask, need_weights=True)

        one_operation = partial(call, padding_mask=padding_mask)
        assert gradcheck(one_operation, leaves, fast_mode=True)
        assert gradgradcheck(
            one_operation, leaves, gen_non_contig_grad_outputs=True, fast_mode=True
        )
        assert gradcheck(with_weights, leaves, fast_mode=True)
        assert gradgradcheck(with_weights, leaves, gen_non_contig_grad_outputs=True, fast_mode=True)


def test_each_derivative_of_the_sum_has_the_others_as_gradients() -> None:
    torch.manual_seed(0)
    w, x, y = (normal(2, *sizes).requires_grad_() for sizes in ((67, 5), (67, 3), (71, 3)))
    functions: list[Any] = [window_form.Scores, window_form.Sums, window_form.Spread]
    for function, inputs in zip(functions, [(x, y), (w, y), (w, x)], strict=True):
        assert gradcheck(function.apply, inputs, fast_mode=True)
        assert gradgradcheck(function.apply, inputs, fast_mode=True)


def test_nothing_of_the_size_of_the_gathered_memory_is_kept() -> None:
    leaves, call = language_model(T=100, N=50)
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(*leaves)
    assert max(sizes) <= 2 * 2 * 100 * (50 + 64)


@pytest.mark.parametrize("content", [torch.nan, torch.inf, 1e30])
def test_the_content_of_ignored_slots_has_no_effect(content: float) -> None:
    torch.manual_seed(0)
    leaves, call = language_model(False, T=70)
    mask = torch.rand(2, 73) < 0.3
    expected = call(*leaves, padding_mask=mask)
    query, keys, values, *tables = leaves
    keys, values = (rows.masked_fill(mask.unsqueeze(-1), content) for rows in (keys, values))
    inputs = [leaf.requires_grad_() for leaf in (query, keys, values, *tables)]
    found = call(*inputs, padding_mask=mask)
    torch.testing.assert_close(found, expected)
    for grad in torch.autograd.grad(found.sum(), inputs):
        assert grad.isfinite().all()


@pytest.mark.parametrize("content", [torch.nan, torch.inf, 1e30])
def test_a_slot_that_is_not_finite_reaches_its_readers_only(content: float) -> None:
    torch.manual_seed(0)
    leaves, call = language_model(False, T=70, N=5)
    keys = leaves[1].clone()
    expected = call(*leaves)
    keys[1, 40] = content
    found = call(leaves[0], keys, *leaves[2:])
    is_reader = torch.zeros(2, 70, dtype=torch.bool)
    is_reader[1, 36:41] = True
    torch.testing.assert_close(found[~is_reader], expected[~is_reader])
    assert (found[is_reader] != expected[is_reader]).any(-1).all()


@pytest.mark.parametrize("dtypes", ["half", "half memory", "autocast", "float32"])
def test_smaller_dtypes(dtypes: str) -> None:
    torch.manual_seed(0)
    leaves, call = language_model(False, T=70)
    cast = [leaf.float() for leaf in leaves]
    if dtypes == "half":
        cast = [leaf.bfloat16() for leaf in leaves]
    if dtypes == "half memory":
        cast[1:3] = (leaf.half() for leaf in cast[1:3])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtypes == "autocast"):
        found = call(*cast)
    is_whole = dtypes in ("half memory", "float32")
    assert found.dtype == (torch.float32 if is_whole else torch.bfloat16)
    inputs = [leaf.double() for leaf in cast]
    tolerance = 1e-5 if found.dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.double(), call(*inputs), rtol=tolerance, atol=tolerance)


def test_transforms_and_compilers() -> None:
    torch.manual_seed(0)
    leaves, call = language_model(False, T=5)
    expected = call(*leaves)
    for impl in ("auto", "eager"):
        each = torch.func.vmap(lambda *x, impl=impl: call(*x, impl=impl), (0, 0, 0, *[None] * 3))
        torch.testing.assert_close(each(*leaves), expected)
    tangents = [torch.randn_like(leaf) for leaf in leaves]
    found: Any = torch.func.jvp(call, tuple(leaves), tuple(tangents))
    slope = found[1]
    step = 1e-6
    ends = [
        call(*(x + s * step * d for x, d in zip(leaves, tangents, strict=True))) for s in (1, -1)
    ]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-6)
    torch.compiler.reset()
    inputs = [leaf.requires_grad_() for leaf in leaves]
    compiled: Any = torch.compile(call, fullgraph=True, backend="aot_eager")(*inputs)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(compiled, expected)
    grads = torch.autograd.grad(call(*inputs).sum(), inputs)
    total: Tensor = compiled.sum()
    for one, other in zip(torch.autograd.grad(total, inputs), grads, strict=True):
        torch.testing.assert_close(one, other)


def test_an_exported_graph_has_any_number_of_queries() -> None:
    class Windows(nn.Module):
        def forward(self, query: Tensor, keys: Tensor) -> Tensor:
            return read(query, keys, window=4)

    queries = torch.export.Dim("T", min=2)
    shapes = ({1: queries}, {1: queries + 3})
    program = torch.export.export(
        Windows(), (normal(2, 9, D), normal(2, 12, D)), dynamic_shapes=shapes
    )
    query, keys = normal(2, 70, D), normal(2, 73, D)
    torch.testing.assert_close(program.module()(query, keys), read(query, keys, window=4))


def test_auto_computes_products_of_blocks() -> None:
    leaves, call = language_model(T=70)
    found: list[str] = []
    for query, expected in ((leaves[0], "window"), (leaves[0][:, :1], "eager")):
        slots = 4 if expected == "window" else 73
        memory = ops.inputs.Memory(leaves[1])
        views = windows_of("read", query, memory, slots)
        checked = ops.checks.check_read(query, views, True)._replace(window=memory)
        found.append(dispatch.form_of(checked))
    assert found == ["window", "eager"]
    assert call(*leaves).shape == (2, 70, D)


QUERY, KEYS = torch.zeros(2, 5, 3), torch.zeros(2, 7, 3)
SIZED = "for T = 5 queries and window N = 3, got query [2, 5, 3] float32 on cpu, keys [2, "


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": 0}, "read expected window, an integer of at least 1, got 0"),
        ({"window": True}, "read expected window, an integer of at least 1, got True"),
        ({"window": 2.0}, "read expected window, an integer of at least 1, got 2.0"),
        ({"keys": KEYS[:, :6]}, f"read expected T + N - 1 = 7 slots of keys {SIZED}6, 3]"),
        ({"values": KEYS[:, :6]}, f"read expected T + N - 1 = 7 slots of values {SIZED}7, 3]"),
        (
            {"padding_mask": torch.zeros(2, 5).bool()},
            f"read expected T + N - 1 = 7 slots of padding_mask {SIZED}7, 3]",
        ),
        (
            {"score_bias": torch.zeros(3)},
            f"read expected T + N - 1 = 7 slots of score_bias {SIZED}7, 3]",
        ),
        (
            {"query": QUERY[0, 0]},
            "read expected query [..., T, D] with window N = 3, got query [3] float32 on cpu, keys",
        ),
        (
            {"slots": torch.zeros(2, 3, dtype=torch.long)},
            "read expected no slots with window, got slots [2, 3] int64 on cpu",
        ),
        (
            {"slots": (torch.zeros(7, dtype=torch.long), None)},
            "read expected no slots with window, got slots of type tuple",
        ),
        (
            {"lengths": torch.tensor([1, 2])},
            "read expected no lengths with window, got lengths [2] int64 on cpu",
        ),
        (
            {"keys": Quantized.of(torch.ones(2, 7, 3))},
            "read expected tensors with window, got query [2, 5, 3] float32 on cpu, keys Quantized",
        ),
        (
            {"keys": Parts([torch.ones(3, 3), torch.ones(4, 3)])},
            "read expected keys in one tensor with window, got memories in parts or a group",
        ),
        ({"keys": None}, "read expected tensors with window, got query [2, 5, 3] float32 on cpu"),
        ({"keys": KEYS.to_sparse()}, "read expected strided tensors"),
        ({"keys": torch.zeros(3, 7, 3)}, "read expected leading axes that broadcast together"),
        ({"keys": torch.zeros(2, 7, 4)}, "read expected query [..., I] and keys [..., N, I]"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_in_one_line(given: Given, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}[^\n]*$"):
        read(**{"query": QUERY, "keys": KEYS, "window": 3, **given})
