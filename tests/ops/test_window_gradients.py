"""The gradients of a call with a window: equal to those of the same call with the strided view."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import gradcheck, gradgradcheck

from memhop.ops import Hop, Table, multi_hop, read

T, N, D = 37, 3, 4  # T is not a multiple of the rows of a block
ROWS = T + N - 1
Call = Callable[..., Any]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def view(rows: Tensor) -> Tensor:
    return rows.unfold(-2, N, 1).mT


def windowed_read(query: Tensor, keys: Tensor, values: Tensor | None = None, **more: Any) -> Any:
    return read(query, keys, values=values, window=N, **more)


def read_of_view(query: Tensor, keys: Tensor, values: Tensor | None = None, **more: Any) -> Any:
    values = None if values is None else view(values)
    return read(query, view(keys), values=values, impl="reference", **more)


def windowed_hops(query: Tensor, memory: Tensor, hop: Hop, **more: Any) -> Any:
    return multi_hop(query, memory, [hop] * 2, window=N, **more)


def hops_of_view(query: Tensor, memory: Tensor, hop: Hop, **more: Any) -> Any:
    return multi_hop(query, view(memory), [hop] * 2, impl="reference", **more)


@pytest.mark.parametrize("width", [None, 2, D])
@pytest.mark.parametrize("softmax", [True, False])
def test_a_read_can_be_differentiated_twice(width: int | None, softmax: bool) -> None:
    torch.manual_seed(0)
    inputs = [normal(T, D), normal(ROWS, D), *([] if width is None else [normal(ROWS, width)])]
    inputs = [each.requires_grad_() for each in inputs]

    def grads_of(call: Call) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            call(*inputs, softmax=softmax).pow(2).sum(), inputs, create_graph=True
        )

    for found, expected in zip(grads_of(windowed_read), grads_of(read_of_view), strict=True):
        torch.testing.assert_close(found, expected)

    def call(*inputs: Tensor) -> Any:
        return windowed_read(*inputs, softmax=softmax)

    assert gradcheck(call, inputs, fast_mode=True)
    assert gradgradcheck(call, inputs, gen_non_contig_grad_outputs=True, fast_mode=True)


def of_two_calls(call: Call, transform: Tensor, query: Tensor, memory: Tensor) -> Any:
    hop = Hop(Table(None), Table(None), transform)
    return call(call(query, memory, hop), memory, hop)


def of_derived_rows(call: Call, transform: Tensor, query: Tensor, memory: Tensor) -> Any:
    rows = (transform[:N] @ transform).tanh()
    return call(query, memory, Hop(Table(None, None, rows), Table(None, None, rows), transform))


@pytest.mark.parametrize("function", [of_two_calls, of_derived_rows])
def test_inputs_may_be_computed_from_each_other(function: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    leaf = (normal(D, D) / 2).requires_grad_()
    others = (normal(T, D) / 2, normal(ROWS, D) / 2)

    def derivatives(call: Call, create_graph: bool) -> list[Tensor]:
        result = function(call, leaf, *others)
        (grad,) = torch.autograd.grad(result.sin().sum(), leaf, create_graph=create_graph)
        if not create_graph:
            return [grad]
        return [grad, *torch.autograd.grad(grad.pow(2).sum(), leaf)]

    expected = derivatives(hops_of_view, True)
    for create_graph in (False, True):
        found = derivatives(windowed_hops, create_graph)
        for one, other in zip(found, expected, strict=False):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_mask_that_changes_after_the_call_is_an_error(softmax: bool) -> None:
    query = normal(T, D).requires_grad_()
    mask = torch.rand(ROWS) < 0.3
    result = windowed_read(query, normal(ROWS, D), softmax=softmax, padding_mask=mask)
    mask.logical_not_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(result.sum(), query)


@pytest.mark.parametrize("content", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", ["query", "gradient"])
@pytest.mark.parametrize("form", ["read", "hops", "weights"])
def test_the_gradients_of_other_slots_do_not_depend_on_a_query(
    form: str, place: str, content: float
) -> None:
    torch.manual_seed(0)
    query, memory, grad = normal(2, T, D), normal(2, ROWS, D), normal(2, T, D)
    {"query": query, "gradient": grad}[place][1, 20] = content
    memory.requires_grad_()
    mask = torch.rand(2, ROWS) < 0.2

    def grad_of(is_window: bool) -> Tensor:
        if form == "hops":
            hop, hops = Hop(Table(None), Table(None), relu=0.5), (hops_of_view, windowed_hops)
            masks = {"padding_mask": mask if is_window else mask.unfold(-1, N, 1)}
            result = hops[is_window](query, memory, hop, **masks)
        else:
            reads, needs_weights = (read_of_view, windowed_read), form == "weights"
            result = reads[is_window](query, memory, need_weights=needs_weights)
            result = result[0] if needs_weights else result
        return torch.autograd.grad(result, memory, grad)[0]

    found, expected = grad_of(True), grad_of(False)
    assert not expected[1, 20 : 20 + N].isfinite().all()
    is_other = torch.ones(2, ROWS, dtype=torch.bool)
    is_other[1, 20 : 20 + N] = False
    torch.testing.assert_close(found[is_other], expected[is_other])
    assert not found[1, 20 : 20 + N][~expected[1, 20 : 20 + N].isfinite()].isfinite().any()


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_row_that_overflows_when_embedded_reaches_its_readers_only(need_weights: bool) -> None:
    torch.manual_seed(0)
    query, memory = torch.full((T, D), 1e-22), torch.full((ROWS, D), 1e-3)
    memory[20] = 1e18  # finite, but not times 1e21
    weight = (torch.eye(D) * 1e21).requires_grad_()
    memory.requires_grad_()
    hops = [Hop(Table(weight), Table(weight))]
    found: Any = multi_hop(query, memory, hops, window=N, need_weights=need_weights)
    expected: Any = multi_hop(
        query, view(memory), hops, need_weights=need_weights, impl="reference"
    )
    if need_weights:
        found, expected = found[0], expected[0]
    is_reader = torch.zeros(T, dtype=torch.bool)
    is_reader[21 - N : 21] = True
    assert not found[is_reader].isfinite().any()
    torch.testing.assert_close(found[~is_reader], expected[~is_reader])
    grads = [torch.autograd.grad(each.sum(), memory)[0] for each in (found, expected)]
    rest = torch.ones(ROWS, dtype=torch.bool)
    rest[21 - N : 20 + N] = False
    torch.testing.assert_close(grads[0][rest], grads[1][rest])
