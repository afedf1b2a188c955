"""The layers inside of what torch does with layers: compile, vmap, export, autocast, copies."""

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop

LAYERS: list[Callable[[], nn.Module]] = [
    lambda: MemoryHop(5, 4, temporal_slots=2),
    lambda: MultiHop(5, 4, 2, tying="layerwise", relu=True),
    lambda: MemoryNetwork(5, 4, 2, tying="adjacent"),
]
NAMES = ["MemoryHop", "MultiHop", "MemoryNetwork"]
# of its own use of what it has deprecated
TORCH_WARNS = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
every_layer = pytest.mark.parametrize("make", LAYERS, ids=NAMES)


def inputs(layer: nn.Module, batch: int, num_slots: int) -> tuple[Tensor, Tensor, Tensor]:
    dim = 5 if isinstance(layer, MemoryNetwork) else 4
    mask = torch.rand(batch, num_slots) < 0.4
    return torch.randn(batch, dim), torch.randn(batch, num_slots, 5), mask


def call(layer: Callable[..., Any], query: Tensor, memories: Tensor, mask: Tensor) -> Any:
    return layer(query, memories, memory_padding_mask=mask, need_weights=True)


@every_layer
def test_compile_makes_one_graph(make: Callable[[], nn.Module]) -> None:
    torch.compiler.reset()
    layer = make()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    # A second size makes a graph of open sizes; once is enough for seconds of compilation.
    sizes = ((3, 6), (4, 7)) if isinstance(layer, MemoryHop) else ((3, 6),)
    for batch, num_slots in sizes:
        query, memories, mask = inputs(layer, batch, num_slots)
        memories.requires_grad_()
        answers, gradients = [], []
        for form in (compiled, layer):
            answer, attention = call(form, query, memories, mask)
            answers.append((answer, attention))
            weights = [memories, *layer.parameters()]
            gradients.append(torch.autograd.grad(answer.square().sum(), weights))
        torch.testing.assert_close(answers[0], answers[1])
        torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.slow
@TORCH_WARNS
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="needs a C++ compiler",
)
def test_inductor_gives_the_same_answer() -> None:
    torch.compiler.reset()
    layer = MultiHop(5, 4, 1)
    query, memories, mask = inputs(layer, 3, 6)
    compiled = torch.compile(layer, fullgraph=True)
    with torch.no_grad():
        found, expected = (call(form, query, memories, mask) for form in (compiled, layer))
    torch.testing.assert_close(found, expected)


@every_layer
def test_vmap_over_the_batch(make: Callable[[], nn.Module]) -> None:
    layer = make()
    query, memories, mask = inputs(layer, 3, 6)
    mask[1] = True
    each = torch.func.vmap(lambda *one: call(layer, *one))
    torch.testing.assert_close(each(query, memories, mask), call(layer, query, memories, mask))
    shared = torch.func.vmap(layer, in_dims=(0, None))
    torch.testing.assert_close(shared(query, memories[0]), layer(query, memories[0]))


@every_layer
@TORCH_WARNS
def test_function_transforms_give_the_derivatives_of_autograd(
    make: Callable[[], nn.Module],
) -> None:
    layer = make()
    query, memories, mask = inputs(layer, 3, 6)
    mask[1] = True

    def total(query: Tensor, memories: Tensor, mask: Tensor) -> Tensor:
        answer = layer(query, memories, memory_padding_mask=mask)
        return answer.square().sum()  # type: ignore[no-any-return]

    each = torch.func.vmap(torch.func.grad(total, argnums=1))(query, memories, mask)
    needs = memories.clone().requires_grad_()
    (whole,) = torch.autograd.grad(total(query, needs, mask), needs)
    torch.testing.assert_close(each, whole)
    tangent = torch.randn_like(memories)
    forward = torch.func.jvp(lambda m: total(query, m, mask), (memories,), (tangent,))
    torch.testing.assert_close(forward[1], (whole * tangent).sum())


@every_layer
@pytest.mark.parametrize("masked", [True, False])
def test_export_leaves_batch_and_slots_open(make: Callable[[], nn.Module], masked: bool) -> None:
    layer = make()
    batch, slots = torch.export.Dim("batch"), torch.export.Dim("slots")
    shapes = [{0: batch}, {0: batch, 1: slots}, {0: batch, 1: slots}]
    names = ["query", "memories", "memory_padding_mask"][: 3 if masked else 2]

    def arguments(batch: int, num_slots: int) -> dict[str, Tensor]:
        return dict(zip(names, inputs(layer, batch, num_slots), strict=False))

    exported = torch.export.export(
        layer,
        (),
        arguments(3, 6),
        dynamic_shapes=dict(zip(names, shapes, strict=False)),
    ).module()
    for sizes in ((3, 6), (5, 9), (1, 4), (4, 1), (1, 1), (2, 0), (0, 3)):
        given = arguments(*sizes)
        torch.testing.assert_close(exported(**given), layer(**given))


@every_layer
@pytest.mark.parametrize("memory_dtype", [torch.float32, torch.bfloat16])
def test_autocast_gives_its_dtype_and_rounds_no_memory(
    make: Callable[[], nn.Module], memory_dtype: torch.dtype
) -> None:
    layer = make()
    query, memories, mask = inputs(layer, 3, 6)
    memories = memories.to(memory_dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer, attention = call(layer, query, memories, mask)
    assert answer.dtype == attention.dtype == torch.bfloat16
    exact, weights = call(layer, query, memories.float(), mask)
    torch.testing.assert_close(answer.float(), exact, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(attention.float(), weights, rtol=2e-2, atol=2e-2)
    if not isinstance(layer, MemoryNetwork):  # no Linear before: nothing is rounded but the result
        assert torch.equal(answer, exact.bfloat16())
    answer.float().sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in layer.parameters())


def test_autocast_leaves_float64_alone() -> None:
    layer = MultiHop(5, 4, dtype=torch.float64)
    query, memories, _ = inputs(layer, 3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(query.double(), memories.double()).dtype == torch.float64


def test_autocast_inside_of_compile() -> None:
    torch.compiler.reset()
    layer = MultiHop(5, 4, 2)
    query, memories, mask = inputs(layer, 3, 6)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = (call(form, query, memories, mask) for form in (compiled, layer))
    torch.testing.assert_close(found, expected)


@every_layer
def test_a_deep_copy_is_equal_and_apart(make: Callable[[], nn.Module]) -> None:
    layer = make()
    query, memories, mask = inputs(layer, 3, 6)
    before = call(layer, query, memories, mask)
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(call(twin, query, memories, mask), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    torch.testing.assert_close(call(layer, query, memories, mask), before, rtol=0, atol=0)
    again = pickle.loads(pickle.dumps(layer))
    torch.testing.assert_close(call(again, query, memories, mask), before, rtol=0, atol=0)


def test_layers_go_to_a_worker_process() -> None:
    layers = [make().requires_grad_(False) for make in LAYERS]
    given = [inputs(layer, 3, 6)[:2] for layer in layers]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.starmap(
            nn.Module.__call__, [(layer, *two) for layer, two in zip(layers, given, strict=True)]
        )
    for layer, two, answer in zip(layers, given, found, strict=True):
        torch.testing.assert_close(answer, layer(*two))
