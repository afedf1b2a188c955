"""Sentences as numbers: weights over words, rows of a bank, ages of the slots.

A sentence embeds as sum_j w_j * E[word_j] with a weight vector w_j over the d columns of the
table E (* is element-wise). All three forms of the weights are of rank two over the position,
w_kj = plain_j + slope_k steep_j, so a sentence is two weighted bags of words,
sum_j plain_j E[word_j] + slope * sum_j steep_j E[word_j], and the bags of a whole bank of
sentences times the table are one matrix product.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Position, Recipe
from memhop.vocabulary import Vocabulary, split_words

NO_ANSWER = -1  # the class of an answer that training never showed: always wrong
_LARGEST_DENSE = 2**18  # entries of a dense matrix of bags; beyond it the words are gathered


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

    def of_words(self, length: int) -> list[tuple[float, float]]:
        """(plain_j, steep_j) for each word of a sentence of ``length`` words."""
        if self.position == "paper":
            return [(1 - j / length, 1 - 2 * j / length) for j in range(1, length + 1)]
        if self.position == "code":
            last = self._longest - 1
            return [(1.0, self._steep(min(j, last))) for j in range(1, length + 1)]
        return [(1.0, 0.0)] * length

    def of_age(self) -> Tensor | float:
        """The weight [d] of a sentence's age: the last word of all in the authors' code."""
        if self.position == "code" and self.slope is not None:
            return 1 + self.slope * self._steep(self._longest)
        return 1.0

    def _steep(self, j: int) -> float:
        return (j - (self._longest + 1) / 2) / self._longest


class Sentences:
    """A bank of sentences, ready to be embedded by any table of word vectors.

    Args:
        sentences: word ids of each sentence, all from 1 on; an empty one embeds as zero.
        weights: the form of position encoding.
        num_words: rows of the tables of word vectors; their first row is that of word id 1.
    """

    def __init__(
        self, sentences: Sequence[Sequence[int]], weights: Weights, num_words: int
    ) -> None:
        self._slope = weights.slope
        self._size = (len(sentences), num_words)
        rows = [row for row, ids in enumerate(sentences) for _ in ids]
        words = [word - 1 for ids in sentences for word in ids]
        pairs = [pair for ids in sentences for pair in weights.of_words(len(ids))]
        self._rows, self._words = torch.tensor(rows).long(), torch.tensor(words).long()
        self._pairs = torch.tensor(pairs, dtype=torch.float64).view(-1, 2)
        self._bags: Tensor | None = None
        self._lists: tuple[Tensor, Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return self._size[0]

    @torch.inference_mode(False)  # what is kept here may later be asked with a gradient
    def to(self, like: Tensor) -> "Sentences":
        """Move to the device and dtype of a table, in place; both forms are laid out once."""
        if self._pairs.device == like.device and self._pairs.dtype == like.dtype:
            return self
        self._rows, self._words = self._rows.to(like.device), self._words.to(like.device)
        self._pairs = self._pairs.to(like)
        self._slope = None if self._slope is None else self._slope.to(like)
        self._bags = self._lists = None
        return self

    def embed(self, table: Tensor) -> Tensor:
        """Embed every sentence: table [..., words, d] -> [..., sentences, d].

        Hops and restarts are leading axes of the table; one product serves them all.
        """
        self.to(table)
        if self._slope is not None:
            table = torch.cat([table, table * self._slope], dim=-2)
        sentences, words = self._size
        halves = 1 if self._slope is None else 2
        if sentences * words * halves > _LARGEST_DENSE:
            return self._embed_by_words(table, halves)
        if self._bags is None:
            self._bags = self._lay_out_bags(halves)
        return self._bags @ table

    def _embed_by_words(self, table: Tensor, halves: int) -> Tensor:
        """The same where the matrix of bags would be too large: the words are gathered."""
        if self._lists is None:
            self._lists = self._lay_out_lists(halves)
        ids, starts, pairs = self._lists
        columns = table.movedim(-2, 0)
        embedded = functional.embedding_bag(
            ids, columns.flatten(1), starts, mode="sum", per_sample_weights=pairs
        )
        return embedded.view(len(self), *columns.shape[1:]).movedim(0, -2)

    @torch.inference_mode(False)
    def _lay_out_lists(self, halves: int) -> tuple[Tensor, Tensor, Tensor]:
        """The words of all sentences, sentence after sentence: rows, where each begins, weights."""
        ids = torch.cat([self._words + half * self._size[1] for half in range(halves)])
        row_of_id, order = self._rows.repeat(halves).sort(stable=True)
        starts = torch.searchsorted(row_of_id, torch.arange(len(self), device=ids.device))
        return ids[order], starts, self._pairs[:, :halves].T.reshape(-1)[order]

    @torch.inference_mode(False)
    def _lay_out_bags(self, halves: int) -> Tensor:
        sentences, words = self._size
        bags = self._pairs.new_zeros(sentences, halves, words)
        for half in range(halves):
            place = (self._rows, torch.full_like(self._rows, half), self._words)
            bags.index_put_(place, self._pairs[:, half], accumulate=True)
        return bags.view(sentences, halves * words)


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
        recipe: its ``position``, ``memory_dim``, ``memory_slots`` and ``mask_empty_slots`` count.
        sizes: what was measured on the training text.
    """

    def __init__(self, vocabulary: Vocabulary, recipe: Recipe, sizes: Sizes) -> None:
        self.vocabulary = vocabulary
        self.sizes = sizes
        self.weights = Weights(recipe.position, recipe.memory_dim, sizes.sentence_words)
        self._full_width = not recipe.mask_empty_slots

    def encode(self, examples: Sequence[Example]) -> Encoded:
        """Number the statements, questions and answers; of a long story the last slots count."""
        most = self.sizes.memory_slots
        width = max((min(len(example.story), most) for example in examples), default=0)
        slots = torch.zeros(len(examples), most if self._full_width else width).long()
        bank: dict[tuple[int, ...], int] = {(): 0}
        seen: dict[str, int] = {}  # a sentence recurs in many stories: split it once

        def row(sentence: str) -> int:
            if sentence not in seen:
                words = tuple(self.vocabulary.ids(split_words(sentence)))
                seen[sentence] = bank.setdefault(words, len(bank))
            return seen[sentence]

        lengths, question, answers = [], [], []
        for index, example in enumerate(examples):
            rows = [row(statement) for statement in example.story[-most:]]
            slots[index, : len(rows)] = torch.tensor(rows).long()
            lengths.append(len(rows))
            question.append(row(example.question))
            answers.append(self._answer(example.answer))
        sentences = Sentences(list(bank), self.weights, len(self.vocabulary) - 1)
        numbers = (torch.tensor(column).long() for column in (lengths, question, answers))
        return Encoded(sentences, slots, *numbers)

    def _answer(self, answer: str) -> int:
        word = answer_word(answer)
        return self.vocabulary.ids([word])[0] if word in self.vocabulary else NO_ANSWER


def answer_word(answer: str) -> str:
    """An answer as the one class it is: lower-case, a list joined by commas alone.

    >>> answer_word("Apple, milk")
    'apple,milk'
    """
    return ",".join(" ".join(split_words(part)) for part in answer.split(","))


def training_vocabulary(examples: Iterable[Example]) -> Vocabulary:
    """The words of training examples in order of first appearance, answers among them.

    Raises:
        MemhopError: an answer without a word.
    """

    def words() -> Iterable[str]:
        seen: set[str] = set()
        for example in examples:
            for sentence in (*example.story, example.question):
                if sentence not in seen:
                    seen.add(sentence)
                    yield from split_words(sentence)
            answer = answer_word(example.answer)
            if not answer.strip(","):
                raise MemhopError(
                    f"an answer needs a word, got {example.answer!r:.60} "
                    f"to the question {example.question!r:.60}"
                )
            yield answer

    return Vocabulary(words())
