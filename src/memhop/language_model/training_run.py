"""Write the checkpoints of a language model's training, and resume from them."""

import csv
import hashlib
import io
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from memhop.checkpoint import LANGUAGE, SCHEMA, to_tensors
from memhop.errors import MemhopError, check_integer
from memhop.language_model.evaluation import Perplexity
from memhop.language_model.model import LanguageModel
from memhop.language_model.network import LanguageNetwork
from memhop.language_model.recipe import LanguageRecipe
from memhop.language_model.text import EncodedText
from memhop.language_model.vocabulary import WordVocabulary
from memhop.resume import TRAINING, TrainingFolder, copy_tensors

TENSORS, METRICS = "training.safetensors", "metrics.csv"
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error)
Scores = tuple[Perplexity, Perplexity | None]  # of the validation and the test text


class Metric(NamedTuple):
    """One epoch: a row of ``metrics.csv``, whose columns are these attributes.

    Attributes:
        epoch: from 1 on.
        loss: the mean of -log p during the epoch, in nats.
        valid_loss: that of the validation text after the epoch.
        learning_rate: of the last step.
        cpu_seconds: the processor time of the training so far.
    """

    epoch: int
    loss: float
    valid_loss: float
    learning_rate: float
    cpu_seconds: float


@dataclass
class State:
    """The state of a training besides its tensors.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the next epoch.
        total: finished steps.
        loss: the sum of -log p in the next epoch so far, over ``positions``.
        rate: the learning rate, if the schedule is "plateau".
        best_epoch: the epoch with the lowest validation loss; 0 before the first.
        seconds, cpu_seconds: time of steps and validations.
    """

    rate: float
    epoch: int = 0
    step: int = 0
    total: int = 0
    loss: float = 0.0
    positions: int = 0
    best_epoch: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    metrics: list[Metric] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """The mean of -log p in the next epoch so far."""
        return self.loss / self.positions if self.positions else math.nan

    def add_step(self, loss: float, positions: int) -> None:
        """Count a step."""
        self.step += 1
        self.total += 1
        self.loss += loss
        self.positions += positions

    def add_time(self, started: float, cpu_started: float) -> None:
        """Add the time since ``time.perf_counter()`` and ``time.process_time()`` gave these."""
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += time.process_time() - cpu_started

    def end_epoch(self, valid_loss: float, rate: float) -> Metric:
        """Count an epoch."""
        lowest = min((one.valid_loss for one in self.metrics), default=math.inf)
        metric = Metric(self.epoch + 1, self.mean_loss, valid_loss, rate, self.cpu_seconds)
        self.metrics.append(metric)
        self.epoch, self.step, self.loss, self.positions = metric.epoch, 0, 0.0, 0
        if valid_loss < lowest:
            self.best_epoch = metric.epoch
        return metric

    def assign(self, other: "State") -> None:
        """Take the values of another state."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))


def identity_of(
    texts: Sequence[EncodedText | None],
    vocabulary: WordVocabulary,
    recipe: LanguageRecipe,
    seed: int,
) -> dict[str, object]:
    """Return the identity of a training; a resumed training must have the same."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(b"none" if text is None else f"{len(text)}:".encode())
        if text is not None:
            digest.update(text.tokens.astype("<i4", copy=False).data)
    words = hashlib.sha256("\n".join(vocabulary.words).encode("utf-8", "surrogatepass"))
    return {
        "text": digest.hexdigest(),
        "vocabulary": words.hexdigest(),
        "recipe": recipe.to_json(),
        "seed": seed,
    }


class LanguageRun(TrainingFolder):
    """The folder of a training.

    Each checkpoint holds the model of the best epoch so far, as `LanguageModel.save` writes it,
    ``metrics.csv``, ``training.json`` and, before the end, ``training.safetensors``. Its number is
    that of all steps.
    """

    _kind, _recipe = LANGUAGE, LanguageRecipe

    def finished(self) -> tuple[LanguageModel, State, Scores] | None:
        """Return model, state and scores of a finished training; None if it is not finished."""
        found = self._newest()
        if found is None or not found.training.get("finished"):
            return None
        files, training, checkpoint = found
        try:
            valid, test = (
                None if one is None else Perplexity.from_json(one) for one in training["scores"]
            )
            if valid is None:
                raise ValueError("expected the perplexity of the validation text")
            state = _state(training, files[METRICS].decode())
        except _MALFORMED as error:
            raise _corrupt(checkpoint) from error
        return LanguageModel.from_files(files, checkpoint), state, (valid, test)

    def restore(self, best: LanguageNetwork, tensors: dict[str, Tensor], state: State) -> None:
        """Copy the newest checkpoint into the best network, the tensors and the state.

        Raises:
            MemhopError: corrupt files.
        """
        found = self._newest()
        if found is None:
            return
        copy_tensors(found, TENSORS, tensors)
        model = LanguageModel.from_files(found.files, found.folder)
        best.load_state_dict(model.network.state_dict())
        try:
            state.assign(_state(found.training, found.files[METRICS].decode()))
        except _MALFORMED as error:
            raise _corrupt(found.folder) from error

    def write(self, best: LanguageModel, state: State, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint of an unfinished training: the best model, and all tensors."""
        files = best.to_files() | {TENSORS: to_tensors(tensors)}
        self._write_state(files, state, {"finished": False})

    def finish(self, model: LanguageModel, state: State, scores: Scores) -> None:
        """Write the last checkpoint: the model and its perplexities."""
        found = [None if one is None else asdict(one) for one in scores]
        self._write_state(model.to_files(), state, {"finished": True, "scores": found})

    def _write_state(self, files: dict[str, bytes], state: State, more: dict[str, object]) -> None:
        own = {one.name: getattr(state, one.name) for one in fields(state)}
        training = {"schema": SCHEMA, "identity": self._identity, **own, **more}
        del training["metrics"]
        self._write(state.total, files | {METRICS: _csv(state.metrics)}, training)


def _corrupt(checkpoint: Path) -> MemhopError:
    return MemhopError(f"{checkpoint}: corrupt {TRAINING} or {METRICS}")


def _state(training: dict[str, Any], rows: str) -> State:
    """Return a state from untrusted content."""
    values: dict[str, Any] = {}
    for one in fields(State):
        if one.type is int:
            values[one.name] = check_integer(one.name, training[one.name], 0)
        elif one.type is float:
            values[one.name] = _number(training[one.name])
    values["metrics"] = [_metric(row) for row in csv.DictReader(io.StringIO(rows))]
    state = State(**values)
    if [metric.epoch for metric in state.metrics] != [*range(1, state.epoch + 1)]:
        raise ValueError("expected a row for each epoch")
    if state.best_epoch > state.epoch or (state.epoch and not state.best_epoch):
        raise ValueError("expected the best epoch to be one of them")
    return state


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("expected a number")
    if not 0 <= value < math.inf:
        raise ValueError("expected a finite number from 0 on")
    return float(value)


def _metric(row: dict[str, str]) -> Metric:
    return Metric(int(row["epoch"]), *(_number(float(row[name])) for name in Metric._fields[1:]))


def _csv(metrics: Sequence[Metric]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Metric._fields)
    writer.writerows(metrics)
    return text.getvalue().encode()
