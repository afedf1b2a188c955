"""Do two forms give the same results and gradients? Only then are they timed."""

from typing import NamedTuple

import torch
from torch import Tensor

from memhop.bench.hop_cases import Inputs
from memhop.bench.hop_forms import Contender, plainly
from memhop.errors import MemhopError

ROUNDING = 16  # steps of the dtype; where both err by less than that, it is by chance


class Errors(NamedTuple):
    """||x - exact|| / ||exact||: of the result, and the largest of the gradients."""

    result: float
    gradients: float | None


def check(contenders: list[Contender], inputs: Inputs, rounding: int = ROUNDING) -> list[Errors]:
    """The errors of each, all near those of the first, which is the yardstick.

    Raises:
        MemhopError: a form is to be refused.
    """
    found = errors(contenders, inputs)
    for contender, came in zip(contenders, found, strict=True):
        yardstick = None if contender is contenders[0] else found[0]
        if reason := refusal(came, yardstick, inputs, rounding):
            raise MemhopError(f"{contender.form} is not timed: {reason}")
    return found


def refusal(
    came: Errors, yardstick: Errors | None, inputs: Inputs, rounding: int = ROUNDING
) -> str | None:
    """Why a form is not to be timed: it errs by more than four times what the yardstick does and
    so many steps of the dtype; or, where it is the yardstick itself, by half of all digits."""
    step = torch.finfo(inputs.query.dtype).eps
    for error, base in zip(came, yardstick or came, strict=True):
        if error is None or base is None:
            continue
        allowed = step**0.5 if yardstick is None else 4 * base + rounding * step
        if not error <= allowed:  # so that NaN is refused too
            return f"errs by {error:.1e} against float64, where {allowed:.1e} is allowed"
    return None


def errors(contenders: list[Contender], inputs: Inputs) -> list[Errors]:
    """How far each is from the formula in float64."""
    truth = outcome(plainly(inputs), inputs)
    found = []
    for contender in contenders:
        came = outcome(contender, inputs)
        each = [float((x - y).norm() / y.norm()) for x, y in zip(came, truth, strict=True)]
        found.append(Errors(each[0], max(each[1:]) if each[1:] else None))
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
