"""Raise the ``ValueError`` of an invalid argument: one line, what was expected and what came."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from memhop.ops.inputs import Quantized, Stored, is_dense

STORED = ("keys", "memories", "values")  # arguments that may be Quantized or in a half type
PAIR = ("slots of the keys", "slots of the values")
INDICES = ("slots", *PAIR, "padding_mask", "memory_padding_mask", "lengths")  # without floats
OPTIONAL = ("values", "score_bias", *INDICES)

Arguments = Mapping[str, Stored | None]


def check_layouts(caller: str, arguments: Arguments) -> None:
    """Reject tensors that are not strided: nested, jagged, sparse, MKL-DNN and masked ones."""
    for tensor in arguments.values():
        if not isinstance(tensor, Tensor) or is_dense(tensor):
            continue
        is_masked = type(tensor).__name__ == "MaskedTensor"
        if is_masked or tensor.is_nested or tensor.layout is not torch.strided:
            expected = "strided tensors (padded, with a mask, instead of nested ones)"
            raise_invalid(caller, expected, arguments)


def raise_invalid(caller: str, expected: str, arguments: Arguments) -> NoReturn:
    """Raise the ValueError that says what was expected and lists every argument."""
    came = ", ".join(describe(name, tensor) for name, tensor in present(arguments).items())
    raise ValueError(f"{caller} expected {expected}, got {came}")


def present(arguments: Arguments) -> Arguments:
    """Return the arguments without the optional ones that are None."""
    return {k: tensor for k, tensor in arguments.items() if tensor is not None or k not in OPTIONAL}


def describe(name: str, tensor: object) -> str:
    """Return name, sizes, dtype and device of a tensor: ``query [4, 16] float32 on cpu``."""
    if isinstance(tensor, Quantized):
        return (
            f"{describe(f'{name} Quantized', tensor.data)} with {describe('scale', tensor.scale)}"
        )
    if not isinstance(tensor, Tensor):
        return f"{name} of type {type(tensor).__name__}"
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested or type(tensor).__name__ == "MaskedTensor":
        return f"{name} of type {'nested' if tensor.is_nested else 'masked'} tensor {dtype}"
    layout = "" if tensor.layout is torch.strided else f" {tensor.layout}".replace("torch.", "")
    return f"{name} {list(tensor.shape)} {dtype}{layout} on {tensor.device}"


def check_word(caller: str, argument: str, word: str, words: Sequence[str]) -> None:
    """Raise ValueError if a word is not one of ``words``."""
    if word not in words:
        choices = ", ".join(repr(choice) for choice in words)
        raise ValueError(f"{caller} expected {argument} to be one of {choices}, got {word!r}")


def check_share(caller: str, name: str, share: object) -> None:
    """Check that a share is a number from 0 to 1."""
    if not isinstance(share, (bool, int, float, np.number, np.bool_)) or not 0 <= share <= 1:
        raise ValueError(f"{caller} expected {name} from 0 to 1, got {share!r}")


def refuse_create_graph(where: str) -> None:
    """Raise NotImplementedError in a backward pass that has no second derivatives.

    ``once_differentiable`` would raise only if its error is on the path to an input; elsewhere
    second derivatives would lack a term without a word.
    """
    if torch.is_grad_enabled():  # in a backward pass: create_graph=True
        raise NotImplementedError(
            f"expected create_graph=False {where}: there are no second derivatives"
        )
