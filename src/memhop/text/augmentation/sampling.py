"""Training stories told again with interchangeable phrases exchanged, anew for every draw.

A draw takes an example and, for each class of phrases that its text lets stand for each other
(`memhop.text.augmentation.symmetry_test`), a random permutation of the class, the same in all
statements, the question and the answer. Nothing is split or looked up while training: the bank
holds every variant of every sentence, those of one form in consecutive rows. A sentence's
variant is its form's first row plus, for each of its phrases, stride times number of the new one.
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
    Class,
    Integers,
    TokenizedExample,
    interchangeable,
)
from memhop.text.encoding import NO_ANSWER, Encoded, Encoder
from memhop.tokenizer import answer_parts, listed

_MOST_ADDED = 100_000  # variants that a text does not have itself


class Text:
    """One training text in phrases, with its classes of interchangeable ones.

    Attributes:
        examples: statements, question and answer of each, in phrases.
        classes: the phrases that may stand for each other.
        places: of these phrases, numbered class by class.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        answers = [answer_parts(example.answer) for example in examples]
        sentences = dict.fromkeys(s for e in examples for s in (*e.story, e.question))
        split = split_phrases(sentences, {word for a in answers for part in a for word in part})
        self.examples = [
            (tuple(split[statement] for statement in example.story), split[example.question], parts)
            for example, parts in zip(examples, answers, strict=True)
        ]
        self.classes = _few_enough(interchangeable(self.examples), list(split.values()))
        self.places = {
            phrase: place for place, phrase in enumerate(p for group in self.classes for p in group)
        }
        self._class_of = {phrase: c for c, group in enumerate(self.classes) for phrase in group}

    def form(self, spoken: PhraseSequence) -> tuple[Phrase | int, ...]:
        """A sentence with the class in place of each phrase that has one."""
        return tuple(self._class_of.get(phrase, phrase) for phrase in spoken)

    def variants(self, form: Iterable[Phrase | int]) -> Iterable[PhraseSequence]:
        """All sentences of a form, the last phrase changing first."""
        return product(*(self.classes[p] if isinstance(p, int) else [p] for p in form))


def _few_enough(classes: list[Class], sentences: Sequence[PhraseSequence]) -> list[Class]:
    """Leave out the largest classes until few variants are added to the sentences."""
    kept, most = list(classes), len(set(sentences)) + _MOST_ADDED
    while kept:
        class_of = {phrase: group for group in kept for phrase in group}
        forms = {tuple(class_of.get(phrase, (phrase,)) for phrase in s) for s in sentences}
        if sum(prod(len(group) for group in form) for form in forms) <= most:
            break
        kept.remove(max(kept, key=len))
    return kept


class Variants(NamedTuple):
    """Sentences and all their variants, numbered; row 0 is the empty sentence.

    Attributes:
        sentences: [S] in phrases.
        numbers: the row of a sentence of a text, by (text, sentence).
        first: [S] row of the first sentence of the same form.
        places: [S, P] which interchangeable phrases it holds, as places in `Exchange`'s
            permutations; the last place, which stays, where there are fewer.
        strides: [S, P] what the next phrase of the class adds to the row.
    """

    sentences: list[PhraseSequence]
    numbers: dict[tuple[int, PhraseSequence], int]
    first: Integers
    places: Integers
    strides: Integers

    def exchanged(self, rows: Integers, permutations: Integers) -> Integers:
        """The rows [E, ...] of sentences after the permutations [E, W] of their examples."""
        after = self.first[rows]
        for places, strides in zip(self.places.T, self.strides.T, strict=True):
            held = places[rows]
            moved = np.take_along_axis(permutations, held.reshape(len(held), -1), axis=1)
            after += moved.reshape(held.shape) * strides[rows]
        return after


def all_variants(texts: Sequence[Text], spoken: Iterable[tuple[int, PhraseSequence]]) -> Variants:
    """The variants of sentences, each given with the number of its text."""
    width = max(len(text.places) for text in texts)
    sentences: list[PhraseSequence] = [()]
    numbers: dict[tuple[int, PhraseSequence], int] = {}
    first: list[int] = [0]
    held: list[Sequence[int]] = [()]
    steps: list[Sequence[int]] = [()]
    for number, sentence in spoken:
        if (number, sentence) in numbers:
            continue
        text = texts[number]
        form = text.form(sentence)
        sizes = [len(text.classes[part]) for part in form if isinstance(part, int)]
        strides = tuple(prod(sizes[place + 1 :]) for place in range(len(sizes)))
        start = len(sentences)
        for variant in text.variants(form):
            numbers[number, variant] = len(sentences)
            sentences.append(variant)
            first.append(start)
            held.append([text.places[phrase] for phrase in variant if phrase in text.places])
            steps.append(strides)
    return Variants(sentences, numbers, np.array(first), _table(held, width), _table(steps, 0))


def _table(rows: Sequence[Sequence[int]], filler: int, width: int | None = None) -> Integers:
    width = max(map(len, rows)) if width is None else width
    filled = [[*row, *[filler] * (width - len(row))] for row in rows]
    return np.array(filled, dtype=np.int64).reshape(len(rows), width)


class Exchange:
    """The training examples, told again at every draw.

    Args:
        examples: to draw from.
        sources: the text that each is from; phrases are exchanged within a text.
        encoder: of the model that is trained.

    Attributes:
        encoded: the examples as they are, over a bank that has every variant of every sentence.
    """

    def __init__(
        self, examples: Sequence[Example], sources: Sequence[int], encoder: Encoder
    ) -> None:
        numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
        self._text_of = np.array([numbers[source] for source in sources])
        texts = [Text([examples[row] for row in np.flatnonzero(self._text_of == number).tolist()])
                 for number in numbers.values()]  # fmt: skip
        told = [iter(text.examples) for text in texts]
        phrased = [(number, *next(told[number])) for number in self._text_of.tolist()]
        self._variants = all_variants(
            texts, ((n, spoken) for n, story, asked, _ in phrased for spoken in (*story, asked))
        )
        self._answers = all_variants(texts, ((n, answer) for n, _, _, answer in phrased))
        self._answer_rows = np.array([self._answers.numbers[n, a] for n, _, _, a in phrased])
        self._answer_ids = np.array([encoder.answer(listed(a)) for a in self._answers.sentences])
        self._class_start = _places(texts)
        self.encoded = self._encode(phrased, encoder)

    def _encode(
        self, phrased: Sequence[tuple[int, *TokenizedExample]], encoder: Encoder
    ) -> Encoded:
        row, most = self._variants.numbers, encoder.sizes.memory_slots
        stories = [[row[n, statement] for statement in story[-most:]] for n, story, *_ in phrased]
        return Encoded(
            encoder.bank([[w for phrase in s for w in phrase] for s in self._variants.sentences]),
            torch.from_numpy(_table(stories, 0, encoder.width(map(len, stories)))),
            torch.tensor([len(story) for story in stories]),
            torch.tensor([row[n, asked] for n, _, asked, _ in phrased]),
            torch.from_numpy(self._answer_ids[self._answer_rows]),
        )

    def draw(self, rows: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Slots, questions and answers of examples, told anew.

        An example whose answer would be one that training never showed is told as it was.
        """
        permutations = self._permutations(rows, random)
        slots, question, answers = (
            part.numpy()[rows]
            for part in (self.encoded.slots, self.encoded.question, self.encoded.answers)
        )
        after = self._answer_ids[self._answers.exchanged(self._answer_rows[rows], permutations)]
        untold = after == NO_ANSWER
        permutations[untold] = self._unchanged(rows[untold])
        return (
            torch.from_numpy(self._variants.exchanged(slots, permutations)),
            torch.from_numpy(self._variants.exchanged(question, permutations)),
            torch.from_numpy(np.where(untold, answers, after)),
        )

    def _permutations(self, rows: Integers, random: np.random.Generator) -> Integers:
        """For each place of a phrase, the number in its class of the one that takes its place."""
        starts: Integers = self._class_start[self._text_of[rows]]
        order: Integers = np.argsort(starts + random.random(starts.shape), axis=1)
        return order - starts

    def _unchanged(self, rows: Integers) -> Integers:
        starts: Integers = self._class_start[self._text_of[rows]]
        return np.arange(starts.shape[1]) - starts


def _places(texts: Sequence[Text]) -> Integers:
    """The first place of the class that each place belongs to: [T, W + 1].

    A place that a text does not need, and the last of all, is a class of its own.
    """
    width = 1 + max(len(text.places) for text in texts)
    starts = np.tile(np.arange(width), (len(texts), 1))
    for row, text in zip(starts, texts, strict=True):
        place = 0
        for group in text.classes:
            row[place : place + len(group)] = place
            place += len(group)
    return starts
