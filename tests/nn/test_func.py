"""The transforms of ``torch.func`` over the layers, with every option and argument."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.nn.every_option import Case, every_case

# torch warns about its own use of what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

Named = dict[str, Tensor]


def leaves_of(case: Case, tensors: dict[str, Any]) -> Named:
    """Return the tensors that have a gradient in the dtype of the query."""
    names = [name for name in ("query", "score_bias", "memories", "values") if name in tensors]
    named = {name: tensors[name] for name in names if isinstance(tensors[name], Tensor)}
    return {name: leaf for name, leaf in named.items() if leaf.dtype == case.dtype}


def total_of(case: Case, layer: Any, tensors: dict[str, Any]) -> Callable[[Named], Tensor]:
    """Return a function of some tensors that sums all outputs, each number with its own factor."""

    def total(leaves: Named) -> Tensor:
        outputs = case.call(layer, {**tensors, **leaves})
        factors = [torch.arange(x.numel(), dtype=x.dtype).cos().view(x.shape) for x in outputs]
        products = [(x * factor).sum() for x, factor in zip(outputs, factors, strict=True)]
        return torch.stack(products).sum()

    return total


def by_autograd(total: Callable[[Named], Tensor], leaves: Named) -> list[Tensor]:
    """Return the gradients of a function, by a backward pass."""
    copies = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
    gradients = torch.autograd.grad(total(copies), list(copies.values()), materialize_grads=True)
    return list(gradients)


def rows_of(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors, and the axis of each to map over: B, or None for those without one.

    A first axis of size 1 is removed: a single query has none.
    """
    tensors, axes = case.tensors(), dict[str, Any]()

    def axis(letters: str | None) -> int | None:
        return 0 if letters and letters[0] == "B" else None

    for name, letters in case.axes.items():
        axes[name] = tuple(map(axis, letters)) if isinstance(letters, tuple) else axis(letters)
        if isinstance(letters, str) and letters.startswith("1"):
            tensors[name] = tensors[name].squeeze(0)
    return tensors, axes


@every_case(lambda case: case["query"] != "one")
def test_vmap_over_the_batch(case: Case) -> None:
    layer = case.layer().eval()
    tensors, axes = rows_of(case)
    each = torch.func.vmap(lambda row: case.call(layer, row), in_dims=(axes,))
    case.assert_close(each(tensors), case.call(layer, case.tensors()))


@every_case(lambda case: case["query"] != "one")
def test_gradients_of_each_row(case: Case) -> None:
    layer = case.layer().eval()

    def total(query: Tensor, others: dict[str, Any]) -> Tensor:
        squares = [x.square().sum() for x in case.call(layer, {**others, "query": query})]
        return torch.stack(squares).sum()

    tensors, axes = rows_of(case)
    each = torch.func.vmap(torch.func.grad(total), in_dims=(0, axes))
    query = tensors["query"].clone().requires_grad_()
    expected = torch.autograd.grad(total(query, case.tensors()), query)
    case.assert_close([each(tensors["query"], tensors)], expected)


@every_case()
def test_grad_and_jvp(case: Case) -> None:
    layer, tensors = case.layer(), case.tensors()
    leaves, total = leaves_of(case, tensors), total_of(case, layer, tensors)
    expected = by_autograd(total, leaves)
    case.assert_close(list(torch.func.grad(total)(leaves).values()), expected)
    torch.manual_seed(1)
    tangents = {name: torch.randn_like(leaf) for name, leaf in leaves.items()}
    slope = torch.func.jvp(total, (leaves,), (tangents,))[1]
    pairs = zip(tangents.values(), expected, strict=True)
    products = [(tangent * gradient).sum() for tangent, gradient in pairs]
    case.assert_close([slope], [torch.stack(products).sum()])


@every_case(lambda case: any(True for _ in case.layer().parameters()))
def test_gradients_of_the_weights(case: Case) -> None:
    layer, tensors = case.layer(), case.tensors()
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}

    def total(weights: Named) -> Tensor:
        def call(**given: Any) -> Any:
            return torch.func.functional_call(layer, weights, (), given)

        return total_of(case, call, tensors)({})

    found = torch.func.grad(total)(weights)
    expected = torch.autograd.grad(
        total_of(case, layer, tensors)({}), list(layer.parameters()), materialize_grads=True
    )
    case.assert_close(list(found.values()), expected)


@every_case(lambda case: any(True for _ in case.layer().parameters()))
def test_several_layers_as_one(case: Case) -> None:
    """The weights have an axis for the layers, as ``torch.func.stack_module_state`` makes it."""
    layers = [case.layer().eval() for _ in range(2)]
    with torch.no_grad():
        for weight in layers[1].parameters():
            weight.mul_(-0.5)
    weights, _ = torch.func.stack_module_state(layers)

    def call(weights: Named, tensors: dict[str, Any]) -> tuple[Tensor, ...]:
        def layer(**given: Any) -> Any:
            return torch.func.functional_call(layers[0], weights, (), given)

        return case.call(layer, tensors)

    found = torch.func.vmap(call, in_dims=(0, None))(weights, case.tensors())
    each = [case.call(layer, case.tensors()) for layer in layers]
    case.assert_close(found, [torch.stack(outputs) for outputs in zip(*each, strict=True)])


@every_case()
def test_jacobians_and_hessian(case: Case) -> None:
    layer, tensors = case.layer(), case.tensors()

    def result(query: Tensor) -> Tensor:
        return case.call(layer, {**tensors, "query": query})[0]

    def total(query: Tensor) -> Tensor:
        return total_of(case, layer, tensors)({"query": query})

    query = tensors["query"]
    expected: Any = torch.autograd.functional.jacobian(result, query)  # type: ignore[no-untyped-call]
    case.assert_close([torch.func.jacrev(result)(query)], [expected])
    layer.eval()  # these two call the layer under vmap
    expected = torch.autograd.functional.jacobian(result, query)  # type: ignore[no-untyped-call]
    case.assert_close([torch.func.jacfwd(result)(query)], [expected])
    expected = torch.autograd.functional.hessian(total, query)  # type: ignore[no-untyped-call]
    case.assert_close([torch.func.hessian(total)(query)], [expected])


def test_vmap_of_dropout_needs_randomness() -> None:
    case = Case({"dropout": 0.5, "num_heads": 2, "weights": "of each head"})
    layer, tensors = case.layer(), case.tensors(B=200)

    def call(query: Tensor, memories: Tensor) -> Tensor:
        return layer(query, memories, **case.options)[1]  # type: ignore[no-any-return]

    given = tensors["query"], tensors["memories"][0]
    with pytest.raises(RuntimeError, match="vmap: called random operation"):
        torch.func.vmap(call, in_dims=(0, None))(*given)
    for randomness in ("same", "different"):
        each = torch.func.vmap(call, in_dims=(0, None), randomness=randomness)
        first_hop = each(*given)[:, 0]
        expected = 2 * layer.eval()(*given, **case.options)[1][:, 0]
        is_zero = first_hop == 0
        torch.testing.assert_close(first_hop, expected.masked_fill(is_zero, 0.0))
        is_the_same = bool((is_zero == is_zero[0]).all())
        assert is_the_same == (randomness == "same")
        assert randomness == "same" or 0.4 < is_zero.double().mean() < 0.6
        layer.train()
