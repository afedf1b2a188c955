"""Vectors from an encoder or from the user: checked, float32, and frozen."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memhop.errors import MemhopError, shown

Encoder = Callable[[list[str]], Any]
"""A function from n texts to their vectors: an array, a tensor or lists of numbers, [n, dim]."""


@torch.inference_mode(False)
def matrix(name: str, values: Any) -> Tensor:
    """Return a copy of a matrix of finite numbers, [n, dim] with n and dim from 1 on, as float32.

    It has no gradient, and is no tensor of ``torch.inference_mode``.

    Raises:
        MemhopError: anything else; ``name`` is named.

    >>> matrix("keys", [[1, 2], [3, 4]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    expected = f"{name}: expected a matrix of numbers, [n, dim]"
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise MemhopError(f"{expected}, got {shown(values)}") from error
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise MemhopError(f"{expected}, got the layout {layout}")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise MemhopError(f"{expected}, got the shape {list(tensor.shape)}")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise MemhopError(f"{expected}, got {str(tensor.dtype).removeprefix('torch.')}")
    tensor = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    is_finite = tensor.isfinite().all(-1)
    if not is_finite.all():
        row = int(is_finite.logical_not().nonzero()[0])
        raise MemhopError(f"{name}: expected finite numbers in float32, got others in row {row}")
    return tensor


def encode(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Return the vectors of texts divided by their lengths, [n, dim]; a zero vector stays zero.

    The encoder is called once, with the distinct texts in the order of their first appearance.

    Raises:
        MemhopError: no text, something that is no text, or other than one vector a text.

    >>> encode(lambda texts: [[float(len(text)), 0.0] for text in texts], ["a", "abc", "a"])
    tensor([[1., 0.],
            [1., 0.],
            [1., 0.]])
    """
    if not texts:
        raise MemhopError("expected at least 1 text to encode, got none")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise MemhopError(f"text {number}: expected a text to encode, got {shown(text)}")
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    vectors = matrix("encoder", encoder(list(places)))
    if len(vectors) != len(places):
        raise MemhopError(
            f"encoder: expected {len(places)} vectors for {len(places)} texts, got {len(vectors)}"
        )
    # The greatest number becomes 1: the squares of very large and small ones are not in float32.
    greatest = vectors.abs().amax(-1, keepdim=True)
    vectors = functional.normalize(vectors / greatest.where(greatest > 0, 1), dim=-1)
    rows = torch.tensor([places[text] for text in texts], device=vectors.device)
    return vectors[rows]
