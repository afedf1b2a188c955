"""Hops over slots that are sums of rows: compiled, one call for all hops, against torch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from memhop.ops.inputs import MLP, BankHop
from memhop.ops.text import two_row_attention, two_row_attention_cpu
from memhop.ops.text.two_row_attention import TwoRowMemory
from tests.ops.text.test_two_row_attention import ENOUGH, assert_bit_equal, draw

HOPS = {
    "adjacent": [BankHop(0, 1), BankHop(1, 2), BankHop(2, 3)],
    "layerwise": [BankHop(1, 2)] * 3,
    "one table": [BankHop(0, 0), BankHop(0, 0)],
    "no softmax": [BankHop(0, 1, softmax=False), BankHop(1, 2, softmax=False)],
    "mixed": [BankHop(0, 1, softmax=False), BankHop(1, 2)],
    "relu": [BankHop(0, 1, relu=True), BankHop(1, 2, relu=True)],
    "one": [BankHop(2, 0)],
}


def hops_with_gradients(
    hops: list[BankHop], heads: int, mask_rest: bool, *, transform: bool, has_mlp: bool
) -> list[Tensor]:
    """Results of looked-up queries and hops, and all gradients, computed twice from one graph."""
    case, columns = draw(8, 3, ENOUGH, 6, 2, 4), 4
    make = torch.Generator().manual_seed(9)
    sizes = [(4, 3, 5, columns), (3, columns, columns)]
    sizes += [(len(hops), 3, *size) for size in ((columns, 5), (1, 5), (5, columns))]
    leaves = [torch.randn(size, generator=make, dtype=torch.float64) * 0.5 for size in sizes]
    bank, matrix, *network = (leaf.requires_grad_() for leaf in leaves)
    if transform:
        hops = [hop._replace(transform=matrix) for hop in hops]
    mlps = [MLP(*weights) for weights in zip(*network, strict=True)] if has_mlp else []
    memory = TwoRowMemory(bank, case.rows, case.lengths, mask_rest=mask_rest, heads=heads)
    query = memory.look_up(3, case.rows[:, :, 0, 0])
    after, weights = memory.multi_hop(query, hops, mlps)
    found = [query, after, *weights]
    total = sum((part * part.detach().cos()).sum() for part in found)
    assert isinstance(total, Tensor)
    gradients = [
        torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True) for _ in range(2)
    ]
    used = [(a, b) for a, b in zip(*gradients, strict=True) if a is not None and b is not None]
    assert_bit_equal([a for a, _ in used], [b for _, b in used])  # no buffer was used twice
    return [*found, *(a for a, _ in used)]


@pytest.mark.parametrize("hops", HOPS.values(), ids=HOPS)
@pytest.mark.parametrize("mask_rest", [True, False])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("transform", "has_mlp"), [(False, False), (True, False), (False, True)])
def test_compiled_hops_equal_those_in_torch(
    hops: list[BankHop], heads: int, mask_rest: bool, transform: bool, has_mlp: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def results() -> list[Tensor]:
        return hops_with_gradients(hops, heads, mask_rest, transform=transform, has_mlp=has_mlp)

    compiled = results()
    monkeypatch.setattr(two_row_attention, "WORTH_COMPILING", ENOUGH + 1)
    torch.testing.assert_close(compiled, results(), rtol=1e-9, atol=1e-9)


def test_plain_hops_are_one_compiled_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    read = two_row_attention_cpu.read
    monkeypatch.setattr(
        two_row_attention_cpu, "read", lambda *given: calls.append(given[-1].hops) or read(*given)
    )
    case = draw(8, 3, ENOUGH, 6, 2, 4)
    memory = TwoRowMemory(torch.stack([case.keys] * 4), case.rows, case.lengths, mask_rest=True)
    memory.multi_hop(case.query, HOPS["adjacent"])
    memory.multi_hop(case.query, HOPS["relu"])
    assert calls == [((0, 1), (1, 2), (2, 3)), ((0, 1),), ((1, 2),)]
