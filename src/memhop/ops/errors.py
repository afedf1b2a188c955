"""Refuse an argument in one line that says what was needed and what came."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import Parameter

from memhop.ops.inputs import Quantized, Stored

STORED = ("keys", "memories", "values")  # what may be stored in fewer bytes than the query
INDICES = ("slots", "padding_mask", "memory_padding_mask", "lengths")  # what is not floating
HIGHEST = {"slots": "U - 1, the last row of the bank", "lengths": "N, the number of slots"}
OPTIONAL = ("values", "score_bias", *INDICES)

Given = Mapping[str, Stored | None]


def is_dense(tensor: object) -> bool:
    """Return whether it is a strided tensor of torch's own class."""
    return (
        (type(tensor) is Tensor or type(tensor) is Parameter)
        and tensor.layout is torch.strided
        and not tensor.is_nested
    )


def check_layouts(caller: str, given: Given) -> None:
    """Refuse tensors that are not strided: nested, jagged, sparse, MKL-DNN and masked ones."""
    for tensor in given.values():
        if not isinstance(tensor, Tensor) or is_dense(tensor):
            continue
        is_masked = type(tensor).__name__ == "MaskedTensor"
        if is_masked or tensor.is_nested or tensor.layout is not torch.strided:
            refuse(caller, "strided tensors (padded, with a mask, in place of nested ones)", given)


def refuse(caller: str, needed: str, given: Given) -> NoReturn:
    """Raise the ValueError that names what was needed and everything that came."""
    came = ", ".join(describe(name, tensor) for name, tensor in present(given).items())
    raise ValueError(f"{caller} needs {needed}; got {came}")


def present(given: Given) -> Given:
    """What came, and None where it is not one of those that may be left out."""
    return {k: tensor for k, tensor in given.items() if tensor is not None or k not in OPTIONAL}


def describe(name: str, tensor: object) -> str:
    """A tensor's name, sizes, dtype and device, such as ``query [4, 16] float32 on cpu``."""
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
    """The word is one of a few."""
    if word not in words:
        choices = ", ".join(repr(choice) for choice in words)
        raise ValueError(f"{caller} needs {argument} to be one of {choices}; got {word!r}")
