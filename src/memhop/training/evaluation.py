"""Evaluate a model: error, attention to supporting facts, unknown words."""

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from memhop.example import Example
from memhop.text.encoding import NO_ANSWER, Batch, Encoded
from memhop.text.model import MemN2N
from memhop.text.reading import SplitSentences, Words, readable
from memhop.tokenizer import answer_word

FAILED_ABOVE = 5.0  # percent of wrong answers, above which the paper counts a task as failed
# Slots of a chunk, of each restart, to bound the memory. Independent of the number of restarts,
# since matrix products of other sizes round differently.
_CHUNK = 2**15


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on some questions.

    Attributes:
        questions: number of questions.
        error: percentage of wrong answers.
        support_read: percentage of the questions with supporting facts for which a hop attends most
            to one of these; None if no question has supporting facts.
        majority_error: the error in percent of always giving the most frequent answer of these
            questions, a baseline without memory.
        unknown_words: words of their stories and questions outside the vocabulary.
        unknown_answers: right answers outside the vocabulary; the model cannot give them.
        truncated_stories: number of questions whose story exceeds the memory.
        answers: the answer given to each question, a vocabulary entry (`answer_word`); empty if the
            model knows no word of the story or of the question, which counts as wrong.
    """

    questions: int
    error: float
    support_read: float | None
    majority_error: float = 0.0
    unknown_words: tuple[str, ...] = ()
    unknown_answers: tuple[str, ...] = ()
    truncated_stories: int = 0
    answers: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def failed(self) -> bool:
        """Whether more than 5% are wrong, a failed task in the paper's count."""
        return self.error > FAILED_ABOVE


@torch.inference_mode()
def score(model: MemN2N, encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Return error in percent and mean loss of each restart, without noise: float64 [R] each.

    For a single model R = 1. An answer outside the vocabulary is wrong and has no loss. Unlike in
    `evaluate`, a guess without a known word of the story may be right.
    """
    restarts = model.restarts or 1
    wrong, loss = torch.zeros(restarts).double(), torch.zeros(restarts).double()
    for scores, _, answers in _asked(model, encoded):
        guesses = model.guesses(scores)
        wrong += (guesses != answers).view(restarts, -1).sum(-1).cpu()
        rows = model.answer_rows(answers)
        losses = functional.cross_entropy(
            scores.flatten(0, -2), rows.flatten(), reduction="none", ignore_index=NO_ANSWER
        )
        loss += losses.view(restarts, -1).double().sum(-1).cpu()
    count = max(1, len(encoded.answers))
    return wrong * 100 / count, loss / count


@torch.inference_mode()
def wrong_answers(model: MemN2N, encoded: Encoded) -> Tensor:
    """Return whether each restart answers each question wrongly: bool [R, E] on the CPU.

    For a single model R = 1. See `score`.
    """
    restarts = model.restarts or 1
    parts = [
        (model.guesses(scores) != answers).view(restarts, -1).cpu()
        for scores, _, answers in _asked(model, encoded)
    ]
    return torch.cat(parts, dim=1) if parts else torch.zeros(restarts, 0, dtype=torch.bool)


@torch.inference_mode()
def evaluate(model: MemN2N, examples: Sequence[Example]) -> Evaluation:
    """Evaluate a single model on examples; see `Evaluation`.

    Raises:
        ValueError: a model of several restarts.
        MemhopError: an item that is no `Example` (`memhop.text.reading.readable`).
    """
    if model.restarts is not None:
        raise ValueError(f"evaluate: expected one model, got {model.restarts}; pick() one")
    words = SplitSentences()
    examples = readable(examples, words=words)
    encoded = model.encoder.encode(examples, words).at(model.tables.device)
    first = [max(0, len(example.story) - model.sizes.memory_slots) for example in examples]
    with_support = support_read = index = 0
    guesses: list[int] = []
    for scores, attention, answers in _asked(model, encoded):
        guesses += model.guesses(scores).tolist()
        lengths = encoded.lengths[index : index + len(answers)]
        for strongest in _strongest(attention, lengths):
            facts = {fact - first[index] for fact in examples[index].supporting_facts}
            with_support += bool(facts)
            support_read += not facts.isdisjoint(strongest)
            index += 1
    read = 100 * support_read / with_support if with_support else None
    given = _given(model, examples, guesses, words)
    wrong = sum(map(operator.ne, given, (answer_word(example.answer) for example in examples)))
    return Evaluation(
        len(examples),
        100 * wrong / max(1, len(examples)),
        read,
        majority_error(examples),
        model.vocabulary.unknown(chain.from_iterable(words.values())),
        model.vocabulary.unknown(answer_word(example.answer) for example in examples),
        sum(number > 0 for number in first),
        given,
    )


def _given(
    model: MemN2N, examples: Sequence[Example], guesses: Sequence[int], words: Words
) -> tuple[str, ...]:
    """Return the answers, empty if the model knows no word of the story or of the question."""
    known = {text: any(word in model.vocabulary for word in split) for text, split in words.items()}
    return tuple(
        model.vocabulary.word(guess)
        if known[example.question] and any(known[sentence] for sentence in example.story)
        else ""
        for example, guess in zip(examples, guesses, strict=True)
    )


def confusion(examples: Sequence[Example], answers: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how often each answer was given where another, or the same, is right.

    Args:
        examples: questions with their right answers.
        answers: `Evaluation.answers`.

    >>> asked = [Example((), "Why?", right) for right in ("Yes", "yes", "no")]
    >>> confusion(asked, ["yes", "no", "no"])
    {'no': {'no': 1}, 'yes': {'no': 1, 'yes': 1}}
    """
    pairs = Counter(zip((answer_word(one.answer) for one in examples), answers, strict=True))
    table: dict[str, dict[str, int]] = {}
    for (right, answer), count in sorted(pairs.items()):
        table.setdefault(right, {})[answer] = count
    return table


def majority_error(examples: Sequence[Example]) -> float:
    """Return the error in percent of always giving the most frequent answer of the examples.

    >>> majority_error([Example((), "Why?", answer) for answer in ("yes", "Yes", "no", "no", "no")])
    40.0
    """
    answers = Counter(answer_word(example.answer) for example in examples)
    return 100 - 100 * max(answers.values()) / answers.total() if answers else 0.0


def _strongest(attention: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the sentence with most attention of each hop, given [B, hops, N], for B questions.

    Slots from ``lengths`` [B] on are empty, but may have attention (recipe ``paper``).
    """
    if not attention.shape[-1]:
        return [[] for _ in range(attention.shape[0])]
    slot = torch.arange(attention.shape[-1], device=attention.device)
    empty = slot >= lengths[:, None, None]
    return [list(hops) for hops in attention.masked_fill(empty, -torch.inf).argmax(-1).tolist()]


def _asked(model: MemN2N, encoded: Encoded) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield scores, attention and right answers for chunks of questions."""
    axes = () if model.restarts is None else (model.restarts,)
    chunk = max(1, _CHUNK // max(1, encoded.slots.shape[-1]))
    for start in range(0, len(encoded.answers), chunk):
        rows = slice(start, start + chunk)
        batch = model.batch_of(encoded, rows)
        lead = [tensor.expand(*axes, *tensor.shape) for tensor in batch[1:5]]
        scores, attention = model(Batch(batch.sentences, *lead), need_weights=True)
        yield scores, attention, encoded.answers[rows].expand(*axes, -1)
