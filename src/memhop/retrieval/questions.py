"""Questions: their vectors, where each starts, and what is known to be right."""

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from memhop.errors import MemhopError, shown
from memhop.retrieval.encoder import Encoder, encode, matrix

Gold = Sequence[Any]  # of a question: an id, or a list of ids, for each hop
Answers = Sequence[Hashable]  # of a question
PLACEHOLDER = "it"  # replaces the topic in the text of a question


class Questions:
    """Questions by their vectors, with the gold rows of each hop or the right answers, if known.

    Args:
        vectors: [M, Q].
        topics: [M, V], the state before the first hop: the vector of the entity that the question
            is about. None if that is not known, as for passages: the state is zero.
        gold: for each question a sequence with one item a hop: the id of the row to read, or a
            list of ids of which each is right. An empty list is a hop of which nothing is known.
        answers: for each question a sequence of right answers, as in ``Memory.answers``.
        texts: the M questions. Training never splits questions of one text: they are all held
            out, or none is.

    Raises:
        MemhopError: other shapes, numbers that are not finite, or other counts.

    >>> questions = Questions([[1.0, 0.0]], topics=[[0.0, 1.0]], answers=[["Paris"]])
    >>> len(questions)
    1
    """

    def __init__(
        self,
        vectors: Any,
        *,
        topics: Any = None,
        gold: Iterable[Gold] | None = None,
        answers: Iterable[Answers] | None = None,
        texts: Iterable[str] | None = None,
    ) -> None:
        self.vectors = matrix("questions", vectors)
        self.topics = None if topics is None else matrix("topics", topics)
        if self.topics is not None and len(self.topics) != len(self):
            raise MemhopError(f"topics: expected {len(self)}, got {len(self.topics)}")
        self.gold = self._per_question("gold", gold)
        self.answers = self._per_question("answers", answers)
        self.texts = None if texts is None else tuple(texts)
        if self.texts is not None and len(self.texts) != len(self):
            raise MemhopError(f"texts: expected {len(self)}, got {len(self.texts)}")

    @classmethod
    def of_texts(
        cls,
        texts: Iterable[str],
        encoder: Encoder,
        *,
        topics: Iterable[str] | None = None,
        gold: Iterable[Gold] | None = None,
        answers: Iterable[Answers] | None = None,
    ) -> "Questions":
        """Return questions from texts; vectors are divided by their lengths.

        Args:
            texts: the questions.
            encoder: that of the memory.
            topics: for each question the name of the entity that it is about, as the facts have
                it. In the text it is replaced by "it", so that the question's vector describes
                the relations. None for passages.
            gold, answers: as for `Questions`.

        Raises:
            MemhopError: no questions, something that is no text, other counts, or a wrong result
                of the encoder.

        >>> def encoder(texts):
        ...     print(texts)
        ...     return [[float(len(text))] for text in texts]
        >>> questions = Questions.of_texts(["Where was Ann born?"], encoder, topics=["Ann"])
        ['Where was it born?', 'Ann']
        """
        whole = list(texts)
        if topics is None:
            return cls(encode(encoder, whole), gold=gold, answers=answers, texts=whole)
        names = list(topics)
        if len(names) != len(whole):
            raise MemhopError(f"topics: expected {len(whole)}, got {len(names)}")
        open_texts = [without_topic(*pair) for pair in zip(whole, names, strict=True)]
        vectors, states = encode(encoder, [*open_texts, *names]).chunk(2)
        return cls(vectors, topics=states, gold=gold, answers=answers, texts=whole)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        known = [name for name in ("topics", "gold", "answers") if getattr(self, name) is not None]
        return f"Questions({len(self)}{''.join(f', {name}' for name in known)})"

    def select(self, rows: Sequence[int] | Tensor) -> "Questions":
        """Return some of the questions, by their numbers in the order of the result."""
        numbers = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        index = torch.tensor(numbers, dtype=torch.long, device=self.vectors.device)
        chosen = self._with_vectors(
            self.vectors[index], None if self.topics is None else self.topics[index]
        )
        for name in ("gold", "answers", "texts"):
            known = getattr(self, name)
            setattr(chosen, name, None if known is None else tuple(known[n] for n in numbers))
        return chosen

    def to(self, device: torch.device | str) -> "Questions":
        """Return the questions with their vectors on a device."""
        topics = None if self.topics is None else self.topics.to(device)
        return self._with_vectors(self.vectors.to(device), topics)

    def _with_vectors(self, vectors: Tensor, topics: Tensor | None) -> "Questions":
        """Return the questions with other vectors, which need no checks."""
        questions = object.__new__(Questions)
        questions.__dict__.update(self.__dict__)
        questions.vectors, questions.topics = vectors, topics
        return questions

    def _per_question(self, name: str, values: Iterable[Any] | None) -> tuple[Any, ...] | None:
        if values is None:
            return None
        items = tuple(values)
        if len(items) != len(self):
            raise MemhopError(f"{name}: expected {len(self)}, one for each question, "
                              f"got {len(items)}")  # fmt: skip
        for number, item in enumerate(items):
            if isinstance(item, str) or not isinstance(item, Sequence):
                raise MemhopError(
                    f"{name} of question {number}: expected a list, got {shown(item)}"
                )
        return items


def without_topic(text: str, topic: str) -> str:
    """Return a question with the topic, as a whole word in any case, replaced by "it".

    >>> without_topic("Who is ann's aunt Annie?", "Ann")
    "Who is it's aunt Annie?"
    """
    if not isinstance(text, str) or not isinstance(topic, str):
        raise MemhopError(
            f"expected a question and its topic as texts, got {shown(text)} and {shown(topic)}"
        )
    if not topic:
        return text
    pattern = rf"(?<!\w){re.escape(topic)}(?!\w)"
    return re.sub(pattern, PLACEHOLDER, text, flags=re.IGNORECASE)
