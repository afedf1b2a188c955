"""The network of a language model: hops over the embeddings of the previous words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from memhop.language_model.recipe import LanguageRecipe
from memhop.nn.hops import MultiHop

CONSTANT = 0.1  # the first query, in all units (section 5)


class Words(NamedTuple):
    """The words in memory, oldest first, as rows of the tables.

    Attributes:
        rows: int64; [B, T + N - 1] with windows: position t of T reads the N words from t on;
            otherwise [B, N], the N words of one position.
        ignored: bool, of the same shape, True before the beginning of a text; None: no such place.
        is_windowed: whether there are windows.
    """

    rows: Tensor
    ignored: Tensor | None
    is_windowed: bool

    def to(self, device: torch.device) -> "Words":
        """Return the words on a device."""
        ignored = None if self.ignored is None else self.ignored.to(device)
        return Words(self.rows.to(device), ignored, self.is_windowed)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Turn dropout and gradients off, and restore the mode of the network at the end."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)


class LanguageNetwork(nn.Module):
    """Hops over the N previous words x_1 .. x_N, and the output layer W:

        p_i = softmax_i(u . (A x_i + T_A(i))),    u <- relu_half(H u + sum_i p_i (C x_i + T_C(i)))

    Section 5 of arXiv 1503.08895: u is 0.1 at first, relu_half is a ReLU on the last half of the
    units, and the next word has the probabilities softmax(W u). `LanguageRecipe` has variants.

    Attributes:
        word_a, word_c: A and C, [V, D]; None with shared embeddings, where the hops map W.
        output: W, [V, D].
        hops: one `MultiHop` with H, T_A and T_C; with shared embeddings, one for each hop.
        first: the map of the newest word to the first query; None for a constant query.
    """

    def __init__(self, num_words: int, recipe: LanguageRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        dim, is_shared = recipe.memory_dim, recipe.embeddings == "shared"
        dtype = torch.float32  # whatever torch's default is

        def table() -> nn.Parameter:
            return nn.Parameter(torch.empty(num_words, dim, dtype=dtype))

        self.word_a = None if is_shared else table()
        self.word_c = None if is_shared else table()
        self.output = table()
        own_hops = [1] * recipe.num_hops if is_shared else [recipe.num_hops]
        self.hops = nn.ModuleList(
            MultiHop(
                dim, dim, num_hops, tying="layerwise", embed=is_shared, bias=False,
                relu=recipe.relu_share, dropout=recipe.attention_dropout,
                temporal_slots=recipe.num_words, dtype=dtype,
            )
            for num_hops in own_hops
        )  # fmt: skip
        is_constant = recipe.first_query == "constant"
        self.first = None if is_constant else nn.Linear(dim, dim, bias=False, dtype=dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights from N(0, init_std), see ``init_maps`` for the exception."""
        std = self.recipe.init_std
        for weight in self.parameters():
            nn.init.normal_(weight, std=std)
        if self.recipe.init_maps == "identity":
            maps = [hops.get_submodule("transform") for hops in self.hops]
            for linear in [*maps, *([] if self.first is None else [self.first])]:
                weight = linear.get_parameter("weight")
                weight.mul_(0.1).diagonal().add_(1.0)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the tables of the words in memory, A and C, or twice W if the hops map it."""
        if self.word_a is None or self.word_c is None:
            return self.output, self.output
        return self.word_a, self.word_c

    def forward(
        self, words: Words, tables: tuple[Tensor, Tensor] | None = None, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return u after the last hop, before W.

        Args:
            words: the words in memory.
            tables: A and C, of which ``words.rows`` are rows; None is ``tables()``.
            need_weights: also return p of each hop.

        Returns:
            u, [B, T, D] with windows, otherwise [B, D], or u and p, [B, T, K, N] or [B, K, N].
        """
        a, c = self.tables() if tables is None else tables
        keys, is_windowed = self._embedded(a, words), words.is_windowed
        values = keys if c is a else self._embedded(c, words)
        rows = words.rows
        newest = keys[:, self.recipe.num_words - 1 :] if is_windowed else keys[rows[:, -1]]
        u = torch.full_like(newest, CONSTANT) if self.first is None else self.first(newest)
        slots, window = (None, self.recipe.num_words) if is_windowed else (rows, None)
        weights: list[Tensor] = []
        for hops in self.hops:
            found = hops(
                u, keys, values=None if values is keys else values, slots=slots, window=window,
                memory_padding_mask=words.ignored, need_weights=need_weights,
            )  # fmt: skip
            if need_weights:
                weights.append(found[1])
            u = found[0] if need_weights else found
        u = functional.dropout(u, self.recipe.output_dropout, self.training)
        return (u, torch.cat(weights, -2)) if need_weights else u

    def _embedded(self, table: Tensor, words: Words) -> Tensor:
        """Return the embeddings of the windows, [B, T + N - 1, D], or the whole table."""
        chosen = functional.embedding(words.rows, table) if words.is_windowed else table
        return functional.dropout(chosen, self.recipe.word_dropout, self.training)
