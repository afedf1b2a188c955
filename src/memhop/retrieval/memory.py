"""The memory: a key vector and a value vector for each fact or passage."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch

from memhop.errors import MemhopError, shown
from memhop.retrieval.encoder import Encoder, encode, matrix

Triple = tuple[str, str, str]  # subject, relation, object


class Memory:
    """Facts or passages by their vectors; the vectors are never trained.

    A key is [a_i; b_i]: a_i is compared with the state of a hop, which is what the hop before has
    read, and b_i with the question. A fact has a_i = subject, b_i = relation, and its value is
    the object. A passage has one vector for all three: then the key is stored once.

    Args:
        keys: [N, V + Q] or [N, V], where Q is the size of a question's vector. With V columns the
            key is used for both parts, and Q = V.
        values: [N, V]; None means the keys.
        ids: N distinct hashable names of the rows, by which questions and results refer to them;
            None means 0 to N - 1.
        answers: what each row answers, N hashable values that need not be distinct; None means
            the ids.

    Vectors should have a length of about 1 (of a fact: the subject and the relation each). They
    are used as float32.

    Raises:
        MemhopError: other shapes, numbers that are not finite, or repeated ids.

    >>> memory = Memory([[1.0, 0.0], [0.0, 1.0]], ids=["first", "second"])
    >>> len(memory), memory.rows_of("second")
    (2, (1,))
    """

    def __init__(
        self,
        keys: Any,
        values: Any = None,
        *,
        ids: Iterable[Hashable] | None = None,
        answers: Iterable[Hashable] | None = None,
    ) -> None:
        self.keys = matrix("keys", keys)
        self.values = self.keys if values is None else matrix("values", values)
        num_rows, (key_dim, value_dim) = len(self.keys), (self.keys.shape[1], self.values.shape[1])
        if len(self.values) != num_rows:
            raise MemhopError(f"values: expected {num_rows} rows, as keys, got {len(self.values)}")
        if key_dim < value_dim:
            raise MemhopError(
                f"keys: expected at least {value_dim} columns, as values, got {key_dim}"
            )
        self.ids = _names("ids", range(num_rows) if ids is None else ids, num_rows)
        self.answers = self.ids if answers is None else _names("answers", answers, num_rows)
        self._row_of_id = {name: row for row, name in enumerate(self.ids)}
        if len(self._row_of_id) < num_rows:
            row = next(row for row, name in enumerate(self.ids) if self._row_of_id[name] != row)
            other = self._row_of_id[self.ids[row]]
            raise MemhopError(
                f"ids: expected distinct ids, got {shown(self.ids[row])} in rows {row} and {other}"
            )
        by_answer: dict[Hashable, list[int]] = {}
        for row, answer in enumerate(self.answers):
            by_answer.setdefault(answer, []).append(row)
        self._rows_of_answer = {answer: tuple(rows) for answer, rows in by_answer.items()}

    @classmethod
    def of_facts(cls, triples: Iterable[Triple], encoder: Encoder) -> "Memory":
        """Return the memory of facts (subject, relation, object); repeated facts are left out.

        The id of a fact is its triple, and it answers its object. Vectors are divided by their
        lengths. Names go to the encoder as they are: write them as readable text.

        Raises:
            MemhopError: no facts, something that is no triple of texts, or a wrong result of the
                encoder.

        >>> def encoder(texts):
        ...     return [[text.count("a"), text.count("b")] for text in texts]
        >>> memory = Memory.of_facts([("a", "b", "ab")], encoder)
        >>> memory.keys, memory.ids, memory.answers
        (tensor([[1., 0., 0., 1.]]), (('a', 'b', 'ab'),), ('ab',))
        """
        facts = list(dict.fromkeys(_triple(row, fact) for row, fact in enumerate(triples)))
        columns = [fact[part] for part in range(3) for fact in facts]
        subjects, relations, objects = encode(encoder, columns).chunk(3)
        keys = torch.cat([subjects, relations], dim=-1)
        return cls(keys, objects, ids=facts, answers=[fact[2] for fact in facts])

    @classmethod
    def of_passages(
        cls, texts: Iterable[str], encoder: Encoder, *, ids: Iterable[Hashable] | None = None
    ) -> "Memory":
        """Return the memory of passages; vectors are divided by their lengths.

        Args:
            texts: the passages.
            encoder: called once with the distinct passages.
            ids: as for `Memory`; None numbers the passages from 0 on.

        Raises:
            MemhopError: no passages, something that is no text, or a wrong result of the encoder.
        """
        return cls(encode(encoder, list(texts)), ids=ids)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        (rows, key_dim), value_dim = self.keys.shape, self.values.shape[1]
        return f"Memory({rows} rows, key_dim={key_dim}, value_dim={value_dim})"

    def rows_of(self, name: Hashable) -> tuple[int, ...]:
        """Return the row with an id, as a tuple of one number; () if there is none."""
        row = self._row_of_id.get(name) if _is_hashable(name) else None
        return () if row is None else (row,)

    def rows_answering(self, answer: Hashable) -> tuple[int, ...]:
        """Return the rows that give an answer; () if there is none."""
        return self._rows_of_answer.get(answer, ()) if _is_hashable(answer) else ()

    def to(self, device: torch.device | str) -> "Memory":
        """Return the memory with its vectors on a device; itself if they are there."""
        keys = self.keys.to(device)
        if keys is self.keys:
            return self
        memory = object.__new__(Memory)
        memory.__dict__.update(self.__dict__)
        memory.keys = keys
        memory.values = keys if self.values is self.keys else self.values.to(device)
        return memory


def _names(name: str, values: Iterable[Hashable], num_rows: int) -> tuple[Hashable, ...]:
    names = tuple(values)
    if len(names) != num_rows:
        raise MemhopError(f"{name}: expected {num_rows}, one for each row, got {len(names)}")
    for row, value in enumerate(names):
        if not _is_hashable(value):
            raise MemhopError(f"{name}: expected hashable values, got {shown(value)} in row {row}")
    return names


def _is_hashable(value: object) -> bool:
    try:
        hash(value)  # a tuple with a list in it is an instance of Hashable
    except TypeError:
        return False
    return True


def _triple(row: int, fact: Any) -> Triple:
    is_sequence = isinstance(fact, Sequence) and not isinstance(fact, str)
    if is_sequence and len(fact) == 3 and all(isinstance(part, str) for part in fact):
        return (fact[0], fact[1], fact[2])
    raise MemhopError(
        f"fact {row}: expected three texts (subject, relation, object), got {shown(fact)}"
    )
