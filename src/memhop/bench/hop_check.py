"""Do two forms give the same results and gradients? Only then are they timed."""

from typing import NamedTuple

import torch
from torch import Tensor

from memhop.bench.hop_cases import Inputs
from memhop.bench.hop_forms import Contender, plainly
from memhop.errors import MemhopError

ROUNDING = 16  # steps of the dtype that a form may err beyond four times what the first one does


class Errors(NamedTuple):
    """||x - exact|| / ||exact||: of the result, and the largest of the gradients."""

    result: float
    gradients: float | None


def check(contenders: list[Contender], inputs: Inputs) -> list[Errors]:
    """The errors of each against float64, all near those of the first, which is the yardstick.

    Raises:
        MemhopError: one errs by more than four times what the first does, or by half the digits.
    """
    truth = outcome(plainly(inputs), inputs)
    found = [errors(outcome(contender, inputs), truth) for contender in contenders]
    step = torch.finfo(inputs.query.dtype).eps
    for contender, came in zip(contenders, found, strict=True):
        for error, yardstick in zip(came, found[0], strict=True):
            if error is None or yardstick is None:
                continue
            allowed = min(4 * yardstick + ROUNDING * step, step**0.5)
            if not error <= allowed:  # so that NaN is refused too
                raise MemhopError(
                    f"{contender.form} is not timed: it errs by {error:.1e} against float64; "
                    f"allowed is {allowed:.1e}"
                )
    return found


def outcome(contender: Contender, inputs: Inputs) -> list[Tensor]:
    """The result and, where they are asked for, the gradients: query, memory, all weights."""
    given = contender.inputs
    for leaf in given.leaves:
        leaf.grad = None
    if not given.leaves:
        with torch.no_grad():
            return [contender.forward().double()]
    result = contender.forward()
    result.backward(given.direction)  # type: ignore[no-untyped-call]
    weights = [leaf.new_zeros(leaf.shape) if leaf.grad is None else leaf.grad
               for leaf in given.weights]  # fmt: skip
    found = [
        result.detach().double(),
        gradient(given.query).double(),
        on_bank(gradient(given.tensor).double(), given, inputs),
        torch.cat([weight.double().flatten() for weight in weights]),
    ]
    for leaf in given.leaves:
        leaf.grad = None
    return found


def gradient(leaf: Tensor) -> Tensor:
    """The gradient that a leaf has got."""
    if leaf.grad is None:
        raise MemhopError(f"no gradient has reached a tensor of shape {list(leaf.shape)}")
    return leaf.grad


def on_bank(by_memories: Tensor, given: Inputs, inputs: Inputs) -> Tensor:
    """The gradient of a bank, from that of its gathered rows where a form ran on those."""
    if given.slots is inputs.slots or inputs.slots is None:
        return by_memories
    bank = by_memories.new_zeros(inputs.tensor.shape)
    return bank.index_add_(0, inputs.slots.flatten(), by_memories.flatten(0, 1))


def errors(came: list[Tensor], truth: list[Tensor]) -> Errors:
    """How far an outcome is from the exact one."""
    each = [float((x - y).norm() / y.norm()) for x, y in zip(came, truth, strict=True)]
    return Errors(each[0], max(each[1:]) if each[1:] else None)
