"""Layers that call their tables, because of a hook: every option, and torch's tools."""

from typing import Any

import pytest
import torch
from torch import Tensor

from memhop.nn.embedding import EmbeddingTable
from tests.nn.every_option import STORED, Case, every_case, some_cases
from tests.nn.test_export import OTHER_SIZES, exported
from tests.nn.test_in_torch import outcome


def with_hook(layer: Any) -> list[int]:
    """Attach a hook without effect to the first table; return a list that grows at each call."""
    calls: list[int] = []
    table = next(module for module in layer.modules() if isinstance(module, EmbeddingTable))
    table.register_forward_hook(lambda *_: calls.append(1))
    return calls


@every_case()
def test_a_hook_changes_nothing(case: Case) -> None:
    """Not outputs and gradients, and dropout draws the same numbers."""
    layer = case.layer()

    def outcome_and_gradients() -> list[Tensor]:
        tensors = case.tensors()
        names = [name for name in ("query", *STORED, "score_bias") if name in tensors]
        leaves = [tensors[name] for name in names if isinstance(tensors[name], Tensor)]
        leaves = [leaf.requires_grad_() for leaf in leaves if leaf.dtype == case.dtype]
        outputs = case.call(layer, tensors)
        total = torch.stack([x.cos().sum() for x in outputs]).sum()
        weights = list(layer.parameters())
        return [*outputs, *torch.autograd.grad(total, leaves + weights, materialize_grads=True)]

    plain = outcome_and_gradients()
    calls = with_hook(layer)
    case.assert_close(outcome_and_gradients(), plain)
    assert len(calls) == 1
    with torch.no_grad():
        case.assert_close(case.call(layer, case.tensors()), plain[: 1 + bool(case.options)])


@some_cases(2)
def test_compile_makes_one_graph(case: Case) -> None:
    torch.compiler.reset()
    layer = case.layer()
    with_hook(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    case.assert_close(outcome(case, compiled), outcome(case, layer))


@pytest.mark.slow
@some_cases(2)
def test_export_leaves_all_sizes_open(case: Case) -> None:
    layer = case.layer()
    with_hook(layer)
    module = exported(case, layer).module()
    for sizes in OTHER_SIZES:
        tensors = case.tensors(**sizes)
        case.assert_close(case.call(module, tensors), case.call(layer, tensors))
