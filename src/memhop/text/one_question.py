"""Compute one question in NumPy: with few numbers, most time of an operation of torch is overhead.

The result is that of `MemN2N.forward`, up to rounding. Nothing is kept from one call to the next:
the arrays are views of the weights.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules import module

from memhop.ops.fused.addresses import are_readable
from memhop.recipe import Position
from memhop.text.encoding import Encoder, PositionEncoding
from memhop.text.reading import Question, Words

if TYPE_CHECKING:
    from memhop.text.model import MemN2N

Array = NDArray[Any]
MAX_WORDS = 32  # of a sentence; a longer one takes the operations of torch
_DTYPES = (torch.float32, torch.float64)
MLP_NAMES = ("inner", "bias", "outer")  # of `ops.inputs.MLP` in the state dict


class Hop(NamedTuple):
    """The arrays of a hop.

    Attributes:
        keys, values: [slots, d].
        transform: H [d, d], or None.
        mlp: W [d, units], b [1, units] and V [units, d], or None.
    """

    keys: Array
    values: Array
    transform: Array | None
    mlp: tuple[Array, ...] | None


def is_plain(model: "MemN2N") -> bool:
    """Return whether a call of a model is its formulas on tensors of the CPU, and nothing sees it.

    Hooks, replaced encoders, autocast, modes and traces must see or change the operations.
    """
    weights = [model.tables, *({} if model.network is None else model.network).values()]
    weights += [] if model.hop_map is None else [model.hop_map]
    hooks = (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks)
    return not (
        any(hooks)
        or model._backward_pre_hooks
        or "forward" in vars(model)
        or model._compiled_call_impl is not None
        or type(model.encoder) is not Encoder
        or module._has_any_global_hook()  # type: ignore[no-untyped-call]
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or not are_readable(*weights)
        or any(not one.is_cpu or one.dtype not in _DTYPES for one in weights)
        or len({one.dtype for one in weights}) > 1
    )


def scores_of(
    model: "MemN2N", asked: Question, words: Words
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the scores [1, rows] and the attention [1, hops, statements], as `MemN2N.forward`.

    None if the model must compute them: see `is_plain`, or a sentence has too many words.

    Args:
        model: of no restarts.
        asked: a question; each of its statements has a word.
        words: the words of its sentences.
    """
    if not is_plain(model):
        return None
    texts = (*asked.story[-model.sizes.memory_slots :], asked.question)
    *story, question = (model.vocabulary.ids(words[text]) for text in texts)
    if max(map(len, (*story, question))) > MAX_WORDS:
        return None
    with np.errstate(all="ignore"):  # infinities and NaN without a warning, as in torch
        scores, attention = forward(model, story, question)
    return torch.from_numpy(scores)[None], torch.from_numpy(attention)[None]


def forward(
    model: "MemN2N", story: Sequence[list[int]], question: list[int]
) -> tuple[Array, Array]:
    """Return the scores [rows] and the attention [hops, statements], the mean of the heads.

    Args:
        model: of no restarts.
        story: word ids of each statement in memory, oldest first; each has a word.
        question: its word ids, at least one.
    """
    recipe, count = model.recipe, len(story)
    num_ages = model.num_rows - len(model.vocabulary)
    b, a_of_hops, c_of_hops, w = model.table_indices
    tables = model.tables.detach().numpy()
    weights = _position_weights(
        recipe.position, recipe.memory_dim, model.sizes.sentence_words, tables.dtype
    )
    banks = _embedded(tables, [*story, question], weights, num_ages)
    memory, query = banks[:, :count], banks[b, count]
    if num_ages:
        memory = memory + tables[:, count:0:-1] * weights[0, 0]
    transform = None if model.hop_map is None else model.hop_map.detach().numpy()
    mlps: list[Any] = [None] * recipe.num_hops
    if model.network is not None:
        mlps = [*zip(*(model.network[name].detach().numpy() for name in MLP_NAMES), strict=True)]
    empty = 0 if recipe.mask_empty_slots else model.sizes.memory_slots - count
    attention = np.empty((recipe.num_hops, count), np.float32)
    for k, (a, c) in enumerate(zip(a_of_hops, c_of_hops, strict=True)):
        hop = Hop(memory[a], memory[c], transform, mlps[k])
        query, attention[k] = _read(query, hop, recipe.heads, empty, recipe.relu)
    return tables[w] @ query, attention


def _read(query: Array, hop: Hop, heads: int, empty: int, relu: bool) -> tuple[Array, Array]:
    """Return the query after a hop, and p [statements], the mean of the heads.

    Args:
        query: q, [d].
        hop: the arrays.
        heads: number of heads.
        empty: number of empty slots with attention: their key and value are zero.
        relu: whether a ReLU follows.
    """
    count, columns = len(hop.keys), len(query) // heads
    scores = np.add.reduce((hop.keys * query).reshape(count, heads, columns), axis=2)
    score_max = scores.max(axis=0, initial=0.0 if empty or not count else -np.inf)
    weights = np.exp(scores - score_max)
    total = np.add.reduce(weights, axis=0)
    weights /= total + empty * np.exp(-score_max) if empty else total
    values = hop.values.reshape(count, heads, columns) * weights[..., None]
    read_out = np.add.reduce(values, axis=0).reshape(-1)
    updated = (query if hop.transform is None else hop.transform @ query) + read_out
    if relu:
        updated = np.maximum(updated, 0)
    if hop.mlp is not None:
        inner, bias, outer = hop.mlp
        updated = updated + np.maximum(updated @ inner + bias[0], 0) @ outer
    return updated, np.add.reduce(weights, axis=1) / heads


def _embedded(
    tables: Array, sentences: Sequence[list[int]], weights: Array, num_ages: int
) -> Array:
    """Return the embedded sentences [tables, sentences, d], of 1 to ``MAX_WORDS`` words each."""
    sizes = [*map(len, sentences)]
    longest = max(sizes)
    # the last word again, with weight zero
    padded = [(*ids, *ids[-1:] * (longest - len(ids))) for ids in sentences]
    words: Array = tables.take(np.array(padded) + num_ages, axis=1)
    words *= weights[sizes, :longest]
    embedded: Array = np.add.reduce(words, axis=2)
    return embedded


@lru_cache(maxsize=8)
def _position_weights(
    position: Position, memory_dim: int, sentence_words: int, dtype: np.dtype[Any]
) -> Array:
    """Return the weights of word j + 1 of a sentence of S words at [S, j], of an age at [0, 0].

    The size is [``MAX_WORDS`` + 1, ``MAX_WORDS``, d], and 0 after the last word. They depend on no
    trained weight.
    """
    encoding = PositionEncoding(position, memory_dim, sentence_words)
    slope = np.zeros(memory_dim) if encoding.slope is None else encoding.slope.numpy()
    weights = np.zeros((MAX_WORDS + 1, MAX_WORDS, memory_dim), dtype)
    base, slope_weight = encoding.of_age()
    weights[0, 0] = base + slope_weight * slope
    for size in range(1, MAX_WORDS + 1):
        of_words = encoding.of_words(np.arange(1, size + 1), np.full(size, size))
        base_of_words, slope_of_words = (numbers[:, None] for numbers in of_words)
        weights[size, :size] = base_of_words + slope_of_words * slope
    return weights
