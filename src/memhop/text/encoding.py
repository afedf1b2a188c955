"""Encode examples as tensors: word ids, position encoding, a bank of sentences, ages of slots.

A sentence embeds as sum_j w_j * E[word_j] with a weight vector w_j over the d columns of the
table E (* is element-wise). All three position encodings have rank two,
w_kj = base_j + slope_k slope_weight_j, so a sentence is the sum of two weighted bags of words,
sum_j base_j E[word_j] + slope * sum_j slope_weight_j E[word_j].
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.example import Example
from memhop.ops.text.embedding_bag import WeightedBags, embed_and_select
from memhop.recipe import Position, Recipe
from memhop.text.reading import Question, SplitSentences, Words
from memhop.text.vocabulary import Vocabulary
from memhop.tokenizer import answer_word, fold_case, spelled_answer, spelled_words

Array = np.ndarray[Any, Any]
NO_ANSWER = -1  # the id of an answer that is not in the vocabulary: always wrong


class Sizes(NamedTuple):
    """Sizes that the training text decides.

    Attributes:
        sentence_words: words of its longest sentence.
        memory_slots: statements of its longest story, at most the recipe's ``memory_slots``.
    """

    sentence_words: int
    memory_slots: int

    @classmethod
    def of(cls, examples: Iterable[Example], recipe: Recipe, words: Words | None = None) -> "Sizes":
        """Return the sizes of training examples; ``words`` as in `Encoder.encode`."""
        words = SplitSentences() if words is None else words
        longest, slots = 1, 1
        for example in examples:
            slots = max(slots, len(example.story))
            for sentence in (*example.story, example.question):
                longest = max(longest, len(words[sentence]))
        return cls(longest, min(slots, recipe.memory_slots))


class PositionEncoding:
    """The weights of the words in a sentence.

    Args:
        position: ``bag``, ``paper`` or ``code`` (see `memhop.Recipe`).
        memory_dim: d, columns of the embedding tables.
        sentence_words: words of the longest training sentence. Further words of a longer
            sentence are weighted as the last of these.
    """

    def __init__(self, position: Position, memory_dim: int, sentence_words: int) -> None:
        self.position = position
        self.longest = sentence_words + 1  # the authors count the age of a sentence as a word
        column = torch.arange(1, memory_dim + 1, dtype=torch.float64)
        self.slope: Tensor | None = None
        if position == "paper":
            self.slope = -column / memory_dim
        elif position == "code":
            self.slope = 4 * (column - (memory_dim + 1) / 2) / memory_dim

    def of_words(self, j: Array, sizes: Array) -> tuple[Array, Array]:
        """Return base_j and slope_weight_j of words at positions j, from 1 on, in sentences of
        so many words.
        """
        if self.position == "paper":
            return 1 - j / sizes, 1 - 2 * j / sizes
        base = np.ones(len(j))
        if self.position == "code":
            return base, self._slope_weight(np.minimum(j, self.longest - 1))
        return base, np.zeros(len(j))

    def of_age(self) -> tuple[float, float]:
        """Return the two weights of an age: in the authors' code it is the last word."""
        return 1.0, self._slope_weight(self.longest) if self.position == "code" else 0.0

    def _slope_weight(self, j: Any) -> Any:
        return (j - (self.longest + 1) / 2) / self.longest


class Sentences:
    """A bank of sentences and ages, to be embedded by any table.

    The rows of a table are nil, the ages from 1 on, the words from id 1 on. The rows of the bank
    are the sentences and then the ages from 0 on: an age is one word with a weight of its own,
    age 0 is empty.

    Args:
        sentences: word ids of each sentence, from 1 on; an empty sentence embeds as zero.
        encoding: the weights of words.
        num_ages: number of ages from 1 on.
    """

    def __init__(
        self, sentences: Sequence[Sequence[int]], encoding: PositionEncoding, num_ages: int = 0
    ) -> None:
        self.num_sentences, self.num_ages = len(sentences), num_ages
        sizes = np.array([*map(len, sentences), 0, *[1] * num_ages], np.int64)
        offsets = np.concatenate([[0], sizes.cumsum()])
        positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes) + 1
        num_words = len(positions) - num_ages
        base, slope_weight = encoding.of_words(positions, np.repeat(sizes, sizes))
        base[num_words:], slope_weight[num_words:] = encoding.of_age()
        rows = [num_ages + word for sentence in sentences for word in sentence]
        self._bags = WeightedBags(
            torch.from_numpy(offsets),
            _integers([*rows, *range(1, num_ages + 1)]),
            torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
            torch.from_numpy(base),
            torch.from_numpy(slope_weight),
            encoding.slope,
        )

    def __len__(self) -> int:
        """Return the number of rows of the bank."""
        return len(self._bags)

    @property
    def sizes(self) -> Tensor:
        """The number of words in each row of the bank, int64 [rows]; 1 for an age, 0 for age 0."""
        return self._bags.offsets.diff()

    @torch.inference_mode(False)  # the tensors kept here may later need gradients
    def to(self, like: Tensor) -> "Sentences":
        """Move to the device and dtype of a table, in place."""
        base = self._bags.base
        if base.device != like.device or base.dtype != like.dtype:
            integers = (tensor.to(like.device) for tensor in self._bags[:3])
            weights = (None if tensor is None else tensor.to(like) for tensor in self._bags[3:])
            self._bags = WeightedBags(*integers, *weights)
        return self

    def embed(self, tables: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return embedded rows of the bank, [T, (R,) U, d].

        Args:
            tables: [(R,) T, rows, d].
            chosen: int64 [(R,) U], rows of the bank for each of R; None for all rows.
        """
        return self.embed_and_select(tables, chosen, tables.shape[-3], 0)[0]

    def embed_and_select(
        self, tables: Tensor, chosen: Tensor | None, count: int, table: int
    ) -> tuple[Tensor, Tensor]:
        """Return rows embedded by the first ``count`` tables, and one table, [(R,) rows, d]."""
        self.to(tables)
        if tables.dim() == 4:
            return embed_and_select(tables, self._bags, chosen, count, table)
        chosen = None if chosen is None else chosen.unsqueeze(0)
        found = embed_and_select(tables.unsqueeze(0), self._bags, chosen, count, table)
        return found[0].squeeze(1), found[1].squeeze(0)


class Encoded(NamedTuple):
    """Examples as tensors that name sentences by their rows in a bank of distinct sentences.

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
        """Return a copy with its index tensors on a device; `Sentences.embed` moves the bank."""
        return Encoded(self.sentences, *(tensor.to(device) for tensor in self[1:]))


class Batch(NamedTuple):
    """Questions for the model; the leading axes may hold restarts.

    Attributes:
        sentences: the bank.
        slots: [..., B, N] rows of the bank, 0 for the empty sentence.
        ages: [..., B, N] age of each slot, 1 for the newest, 0 for none.
        lengths: [..., B] slots in use; the rest is padding.
        question: [..., B] rows of the bank.
        chosen: [..., U] the rows of the bank to embed, the last of which are all ages in order;
            slots and questions are then indices into it. None for the whole bank.
    """

    sentences: Sentences
    slots: Tensor
    ages: Tensor
    lengths: Tensor
    question: Tensor
    chosen: Tensor | None = None


def ages(lengths: Tensor, width: int) -> Tensor:
    """Return the ages [..., N] of slots with ``lengths`` [...] sentences, oldest first.

    >>> ages(torch.tensor([3, 1]), 4)
    tensor([[3, 2, 1, 0],
            [1, 0, 0, 0]])
    """
    slot = torch.arange(width, device=lengths.device)
    return (lengths.unsqueeze(-1) - slot).clamp_(min=0)


class Encoder:
    """Encodes examples, the same way in training and in use.

    Args:
        vocabulary: the words of the training text.
        recipe: settings, of which ``position``, ``memory_dim``, ``memory_slots``, ``temporal`` and
            ``mask_empty_slots`` are used.
        sizes: of the training text.
    """

    def __init__(self, vocabulary: Vocabulary, recipe: Recipe, sizes: Sizes) -> None:
        self.vocabulary = vocabulary
        self.sizes = sizes
        self.position_encoding = PositionEncoding(
            recipe.position, recipe.memory_dim, sizes.sentence_words
        )
        self._full_width = not recipe.mask_empty_slots
        self._num_ages = sizes.memory_slots if recipe.temporal else 0

    def encode(self, examples: Sequence[Example | Question], words: Words | None = None) -> Encoded:
        """Encode examples, or questions without an answer; of a long story the last slots count.

        Args:
            examples: each statement fills a slot; `readable` drops those without a word.
            words: the words of each sentence; None splits the sentences.
        """
        words = SplitSentences() if words is None else words
        most = self.sizes.memory_slots
        width = self.width(min(len(example.story), most) for example in examples)
        slots = np.zeros((len(examples), width), np.int64)
        bank: dict[tuple[int, ...], int] = {(): 0}
        seen: dict[str, int] = {}  # many stories share a sentence

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
            answers.append(
                self.answer(example.answer) if isinstance(example, Example) else NO_ANSWER
            )
        sentences = Sentences(list(bank), self.position_encoding, self._num_ages)
        return Encoded(
            sentences, torch.from_numpy(slots), *map(_integers, (lengths, question, answers))
        )

    def width(self, lengths: Iterable[int]) -> int:
        """Return the number of slots to encode stories of so many statements with."""
        return self.sizes.memory_slots if self._full_width else max(lengths, default=0)

    def bank(self, sentences: Iterable[Sequence[str]]) -> Sentences:
        """Return a bank of sentences, given as words, and of all ages."""
        ids = [self.vocabulary.ids(words) for words in sentences]
        return Sentences(ids, self.position_encoding, self._num_ages)

    def answer(self, answer: str) -> int:
        """Return the word id of an answer, ``NO_ANSWER`` if it is not in the vocabulary."""
        word = answer_word(answer)
        return self.vocabulary.ids([word])[0] if word in self.vocabulary else NO_ANSWER


def _integers(numbers: Sequence[int]) -> Tensor:
    """Return an int64 tensor; for a few numbers NumPy is several times faster than torch."""
    return torch.from_numpy(np.array(numbers, np.int64))


def training_vocabulary(examples: Sequence[Example], words: Words | None = None) -> Vocabulary:
    """Return the words and answers of training examples in order of first appearance.

    A word is shown in its most frequent spelling among the answers, or, if it is no answer, among
    the sentences; of equally frequent spellings, in the first.

    Args:
        examples: readable examples (`memhop.text.reading`).
        words: as in `Encoder.encode`.

    Raises:
        MemhopError: an answer without a word.
    """
    words = SplitSentences() if words is None else words
    known: dict[str, None] = {}
    seen: set[str] = set()
    for example in examples:
        for sentence in (*example.story, example.question):
            if sentence not in seen:
                seen.add(sentence)
                known |= dict.fromkeys(words[sentence])
        known[answer_word(example.answer)] = None
    spellings = _spellings(examples)
    return Vocabulary(known, {w: s for w, s in spellings.items() if s != w and w in known})


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
