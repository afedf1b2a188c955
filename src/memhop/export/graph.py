"""A text model as an ONNX graph over padded word ids."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from memhop import __version__
from memhop.checkpoint import STORIES
from memhop.errors import MemhopError
from memhop.ops.inputs import MLP, BankHop
from memhop.ops.reference import run_hops, slots_beyond
from memhop.text.encoding import ages
from memhop.text.model import MemN2N
from memhop.text.vocabulary import NIL, UNKNOWN

INPUTS = {  # their axes
    "story": ("batch", "sentences", "words"),
    "question": ("batch", "question_words"),
    "lengths": ("batch",),
}
OUTPUTS = ("probabilities", "attention")
_OPSET = 18
_MAX_BYTES = 2**31 - 1  # of a protobuf message
_TRACED = {"batch": 3, "sentences": 5, "words": 4, "question_words": 6}  # any sizes but 0 and 1


class TextGraph(nn.Module):
    """The formulas of `MemN2N` in standard operations, which `torch.onnx.export` can write.

    An empty slot of the recipes that do not mask these has the score 0 and the value 0. All n empty
    slots are therefore one slot with the score log(n), and the memory needs no padding.

    Args:
        model: a model without restarts.
    """

    tables: Tensor
    slope: Tensor | None

    def __init__(self, model: MemN2N) -> None:
        super().__init__()
        recipe = model.recipe
        weights = {name: weight.cpu() for name, weight in model.state_dict().items()}
        self._recipe, self._memory_slots = recipe, model.sizes.memory_slots
        self._num_ages = model.num_rows - len(model.vocabulary)
        self._b, a_of_hops, c_of_hops, self._w = model.table_indices
        self._first = min(a_of_hops)  # of the tables that embed the memory
        self._count = max(c_of_hops) + 1 - self._first
        # the columns of all tables side by side: one lookup embeds a word with each of them
        self.register_buffer("tables", weights["tables"].transpose(0, 1).flatten(1).contiguous())
        encoding = model.encoder.position_encoding
        self._longest, self._age_weights = encoding.longest, encoding.of_age()
        slope = encoding.slope
        self.register_buffer("slope", None if slope is None else slope.float())
        pairs = zip(a_of_hops, c_of_hops, strict=True)
        indices = [(a - self._first, c - self._first) for a, c in pairs]
        self._hops = [BankHop(a, c, weights.get("hop_map"), recipe.relu) for a, c in indices]
        self._mlps = []
        if model.network is not None:
            names = ("inner", "bias", "outer")
            by_hop = zip(*(weights[f"network.{name}"] for name in names), strict=True)
            self._mlps = [MLP(*each) for each in by_hop]

    def forward(self, story: Tensor, question: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the answers, [B, words], and the attention, [B, hops, N].

        Args:
            story: word ids, int64 [B, N, words], oldest sentence first, 0 for padding.
            question: word ids, int64 [B, words].
            lengths: sentences of each story, int64 [B].
        """
        width, heads = self._recipe.memory_dim, self._recipe.heads
        memory = self._sentences(story, self._first, self._count)
        memory = memory + self._ages(lengths, story.shape[1])
        slots = memory.view(*story.shape[:2], self._count, heads, width // heads).unbind(-3)
        ignored = slots_beyond(lengths, story.shape[1]).unsqueeze(-2)
        rest = self._empty_slots(lengths).view(-1, 1, 1).expand(-1, heads, 1)

        def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
            keys, values = slots[self._hops[k].keys], slots[self._hops[k].values]
            by_head = query.view(-1, 1, heads, width // heads)
            scores = (keys * by_head).sum(-1).mT.masked_fill(ignored, -torch.inf)
            weights = torch.softmax(torch.cat([scores, rest], -1), -1)
            weights = weights.narrow(-1, 0, scores.shape[-1])
            return (values * weights.mT.unsqueeze(-1)).sum(1).flatten(1), weights

        query = self._sentences(question, self._b, 1)
        query, attentions = run_hops(query, self._hops, read_hop, self._mlps)
        scores = query @ self._columns(self._w, 1).mT
        probabilities = torch.softmax(scores, -1)[:, self._num_ages + UNKNOWN + 1 :]
        return probabilities, torch.stack(attentions, 1).mean(2)

    def _columns(self, first: int, count: int) -> Tensor:
        width = self._recipe.memory_dim
        return self.tables[:, first * width : (first + count) * width]

    def _sentences(self, ids: Tensor, first: int, count: int) -> Tensor:
        """Return sentences [..., words] embedded by some of the tables, [..., count * d]."""
        is_word = ids != NIL
        embedded = functional.embedding(
            torch.where(is_word, ids + self._num_ages, 0), self._columns(first, count)
        )
        weights = self._word_weights(is_word)
        if self.slope is None:
            return (embedded * weights[0].unsqueeze(-1)).sum(-2)
        base, steep = ((embedded * each.unsqueeze(-1)).sum(-2) for each in weights)
        return base + self.slope.repeat(count) * steep

    def _word_weights(self, is_word: Tensor) -> tuple[Tensor, Tensor]:
        """Return base_j and slope_weight_j (`memhop.text.encoding`) of words, 0 of padding."""
        present = is_word.float()
        j = torch.arange(1, is_word.shape[-1] + 1, device=is_word.device).float()
        if self._recipe.position == "paper":
            share = j / present.sum(-1, keepdim=True).clamp(min=1)
            return (1 - share) * present, (1 - 2 * share) * present
        at = j.clamp(max=self._longest - 1)
        return present, (at - (self._longest + 1) / 2) / self._longest * present

    def _ages(self, lengths: Tensor, num_slots: int) -> Tensor:
        """Return the vectors of the ages of all slots, [B, N, count * d]."""
        if not self._num_ages:
            return lengths.new_zeros((), dtype=torch.float32)
        age = ages(lengths, num_slots).clamp(max=self._num_ages)
        base, slope_weight = self._age_weights
        embedded = functional.embedding(age, self._columns(self._first, self._count))
        if self.slope is not None:
            embedded = embedded * (base + slope_weight * self.slope.repeat(self._count))
        return embedded * (age > 0).unsqueeze(-1)

    def _empty_slots(self, lengths: Tensor) -> Tensor:
        """Return the score of all empty slots as one slot, [B]: log(n), or the lowest if masked."""
        if self._recipe.mask_empty_slots:  # then no weight, unless the story is empty
            return torch.full_like(lengths, torch.finfo(torch.float32).min, dtype=torch.float32)
        return (self._memory_slots - lengths).clamp(min=0).float().log()


def onnx_bytes(model: MemN2N) -> bytes:
    """Return a text model as an ONNX file with its weights inside; see `TextGraph` for its axes.

    Raises:
        MemhopError: the model is too large for one file.
        ValueError: a model of several restarts.
    """
    if model.restarts is not None:
        raise ValueError(f"export: expected one model, got {model.restarts}; pick() one")
    graph = TextGraph(model).eval()
    sizes = [[_TRACED[axis] for axis in axes] for axes in INPUTS.values()]
    example = tuple(torch.ones(size, dtype=torch.int64) for size in sizes)
    free = tuple(dict.fromkeys(range(len(axes)), Dim.DYNAMIC) for axes in INPUTS.values())
    if graph.tables.nbytes > _MAX_BYTES:
        raise MemhopError(_too_large(graph.tables.nbytes))
    with _silence():
        # in two steps, as torch.onnx.export of torch 2.9 refuses sizes that may be 1
        exported = torch.export.export(graph, example, dynamic_shapes=free)
        program = torch.onnx.export(
            exported, dynamo=True, verbose=False, opset_version=_OPSET,
            input_names=list(INPUTS), output_names=OUTPUTS,
        )  # fmt: skip
    assert program is not None
    proto = _without_traces(program.model_proto)
    _name_axes(proto)
    proto.producer_name, proto.producer_version = "memhop", __version__
    for key, value in (("memhop_version", __version__), ("memhop_kind", STORIES)):
        proto.metadata_props.add(key=key, value=value)
    if proto.ByteSize() > _MAX_BYTES:
        raise MemhopError(_too_large(proto.ByteSize()))
    return bytes(proto.SerializeToString(deterministic=True))


def _too_large(size: int) -> str:
    return f"export: expected at most {_MAX_BYTES:,} bytes in one ONNX file, got {size:,}"


def _without_traces(proto: Any) -> Any:
    """Remove what torch notes at each node: source lines and paths of this machine."""
    for part in (proto.graph, *proto.functions):
        del part.metadata_props[:]
        part.doc_string = ""
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in part.value_info:
            del value.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    return proto


def _name_axes(proto: Any) -> None:
    """Name the sizes, which torch numbers."""

    def sizes(values: Any) -> Iterator[Any]:
        return (size for value in values for size in value.type.tensor_type.shape.dim)

    axes = [axis for axes in INPUTS.values() for axis in axes]
    names = {s.dim_param: axis for s, axis in zip(sizes(proto.graph.input), axes, strict=True)}
    for size in sizes((*proto.graph.input, *proto.graph.output, *proto.graph.value_info)):
        if size.dim_param in names:
            size.dim_param = names[size.dim_param]


@contextmanager
def _silence() -> Iterator[None]:
    """Hide warnings and progress of the exporter, which are about torch's own code."""
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
