"""Hops that track entities: a question leads from its topic over facts to the answers.

x_0 is a distribution over entities, uniform over the topics of the question. Hop k reads the facts
(s_i, r_i, o_i) whose subject has weight:

    p_i = softmax_i(log x[s_i] + c q_k . R[r_i] + b_i),    x'[e] = sum of p_i over o_i = e

The score is the product of two conditions: the fact starts where the question is, and its relation
is the one that the words ask for. q_k is the attention of hop k over the words w_j of the question,
whose states g_j come from a bidirectional GRU:

    a_kj = softmax_j(g_j . h_k),    q_k = sum_j a_kj E[w_j]

R embeds a relation by the words of its name, from the table E of the question's words, plus a
vector of its own, plus one for facts that are read from object to subject; for these b_i is one
learned number, otherwise 0. After each hop a gate,
the sigmoid of a linear map of the last state of the GRU, scales the weights of the topics, and x is
renormalised: a path that leads back to the topic may, or may not, answer the question. A softmax of
another linear map gives the probability t_k that hop k is the last one; the answer is

    sum_k t_k x_k.

The baseline with the sum of the embeddings of both conditions: key-value memory networks,
arXiv 1606.03126.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.ops.ragged.frontier import Frontier, RaggedMemory, Reads, is_in, prune, row_sums
from memhop.ops.ragged.read import read_ragged

PADDING = 0  # the row of E for words beyond the end of a question
INIT_STD, RELATION_STD, FIRST_SCALE = 0.125, 0.02, 5.0
SMALLEST_LOGIT = -30.0  # of a gate: a frontier of topics alone can still be renormalised
FIRST_INVERSE_BIAS = -2.0  # at first a fact is more likely read in its own direction


class QuestionBatch(NamedTuple):
    """Some questions as numbers.

    Attributes:
        words: int64 [B, L], rows of E, `PADDING` beyond the length.
        lengths: int64 [B], from 1 on; on the CPU.
        topics: x_0.
        answer_offsets, answers: int64 [B + 1] and [A], the right answers in compressed rows.
    """

    words: Tensor
    lengths: Tensor
    topics: Frontier
    answer_offsets: Tensor
    answers: Tensor


class RelationNames(NamedTuple):
    """The words of the names of R relations, in compressed rows: int64 [W] and [R]."""

    words: Tensor
    offsets: Tensor


class Hop(NamedTuple):
    """One hop of a batch.

    Attributes:
        after: x_k, the weights of the entities after it; they sum to 1, or there are none.
        reads: the facts that it read, with p.
        dropped: [B], the share of weight that pruning dropped before the hop; 0 if nothing.
    """

    after: Frontier
    reads: Reads
    dropped: Tensor


class Tracked(NamedTuple):
    """The hops of a batch.

    Attributes:
        hops: K of them.
        last: t, [B, K], the probability that a hop is the last one.
        attention: a, [B, K, L], of each hop over the words.
    """

    hops: list[Hop]
    last: Tensor
    attention: Tensor


class TrackingHops(nn.Module):
    """K entity-tracking hops over a knowledge base; see the module for the formulas.

    Args:
        num_words: rows of E.
        num_keys: rows of the vectors of relations: R, or 2 R with inverse relations.
        recipe: settings.
    """

    def __init__(self, num_words: int, num_keys: int, recipe: KnowledgeRecipe) -> None:
        super().__init__()
        width, hops = recipe.word_dim, recipe.num_hops
        self.recipe = recipe
        self.relations = nn.Parameter(torch.empty(num_keys, width))
        if self.relations.is_meta:  # normal_ on this device imports torch's compiler for seconds
            empty = torch.empty(num_words, width)
            self.words = nn.Embedding(num_words, width, PADDING, _weight=empty)
        else:
            self.words = nn.Embedding(num_words, width, padding_idx=PADDING)
        self.inverse = nn.Parameter(torch.empty(width))
        self.inverse_bias = nn.Parameter(torch.empty(()))
        self.states = nn.GRU(width, width // 2, bidirectional=True, batch_first=True)
        self.hop_queries = nn.Parameter(torch.empty(hops, width))
        self.scale = nn.Parameter(torch.empty(()))
        self.stop = nn.Linear(width, hops)
        self.back = nn.Linear(width, hops)
        self.dropout = nn.Dropout(recipe.dropout)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the initial weights from torch's default generator."""
        if self.relations.is_meta:
            return
        for module in (self.states, self.stop, self.back):
            module.reset_parameters()
        nn.init.normal_(self.words.weight, std=INIT_STD)[PADDING] = 0
        nn.init.normal_(self.relations, std=RELATION_STD)
        nn.init.normal_(self.inverse, std=RELATION_STD)
        nn.init.normal_(self.hop_queries, std=INIT_STD)
        nn.init.constant_(self.scale, FIRST_SCALE)
        nn.init.constant_(self.inverse_bias, FIRST_INVERSE_BIAS)

    def forward(self, batch: QuestionBatch, memory: RaggedMemory, names: RelationNames) -> Tracked:
        """Return the hops of a batch.

        Args:
            batch: the questions.
            memory: the facts by subject; keys are rows of R.
            names: the words of the relations.
        """
        embedded = self.dropout(self.words(batch.words))
        states, last = self.read_words(embedded, batch.lengths)
        attention = self.attend(states, batch.words)
        queries = functional.pad(self.scale * (attention @ embedded), (0, 1), value=1.0)
        keys = self.keys(names)
        gates = self.back(last).clamp(min=SMALLEST_LOGIT).sigmoid()
        hops: list[Hop] = []
        frontier, dropped = batch.topics, embedded.new_zeros(len(batch.words))
        for k in range(self.recipe.num_hops):
            if hops:
                recipe = self.recipe
                frontier, dropped = prune(frontier, recipe.max_entities, recipe.min_weight)
            frontier, reads = read_ragged(queries[:, k], keys, memory, frontier)
            frontier = gated(frontier, batch.topics, gates[:, k], memory.num_nodes)
            hops.append(Hop(frontier, reads, dropped))
        return Tracked(hops, self.stop(last).softmax(-1), attention)

    def read_words(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the words, g [B, L, d], and the last state of each, [B, d]."""
        packed = nn.utils.rnn.pack_padded_sequence(
            embedded, lengths, batch_first=True, enforce_sorted=False
        )
        states, last = self.states(packed)
        states, _ = nn.utils.rnn.pad_packed_sequence(
            states, batch_first=True, total_length=embedded.shape[1]
        )
        return states, last.transpose(0, 1).flatten(1)

    def attend(self, states: Tensor, words: Tensor) -> Tensor:
        """Return a, [B, K, L]."""
        scores = self.hop_queries @ states.mT
        return scores.masked_fill((words == PADDING).unsqueeze(1), -torch.inf).softmax(-1)

    def keys(self, names: RelationNames) -> Tensor:
        """Return R with b as its last column, [R, d + 1].

        With inverse relations these are the second half of [2 R, d + 1].
        """
        weight = self.words.weight
        named = functional.embedding_bag(names.words, weight, names.offsets, mode="sum")
        bias = torch.zeros_like(named[:, :1])
        if len(self.relations) > len(named):
            named = torch.cat([named, named + self.inverse])
            bias = torch.cat([bias, bias + self.inverse_bias])
        return torch.cat([named + self.relations, bias], dim=1)


def gated(frontier: Frontier, topics: Frontier, gates: Tensor, num_nodes: int) -> Frontier:
    """Return x after its weights of the topics are multiplied by a gate [B] and renormalised."""
    rows = frontier.rows()
    is_topic = is_in(frontier, topics.offsets, topics.nodes, num_nodes)
    weights = torch.where(is_topic, frontier.weights * gates[rows], frontier.weights)
    sums = row_sums(weights, frontier.offsets).clamp(min=torch.finfo(weights.dtype).tiny)
    return frontier._replace(weights=weights / sums[rows])


def answer_weights(tracked: Tracked, batch: QuestionBatch, num_nodes: int) -> Tensor:
    """Return the weight of the right answers, [B]: the sum over them of sum_k t_k x_k."""
    total = torch.zeros_like(tracked.last[:, 0])
    for k, hop in enumerate(tracked.hops):
        is_right = is_in(hop.after, batch.answer_offsets, batch.answers, num_nodes)
        right = hop.after.weights.masked_fill(~is_right, 0)
        total = total + tracked.last[:, k] * row_sums(right, hop.after.offsets)
    return total
