"""The operations in compiled graphs: one graph, right values, a fused operation kept whole."""

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func  # type: ignore[import-untyped]
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.utils._pytree import tree_map_only

from memhop.ops import IMPLEMENTATIONS, Hop, Table, dispatch, multi_hop
from tests.ops.leaves import CASES, Case, Leaves, case_of, normal

# of its own use of what it has deprecated: in inductor, and where it traces an autograd.Function
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
every_impl = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


def values_and_gradients(function: Callable[..., Tensor], case: Case) -> list[Tensor]:
    """What a function of the leaves gives, and its gradients along one cotangent."""
    leaves = [leaf.requires_grad_() for leaf in case.leaves]
    outputs = function(*leaves)
    cotangent = torch.arange(outputs.numel(), dtype=outputs.dtype).cos()
    return [outputs, *torch.autograd.grad(outputs, leaves, cotangent.view_as(outputs))]


class Spy(torch.fx.Interpreter):
    """Runs a graph as it is, and notes what memhop's own operations in it are called with."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.seen: list[tuple[Any, Any, Any]] = []

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if getattr(target, "namespace", "") == "memhop":
            copies = tree_map_only(Tensor, lambda x: x.detach().clone(), (args, kwargs))
            self.seen.append((target, *copies))
        return super().call_function(target, args, kwargs)


def spied_on(function: Callable[..., Tensor], spies: list[Spy]) -> Callable[..., Tensor]:
    """A function compiled to one graph forward and one backward, each run by a spy."""

    def run_by_spy(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        spies.append(Spy(graph))
        return make_boxed_func(spies[-1].run)

    torch.compiler.reset()
    backend = aot_autograd(fw_compiler=run_by_spy)
    return torch.compile(function, fullgraph=True, backend=backend)


@every_impl
def test_one_graph_gives_the_same_values_and_gradients(impl: str) -> None:
    torch.compiler.reset()
    case = case_of("tiny hops")
    compiled = torch.compile(case.outputs(impl), fullgraph=True, backend="aot_eager")
    expected = values_and_gradients(case.outputs("reference"), case)
    torch.testing.assert_close(values_and_gradients(compiled, case), expected)


@every_impl
def test_a_graph_holds_a_fused_operation_where_one_is_asked_for(
    impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "WORTH_FUSING_IN_A_GRAPH_WITH_GRADIENT", 2**16)
    case = case_of("large hops")
    spies: list[Spy] = []
    found = values_and_gradients(spied_on(case.outputs(impl), spies), case)
    torch.testing.assert_close(found, values_and_gradients(case.outputs("reference"), case))
    fused = impl in ("auto", "fused")
    assert [bool(spy.seen) for spy in spies] == [fused, fused]  # there and back


@pytest.mark.parametrize("name", CASES)
def test_fused_operations_are_what_torch_library_asks_for(name: str) -> None:
    case = case_of(name)
    spies: list[Spy] = []
    found = values_and_gradients(spied_on(case.outputs("fused"), spies), case)
    torch.testing.assert_close(found, values_and_gradients(case.outputs("reference"), case))
    assert [bool(spy.seen) for spy in spies] == [True, True]  # there and back
    for spy in spies:
        for operation, args, kwargs in spy.seen:
            # Saved programs hold these names; see the module.
            assert str(operation).split(".")[1] in ("fused_v1", "fused_backward_v1")
            torch.library.opcheck(operation, args, kwargs)


# their sizes are worked out without data; test_nn_in_torch has the plain forms
@pytest.mark.parametrize("impl", ["auto", "fused"])
def test_one_graph_of_open_sizes(impl: str) -> None:
    torch.compiler.reset()

    def operation(impl: str, query: Tensor, memories: Tensor, a: Tensor, c: Tensor) -> Leaves:
        return multi_hop(query, memories, [Hop(Table(a), Table(c))], need_weights=True, impl=impl)

    def case(batch: int, num_slots: int) -> Case:
        memories = normal(batch, num_slots, 5)
        return Case(operation, (normal(batch, 6), memories, normal(6, 5), normal(6, 5)), 0)

    compiled = torch.compile(
        case(8, 300).outputs(impl), fullgraph=True, backend="aot_eager", dynamic=True
    )
    for sizes in ((8, 300), (9, 401)):
        given = case(*sizes)
        expected = values_and_gradients(given.outputs("reference"), given)
        torch.testing.assert_close(values_and_gradients(compiled, given), expected)


@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="needs a C++ compiler",
)
def test_inductor_gives_the_same_values_and_gradients() -> None:
    torch.compiler.reset()
    case = case_of("large hops")
    compiled = torch.compile(case.outputs("auto"), fullgraph=True)
    expected = values_and_gradients(case.outputs("reference"), case)
    torch.testing.assert_close(values_and_gradients(compiled, case), expected)
