"""Random changes of a store, and the same changes in a model in RAM."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop import Quantized
from memhop.storage.record import Id
from memhop.storage.store import Store

DIM = 23  # rows of 92 bytes cross the borders of sectors and pages
_MOST_LIVE = 400


class Change(NamedTuple):
    """A method of a store with its arguments."""

    method: str
    arguments: dict[str, Any]

    def apply(self, store: Store) -> Any:
        """Apply it to a store."""
        return getattr(store, self.method)(**self.arguments)


@dataclass
class ModelRow:
    """A row as it should be; a time of None is any."""

    id: Id
    vector: Tensor
    text: str | None = None
    payload: dict[str, Any] | None = None
    time: float | None = None
    is_dead: bool = False


class Difference(NamedTuple):
    """How a store differs from a model: live rows that are missing, and rows that are wrong."""

    lost: int
    wrong: int


@dataclass
class Model:
    """What a store should hold."""

    dtype: torch.dtype = torch.float32
    rows: list[ModelRow] = field(default_factory=list)
    next_id: int = 0

    @property
    def live(self) -> dict[Id, ModelRow]:
        """The live rows by id."""
        return {row.id: row for row in self.rows if not row.is_dead}

    def copy(self) -> "Model":
        """Return a copy that changes on its own."""
        rows = [ModelRow(**vars(row)) for row in self.rows]
        return Model(self.dtype, rows, self.next_id)

    def apply(self, change: Change) -> Any:
        """Apply a change; return what the store returns."""
        apply: Callable[..., Any] = getattr(self, f"_{change.method}")
        return apply(**change.arguments)

    def _add(
        self, vectors: Tensor, ids: list[Id] | None = None, **given: list[Any] | None
    ) -> list[Id]:
        count = len(vectors)
        names = list(range(self.next_id, self.next_id + count)) if ids is None else ids
        numbers = [name + 1 for name in names if isinstance(name, int)]
        self.next_id = max([self.next_id, *numbers])
        for place, name in enumerate(names):
            row = ModelRow(name, self._stored(vectors[place]))
            self._set(row, place, given)
            self.rows.append(row)
        return list(names)

    def _update(
        self, ids: list[Id], vectors: Tensor | None = None, **given: list[Any] | None
    ) -> None:
        live = self.live
        for place, name in enumerate(ids):
            row = ModelRow(**vars(live[name]))
            live[name].is_dead = True
            if vectors is not None:
                row.vector = self._stored(vectors[place])
            self._set(row, place, given)
            self.rows.append(row)

    def _delete(self, ids: list[Id]) -> int:
        live = self.live
        for name in ids:
            live[name].is_dead = True
        return len(ids)

    def _compact(self) -> None:
        self.rows = [row for row in self.rows if not row.is_dead]

    def _stored(self, vector: Tensor) -> Tensor:
        if self.dtype is torch.int8:
            return Quantized.of(vector.unsqueeze(0)).dequantized()[0]
        return vector.to(self.dtype).float()

    @staticmethod
    def _set(row: ModelRow, place: int, given: dict[str, list[Any] | None]) -> None:
        for name, values in given.items():
            if values is not None:
                setattr(row, name.removesuffix("s"), values[place])

    def difference(self, store: Store) -> Difference:
        """Compare all rows of a store: order, ids, vectors, texts, payloads, times."""
        memories, mask, ids = store.snapshot()
        found = list(ids)
        is_dead = [False] * len(found) if mask is None else mask.tolist()
        live = self.live
        present = {name for name, dead in zip(found, is_dead, strict=True) if not dead}
        lost = len(live.keys() - present)
        wrong = len(present - live.keys())
        if found != [row.id for row in self.rows] or is_dead != [row.is_dead for row in self.rows]:
            wrong = max(wrong, int(lost == 0))
        records = store.get([name for name in live if name in present])
        for record in records:
            row = live[record.id]
            assert record.vector is not None
            wrong += not (
                torch.equal(record.vector, row.vector)
                and (record.text, record.payload) == (row.text, row.payload)
                and row.time in (None, record.time)
            )
        if isinstance(memories, Quantized):
            memories = memories.dequantized()
        assert isinstance(memories, Tensor)
        if lost == wrong == 0:
            rows = [row.vector for row in self.rows]
            expected = torch.stack(rows) if rows else torch.empty(0, DIM)
            wrong += int((memories.float() != expected).any(-1).sum())
            wrong += len(store) != len(live)
        return Difference(lost, wrong)


def draw(model: Model, seed: int, number: int) -> Change:
    """Return the change of a number, the same one for the same seed and model."""
    rng = random.Random(f"{seed} {number}")
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    live = sorted(model.live, key=str)

    def vectors(count: int) -> Tensor:
        return torch.randn(count, DIM, generator=generator)

    def some(most: int) -> list[Id]:
        return rng.sample(live, rng.randint(1, min(most, len(live))))

    kinds = ["add", "add", "run", "run", "update", "update", "delete", "compact"]
    kind = rng.choice(kinds)
    if len(live) > _MOST_LIVE:
        kind = "delete"
    elif not live:
        kind = "add"
    match kind:
        case "run":
            return Change("add", {"vectors": vectors(rng.choice([1, 1, 30, 120]))})
        case "add":
            count = rng.choice([1, 1, 5, 40])
            ids: list[Id] = [f"{number}/{place}" for place in range(count)]
            return Change("add", {
                "vectors": vectors(count),
                "ids": rng.choice([None, ids]),
                "texts": [f"text {place} " * rng.choice([1, 3, 300]) for place in range(count)],
                "payloads": [{"change": number, "place": place} for place in range(count)],
                "times": [float(number)] * count,
            })  # fmt: skip
        case "update":
            changed = some(10)
            with_vectors = rng.random() < 0.7
            return Change("update", {
                "ids": changed,
                "vectors": vectors(len(changed)) if with_vectors else None,
                "texts": [f"changed by {number}"] * len(changed),
            })  # fmt: skip
        case "delete":
            return Change("delete", {"ids": some(120)})
    return Change("compact", {})
