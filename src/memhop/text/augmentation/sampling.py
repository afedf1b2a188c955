"""Phrase-swap augmentation: training examples with exchangeable phrases permuted.

A sample is an example and, for each group of exchangeable phrases of its text
(`memhop.text.augmentation.symmetry_test`), a random permutation of the group, the same in all
statements, the question and the answer. The bank holds every variant of every sentence, the
variants of one template in consecutive rows, so that sampling only computes rows: the template's
first row plus, for each of its phrases, a stride times the index of the new phrase in its group.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.example import Example
from memhop.text.augmentation.phrases import Phrase, PhraseSequence, split_phrases
from memhop.text.augmentation.symmetry_test import (
    Integers,
    PhraseGroup,
    TokenizedExample,
    exchangeable_phrases,
)
from memhop.text.encoding import NO_ANSWER, Encoded, Encoder
from memhop.text.reading import SplitSentences, Words
from memhop.tokenizer import answer_parts, listed

_MAX_ADDED = 100_000  # variants that are not sentences of the text


class PhraseText:
    """One training text in phrases, and its groups of exchangeable phrases.

    Attributes:
        examples: statements, question and answer of each example, in phrases.
        groups: the groups of exchangeable phrases.
        positions: of these phrases, numbered group by group.
    """

    def __init__(self, examples: Sequence[Example], words: Words) -> None:
        answers = [answer_parts(example.answer) for example in examples]
        sentences = {s: words[s] for e in examples for s in (*e.story, e.question)}
        split = split_phrases(sentences, {word for a in answers for part in a for word in part})
        self.examples = [
            (tuple(split[statement] for statement in example.story), split[example.question], parts)
            for example, parts in zip(examples, answers, strict=True)
        ]
        self.groups = _limited(exchangeable_phrases(self.examples), list(split.values()))
        self.positions = {p: i for i, p in enumerate(p for group in self.groups for p in group)}
        self._group_of = {phrase: g for g, group in enumerate(self.groups) for phrase in group}

    def template(self, sentence: PhraseSequence) -> tuple[Phrase | int, ...]:
        """Return a sentence with each exchangeable phrase replaced by the number of its group."""
        return tuple(self._group_of.get(phrase, phrase) for phrase in sentence)

    def variants(self, template: Iterable[Phrase | int]) -> Iterable[PhraseSequence]:
        """Return all sentences of a template; the last phrase varies fastest."""
        return product(*(self.groups[p] if isinstance(p, int) else [p] for p in template))


def _limited(groups: list[PhraseGroup], sentences: Sequence[PhraseSequence]) -> list[PhraseGroup]:
    """Drop the largest groups until the number of added variants is within the limit."""
    kept, most = list(groups), len(set(sentences)) + _MAX_ADDED
    while kept:
        group_of = {phrase: group for group in kept for phrase in group}
        templates = {tuple(group_of.get(phrase, (phrase,)) for phrase in s) for s in sentences}
        if sum(prod(map(len, template)) for template in templates) <= most:
            break
        kept.remove(max(kept, key=len))
    return kept


class Variants(NamedTuple):
    """Sentences and all their variants in rows; row 0 is the empty sentence.

    Attributes:
        sentences: [S] in phrases.
        rows: the row of a sentence of a text, by (text, sentence).
        first: [S] row of the first sentence of the same template.
        positions: [S, P] the exchangeable phrases of each sentence, as columns of `PhraseSwap`'s
            permutations; padded with the last column, which is never permuted.
        strides: [S, P] the distance in rows to the next phrase of the group.
    """

    sentences: list[PhraseSequence]
    rows: dict[tuple[int, PhraseSequence], int]
    first: Integers
    positions: Integers
    strides: Integers

    def permuted(self, rows: Integers, permutations: Integers) -> Integers:
        """Return the rows [E, ...] of sentences after the permutations [E, W] of their examples."""
        result = self.first[rows]
        for positions, strides in zip(self.positions.T, self.strides.T, strict=True):
            columns = positions[rows]
            new = np.take_along_axis(permutations, columns.reshape(len(columns), -1), axis=1)
            result += new.reshape(columns.shape) * strides[rows]
        return result


def all_variants(
    texts: Sequence[PhraseText], sentences: Iterable[tuple[int, PhraseSequence]]
) -> Variants:
    """Return the variants of sentences, each given with the number of its text."""
    width = max(len(text.positions) for text in texts)
    variants: list[PhraseSequence] = [()]
    rows: dict[tuple[int, PhraseSequence], int] = {}
    first: list[int] = [0]
    positions: list[Sequence[int]] = [()]
    strides: list[Sequence[int]] = [()]
    for number, sentence in sentences:
        if (number, sentence) in rows:
            continue
        text = texts[number]
        template = text.template(sentence)
        sizes = [len(text.groups[part]) for part in template if isinstance(part, int)]
        strides_here = tuple(prod(sizes[index + 1 :]) for index in range(len(sizes)))
        start = len(variants)
        for variant in text.variants(template):
            rows[number, variant] = len(variants)
            variants.append(variant)
            first.append(start)
            positions.append([text.positions[p] for p in variant if p in text.positions])
            strides.append(strides_here)
    return Variants(variants, rows, np.array(first), _padded(positions, width), _padded(strides, 0))


def _padded(rows: Sequence[Sequence[int]], filler: int, width: int | None = None) -> Integers:
    width = max(map(len, rows)) if width is None else width
    filled = [[*row, *[filler] * (width - len(row))] for row in rows]
    return np.array(filled, dtype=np.int64).reshape(len(rows), width)


class PhraseSwap:
    """Samples training examples with phrases permuted.

    Args:
        examples: the training examples.
        sources: the text of each example; phrases are permuted within a text.
        encoder: of the model to train.
        words: as in `Encoder.encode`.

    Attributes:
        encoded: the unchanged examples, over a bank of every variant of every sentence.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        sources: Sequence[int],
        encoder: Encoder,
        words: Words | None = None,
    ) -> None:
        words = SplitSentences() if words is None else words
        numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
        self._text_of = np.array([numbers[source] for source in sources])
        by_number = [
            np.flatnonzero(self._text_of == number).tolist() for number in numbers.values()
        ]
        texts = [PhraseText([examples[i] for i in indices], words) for indices in by_number]
        phrases = [iter(text.examples) for text in texts]
        phrased = [(number, *next(phrases[number])) for number in self._text_of.tolist()]
        self._variants = all_variants(
            texts, ((n, each) for n, story, asked, _ in phrased for each in (*story, asked))
        )
        self._answers = all_variants(texts, ((n, answer) for n, _, _, answer in phrased))
        self._answer_rows = np.array([self._answers.rows[n, a] for n, _, _, a in phrased])
        self._answer_ids = np.array([encoder.answer(listed(a)) for a in self._answers.sentences])
        self._group_starts = _group_starts(texts)
        self.encoded = self._encode(phrased, encoder)

    def _encode(
        self, phrased: Sequence[tuple[int, *TokenizedExample]], encoder: Encoder
    ) -> Encoded:
        row, most = self._variants.rows, encoder.sizes.memory_slots
        stories = [[row[n, statement] for statement in story[-most:]] for n, story, *_ in phrased]
        return Encoded(
            encoder.bank([[w for phrase in s for w in phrase] for s in self._variants.sentences]),
            torch.from_numpy(_padded(stories, 0, encoder.width(map(len, stories)))),
            torch.tensor([len(story) for story in stories]),
            torch.tensor([row[n, asked] for n, _, asked, _ in phrased]),
            torch.from_numpy(self._answer_ids[self._answer_rows]),
        )

    def sample(self, rows: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return slots, questions and answers of examples with phrases permuted.

        An example stays unchanged if its new answer would not be in the vocabulary.
        """
        starts: Integers = self._group_starts[self._text_of[rows]]
        order: Integers = np.argsort(starts + random.random(starts.shape), axis=1)
        permutations = order - starts  # for each phrase, the index in its group of the new one
        slots, question, answers = (
            tensor.numpy()[rows]
            for tensor in (self.encoded.slots, self.encoded.question, self.encoded.answers)
        )
        new = self._answer_ids[self._answers.permuted(self._answer_rows[rows], permutations)]
        is_unknown = new == NO_ANSWER
        identity = np.arange(starts.shape[1]) - starts
        permutations[is_unknown] = identity[is_unknown]
        return (
            torch.from_numpy(self._variants.permuted(slots, permutations)),
            torch.from_numpy(self._variants.permuted(question, permutations)),
            torch.from_numpy(np.where(is_unknown, answers, new)),
        )


def _group_starts(texts: Sequence[PhraseText]) -> Integers:
    """Return the first position of the group of each position: [T, W + 1].

    Positions that a text does not use, and the last of all, are groups of their own.
    """
    width = 1 + max(len(text.positions) for text in texts)
    starts = np.tile(np.arange(width), (len(texts), 1))
    for row, text in zip(starts, texts, strict=True):
        start = 0
        for group in text.groups:
            row[start : start + len(group)] = start
            start += len(group)
    return starts
