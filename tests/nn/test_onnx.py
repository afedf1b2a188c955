"""The layers as ONNX graphs, run by onnxruntime at sizes that were not traced."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

from memhop.nn.hops import MemoryNetwork, MultiHop
from memhop.ops import multi_hop
from tests.nn.every_option import Case, some_cases
from tests.nn.test_export import OTHER_SIZES as SIZES_OF_OPTIONS
from tests.nn.test_export import exported
from tests.ops import oracle
from tests.ops.fixed_order import FixedOrder
from tests.seeds import slow

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = [
    # torch copies its own tree specs, and warns of that.
    pytest.mark.filterwarnings(
        r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
    ),
    # The lowest float64, where a layer fills scores with it, becomes -inf.
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning"),
]

DIM = 16
TRACED = (8, 300)
OTHER_SIZES = [(3, 7), (1, 1), (1, 9), (5, 1), (16, 33), (2, 1000), (0, 3), (2, 0), (0, 0)]


@dataclass(frozen=True)
class Form:
    """A layer, and the way it is called."""

    make: Callable[[], nn.Module]
    masked: bool = True
    shared: bool = False
    weights: bool = False

    def arguments(self, batch: int, num_slots: int) -> dict[str, Tensor]:
        """Inputs, where the second of a batch has no slot to read."""
        lead = () if self.shared else (batch,)
        query, memories = torch.randn(batch, DIM), torch.randn(*lead, num_slots, DIM)
        mask = torch.rand(batch, num_slots) < 0.4
        mask[1:2] = True
        given = {"query": query, "memories": memories}
        return {**given, "memory_padding_mask": mask} if self.masked else given

    def open_axes(self) -> dict[str, dict[int, Any]]:
        """Batch and slots may be any number; torch wants each name once, at its first axis."""
        batch, slots, again = Dim("batch"), Dim("slots"), Dim.DYNAMIC
        memories = {0: slots} if self.shared else {0: again, 1: slots}
        axes = {"query": {0: batch}, "memories": memories}
        return {**axes, "memory_padding_mask": {0: again, 1: again}} if self.masked else axes


FORMS = {
    "network": Form(partial(MemoryNetwork, DIM, 8, 2)),
    "adjacent with temporal tables and weights": Form(
        partial(MemoryNetwork, DIM, 8, 2, tying="adjacent", temporal_slots=4), weights=True
    ),
    "layerwise with relu over a shared memory": Form(
        partial(MultiHop, DIM, DIM, 2, tying="layerwise", relu=True), shared=True, weights=True
    ),
    "without softmax and mask": Form(
        partial(MultiHop, DIM, DIM, 1, softmax=False, temporal_slots=4), masked=False
    ),
}
every_form = pytest.mark.parametrize("name", FORMS)
BY_DEFAULT = {"adjacent with temporal tables and weights"}  # an export takes seconds
# torch.onnx.export of torch 2.9 refuses a batch of 1 here; after torch.export.export it does not
IN_TWO_STEPS = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10)


@cache
def layer_and_graph(name: str) -> tuple[nn.Module, Any]:
    """The layer and its ONNX graph, made once for all tests."""
    form = FORMS[name]
    torch.manual_seed(0)
    layer = form.make().eval()  # torch warns of a layer that trains
    given, axes = form.arguments(*TRACED), form.open_axes()
    if not form.weights and not (IN_TWO_STEPS and name == "without softmax and mask"):
        program = torch.onnx.export(
            layer, (), kwargs=given, dynamic_shapes=axes, dynamo=True, verbose=False
        )
    else:  # an argument that is no tensor has to be fixed first
        exported = torch.export.export(
            layer,
            (),
            {**given, "need_weights": form.weights},
            dynamic_shapes={**axes, "need_weights": None},
        )
        program = torch.onnx.export(exported, dynamo=True, verbose=False)
    assert program is not None
    return layer, program.model_proto


def session_of(graph: Any) -> Any:
    """Return a session of onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(graph: Any, given: dict[str, Tensor]) -> list[Tensor]:
    """What onnxruntime makes of a graph."""
    session = session_of(graph)
    assert [entry.name for entry in session.get_inputs()] == list(given)
    return [torch.as_tensor(x) for x in session.run(None, {k: v.numpy() for k, v in given.items()})]


def by_parts(layer: Any, given: dict[str, Tensor], hops: Callable[..., Any]) -> list[Tensor]:
    """Answer and weights of a layer whose hops another function takes."""
    query, memories = given["query"], given["memories"]
    mask = given.get("memory_padding_mask")
    network = isinstance(layer, MemoryNetwork)
    weights = (layer.hops if network else layer).as_hops()
    query = layer.query_proj(query) if network else query
    query, attention = map(torch.as_tensor, hops(query, memories, weights, padding_mask=mask))
    return [layer.output_proj(query) if network else query, attention]


def in_float64(layer: nn.Module, given: dict[str, Tensor]) -> list[Tensor]:
    """The truth: the paper's formulas in float64, of the same float32 numbers."""
    given = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
    return by_parts(copy.deepcopy(layer).double(), given, oracle.multi_hop)


def nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph or function, and of the graphs inside of them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


@pytest.mark.slow
@every_form
def test_a_graph_is_of_standard_operators_alone(name: str) -> None:
    _, graph = layer_and_graph(name)
    onnx.checker.check_model(graph, full_check=True)
    everywhere = [graph.graph, *graph.functions]
    assert {node.domain for part in everywhere for node in nodes(part)} <= {"", "ai.onnx"}
    sizes = [
        [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        for entry in graph.graph.input
    ]
    batch, slots = sizes[0][0], sizes[1][-2]  # names, which differ, and not numbers
    assert isinstance(batch, str)
    assert isinstance(slots, str)
    assert batch != slots
    assert sizes[1] == ([slots, DIM] if FORMS[name].shared else [batch, slots, DIM])
    assert sizes[2:] == ([[batch, slots]] if FORMS[name].masked else [])


def root_mean_square(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


@pytest.mark.parametrize(
    "name",
    [n if n in BY_DEFAULT else slow(n) for n in FORMS],
)
@torch.no_grad()
def test_onnxruntime_errs_no_more_than_the_textbook_form(name: str) -> None:
    layer, graph = layer_and_graph(name)
    torch.manual_seed(1)
    textbook = partial(multi_hop, need_weights=True, impl="reference")
    ratios = []
    for sizes in [*OTHER_SIZES, TRACED]:
        given = FORMS[name].arguments(*sizes)
        truth = in_float64(layer, given)
        with FixedOrder():  # type: ignore[no-untyped-call]
            plain = by_parts(layer, given, textbook)
        found = run(graph, given)
        assert len(found) == 1 + FORMS[name].weights
        for fast, budgeted, exact in zip(found, plain, truth, strict=False):
            assert fast.shape == exact.shape
            if exact.numel() == 0:
                continue
            ulp = torch.finfo(torch.float32).eps * max(root_mean_square(exact), 1e-9)
            error, budget = root_mean_square(fast - exact), root_mean_square(budgeted - exact)
            assert error <= 2 * budget + 4 * ulp, f"{sizes}"
            ratios.append((error + ulp) / (budget + ulp))
    assert np.exp(np.mean(np.log(ratios))) <= 1.1


def value_of(tensor: Tensor) -> Any:
    """Return a tensor as onnxruntime takes it; NumPy has no bfloat16."""
    if tensor.dtype == torch.bfloat16:
        bits, number = tensor.view(torch.int16).numpy(), onnx.TensorProto.BFLOAT16
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)
    return onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())


@pytest.mark.slow
@some_cases(2)
@torch.no_grad()
def test_every_option_at_all_sizes(case: Case) -> None:
    layer = case.layer().eval()
    program = torch.onnx.export(exported(case, layer), dynamo=True, verbose=False)
    assert program is not None
    onnx.checker.check_model(program.model_proto, full_check=True)
    session = session_of(program.model_proto)
    names = [entry.name for entry in session.get_inputs()]
    for sizes in SIZES_OF_OPTIONS:
        tensors = case.tensors(**sizes)
        values = [value_of(leaf) for leaf in tree_leaves(tensors) if leaf is not None]
        found = session.run_with_ort_values(None, dict(zip(names, values, strict=True)))
        outputs = [torch.as_tensor(value.numpy()) for value in found]
        case.assert_close(outputs, case.call(layer, tensors))
