"""Layers with any combination of options and arguments, against the formula in float64."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import memhop
from memhop.ops import Quantized, dispatch
from tests.nn import layer_oracle
from tests.nn.drawn_layers import Drawn, draw_layer
from tests.ops import textbook
from tests.ops.fixed_order import FixedOrder, WithoutCancellation
from tests.ops.oracle import Stored

Arguments = tuple[dict[str, Any], dict[str, Tensor], Tensor, Stored, dict[str, Any]]

BLOCK = 50  # configurations in one test
DEFAULT_BLOCKS, THOROUGH_BLOCKS = 3, 200  # 150 configurations, and 10,000 others
FORMS = ("auto", "fused", "project")
THOROUGH = range(DEFAULT_BLOCKS, DEFAULT_BLOCKS + THOROUGH_BLOCKS)


def root_mean_square(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


def largest(tensors: Sequence[Tensor]) -> float:
    return max((float(each.abs().max()) for each in tensors if each.numel()), default=0.0)


def double(given: Any) -> Any:
    """Return floating tensors in float64, also those of a dictionary; others as they are."""
    if isinstance(given, dict):
        return {name: double(each) for name, each in given.items()}
    if isinstance(given, Quantized):
        return given.data.double() * given.scale.double().unsqueeze(-1)
    is_floating = isinstance(given, Tensor) and given.is_floating_point()
    return given.detach().double() if is_floating else given


def arguments_of(drawn: Drawn, cast: Callable[[Any], Any] = lambda given: given) -> Arguments:
    """Return the arguments of ``layer_oracle.forward``.

    The state dict must have the names and shapes that the options imply.
    """
    state = drawn.layer.state_dict()
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    assert shapes == layer_oracle.shapes(drawn.complete)
    given = {name: cast(each) for name, each in drawn.given.items()}
    state = {name: cast(weight) for name, weight in state.items()}
    return drawn.complete, state, cast(drawn.query), cast(drawn.memories), given


def in_its_own_dtype(drawn: Drawn) -> list[Tensor]:
    """Return result and attention by the textbook form in the dtype of the layer."""
    with FixedOrder(), torch.no_grad():  # type: ignore[no-untyped-call]
        return list(layer_oracle.forward(*arguments_of(drawn), textbook.multi_hop))


def sensitivity(drawn: Drawn, exact: Sequence[Tensor]) -> list[float]:
    """Return how far outputs move if every number of the call moves by its rounding error."""
    draw, eps = torch.Generator().manual_seed(0), torch.finfo(drawn.complete["dtype"]).eps

    def moved(given: Any) -> Any:
        given = double(given)
        if not isinstance(given, Tensor) or not given.is_floating_point():
            return given
        return given * (1 + eps * (2 * torch.rand(given.shape, generator=draw).double() - 1))

    distances = [0.0] * len(exact)
    for _ in range(8):
        outputs = layer_oracle.forward(*arguments_of(drawn, moved))
        each = [root_mean_square(one - other) for one, other in zip(outputs, exact, strict=False)]
        distances = [max(pair) for pair in zip(distances, each, strict=False)]
    return distances


def check_outputs(drawn: Drawn) -> None:
    """Compare the outputs of a layer with the formula, in the error that its dtype allows.

    float32 and the half types may have twice the error of the textbook form, whose every step is
    rounded to the dtype, as in ``tests/ops/test_multi_hop.py``; or twice the error of exact
    arithmetic with arguments that are rounded.
    """
    with torch.no_grad():
        outputs = drawn()
    exact: Sequence[Tensor] = layer_oracle.forward(*arguments_of(drawn, double))
    if not drawn.given.get("need_weights"):
        outputs, exact = (outputs,), exact[:1]
    assert type(outputs) is tuple
    dtype = drawn.complete["dtype"]
    for found, truth in zip(outputs, exact, strict=True):
        assert (found.shape, found.dtype) == (truth.shape, dtype)
        if dtype == torch.float64:
            scale = max(1.0, largest([truth]))
            torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10 * scale)
    if dtype == torch.float64 or not all(0 < root_mean_square(truth) < 1e4 for truth in exact):
        return
    for output, plain in enumerate(in_its_own_dtype(drawn)[: len(exact)]):
        truth = exact[output]
        error, allowed = (root_mean_square(found - truth) for found in (outputs[output], plain))
        ulp = torch.finfo(dtype).eps * root_mean_square(truth)
        if not error <= 2 * allowed + 4 * ulp:
            assert error <= 2 * sensitivity(drawn, exact)[output] + 4 * ulp


def leaves_of(drawn: Drawn) -> dict[str, Tensor]:
    """Return every tensor of a call that has a gradient, now asking for it."""
    found: dict[str, Any] = {"query": drawn.query, "memories": drawn.memories}
    for name in ("values", "score_bias"):
        found[name] = drawn.given.get(name)
    found |= dict(drawn.layer.named_parameters())
    leaves = {name: leaf for name, leaf in found.items() if isinstance(leaf, Tensor)}
    return {name: leaf.requires_grad_() for name, leaf in leaves.items()}


def gradients(outputs: Any, leaves: dict[str, Tensor], backward: Any = None) -> list[Tensor]:
    """Return the gradients of the leaves for fixed gradients of the outputs."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = torch.zeros(())
    for output in outputs:
        factors = torch.cos(torch.arange(output.numel()).double()).view(output.shape)
        total = total + (output * factors.to(output.dtype)).sum()
    with backward or nullcontext():
        return list(torch.autograd.grad(total, list(leaves.values())))


def textbook_gradients(
    drawn: Drawn, dtype: torch.dtype, forward: Any = None, backward: Any = None
) -> list[Tensor]:
    """Return the gradients of the textbook form in a dtype, by torch's autograd."""
    leaves = leaves_of(drawn)
    cast = {name: leaf.detach().to(dtype).requires_grad_() for name, leaf in leaves.items()}
    query, given = cast["query"], dict(drawn.given)
    given |= {name: cast[name] for name in ("values", "score_bias") if name in cast}
    memories = cast.get("memories", drawn.memories)
    with forward or nullcontext():
        result, attention = layer_oracle.forward(
            drawn.complete, cast, query, memories, given, textbook.multi_hop
        )
        outputs = (result, attention) if given.get("need_weights") else result
        return gradients(outputs, cast, backward)


def distance(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    pairs = zip(found, truth, strict=True)
    return math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in pairs))


def check_gradients(drawn: Drawn) -> bool:
    """Compare all gradients with those of the textbook form in float64, where those are finite.

    The error that float32 and the half types allow is as in ``tests/ops/test_multi_hop.py``.
    """
    dtype, leaves = drawn.complete["dtype"], leaves_of(drawn)
    truth = textbook_gradients(drawn, torch.float64)
    scale = largest(truth)
    if not 0 < scale < 1e4:
        return False
    found = gradients(drawn(), leaves)
    for name, leaf, grad in zip(leaves, leaves.values(), found, strict=True):
        assert (grad.shape, grad.dtype) == (leaf.shape, leaf.dtype), name
        assert grad.isfinite().all(), name
    if dtype == torch.float64:
        for name, grad, exact in zip(leaves, found, truth, strict=True):
            near = 1e-9 * max(1.0, scale)
            message = partial("{}: {}".format, name)
            torch.testing.assert_close(grad, exact, rtol=1e-8, atol=near, msg=message)
        return True
    in_order = FixedOrder(), WithoutCancellation()  # type: ignore[no-untyped-call]
    plain = textbook_gradients(drawn, dtype, in_order[0])
    terms = textbook_gradients(drawn, torch.float64, None, in_order[1])
    ulp = max(torch.finfo(each.dtype).eps for each in leaves.values()) * largest(terms)
    assert distance(found, truth) <= 2 * distance(plain, truth) + 4 * ulp
    return True


@pytest.mark.parametrize(
    "block",
    [
        *range(DEFAULT_BLOCKS),
        *(pytest.param(block, marks=pytest.mark.thorough) for block in THOROUGH),
    ],
)
def test_drawn_layers_equal_the_formula(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 configurations; 10,000 others with ``pytest -m thorough``.

    A third takes the form that fits its sizes, and a third each a form that fits larger sizes.
    """
    form, with_gradients = FORMS[block % len(FORMS)], 0
    if form == "fused":
        memhop.warmup()
    if form != "auto":
        monkeypatch.setattr(dispatch, "cheapest_form", lambda *given: form)
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        try:
            check_outputs(draw_layer(seed))
            if seed % 3 == 0:
                with_gradients += check_gradients(draw_layer(seed))
        except Exception as error:
            error.add_note(f"configuration {seed}")
            raise
    print(f"{BLOCK} configurations in the form {form!r}, {with_gradients} of them with gradients")
    assert with_gradients > 0


def features(drawn: Drawn) -> Counter[str]:
    """Count the options and arguments of a configuration."""
    complete, given = drawn.complete, drawn.given
    found = Counter(f"{name}={complete[name]}" for name in ("kind", "tying", "embed", "dtype"))
    found.update(f"{name} {each.dim()}" for name, each in given.items() if isinstance(each, Tensor))
    found.update(name for name in given if name in ("need_weights", "average_attn_weights"))
    found[f"query {drawn.query.dim()}"] += 1
    found["heads"] += complete["num_heads"] > 1
    found["modules are called"] += any(module._forward_hooks for module in drawn.layer.modules())
    found["share of relu"] += 0 < complete["relu"] < 1
    found["own value_dim"] += complete["value_dim"] != complete["input_dim"]
    is_aged = complete["temporal_slots"] is not None
    found["newest first"] += is_aged and complete["slot_order"] == "newest_first"
    slots = given.get("slots")
    if isinstance(slots, tuple):
        found[f"pair {[each is not None for each in slots]}"] += 1
    for stored in (drawn.memories, given.get("values")):
        found["quantized"] += isinstance(stored, Quantized)
        if isinstance(stored, Tensor):
            found["smaller memory"] += stored.dtype != complete["dtype"]
            found["content that is not finite"] += not bool(stored.isfinite().all())
            found["not contiguous"] += not stored.is_contiguous()
            found["no slots"] += stored.shape[-2] == 0
    return found


def test_the_configurations_include_every_option_and_shape() -> None:
    found: Counter[str] = Counter()
    for seed in range(DEFAULT_BLOCKS * BLOCK):
        found.update(features(draw_layer(seed)))
    dims = {
        "query": (1, 2, 3), "values": (2, 3), "slots": (1, 2, 3), "lengths": (0, 1, 2),
        "memory_padding_mask": (1, 2, 3), "score_bias": (1, 2, 3, 4),
    }  # fmt: skip
    expected = [f"{name} {dim}" for name, each in dims.items() for dim in each]
    expected += [f"kind={name}" for name in ("MemoryHop", "MultiHop", "MemoryNetwork")]
    expected += [f"tying={name}" for name in ("none", "adjacent", "layerwise")]
    expected += [f"embed={name}" for name in (True, False, "a", "c")]
    expected += [f"dtype=torch.{name}" for name in ("float64", "float32", "bfloat16", "float16")]
    expected += [f"pair {sides}" for sides in ([True, True], [True, False], [False, True])]
    expected += [
        "need_weights", "average_attn_weights", "heads", "share of relu", "own value_dim",
        "newest first", "quantized", "smaller memory", "content that is not finite",
        "not contiguous", "no slots", "modules are called",
    ]  # fmt: skip
    assert [name for name in expected if found[name] < 2] == []
