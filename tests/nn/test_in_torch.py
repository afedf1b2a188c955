"""The layers in torch's tools: compile, trace, autocast, copies, parametrized weights, modes."""

import copy
import io
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop
from tests.nn.every_option import FEW, Case, every_case, some_cases
from tests.seeds import slow, thorough

# torch warns about its own use of what it has deprecated
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
# torch.compile takes equal sizes for one: these differ from each other and from those of weights
OPEN_SIZES = [
    {"B": 8, "L": 7, "N": 13, "U": 11, "W": 10},
    {"B": 9, "L": 8, "N": 14, "U": 12, "W": 11},
]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="needs a C++ compiler",
)


def outcome(case: Case, layer: Callable[..., Any], **sizes: int) -> list[Tensor]:
    """Return the outputs of a layer, or of a compiled one, and the gradient of the query."""
    tensors = case.tensors(**sizes)
    query = tensors["query"].requires_grad_()
    outputs = case.call(layer, tensors)
    total = torch.stack([x.cos().sum() for x in outputs]).sum()
    return [*outputs, *torch.autograd.grad(total, query)]


@some_cases(0)
def test_compile_makes_one_graph(case: Case) -> None:
    torch.compiler.reset()
    layer = case.layer()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    case.assert_close(outcome(case, compiled), outcome(case, layer))


@pytest.mark.slow  # seconds each; tests/ops/test_compile.py has open sizes too
@some_cases(1)
def test_compile_makes_one_graph_of_open_sizes(case: Case) -> None:
    torch.compiler.reset()
    layer = case.layer()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for sizes in OPEN_SIZES:
            tensors = case.tensors(**sizes)
            case.assert_close(case.call(compiled, tensors), case.call(layer, tensors))


@needs_compiler
@pytest.mark.parametrize(
    ("case", "dynamic"),
    [
        slow(FEW[1], None),  # half a minute
        *(thorough(case, dynamic) for case in FEW for dynamic in (None, True)),
    ],
    ids=str,
)
def test_inductor_gives_the_same_answer(case: Case, dynamic: bool | None) -> None:
    torch.compiler.reset()
    layer = case.layer()
    same_dropout: dict[str, Any] = {"fallback_random": True}
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, options=same_dropout)
    case.assert_close(outcome(case, compiled), outcome(case, layer))


@some_cases()
def test_a_trace_takes_other_numbers(case: Case) -> None:
    layer = case.layer().eval()
    leaves, structure = tree_flatten(case.tensors())
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    class Positional(nn.Module):
        """``torch.jit.trace`` takes positional tensors only."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
            given = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                given[place] = tensor
            return case.call(self.layer, tree_unflatten(given, structure))

    trace: Any = torch.jit.trace
    traced = trace(Positional(), tuple(leaves[place] for place in places))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    load: Any = torch.jit.load
    traced = load(file)
    tensors = case.tensors(seed=1)
    others = tree_flatten(tensors)[0]
    found = traced(*(others[place] for place in places))
    case.assert_close(found, case.call(layer, tensors))


@some_cases()
def test_make_fx_records_plain_operations(case: Case) -> None:
    layer = case.layer().eval()
    graph = make_fx(lambda tensors: case.call(layer, tensors))(case.tensors())
    names = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert all(name.startswith(("aten.", "<built-in function getitem>")) for name in names)
    other = case.tensors(seed=1)
    case.assert_close(graph(other), case.call(layer, other))


@every_case(lambda case: case["storage"] != "float64")
def test_autocast_gives_its_dtype_and_rounds_once(case: Case) -> None:
    layer, tensors = case.layer(), case.tensors()
    exact = case.call(layer, tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.call(layer, tensors)
    for output, expected in zip(found, exact, strict=True):
        assert output.dtype == torch.bfloat16
        near = 0.02 * (1 + float(expected.detach().abs().max()))
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=near)
        if case["layer"] != "MemoryNetwork":  # whose projections round, as autocast has it
            assert torch.equal(output, expected.bfloat16())
    if found[0].requires_grad:
        torch.autograd.backward(found[0].float().sum())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in layer.parameters())


def test_autocast_leaves_float64_alone() -> None:
    case = Case({})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {x.dtype for x in case.call(case.layer(), case.tensors())} == {torch.float64}


def test_autocast_inside_of_compile() -> None:
    torch.compiler.reset()
    case = Case({"storage": "bfloat16", "memory_padding_mask": "BN", "num_heads": 2})
    layer = case.layer()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = (case.call(form, case.tensors()) for form in (compiled, layer))
    torch.testing.assert_close(found, expected)


def saved_and_loaded(thing: Any, **options: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, **options)


@every_case()
def test_copies_are_equal_and_apart(case: Case) -> None:
    layer, tensors = case.layer(), case.tensors()
    before = case.call(layer, tensors)
    whole = saved_and_loaded(layer, weights_only=False)
    pickled = pickle.loads(pickle.dumps(layer))
    others = [copy.deepcopy(layer), pickled, whole, case.layer()]
    with torch.no_grad():
        for parameter in others[-1].parameters():
            parameter.zero_()
    others[-1].load_state_dict(saved_and_loaded(layer.state_dict()))
    for other in others:
        assert all(map(torch.equal, case.call(other, saved_and_loaded(tensors)), before))
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
    assert all(map(torch.equal, case.call(layer, tensors), before))


@every_case()
def test_parametrized_weights(case: Case) -> None:
    class Negative(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return -weight

    layer, opposite = case.layer(), case.layer()
    for module in list(layer.modules()):
        for name in [name for name, weight in module._parameters.items() if weight is not None]:
            parametrize.register_parametrization(module, name, Negative())
    with torch.no_grad():
        for weight in opposite.parameters():
            weight.neg_()
    case.assert_close(outcome(case, layer), outcome(case, opposite))


@every_case()
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(case: Case, use_reentrant: bool) -> None:
    layer = case.layer()

    def recomputed(**given: Any) -> Any:
        query, others = given.pop("query"), given
        return checkpoint(
            lambda query: layer(query=query, **others), query, use_reentrant=use_reentrant
        )

    tensors = case.tensors()
    query = tensors["query"].requires_grad_()
    outputs = case.call(recomputed, tensors)
    torch.autograd.backward(torch.stack([x.cos().sum() for x in outputs]).sum())
    case.assert_close([*outputs, query.grad], outcome(case, layer))


@every_case()
def test_modes_and_tensors_without_data(case: Case) -> None:
    layer, tensors = case.layer(), case.tensors()
    expected = case.call(layer, tensors)
    with FlopCounterMode(display=False) as counter:
        found = case.call(layer, tensors)
    case.assert_close(found, expected)
    assert counter.get_total_flops() > 0
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = tree_map_only(Tensor, mode.from_tensor, tensors)
        fakes = case.call(copy.deepcopy(layer), fake)
    meta = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), tensors)
    for outputs in (fakes, case.call(layer.to("meta"), meta)):
        assert [(x.shape, x.dtype) for x in outputs] == [(x.shape, x.dtype) for x in expected]


def test_layers_go_to_a_worker_process() -> None:
    layers = [
        layer(5, 4, temporal_slots=2).requires_grad_(False)
        for layer in (MemoryHop, MultiHop, MemoryNetwork)
    ]
    given = [(torch.randn(3, size), torch.randn(3, 6, 5)) for size in (4, 4, 5)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.starmap(
            nn.Module.__call__, [(layer, *two) for layer, two in zip(layers, given, strict=True)]
        )
    for layer, two, answer in zip(layers, given, found, strict=True):
        torch.testing.assert_close(answer, layer(*two))


@pytest.mark.parametrize("layer", [MemoryHop, MultiHop, MemoryNetwork])
def test_script_is_refused_in_one_line(layer: type[nn.Module]) -> None:
    expected = rf"^{layer.__name__} cannot be scripted: use torch.export, or torch.jit.trace$"
    with pytest.raises(ValueError, match=expected):
        torch.jit.script(layer(5, 4))
