"""The hops over frozen vectors: one learned matrix a hop."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from memhop import ops
from memhop.checkpoint import (
    RETRIEVAL,
    SCHEMA,
    check_schema,
    from_json,
    from_tensors,
    kind_of,
    part,
    read_checkpoint,
    to_json,
    to_tensors,
    write_checkpoint,
)
from memhop.errors import MemhopError, check_integer
from memhop.ops.inputs import Stored
from memhop.ops.streamed import StreamedMemory
from memhop.pretrained import Pretrained
from memhop.pretrained.card import CardText
from memhop.pretrained.storable import check_storable
from memhop.retrieval.memory import Memory
from memhop.retrieval.questions import Questions
from memhop.runs import model_of

START_SCALE = 20.0  # the scores of unit vectors then differ by up to 80: no weight is 0 in float32
_WEIGHTS, _SETTINGS = "model.safetensors", "retrieval.json"
_MAX_DIM, _MAX_HOPS = 1_000_000, 1_000
_WEIGHTS_AT_ONCE = 2**24  # of a search, questions x hops x rows


class HopHits(NamedTuple):
    """The rows that a hop of one question reads most, with the greatest weight first.

    Attributes:
        ids: their ids in the memory.
        weights: the weight of each, from 0 to 1.
        covered: the sum of these weights: the share of the attention that the rows explain.
    """

    ids: tuple[Hashable, ...]
    weights: tuple[float, ...]
    covered: float


class HopRead(NamedTuple):
    """What a hop reads for M questions.

    Attributes:
        query: s u_k, [M, key_dim].
        weights: p_k, [M, N].
        state: e_{k+1}, [M, V].
    """

    query: Tensor
    weights: Tensor
    state: Tensor


class RetrievalModel(nn.Module, Pretrained):
    """Hops over a memory of frozen keys k_i and values v_i, with one learned matrix W_k a hop.

    q is the vector of the question and e_1 that of its topic, or zero without one. Hop k reads

        p_ki = softmax_i(s u_k . k_i),   u_k = [e_k; W_k q],   e_{k+1} = sum_i p_ki v_i

    by `memhop.ops.read`. Where a key is as wide as a value, as for passages, one vector is
    compared with both parts: u_k = e_k + W_k q, which is the same score for a key [x_i; x_i]
    stored once. s = exp(log_scale) starts at 20 and each W_k at the identity, so that an untrained
    model compares the question itself with the relations or passages.

    Args:
        key_dim: columns of the keys: V + Q, or V.
        value_dim: V, columns of the values and of the topics.
        num_hops: K.

    State dict: ``question_maps`` [K, Q, Q], ``log_scale`` []; float32.

    >>> model = RetrievalModel(key_dim=4, value_dim=2, num_hops=2)
    >>> memory = Memory(torch.eye(4), torch.eye(4)[:, :2])
    >>> model(memory, Questions([[1.0, 0.0]], topics=[[0.0, 1.0]])).shape
    torch.Size([1, 2, 4])
    """

    _kind = RETRIEVAL

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        num_hops: int,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.key_dim = check_integer("key_dim", key_dim, 1, _MAX_DIM)
        self.value_dim = check_integer("value_dim", value_dim, 1, key_dim)
        self.num_hops = check_integer("num_hops", num_hops, 1, _MAX_HOPS)
        self.question_dim = key_dim - value_dim or value_dim
        shape = (num_hops, self.question_dim, self.question_dim)
        self.question_maps = nn.Parameter(torch.empty(shape, dtype=torch.float32, device=device))
        self.log_scale = nn.Parameter(torch.empty((), dtype=torch.float32, device=device))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set each W_k to the identity, and the scale to its first value."""
        if not self.log_scale.is_meta:
            self.question_maps.copy_(torch.eye(self.question_dim, dtype=torch.float32))
            self.log_scale.copy_(torch.tensor(START_SCALE, dtype=torch.float32).log())

    def forward(self, memory: Memory, questions: Questions) -> Tensor:
        """Return the attention of each hop, p, [M, K, N].

        Raises:
            MemhopError: vectors of other sizes than the model's.
        """
        return torch.stack([hop.weights for hop in self._hops(memory, questions)], dim=-2)

    def log_attention(self, memory: Memory, questions: Questions) -> list[Tensor]:
        """Return log p of each hop, [M, N], finite where p itself is 0 in float32.

        Raises:
            MemhopError: vectors of other sizes than the model's.
        """
        hops = self._hops(memory, questions)
        return [functional.linear(hop.query, memory.keys).log_softmax(dim=-1) for hop in hops]

    def _hops(self, memory: Memory, questions: Questions) -> Iterator["HopRead"]:
        self.check_sizes(memory, questions)
        # Eager: every weight is needed, so that a fused form saves nothing, and the bits do
        # not depend on whether its kernels have been compiled.
        return self.read_hops(
            questions.vectors, memory.keys, memory.values, topics=questions.topics, impl="eager"
        )

    def read_hops(
        self,
        questions: Tensor,
        keys: Stored | StreamedMemory,
        values: Stored | None = None,
        *,
        topics: Tensor | None = None,
        padding_mask: Tensor | None = None,
        impl: str = "auto",
    ) -> Iterator["HopRead"]:
        """Yield what each hop reads of keys and values that are neither copied nor checked.

        Args:
            questions: the vectors of M questions, [M, Q].
            keys: [N, key_dim], anything that `memhop.ops.read` reads.
            values: [N, V]; None means the keys.
            topics: the states before the first hop, [M, V]; None means zero.
            padding_mask: bool [N] or [M, N], True = ignore that row.
            impl: as for `memhop.ops.read`.

        Raises:
            ValueError: as `memhop.ops.read`.

        >>> model = RetrievalModel(key_dim=2, value_dim=2, num_hops=1)
        >>> [hop] = model.read_hops(torch.eye(2)[:1], torch.eye(2).bfloat16())
        >>> hop.weights.argmax()
        tensor(0)
        """
        scale, state = self.log_scale.exp(), self._first_state(questions, topics)
        for question_map in self.question_maps:
            query = scale * self._joined(state, functional.linear(questions, question_map))
            state, weights = ops.read(
                query, keys, values, padding_mask=padding_mask, need_weights=True, impl=impl
            )
            yield HopRead(query, weights, state)

    def last_state(
        self,
        questions: Tensor,
        keys: Stored | StreamedMemory,
        *,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Return what the last hop reads, [M, V], without the weights; see `read_hops`.

        >>> model = RetrievalModel(key_dim=2, value_dim=2, num_hops=2)
        >>> model.last_state(torch.eye(2)[:1], torch.eye(2)).argmax()
        tensor(0)
        """
        scale, state = self.log_scale.exp(), self._first_state(questions, None)
        for question_map in self.question_maps:
            query = scale * self._joined(state, functional.linear(questions, question_map))
            state = ops.read(query, keys, padding_mask=padding_mask)
        return state

    def _first_state(self, questions: Tensor, topics: Tensor | None) -> Tensor:
        if topics is not None:
            return topics
        return self.log_scale.new_zeros(len(questions), self.value_dim)  # nothing has been read

    def _joined(self, state: Tensor, mapped: Tensor) -> Tensor:
        """Return u_k from e_k and W_k q, [M, key_dim]."""
        is_joined = self.key_dim > self.value_dim
        return torch.cat([state, mapped], dim=-1) if is_joined else state + mapped

    def search(self, memory: Memory, questions: Questions, k: int = 5) -> list[list[HopHits]]:
        """Return for each question and hop the k rows that are read most.

        Args:
            memory, questions: any with vectors of the sizes of those of the training.
            k: at least 1; a memory of fewer rows gives all of them.

        Raises:
            MemhopError: vectors of other sizes than the model's, or a wrong k.

        >>> model = RetrievalModel(key_dim=2, value_dim=2, num_hops=1)
        >>> memory = Memory([[1.0, 0.0], [0.0, 1.0]], ids=["east", "north"])
        >>> [[hop]] = model.search(memory, Questions([[0.0, 1.0]]), k=1)
        >>> hop.ids, round(hop.covered, 3)
        (('north',), 1.0)
        """
        weights, rows = self.top_rows(memory, questions, check_integer("k", k, 1))
        return [
            [
                HopHits(tuple(memory.ids[row] for row in hop_rows), tuple(hop), sum(hop))
                for hop, hop_rows in zip(*both, strict=True)
            ]
            for both in zip(weights.tolist(), rows.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def top_rows(self, memory: Memory, questions: Questions, k: int) -> tuple[Tensor, Tensor]:
        """Return the k greatest weights of each question and hop, [M, K, k], and their rows."""
        self.check_sizes(memory, questions)
        device = self.log_scale.device
        memory, questions = memory.to(device), questions.to(device)
        at_once = max(1, _WEIGHTS_AT_ONCE // (self.num_hops * len(memory)))
        tops = [
            self(memory, questions.select(rows)).topk(min(k, len(memory)))
            for rows in torch.split(torch.arange(len(questions)), at_once)
        ]
        return torch.cat([top.values for top in tops]), torch.cat([top.indices for top in tops])

    def check_sizes(self, memory: Memory, questions: Questions) -> None:
        """Check that vectors have the sizes of the model's.

        Raises:
            MemhopError: other sizes.
        """
        sizes = {
            "keys": (memory.keys, self.key_dim),
            "values": (memory.values, self.value_dim),
            "questions": (questions.vectors, self.question_dim),
            "topics": (questions.topics, self.value_dim),
        }
        for name, (vectors, dim) in sizes.items():
            if vectors is not None and vectors.shape[1] != dim:
                raise MemhopError(
                    f"{name}: expected vectors of {dim} numbers, got {vectors.shape[1]}"
                )

    def save(self, folder: str | Path) -> None:
        """Write the model to a new folder; `load` reads it. The memory is not part of it.

        Raises:
            MemhopError: the folder exists, or cannot be written.
        """
        write_checkpoint(Path(folder), self.to_files(), RETRIEVAL)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the model that `save` wrote. No code of the files is run.

        Raises:
            MemhopError: no such folder, corrupt files, or a model of another kind.
        """
        folder = Path(folder)
        if (kind := kind_of(folder)) != RETRIEVAL:
            raise MemhopError(f"{folder}: expected {model_of(RETRIEVAL)}, got {model_of(kind)}")
        return cls.from_files(read_checkpoint(folder), folder)

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a checkpoint: weights and sizes."""
        settings = {"schema": SCHEMA, **self._settings()}
        return {_WEIGHTS: to_tensors(self.state_dict()), _SETTINGS: to_json(settings)}

    @classmethod
    def from_files(cls, files: dict[str, bytes], folder: Path) -> Self:
        """Return the model in the files of a checkpoint; ``folder`` is named in errors."""
        path = folder / _SETTINGS
        settings = from_json(part(files, _SETTINGS, folder), path)
        check_schema(settings, path)
        names = ("key_dim", "value_dim", "num_hops")
        try:
            sizes = {name: check_integer(name, settings.get(name), 1) for name in names}
            model = cls(**sizes, device="meta")
        except MemhopError as error:
            raise MemhopError(f"{path}: {error}") from error
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        weights = from_tensors(part(files, _WEIGHTS, folder), shapes, folder / _WEIGHTS)
        model.load_state_dict(weights, assign=True)
        return model.eval()

    def _module(self) -> nn.Module:
        return self

    def _check_storable(self) -> None:
        check_storable(self, RetrievalModel(**self._settings(), device="meta"))

    def _settings(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("key_dim", "value_dim", "num_hops")}

    def _card_text(self) -> CardText:
        lines = [
            "import torch", "from memhop.retrieval import Memory, Questions, RetrievalModel", "",
            "model = RetrievalModel.from_pretrained(NAME)",
            f"keys, values = torch.randn(5, {self.key_dim}), torch.randn(5, {self.value_dim})",
            f"questions = Questions(torch.randn(1, {self.question_dim}))",
            "print(model.search(Memory(keys, values), questions, k=1))",
        ]  # fmt: skip
        return CardText("Hops over frozen vectors of any encoder, with one matrix a hop.",
                        "\n".join(lines))  # fmt: skip

    def extra_repr(self) -> str:
        return f"key_dim={self.key_dim}, value_dim={self.value_dim}, num_hops={self.num_hops}"
