"""MemN2N in float64 and plain loops: the paper's formulas, word by word, sentence by sentence.

Written from arXiv 1503.08895 and from what its authors' code does otherwise, not from memhop.
Rows of a table: nil, the ages 1..T (none without temporal encoding), the unknown word, the words.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass
class Settings:
    """What the formulas need to know; the names are those of the recipe."""

    words: list[str]  # the vocabulary, unknown and nil apart
    memory_dim: int
    num_hops: int
    tying: str
    position: str
    temporal: bool
    relu: bool
    mask_empty_slots: bool
    longest: int  # words of the longest training sentence
    slots: int  # size of the memory
    heads: int = 1
    hop_units: int = 0

    @property
    def ages(self) -> int:
        return self.slots if self.temporal else 0

    def row(self, word: str) -> int:
        if word in self.words:
            return 1 + self.ages + 1 + self.words.index(word)
        return 1 + self.ages


def weight(form: str, j: int, k: int, num_words: int, longest: int, d: int) -> float:
    """The weight of word j in column k, both from 1."""
    if form == "paper":
        return (1 - j / num_words) - (k / d) * (1 - 2 * j / num_words)
    if form == "code":
        J = longest + 1
        return 1 + 4 * (k - (d + 1) / 2) * (j - (J + 1) / 2) / (d * J)
    return 1.0


def words_of(sentence: str) -> list[str]:
    """Tests write plain sentences: one end mark at most, nothing odd."""
    return sentence.lower().rstrip(".?!").split()


def embed(table: Vector, sentence: str, s: Settings) -> Vector:
    """sum_j l_j * A x_j."""
    words = words_of(sentence)
    total = np.zeros(s.memory_dim)
    for j, word in enumerate(words, start=1):
        at = min(j, s.longest) if s.position == "code" else j
        for k in range(1, s.memory_dim + 1):
            share = weight(s.position, at, k, len(words), s.longest, s.memory_dim)
            total[k - 1] += share * table[s.row(word), k - 1]
    return total


def age_vector(table: Vector, age: int, s: Settings) -> Vector:
    """T(age): in the authors' code a word at the last of all places, in the paper plain."""
    total = np.zeros(s.memory_dim)
    if not s.temporal:
        return total
    for k in range(1, s.memory_dim + 1):
        share = 1.0
        if s.position == "code":
            share = weight("code", s.longest + 1, k, 0, s.longest, s.memory_dim)
        total[k - 1] = share * table[age, k - 1]
    return total


def tables(
    weights: Mapping[str, Vector], s: Settings
) -> tuple[Vector, list[Vector], list[Vector], Vector]:
    """B, A_1..A_K, C_1..C_K, W."""
    e = list(weights["tables"])
    hops = range(s.num_hops)
    if s.tying == "adjacent":  # A_{k+1} = C_k, B = A_1, W^T = C_K
        assert len(e) == s.num_hops + 1
        c = [e[k + 1] for k in hops]
        a = [e[0], *c[:-1]]
        return a[0], a, c, c[-1]
    b, a_all, c_all, w = e
    return b, [a_all for _ in hops], [c_all for _ in hops], w


def forward(
    weights: Mapping[str, Vector],
    story: Sequence[str | None],
    question: str,
    s: Settings,
    *,
    softmax: bool = True,
    ages: Sequence[int] | None = None,
    width: int | None = None,
) -> tuple[Vector, Vector]:
    """Scores of all rows, and attention [hops, slots]; a story may hold None for an empty slot.

    ``width``: how many slots there are where empty ones are not masked.
    """
    story = list(story)[-s.slots :]
    if ages is None:
        ages = list(range(len(story), 0, -1))
    slots = [(text, age) for text, age in zip(story, ages, strict=True)]
    empty = 0 if s.mask_empty_slots else (s.slots if width is None else width) - len(slots)
    b, a, c, w = tables(weights, s)
    u = embed(b, question, s)
    attention = []
    for hop in range(s.num_hops):
        keys, values = [], []
        for text, age in slots:
            m, o = age_vector(a[hop], age, s), age_vector(c[hop], age, s)
            if text is not None:
                m, o = m + embed(a[hop], text, s), o + embed(c[hop], text, s)
            keys.append(m)
            values.append(o)
        o_sum, p = np.zeros(s.memory_dim), [0.0] * (len(keys) + empty)
        width = s.memory_dim // s.heads
        for head in range(s.heads):  # columns of its own, and weights of its own
            columns = range(head * width, (head + 1) * width)
            scores = [sum(u[k] * m[k] for k in columns) for m in keys] + [0.0] * empty
            own = list(scores)
            if softmax and scores:
                top = max(scores)
                shares = [math.exp(score - top) for score in scores]
                own = [share / sum(shares) for share in shares]
            for slot, value in enumerate(values):
                for k in columns:
                    o_sum[k] += own[slot] * value[k]
            p = [mean + share / s.heads for mean, share in zip(p, own, strict=True)]
        carried = u if s.tying == "adjacent" else weights["hop_map"] @ u
        u = carried + o_sum
        if s.relu:
            u = np.maximum(u, 0)
        if s.hop_units:
            inner, bias, outer = (weights[f"network.{n}"][hop] for n in ("inner", "bias", "outer"))
            u = u + np.maximum(u @ inner + bias[0], 0) @ outer
        attention.append(p)
    scores_of_rows = np.array([sum(u[k] * row[k] for k in range(s.memory_dim)) for row in w])
    return scores_of_rows, np.array(attention).reshape(s.num_hops, -1)
