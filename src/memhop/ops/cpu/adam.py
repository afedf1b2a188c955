"""A step of Adam compiled for the CPU, in one pass over the weights; imported on first use."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from memhop.ops.text.two_row_attention_cpu import arrays, compiled


def adam_(
    tensors: Sequence[Tensor], betas: tuple[float, float], epsilon: float, rate: float, number: int
) -> None:
    """Take a step of Adam (arXiv 1412.6980, algorithm 1) in place.

    Args:
        tensors: weight, first and second moment, all contiguous, and the gradient; one shape and
            dtype.
        betas: the decay of each moment.
        epsilon: added to the root.
        rate: of the step.
        number: of the step, from 1 on.
    """
    weight, first, second, gradient = arrays(*(each.reshape(-1) for each in tensors))
    kind, (beta1, beta2) = weight.dtype.type, betas
    scales = rate / (1 - beta1**number), 1 / (1 - beta2**number)
    numbers = map(kind, (1 - beta1, beta2, 1 - beta2, *scales, epsilon))
    _step(weight, first, second, gradient, np.array([*numbers]))


@compiled
def _step(weight, first, second, gradient, numbers):  # type: ignore[no-untyped-def]
    new1, old2, new2, scale1, scale2, epsilon = numbers
    for i in range(len(weight)):
        first[i] += new1 * (gradient[i] - first[i])
        second[i] = old2 * second[i] + new2 * gradient[i] * gradient[i]
        weight[i] -= scale1 * first[i] / (np.sqrt(scale2 * second[i]) + epsilon)
