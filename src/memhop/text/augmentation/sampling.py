"""Phrase-swap augmentation: training examples with exchangeable phrases permuted.

A sample is an example and, for each class of exchangeable phrases of its text
(`memhop.text.augmentation.swap_search`), a random permutation of the class, the same in all
statements, the question and the answer. The bank holds every variant of every sentence, the
variants of one template in consecutive rows, so that sampling only computes rows: the template's
first row plus, for each of its phrases, a stride times the index of the new phrase in its orbit,
the phrases that can become one another.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise, product
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.example import Example
from memhop.text.augmentation.classes import Integers, PhraseClass, split_by
from memhop.text.augmentation.features import TokenizedExample
from memhop.text.augmentation.phrases import Phrase, PhraseSequence, split_phrases
from memhop.text.augmentation.swap_search import exchangeable_classes
from memhop.text.encoding import NO_ANSWER, Encoded, Encoder
from memhop.text.reading import SplitSentences, Words
from memhop.tokenizer import answer_parts, listed

_MAX_ADDED = 100_000  # variants that are not sentences of the text


class PhraseText:
    """One text in phrases, and its classes of exchangeable phrases.

    Args:
        examples: the text.
        words: as in `Encoder.encode`.
        classes: of another text, such as the training part of this one; None finds them.

    Attributes:
        examples: statements, question and answer of each example, in phrases.
        classes: the classes of exchangeable phrases.
        orbits: the phrases that can become one another, class by class.
        positions: of these phrases, numbered orbit by orbit.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        words: Words,
        classes: Sequence[PhraseClass] | None = None,
    ) -> None:
        answers = [answer_parts(example.answer) for example in examples]
        sentences = {s: words[s] for e in examples for s in (*e.story, e.question)}
        if classes is None:
            fixed = {word for answer in answers for part in answer for word in part}
            split = split_phrases(sentences, fixed)
        else:
            known = [phrase for each in classes for phrase in each.phrases]
            split = {sentence: split_by(each, known) for sentence, each in sentences.items()}
        self.examples = [
            (tuple(split[statement] for statement in example.story), split[example.question], parts)
            for example, parts in zip(examples, answers, strict=True)
        ]
        if classes is None:
            found = exchangeable_classes(self.examples)
            classes = _limited(found, list(split.values()))
        self.classes = list(classes)
        self.orbits = [orbit for each in self.classes for orbit in each.orbits]
        self.positions = {p: i for i, p in enumerate(p for orbit in self.orbits for p in orbit)}
        self._orbit_of = {phrase: o for o, orbit in enumerate(self.orbits) for phrase in orbit}

    def template(self, sentence: PhraseSequence) -> tuple[Phrase | int, ...]:
        """Return a sentence with each exchangeable phrase replaced by the number of its orbit."""
        return tuple(self._orbit_of.get(phrase, phrase) for phrase in sentence)

    def variants(self, template: Iterable[Phrase | int]) -> Iterable[PhraseSequence]:
        """Return all sentences of a template; the last phrase varies fastest."""
        return product(*(self.orbits[p] if isinstance(p, int) else [p] for p in template))


def _limited(classes: list[PhraseClass], sentences: Sequence[PhraseSequence]) -> list[PhraseClass]:
    """Drop the largest classes until the number of added variants is within the limit."""
    kept, most = list(classes), len(set(sentences)) + _MAX_ADDED
    while kept:
        orbit_of = {p: orbit for each in kept for orbit in each.orbits for p in orbit}
        templates = {tuple(orbit_of.get(phrase, (phrase,)) for phrase in s) for s in sentences}
        if sum(prod(map(len, template)) for template in templates) <= most:
            break
        kept.remove(max(kept, key=lambda each: max(map(len, each.orbits))))
    return kept


class Variants(NamedTuple):
    """Sentences and all their variants in rows; row 0 is the empty sentence.

    Attributes:
        sentences: [S] in phrases.
        rows: the row of a sentence of a text, by (text, sentence).
        first: [S] row of the first sentence of the same template.
        positions: [S, P] the exchangeable phrases of each sentence, as columns of `PhraseSwap`'s
            permutations; padded with the last column, which is never permuted.
        strides: [S, P] the distance in rows to the next phrase of the orbit.
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
        sizes = [len(text.orbits[part]) for part in template if isinstance(part, int)]
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
    """Samples examples with phrases permuted.

    Args:
        examples: the training examples, or held-out ones, then with ``classes``.
        sources: the text of each example; phrases are permuted within a text.
        encoder: of the model to train.
        words: as in `Encoder.encode`.
        classes: the classes of each text, by its number in ``sources``; None finds them.

    Attributes:
        encoded: the unchanged examples, over a bank of every variant of every sentence.
        classes: (text, class) of all classes, texts in the order of their first example.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        sources: Sequence[int],
        encoder: Encoder,
        words: Words | None = None,
        classes: Mapping[int, Sequence[PhraseClass]] | None = None,
    ) -> None:
        words = SplitSentences() if words is None else words
        numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
        self._text_of = np.array([numbers[source] for source in sources])
        by_number = [
            np.flatnonzero(self._text_of == number).tolist() for number in numbers.values()
        ]
        texts = [
            PhraseText(
                [examples[i] for i in indices],
                words,
                None if classes is None else classes.get(source, ()),
            )
            for source, indices in zip(numbers, by_number, strict=True)
        ]
        self.classes = [
            (source, each)
            for source, text in zip(numbers, texts, strict=True)
            for each in text.classes
        ]
        phrases = [iter(text.examples) for text in texts]
        phrased = [(number, *next(phrases[number])) for number in self._text_of.tolist()]
        self._variants = all_variants(
            texts, ((n, each) for n, story, asked, _ in phrased for each in (*story, asked))
        )
        self._answers = all_variants(texts, ((n, answer) for n, _, _, answer in phrased))
        self._answer_rows = np.array([self._answers.rows[n, a] for n, _, _, a in phrased])
        self._answer_ids = np.array([encoder.answer(listed(a)) for a in self._answers.sentences])
        self._spans = [
            (number, span) for number, text in enumerate(texts) for span in _spans(text.classes)
        ]
        self._orbit_starts = _orbit_starts(texts)
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

    def sample(
        self,
        rows: Integers,
        random: np.random.Generator,
        active: Sequence[bool] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return slots, questions and answers of examples with phrases permuted.

        An example stays unchanged if its new answer would not be in the vocabulary.

        Args:
            rows: indices of examples.
            random: the generator.
            active: for each of ``classes`` whether its phrases are permuted; None for all.
        """
        return self._permuted(rows, self._permutations(rows, random, active))

    def permuted(
        self, rows: Integers, number: int, permutations: Integers
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return slots, questions and answers of examples with the phrases of a class permuted.

        An example stays unchanged if its new answer would not be in the vocabulary.

        Args:
            rows: indices of examples.
            number: of the class, in ``classes``; all examples are of its text.
            permutations: of each example, as of `PhraseClass.sample`.
        """
        _, span = self._spans[number]
        positions = self._unchanged(len(rows))
        positions[:, span] = span.start + permutations
        return self._permuted(rows, positions)

    def _permuted(self, rows: Integers, positions: Integers) -> tuple[Tensor, Tensor, Tensor]:
        starts: Integers = self._orbit_starts[self._text_of[rows]]
        permutations = positions - starts
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

    def _permutations(
        self, rows: Integers, random: np.random.Generator, active: Sequence[bool] | None
    ) -> Integers:
        """Return the position of the new phrase for each position, [len(rows), W + 1]."""
        result, text_of = self._unchanged(len(rows)), self._text_of[rows]
        is_active = [True] * len(self.classes) if active is None else active
        for (_, each), (number, span), wanted in zip(
            self.classes, self._spans, is_active, strict=True
        ):
            if wanted:
                here = np.flatnonzero(text_of == number)
                result[here, span] = span.start + each.sample(len(here), random)
        return result

    def _unchanged(self, count: int) -> Integers:
        """Return the positions of phrases that all stay, [count, W + 1]."""
        return np.tile(np.arange(self._orbit_starts.shape[1]), (count, 1))


def _spans(classes: Iterable[PhraseClass]) -> list[slice]:
    """Return the positions of each class of a text."""
    ends = [0, *accumulate(len(each.phrases) for each in classes)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _orbit_starts(texts: Sequence[PhraseText]) -> Integers:
    """Return the first position of the orbit of each position: [T, W + 1].

    Positions that a text does not use, and the last of all, are orbits of their own.
    """
    width = 1 + max(len(text.positions) for text in texts)
    starts = np.tile(np.arange(width), (len(texts), 1))
    for row, text in zip(starts, texts, strict=True):
        start = 0
        for orbit in text.orbits:
            row[start : start + len(orbit)] = start
            start += len(orbit)
    return starts
