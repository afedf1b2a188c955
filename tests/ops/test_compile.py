"""The operations in compiled graphs: one graph, right values, a fused operation kept whole."""

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func  # type: ignore[import-untyped]
from leaves import CASES, Case, Leaves, case_of, normal
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from memhop.ops import IMPLEMENTATIONS, Hop, Table, multi_hop

needs_fused = pytest.mark.skipif(
    "fused" not in IMPLEMENTATIONS, reason="there is no fused operation yet"
)
# of its own use of what it has deprecated: in inductor, and where it traces an autograd.Function
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
every_impl = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
FUSED = [
    (name, "fused")
    for name in ("large read", "shared memory", "bank")
    if "fused" in IMPLEMENTATIONS
]


def values_and_gradients(function: Callable[..., Tensor], case: Case) -> list[Tensor]:
    """What a function of the leaves gives, and its gradients along one cotangent."""
    leaves = [leaf.requires_grad_() for leaf in case.leaves]
    outputs = function(*leaves)
    cotangent = torch.arange(outputs.numel(), dtype=outputs.dtype).cos()
    return [outputs, *torch.autograd.grad(outputs, leaves, cotangent.view_as(outputs))]


def operations(graph: torch.fx.GraphModule) -> set[str]:
    """The operations of memhop's own in a graph and the graphs inside of it."""
    inner = [part for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
    targets = [node.target for part in inner for node in part.graph.nodes]
    return {str(target) for target in targets if getattr(target, "namespace", "") == "memhop"}


def keeping(graphs: list[torch.fx.GraphModule]) -> Any:
    """A backend that runs the graphs of forward and backward as they are, and keeps them."""

    def keep(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    return aot_autograd(fw_compiler=keep)


@every_impl
def test_one_graph_gives_the_same_values_and_gradients(impl: str) -> None:
    torch.compiler.reset()
    case = case_of("tiny hops")
    compiled = torch.compile(case.outputs(impl), fullgraph=True, backend="aot_eager")
    expected = values_and_gradients(case.outputs("reference"), case)
    torch.testing.assert_close(values_and_gradients(compiled, case), expected)


@pytest.mark.parametrize(
    ("name", "impl"), [("large hops", word) for word in IMPLEMENTATIONS] + FUSED
)
def test_a_graph_holds_a_fused_operation_where_one_is_asked_for(name: str, impl: str) -> None:
    torch.compiler.reset()
    case = case_of(name)
    graphs: list[torch.fx.GraphModule] = []
    compiled = torch.compile(case.outputs(impl), fullgraph=True, backend=keeping(graphs))
    found = values_and_gradients(compiled, case)
    torch.testing.assert_close(found, values_and_gradients(case.outputs("reference"), case))
    fused = "fused" in IMPLEMENTATIONS and impl in ("auto", "fused")
    assert [bool(operations(graph)) for graph in graphs] == [fused, fused]  # there and back


@needs_fused  # whose sizes are worked out without data; test_nn_in_torch has the plain forms
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


class Spy(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each of memhop's own operations that is called, with what it is called with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[Any, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "memhop":
            copies = tree_map_only(Tensor, lambda x: x.detach().clone(), (args, kwargs))
            self.seen.setdefault(func, copies)
        return func(*args, **kwargs)


@needs_fused
@pytest.mark.parametrize("name", CASES)
def test_fused_operations_are_what_torch_library_asks_for(name: str) -> None:
    case = case_of(name)
    with Spy() as spy:
        values_and_gradients(case.outputs("fused"), case)
    assert len(spy.seen) >= 2  # there and back
    assert {str(func).split(".")[1] for func in spy.seen} <= set(torch.ops.memhop)
    for func, (args, kwargs) in spy.seen.items():
        torch.library.opcheck(func, args, kwargs)


@needs_fused
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler"
)
def test_inductor_gives_the_same_values_and_gradients() -> None:
    torch.compiler.reset()
    case = case_of("large hops")
    compiled = torch.compile(case.outputs("auto"), fullgraph=True)
    expected = values_and_gradients(case.outputs("reference"), case)
    torch.testing.assert_close(values_and_gradients(compiled, case), expected)
