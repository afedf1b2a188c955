"""Measure the steps of a language model's training, and of the same model in plain torch.

The text is generated, with Zipf's distribution of the words. The textbook form gathers the
embeddings of the N words of each position, [P, N, D], computes all scores [P, V] and lets autograd
make dense gradients. Both train on the same batches from the same weights, in turns, after their
losses and gradients are compared.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from memhop.cli.reproduce import Tiny
from memhop.language_model import LanguageRecipe, WordVocabulary
from memhop.language_model.batches import Batch, epoch_batches
from memhop.language_model.network import CONSTANT, LanguageNetwork
from memhop.language_model.optimizer import Gradients, RowGradient
from memhop.language_model.recipe import Precision, Protocol
from memhop.language_model.trainer import Trainer
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import Row, Rows, Sheet, provenance

SIZES = ((6, 50), (7, 200))  # hops, words in memory
POSITIONS, WORDS = 929_589, 10_000  # of the training text of the Penn Treebank
PARTS = ("draw_ms", "hops_ms", "output_ms", "update_ms")
WARM_UP, STEPS, TINY_STEPS = 20, 30, 3
LARGEST_DIFFERENCE = 1e-4  # of loss and gradients in float32, relative

Step = Callable[[Batch], float]


class Textbook(nn.Module):
    """The model of section 5 of arXiv 1503.08895 in plain torch, with the weights of a network."""

    word_a: Tensor
    word_c: Tensor
    output: Tensor
    temporal_a: Tensor
    temporal_c: Tensor
    transform: Tensor

    def __init__(self, network: LanguageNetwork) -> None:
        super().__init__()
        self.num_hops, self.num_words = network.recipe.num_hops, network.recipe.num_words
        for name, weight in network.named_parameters():
            self.register_parameter(own_name(name), nn.Parameter(weight.detach().clone()))
        self.clip_norm = network.recipe.clip_norm
        self.optimizer = torch.optim.SGD(self.parameters(), network.recipe.learning_rate)

    def forward(self, rows: Tensor, ignored: Tensor | None, targets: Tensor) -> Tensor:
        """Return the loss summed over the positions.

        Args:
            rows: the words in memory, [P, N], oldest first.
            ignored: bool [P, N], before the beginning of the text; None: no such word.
            targets: [P].
        """
        lags = torch.arange(self.num_words - 1, -1, -1)
        a = functional.embedding(rows, self.word_a) + self.temporal_a[lags]
        c = functional.embedding(rows, self.word_c) + self.temporal_c[lags]
        u = a.new_full((len(rows), a.shape[-1]), CONSTANT)
        for _ in range(self.num_hops):
            scores = torch.einsum("pd,pnd->pn", u, a)
            if ignored is not None:
                scores = scores.masked_fill(ignored, -torch.inf)
            p = torch.softmax(scores, -1)
            if ignored is not None:
                p = p.masked_fill(ignored.all(-1, keepdim=True), 0.0)
            u = u @ self.transform.T + torch.einsum("pn,pnd->pd", p, c)
            first, last = u.tensor_split(2, -1)
            u = torch.cat([first, torch.relu(last)], -1)
        return functional.cross_entropy(u @ self.output.T, targets, reduction="sum")

    def train_step(self, loss_of: Callable[..., Tensor], batch: Batch) -> float:
        """Take a step of SGD with the clipped gradient, and return the loss.

        Args:
            loss_of: this model, or the compiled one.
            batch: the positions.
        """
        loss = loss_of(*gathered(batch, self.num_words))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        self.optimizer.step()
        return float(loss.detach())


def own_name(name: str) -> str:
    """Return the name in `Textbook` of a weight of a network; one module has all hops.

    >>> own_name("hops.0.embed_a.temporal"), own_name("word_a")
    ('temporal_a', 'word_a')
    """
    names = {"embed_a.temporal": "temporal_a", "embed_c.temporal": "temporal_c",
             "transform.weight": "transform"}  # fmt: skip
    return names.get(name.removeprefix("hops.0."), name)


def gathered(batch: Batch, num_words: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the words in memory of each position, [P, N], which are ignored, and the targets."""
    rows, ignored, is_windowed = batch.words
    if is_windowed:
        rows = rows.unfold(-1, num_words, 1).flatten(0, 1)
        ignored = None if ignored is None else ignored.unfold(-1, num_words, 1).flatten(0, 1)
    return rows, ignored, batch.targets


class Difference(NamedTuple):
    """Relative differences of a loss, of all gradients together, and of one, the largest."""

    loss: float
    gradient: float
    weight: float


def compared(trainer: Trainer, batch: Batch) -> Difference:
    """Compare loss and gradients of a batch with those of the textbook form in float64."""
    loss, gradients = trainer.gradients(batch)
    textbook = Textbook(trainer.network).double()
    wanted = textbook(*gathered(batch, textbook.num_words))
    torch.autograd.backward(wanted)
    errors, norms = [], []
    for name, weight in textbook.named_parameters():
        assert weight.grad is not None
        errors.append(float((dense(gradients, name, weight).double() - weight.grad).norm()))
        norms.append(float(weight.grad.norm()))
    expected = float(wanted.detach())
    return Difference(
        abs(loss - expected) / expected,
        math.hypot(*errors) / math.hypot(*norms),
        max(error / norm for error, norm in zip(errors, norms, strict=True)),
    )


def dense(gradients: Gradients, name: str, weight: Tensor) -> Tensor:
    """Return the gradient of a weight of `Textbook`."""
    [found] = [own for key, own in gradients.items() if own_name(key) == name]
    if isinstance(found, RowGradient):
        return torch.zeros(weight.shape).index_copy_(0, *found)
    return found


class Timed:
    """A call that adds up its processor time."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.seconds = call, 0.0

    def __call__(self, *arguments: Any) -> Any:
        start = time.process_time()
        try:
            return self.call(*arguments)
        finally:
            self.seconds += time.process_time() - start

    def milliseconds(self) -> float:
        """Return the time since the last call of this method."""
        taken, self.seconds = 1000 * self.seconds, 0.0
        return taken


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure the training steps of a language model."""
    count, words = (4_000, 50) if tiny else (POSITIONS, WORDS)
    tokens = zipf_tokens(count, words)
    kinds = itertools.product(SIZES, get_args(Protocol), get_args(Precision))
    with one_thread():
        for (num_hops, num_words), protocol, precision in kinds:
            recipe = LanguageRecipe.paper(
                num_hops=num_hops, num_words=num_words, protocol=protocol,
                output_precision=precision, **({"memory_dim": 8} if tiny else {}),
            )  # fmt: skip
            yield [_row(recipe, tokens, words, TINY_STEPS if tiny else STEPS, tiny)]


def zipf_tokens(count: int, words: int) -> np.ndarray:
    """Return words with probabilities in proportion to 1 / rank, the same on every machine."""
    limits = np.cumsum(1 / np.arange(1, words + 1))
    drawn = np.random.Generator(np.random.Philox(0)).random(count)
    tokens: np.ndarray = np.searchsorted(limits, drawn * limits[-1]).astype(np.int32)
    return tokens


def _row(
    recipe: LanguageRecipe, tokens: np.ndarray, words: int, steps: int, tiny: bool
) -> dict[str, Any]:
    """Warm up, compare, and time ``steps`` steps of each form in turns; medians in ms."""
    vocabulary = WordVocabulary(["<unk>", "<eos>", *(f"w{rank}" for rank in range(2, words))])
    trainer = Trainer(tokens, tokens[:1000], vocabulary, recipe, 0)
    batches = epoch_batches(tokens, recipe, np.random.Generator(np.random.Philox(1)))
    rate = recipe.learning_rate
    for batch in itertools.islice(batches, TINY_STEPS if tiny else WARM_UP):
        trainer.take_step(batch, rate)
    difference = compared(trainer, next(batches))
    if recipe.output_precision == "float32" and max(difference) > LARGEST_DIFFERENCE:
        raise AssertionError(f"{recipe}: other results than the textbook form: {difference}")
    forms = {"textbook_ms": textbook_step(trainer)}
    if not tiny and (compiled := compiled_step(trainer, next(batches))) is not None:
        forms["compiled_ms"] = compiled
    laps = _laps(trainer, batches, forms, steps)
    found: dict[str, float | None] = {"compiled_ms": None}
    found |= {name: statistics.median(lap[name] for lap in laps) for name in laps[0]}
    return {
        "hops": recipe.num_hops, "words": recipe.num_words, "protocol": recipe.protocol,
        "precision": recipe.output_precision, "positions": recipe.batch_size, "steps": len(laps),
        **{name: found[name] for name in (*PARTS, "step_ms", "textbook_ms", "compiled_ms")},
        "epoch_steps": trainer.steps,
        **{f"{name}_difference": value for name, value in difference._asdict().items()},
        "tiny": tiny, **provenance(),
    }  # fmt: skip


def textbook_step(trainer: Trainer) -> Step:
    """Return the step of a textbook model with the weights of a trainer."""
    textbook = Textbook(trainer.network)
    return partial(textbook.train_step, textbook)


def compiled_step(trainer: Trainer, batch: Batch) -> Step | None:
    """Return the same with the loss compiled, after a step; None without a compiler."""
    torch.compiler.reset()
    textbook = Textbook(trainer.network)
    step = partial(textbook.train_step, torch.compile(textbook, dynamic=False))
    try:
        step(batch)
    except Exception:  # whatever a compiler raises
        return None
    return step


def _laps(
    trainer: Trainer, batches: Iterator[Batch], forms: dict[str, Step], steps: int
) -> list[dict[str, float]]:
    """Return the times in ms of each step."""
    draw, rate = Timed(batches.__next__), trainer.recipe.learning_rate
    output, update = Timed(trainer.output_layer), Timed(trainer.optimizer.step)
    whole, others = Timed(trainer.take_step), {name: Timed(form) for name, form in forms.items()}
    trainer.output_layer, trainer.optimizer.step = output, update  # type: ignore[assignment, method-assign]
    laps = []
    for _ in range(steps):
        batch = draw()
        whole(batch, rate)
        for other in others.values():
            other(batch)
        lap = {"draw_ms": draw.milliseconds(), "output_ms": output.milliseconds(),
               "update_ms": update.milliseconds()}  # fmt: skip
        taken = whole.milliseconds()
        lap["hops_ms"] = taken - lap["output_ms"] - lap["update_ms"]
        lap["step_ms"] = lap["draw_ms"] + taken
        for name, other in others.items():
            lap[name] = lap["draw_ms"] + other.milliseconds()
        laps.append(lap)
    return laps


def sheets(rows: Rows) -> list[Sheet]:
    """Return the times and the differences."""
    columns = ("model", "protocol", "output", *(part.removesuffix("_ms") for part in PARTS),
               "step", "textbook", "compiled", "epoch")  # fmt: skip
    lines = []
    for row in rows:
        cells = [f"{row['hops']} x {row['words']}", row["protocol"], row["precision"]]
        cells += [f"{float(row[part]):.2f}" for part in PARTS]
        cells += [_milliseconds(row, name) for name in ("step_ms", "textbook_ms", "compiled_ms")]
        seconds = float(row["step_ms"]) * int(row["epoch_steps"]) / 1000
        lines.append([*cells, f"{seconds:.0f} s"])
    largest = {
        precision: max(float(row["gradient_difference"]) for row in rows
                       if row["precision"] == precision)
        for precision in sorted({row["precision"] for row in rows})
    }  # fmt: skip
    errors = ", ".join(f"{error:.1e} with {name}" for name, error in largest.items())
    note = (
        f"CPU time of a step of {rows[0]['positions']} positions in ms, medians of "
        f"{rows[0]['steps']} steps of each form in turns, and of an epoch of "
        f"{POSITIONS:,} positions. Model: hops x words in memory. Draw: the batch; hops: forward "
        "and backward; output: the loss and its gradients; update: clipping and SGD. Textbook: the "
        "same model in plain torch, with gathered embeddings; compiled: that by torch.compile; "
        "both in float32. Relative difference of the whole gradient from the textbook form in "
        f"float64, at most: {errors}."
    )
    return [Sheet("", columns, lines, note)]


def _milliseconds(row: Row, name: str) -> str:
    return f"{float(row[name]):.1f}" if row[name] else "-"
