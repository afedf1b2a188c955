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
Call = Callable[..., Tensor]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def view(rows: Tensor) -> Tensor:
    return rows.unfold(-2, N, 1).mT


def windowed_read(query: Tensor, keys: Tensor, values: Tensor | None = None, **more: Any) -> Tensor:
    return read(query, keys, values=values, window=N, **more)


def read_of_view(query: Tensor, keys: Tensor, values: Tensor | None = None, **more: Any) -> Tensor:
    values = None if values is None else view(values)
    return read(query, view(keys), values=values, impl="reference", **more)


def windowed_hops(query: Tensor, memory: Tensor, hop: Hop, **more: Any) -> Tensor:
    return multi_hop(query, memory, [hop] * 2, window=N, **more)


def hops_of_view(query: Tensor, memory: Tensor, hop: Hop, **more: Any) -> Tensor:
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

    def call(*inputs: Tensor) -> Tensor:
        return windowed_read(*inputs, softmax=softmax)

    assert gradcheck(call, inputs, fast_mode=True)
    assert gradgradcheck(call, inputs, gen_non_contig_grad_outputs=True, fast_mode=True)


def of_two_calls(call: Call, transform: Tensor, query: Tensor, memory: Tensor) -> Tensor:
    hop = Hop(Table(None), Table(None), transform)
    return call(call(query, memory, hop), memory, hop)


def of_derived_rows(call: Call, transform: Tensor, query: Tensor, memory: Tensor) -> Tensor:
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
        result.sum().backward()
