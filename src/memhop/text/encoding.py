"""Sentences as numbers: weights over words, rows of a bank, ages of the slots.

A sentence embeds as sum_j w_j * E[word_j] with a weight vector w_j over the d columns of the
table E (* is element-wise). All three forms of the weights are of rank two over the position,
w_kj = plain_j + slope_k steep_j, so a sentence is two weighted bags of words,
sum_j plain_j E[word_j] + slope * sum_j steep_j E[word_j].
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.example import Example
from memhop.ops.text.embedding_bag import WeightedBags, embedding_bag
from memhop.recipe import Position, Recipe
from memhop.text.reading import SplitSentences
from memhop.text.vocabulary import Vocabulary
from memhop.tokenizer import answer_word, fold_case, spelled_answer, spelled_words, split_words

Numbers = np.ndarray[Any, Any]
NO_ANSWER = -1  # the class of an answer that training never showed: always wrong


class Sizes(NamedTuple):
    """What is measured on the training text and then fixed.

    Attributes:
        sentence_words: words of its longest sentence.
        memory_slots: statements of its longest story, at most the recipe's ``memory_slots``.
    """

    sentence_words: int
    memory_slots: int

    @classmethod
    def of(cls, examples: Iterable[Example], recipe: Recipe) -> "Sizes":
        """Measure training examples."""
        words, slots = 1, 1
        for example in examples:
            slots = max(slots, len(example.story))
            for sentence in (*example.story, example.question):
                words = max(words, len(split_words(sentence)))
        return cls(words, min(slots, recipe.memory_slots))


class Weights:
    """The weights of the words in a sentence, for one form of position encoding.

    Args:
        position: ``bag``, ``paper`` or ``code`` (see `memhop.Recipe`).
        memory_dim: d, columns of the embedding tables.
        sentence_words: words of the longest training sentence. A longer sentence is read to
            its end, its further words weighted as the last of these.
    """

    def __init__(self, position: Position, memory_dim: int, sentence_words: int) -> None:
        self.position = position
        self._longest = sentence_words + 1  # the authors count the age of a sentence as a word
        column = torch.arange(1, memory_dim + 1, dtype=torch.float64)
        self.slope: Tensor | None = None
        if position == "paper":
            self.slope = -column / memory_dim
        elif position == "code":
            self.slope = 4 * (column - (memory_dim + 1) / 2) / memory_dim

    def of_words(self, places: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
        """plain_j and steep_j for the places j of words, from 1 on, in sentences of their sizes."""
        if self.position == "paper":
            return 1 - places / sizes, 1 - 2 * places / sizes
        plain = np.ones(len(places))
        if self.position == "code":
            return plain, self._steep(np.minimum(places, self._longest - 1))
        return plain, np.zeros(len(places))

    def of_age(self) -> tuple[float, float]:
        """The pair of a sentence's age: the last word of all in the authors' code."""
        return 1.0, self._steep(self._longest) if self.position == "code" else 0.0

    def _steep(self, j: Any) -> Any:
        return (j - (self._longest + 1) / 2) / self._longest


class Sentences:
    """A bank of sentences, and of ages, ready to be embedded by any table.

    The rows of a table are nil, the ages from 1 on, the words from id 1 on. The rows of the bank
    are the sentences and then the ages from 0 on: an age is a word of its own weight, 0 is none.

    Args:
        sentences: word ids of each sentence, all from 1 on; an empty one embeds as zero.
        weights: the form of position encoding.
        num_ages: ages from 1 on.
    """

    def __init__(
        self, sentences: Sequence[Sequence[int]], weights: Weights, num_ages: int = 0
    ) -> None:
        self.num_sentences, self.num_ages = len(sentences), num_ages
        sizes = np.array([*map(len, sentences), 0, *[1] * num_ages], np.int64)
        starts = np.concatenate([[0], sizes.cumsum()])
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes) + 1
        words = len(places) - num_ages
        plain, slope_weight = weights.of_words(places, np.repeat(sizes, sizes))
        plain[words:], slope_weight[words:] = weights.of_age()
        rows = [num_ages + word for sentence in sentences for word in sentence]
        self._bags = WeightedBags(
            torch.from_numpy(starts),
            _integers([*rows, *range(1, num_ages + 1)]),
            torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            torch.from_numpy(plain),
            torch.from_numpy(slope_weight),
            weights.slope,
        )

    def __len__(self) -> int:
        """Rows of the bank."""
        return len(self._bags)

    @property
    def sizes(self) -> Tensor:
        """int64 [rows]: the words of each row of the bank; an age is one, but for the age 0."""
        return self._bags.offsets.diff()

    @torch.inference_mode(False)  # what is kept here may later be asked with a gradient
    def to(self, like: Tensor) -> "Sentences":
        """Move to the device and dtype of a table, in place."""
        starts, rows, bags, plain, slope_weight, slope = self._bags
        if plain.device != like.device or plain.dtype != like.dtype:
            starts, rows, bags = (part.to(like.device) for part in (starts, rows, bags))
            slope = None if slope is None else slope.to(like)
            self._bags = WeightedBags(
                starts, rows, bags, plain.to(like), slope_weight.to(like), slope
            )
        return self

    def embed(self, tables: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Embed rows of the bank.

        Args:
            tables: [(R,) T, rows, d].
            chosen: int64 [(R,) U], rows of the bank for each of R; None is all rows.

        Returns:
            [T, (R,) U, d]
        """
        self.to(tables)
        if tables.dim() == 3:
            chosen = None if chosen is None else chosen.unsqueeze(0)
            return embedding_bag(tables.unsqueeze(0), self._bags, chosen).squeeze(1)
        return embedding_bag(tables, self._bags, chosen)


class Encoded(NamedTuple):
    """Examples as numbers; distinct sentences stand once, in a bank.

    Attributes:
        sentences: the bank of statements and questions; row 0 is the empty sentence.
        slots: [E, N] rows of the bank, oldest first, 0 beyond the story.
        lengths: [E] slots that hold a statement.
        question: [E] rows of the bank.
        answers: [E] word ids of the answers, ``NO_ANSWER`` where not in the vocabulary.
    """

    sentences: Sentences
    slots: Tensor
    lengths: Tensor
    question: Tensor
    answers: Tensor

    def at(self, device: torch.device) -> "Encoded":
        """The same with its index tensors on a device (the bank follows the tables)."""
        return Encoded(self.sentences, *(tensor.to(device) for tensor in self[1:]))


class Encoder:
    """Turns examples into numbers, the same way in training and in use.

    Args:
        vocabulary: the words that training showed.
        recipe: its ``position``, ``memory_dim``, ``memory_slots``, ``temporal`` and
            ``mask_empty_slots`` count.
        sizes: what was measured on the training text.
    """

    def __init__(self, vocabulary: Vocabulary, recipe: Recipe, sizes: Sizes) -> None:
        self.vocabulary = vocabulary
        self.sizes = sizes
        self.weights = Weights(recipe.position, recipe.memory_dim, sizes.sentence_words)
        self._full_width = not recipe.mask_empty_slots
        self._num_ages = sizes.memory_slots if recipe.temporal else 0

    def encode(
        self, examples: Sequence[Example], words: Mapping[str, Sequence[str]] | None = None
    ) -> Encoded:
        """Number the statements, questions and answers; of a long story the last slots count.

        Args:
            examples: each statement fills a slot: `readable` leaves out those without a word.
            words: of each sentence; None splits them.
        """
        words = SplitSentences() if words is None else words
        most = self.sizes.memory_slots
        width = self.width(min(len(example.story), most) for example in examples)
        slots = np.zeros((len(examples), width), np.int64)
        bank: dict[tuple[int, ...], int] = {(): 0}
        seen: dict[str, int] = {}  # a sentence recurs in many stories: split it once

        def row(sentence: str) -> int:
            if sentence not in seen:
                ids = tuple(self.vocabulary.ids(words[sentence]))
                seen[sentence] = bank.setdefault(ids, len(bank))
            return seen[sentence]

        lengths, question, answers = [], [], []
        for index, example in enumerate(examples):
            rows = [row(statement) for statement in example.story[-most:]]
            slots[index, : len(rows)] = rows
            lengths.append(len(rows))
            question.append(row(example.question))
            answers.append(self.answer(example.answer))
        sentences = Sentences(list(bank), self.weights, self._num_ages)
        numbers = map(_integers, (lengths, question, answers))
        return Encoded(sentences, torch.from_numpy(slots), *numbers)

    def width(self, lengths: Iterable[int]) -> int:
        """Slots to lay stories of so many statements out in."""
        return self.sizes.memory_slots if self._full_width else max(lengths, default=0)

    def bank(self, sentences: Iterable[Sequence[str]]) -> Sentences:
        """A bank of sentences that are split into words, and of all ages."""
        ids = [self.vocabulary.ids(words) for words in sentences]
        return Sentences(ids, self.weights, self._num_ages)

    def answer(self, answer: str) -> int:
        """The word id of an answer, ``NO_ANSWER`` where training never showed it."""
        word = answer_word(answer)
        return self.vocabulary.ids([word])[0] if word in self.vocabulary else NO_ANSWER


def _integers(numbers: Sequence[int]) -> Tensor:
    """As int64, by way of NumPy: of a few numbers torch makes a tensor several times slower."""
    return torch.from_numpy(np.array(numbers, np.int64))


def training_vocabulary(examples: Sequence[Example]) -> Vocabulary:
    """The words of training examples in order of first appearance, answers among them.

    Each has the spelling to show it with: the most frequent one of its answers, or, where it is no
    answer, of the sentences; the first one where several are as frequent.

    Raises:
        MemhopError: an answer without a word (`memhop.text.reading` names the example).
    """
    words: dict[str, None] = {}
    seen: set[str] = set()
    for example in examples:
        for sentence in (*example.story, example.question):
            if sentence not in seen:
                seen.add(sentence)
                words |= dict.fromkeys(split_words(sentence))
        words[answer_word(example.answer)] = None
    spellings = _spellings(examples)
    return Vocabulary(words, {w: s for w, s in spellings.items() if s != w and w in words})


def _spellings(examples: Sequence[Example]) -> dict[str, str]:
    """Return the most frequent spelling of each word and answer."""
    sentences = Counter(s for e in examples for s in (*e.story, e.question))
    in_text: Counter[str] = Counter()
    for sentence, times in sentences.items():
        for spelling in spelled_words(sentence):
            in_text[spelling] += times
    in_answers = Counter(spelled_answer(example.answer) for example in examples)
    return _most_frequent(in_text, fold_case) | _most_frequent(in_answers, answer_word)


def _most_frequent(spellings: Counter[str], word_of: Callable[[str], str]) -> dict[str, str]:
    best: dict[str, str] = {}
    for spelling, times in spellings.items():
        word = word_of(spelling)
        if times > spellings[best.get(word, "")]:
            best[word] = spelling
    return best
