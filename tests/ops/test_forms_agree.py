"""Shapes, empty sizes and which gradients there are do not depend on the form."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from memhop.ops import IMPLEMENTATIONS, Hop, Table, multi_hop, read
from memhop.ops.inputs import with_short_tables

every_form = pytest.mark.parametrize("impl", IMPLEMENTATIONS)

ROWS, SIZE, DIM = 30, 6, 4


def normal(*shape: int, requires_grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=requires_grad)


def table(temporal: int | None = None) -> Table:
    age_rows = None if temporal is None else normal(temporal, DIM)
    return Table(normal(DIM, SIZE), normal(DIM), age_rows)


LEADS: list[tuple[int, ...]] = [(), (1,), (3,), (2, 1), (2, 3)]


def fitting_leads() -> list[tuple[tuple[int, ...], ...]]:
    """Leading axes of query, memory and slots that broadcast together."""
    found = []
    for leads in itertools.product(LEADS, repeat=3):
        try:
            np.broadcast_shapes(*leads)
        except ValueError:
            continue
        found.append(leads)
    return found


@every_form
@pytest.mark.parametrize("has_slots", [False, True])
def test_leading_axes_of_the_result_are_those_that_broadcast(impl: str, has_slots: bool) -> None:
    torch.manual_seed(0)
    for of_query, of_memory, of_slots in fitting_leads():
        slots = torch.randint(0, ROWS, (*of_slots, 7)) if has_slots else None
        leads = [of_query, of_memory, *([of_slots] if has_slots else [])]
        batch, num_slots = np.broadcast_shapes(*leads), 7 if has_slots else ROWS
        query, memories = normal(*of_query, DIM), normal(*of_memory, ROWS, SIZE)
        hops = [Hop(table(2), table())] * 2
        given: dict[str, Any] = {"slots": slots, "need_weights": True, "impl": impl}
        result, weights = multi_hop(query, memories, hops, **given)
        assert (result.shape, weights.shape) == ((*batch, DIM), (*batch, 2, num_slots))
        alone, weights = read(normal(*of_query, SIZE), memories, **given)
        assert (alone.shape, weights.shape) == ((*batch, SIZE), (*batch, num_slots))
        given |= {"impl": "reference"}
        torch.testing.assert_close(result, multi_hop(query, memories, hops, **given)[0])


def gradients(impl: str, hops: list[Hop], of: str, is_shared: bool) -> dict[str, bool]:
    """Which tensors have a gradient: of the result, of the weights of all hops, or of both."""
    torch.manual_seed(0)
    leaves: dict[str, Tensor] = {
        "query": normal(3, DIM),
        "memories": normal(*(() if is_shared else (3,)), ROWS, SIZE),
        "values": normal(*(() if is_shared else (3,)), ROWS, SIZE),
        "score_bias": normal(3, ROWS),
    }
    for number, hop in enumerate(hops):
        for side, part in (("a", hop.a), ("c", hop.c)):
            for name, weight in part._asdict().items():
                if weight is not None:
                    leaves[f"{number}.{side}.{name}"] = weight
        if hop.transform is not None:
            leaves[f"{number}.transform"] = hop.transform
    for leaf in leaves.values():
        leaf.requires_grad_()
    result, weights = multi_hop(
        leaves["query"], leaves["memories"], hops, values=leaves["values"],
        score_bias=leaves["score_bias"], need_weights=True, impl=impl,
    )  # fmt: skip
    total = {"result": result.sum(), "weights": weights.square().sum()}
    total["both"] = total["result"] + total["weights"]
    found = torch.autograd.grad(total[of], list(leaves.values()), allow_unused=True)
    return {name: grad is not None for name, grad in zip(leaves, found, strict=True)}


@pytest.mark.parametrize("of", ["result", "weights", "both"])
@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("tying", ["none", "adjacent", "layerwise", "one hop"])
@pytest.mark.parametrize("is_softmax", [True, False])
def test_the_same_tensors_have_gradients_in_every_form(
    of: str, is_shared: bool, tying: str, is_softmax: bool
) -> None:
    torch.manual_seed(0)
    tables = [table(3) for _ in range(4)]
    pairs = {
        "none": [(tables[0], tables[1]), (tables[2], tables[3])],
        "adjacent": [(tables[0], tables[1]), (tables[1], tables[2])],
        "layerwise": [(tables[0], tables[1])] * 2,
        "one hop": [(tables[0], tables[1])],
    }[tying]
    h = normal(DIM, DIM) if tying == "layerwise" else None
    hops = [Hop(a, c, h, softmax=is_softmax) for a, c in pairs]
    expected = gradients("eager", hops, of, is_shared)
    assert all(expected.values()) or of == "weights"
    for impl in ("fused", "project", "auto"):
        assert gradients(impl, hops, of, is_shared) == expected, impl


@pytest.mark.parametrize("has_slots", [False, True])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_read_has_the_same_gradients_in_every_form(is_shared: bool, has_slots: bool) -> None:
    torch.manual_seed(0)
    slots = torch.randint(0, ROWS, (3, 7)) if has_slots else None
    for of in (0, 1):
        found = []
        for impl in IMPLEMENTATIONS:
            given: dict[str, Any] = {"slots": slots, "need_weights": True, "impl": impl}
            leaves = [normal(3, SIZE)] + [
                normal(*(() if is_shared else (3,)), ROWS, SIZE) for _ in range(2)
            ]
            outputs = read(*(leaf.requires_grad_() for leaf in leaves), **given)
            grads = torch.autograd.grad(outputs[of].square().sum(), leaves, allow_unused=True)
            found.append([grad is not None for grad in grads])
        assert found == [[True, True, of == 0]] * len(found)


@every_form
@pytest.mark.parametrize("shape", [(0, 10), (3, 0), (0, 0)])
@pytest.mark.parametrize("options", ["", "mask", "slots", "bank", "lengths", "bias", "shared"])
def test_derivatives_of_an_empty_batch_and_of_an_empty_memory(
    impl: str, shape: tuple[int, int], options: str
) -> None:
    rows, slots = shape
    query = normal(rows, DIM, requires_grad=True)
    lead = () if options in ("shared", "bank") else (rows,)
    held = ROWS if options == "bank" else slots
    memories = normal(*lead, held, SIZE, requires_grad=True)
    given: dict[str, Any] = {
        "mask": {"padding_mask": torch.zeros(rows, slots, dtype=torch.bool)},
        "bank": {"slots": torch.zeros(rows, slots, dtype=torch.long)},
        "slots": {"slots": torch.zeros(rows, slots, dtype=torch.long)},
        "lengths": {"lengths": torch.zeros(rows, dtype=torch.long)},
        "bias": {"score_bias": normal(rows, 2, slots, requires_grad=True)},
    }.get(options, {})
    hops = [Hop(table(2), table(3), relu=True)] * 2
    weight = hops[0].a.weight
    assert weight is not None
    weight.requires_grad_()
    outputs = multi_hop(query, memories, hops, need_weights=True, impl=impl, **given)
    assert [x.shape for x in outputs] == [(rows, DIM), (rows, 2, slots)]
    total = outputs[0].cos().sum() + outputs[1].square().sum()
    first = torch.autograd.grad(total, [query, memories, weight], create_graph=True)
    assert [x.shape for x in first] == [query.shape, memories.shape, weight.shape]
    squares = [grad.square().sum() for grad in first]
    second = torch.autograd.grad(squares, [query, memories, weight], materialize_grads=True)
    assert all(grad.isfinite().all() for grad in second)


def test_temporal_tables_are_cut_to_the_ages_that_there_are() -> None:
    torch.manual_seed(0)
    hops = [Hop(table(1000), table(50)), Hop(table(3), table())]
    short = with_short_tables(hops, 7)
    temporal = [part.temporal for hop in short for part in (hop.a, hop.c)]
    assert [None if rows is None else len(rows) for rows in temporal] == [7, 7, 3, None]
    assert with_short_tables(hops[1:], 7) == hops[1:]
    assert with_short_tables(hops, 0)[0].a.temporal.shape == (1, DIM)  # type: ignore[union-attr]
    tied = table(1000)
    one, other = with_short_tables([Hop(tied, table()), Hop(table(), tied)], 7)
    assert one.a.temporal is other.c.temporal  # what is shared stays shared
    query, memories = normal(3, DIM), normal(3, 7, SIZE)
    for impl in ("eager", "project"):
        with FlopCounterMode(display=False) as counter:
            multi_hop(query, memories, hops, impl=impl)
        assert counter.get_total_flops() < 2 * 3 * 1000 * DIM  # q . T_A(t) for all t alone


@every_form
def test_long_temporal_tables(impl: str) -> None:
    torch.manual_seed(0)
    hops = [Hop(table(500), table(400))] * 2
    query, memories = normal(3, DIM), normal(3, 7, SIZE)
    mask = torch.rand(3, 7) < 0.3
    short = [
        hop._replace(
            a=hop.a._replace(temporal=hop.a.temporal[:7]),  # type: ignore[index]
            c=hop.c._replace(temporal=hop.c.temporal[:7]),  # type: ignore[index]
        )
        for hop in hops
    ]
    leaves = [part.temporal.requires_grad_() for part in hops[0][:2]]  # type: ignore[union-attr]
    found = multi_hop(query, memories, hops, padding_mask=mask, impl=impl)
    expected = multi_hop(query, memories, short, padding_mask=mask, impl="reference")
    torch.testing.assert_close(found, expected)
    for grad in torch.autograd.grad(found.cos().sum(), leaves):
        assert grad[:7].any()
        assert not grad[7:].any()


@every_form
@pytest.mark.parametrize("is_shared", [False, True])
def test_relu_passes_nan_and_its_gradient(impl: str, is_shared: bool) -> None:
    torch.manual_seed(0)
    query, memories = normal(3, DIM), normal(*(() if is_shared else (3,)), ROWS, SIZE)
    a, c = table(), table()
    assert c.bias is not None
    c.bias[2] = torch.nan
    result = multi_hop(
        query, memories, [Hop(a, c._replace(bias=c.bias.requires_grad_()), relu=True)], impl=impl
    )
    assert result[:, 2].isnan().all()
    assert result[:, :2].isfinite().all()
    (of_bias,) = torch.autograd.grad(result.sum(), c.bias)
    assert of_bias[2] == pytest.approx(3)  # of each row 1, as torch.relu passes it
