"""Do two forms give the same results and gradients? Only then are they timed."""

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.hop.cases import Inputs
from benchmarks.hop.forms import Candidate, float64_reference
from memhop.errors import MemhopError

ROUNDING = 16  # steps of the dtype; where both err by less than that, it is by chance


class Errors(NamedTuple):
    """||x - exact|| / ||exact||: of the result, and the largest of the gradients."""

    result: float
    gradients: float | None


def check(candidates: list[Candidate], inputs: Inputs, rounding: int = ROUNDING) -> list[Errors]:
    """The errors of each, all near those of the first, which is the yardstick.

    Raises:
        MemhopError: a form is to be refused.
    """
    found = errors(candidates, inputs)
    for candidate, came in zip(candidates, found, strict=True):
        yardstick = None if candidate is candidates[0] else found[0]
        if reason := refusal(came, yardstick, inputs, rounding):
            raise MemhopError(f"{candidate.form} is not timed: {reason}")
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


def errors(candidates: list[Candidate], inputs: Inputs) -> list[Errors]:
    """How far each is from the formula in float64."""
    truth = outcome(float64_reference(inputs), inputs)
    found = []
    for candidate in candidates:
        came = outcome(candidate, inputs)
        each = [float((x - y).norm() / y.norm()) for x, y in zip(came, truth, strict=True)]
        found.append(Errors(each[0], max(each[1:]) if each[1:] else None))
    return found


def outcome(candidate: Candidate, inputs: Inputs) -> list[Tensor]:
    """The result and, where they are asked for, the gradients: query, memory, all weights."""
    given = candidate.inputs
    for leaf in given.leaves:
        leaf.grad = None
    if not given.leaves:
        with torch.no_grad():
            return [candidate.forward().double()]
    result = candidate.forward()
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
