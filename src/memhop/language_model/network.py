"""The network of a language model: hops over the embeddings of the previous words."""

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


class LanguageNetwork(nn.Module):
    """Hops over the N previous words x_1 .. x_N, and the output layer W:

        p_i = softmax_i(u . (A x_i + T_A(i))),    u <- relu_half(H u + sum_i p_i (C x_i + T_C(i)))

    Section 5 of arXiv 1503.08895: u is 0.1 at first, relu_half is a ReLU on the last half of the
    units, and the next word has the probabilities softmax(W u). `LanguageRecipe` has variants.

    Attributes:
        word_a, word_c: A and C, [V, D]; None with shared embeddings, where both are W.
        output: W, [V, D].
        hops: the hops, with H, T_A and T_C.
        first: the map of the newest word to the first query; None for a constant query.
    """

    def __init__(self, num_words: int, recipe: LanguageRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        dim, is_shared = recipe.memory_dim, recipe.embeddings == "shared"

        def table() -> nn.Parameter:
            return nn.Parameter(torch.empty(num_words, dim))

        self.word_a = None if is_shared else table()
        self.word_c = None if is_shared else table()
        self.output = table()
        self.hops = MultiHop(
            dim, dim, recipe.num_hops, tying="none" if is_shared else "layerwise",
            embed=is_shared, bias=False, relu=recipe.relu_share, dropout=recipe.attention_dropout,
            temporal_slots=recipe.num_words,
        )  # fmt: skip
        is_constant = recipe.first_query == "constant"
        self.first = None if is_constant else nn.Linear(dim, dim, bias=False)

    def reset_parameters(self) -> None:
        """Draw all weights from N(0, init_std)."""
        for weight in self.parameters():
            nn.init.normal_(weight, std=self.recipe.init_std)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return A and C; one tensor if the embeddings are shared."""
        if self.word_a is None or self.word_c is None:
            return self.output, self.output
        return self.word_a, self.word_c

    def forward(
        self, words: Words, tables: tuple[Tensor, Tensor] | None = None, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return u after the last hop, before W.

        Args:
            words: the words in memory.
            tables: A and C, of which ``words.rows`` are rows; None is A and C themselves.
            need_weights: also return p of each hop.

        Returns:
            u, [B, T, D] with windows, otherwise [B, D], or u and p, [B, T, K, N] or [B, K, N].
        """
        a, c = self.tables() if tables is None else tables
        share, rows = self.recipe.word_dropout, words.rows
        if words.is_windowed:
            keys = functional.dropout(functional.embedding(rows, a), share, self.training)
            values = keys
            if c is not a:
                values = functional.dropout(functional.embedding(rows, c), share, self.training)
            u = self._first_query(keys[:, self.recipe.num_words - 1 :])
            slots, window = None, self.recipe.num_words
        else:
            keys = functional.dropout(a, share, self.training)
            values = keys if c is a else functional.dropout(c, share, self.training)
            u = self._first_query(functional.embedding(rows[:, -1], keys))
            slots, window = rows, None
        found = self.hops(
            u, keys, values=None if values is keys else values, slots=slots, window=window,
            memory_padding_mask=words.ignored, need_weights=need_weights,
        )  # fmt: skip
        u, weights = found if isinstance(found, tuple) else (found, None)
        u = functional.dropout(u, self.recipe.output_dropout, self.training)
        return u if weights is None else (u, weights)

    def _first_query(self, newest: Tensor) -> Tensor:
        if self.first is None:
            return torch.full_like(newest, CONSTANT)
        query: Tensor = self.first(newest)
        return query
