"""Write the checkpoints of a knowledge training, and resume from them."""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from memhop.checkpoint import KNOWLEDGE, SCHEMA, read_checkpoint, to_tensors
from memhop.errors import MemhopError, check_integer
from memhop.knowledge.evaluation import KnowledgeEvaluation
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.resume import TRAINING, TrainingFolder, copy_tensors, read_training
from memhop.runs import find_checkpoint

TENSORS, METRICS = "training.safetensors", "metrics.csv"
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error)


class Metric(NamedTuple):
    """One epoch: a row of ``metrics.csv``, whose columns are these attributes.

    Attributes:
        epoch: from 1 on.
        loss: the mean of -log of the weight of the right answers, during the epoch.
        valid_error: percentage of held-out questions whose first answer is wrong, after the epoch;
            None if none are held out.
        valid_loss: the loss of the held-out questions.
    """

    epoch: int
    loss: float
    valid_error: float | None
    valid_loss: float | None


@dataclass
class State:
    """The state of a training besides its tensors."""

    epoch: int = 0
    best_epoch: int = 0
    best: tuple[float, float] | None = None  # error and loss of the best epoch
    seconds: float = 0.0
    metrics: list[Metric] = field(default_factory=list)

    def copy(self) -> "State":
        """Return a copy."""
        return replace(self, metrics=list(self.metrics))

    def assign(self, other: "State") -> None:
        """Take the values of another state."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))


def identity_of(
    kb: KnowledgeBase,
    parts: Sequence[Sequence[Question]],
    recipe: KnowledgeRecipe,
    seed: int,
) -> dict[str, object]:
    """Return the identity of a training; a resumed training must have the same."""
    digest = hashlib.sha256()
    for questions in parts:
        for question in questions:
            digest.update(repr(tuple(question)).encode())
        digest.update(b"\n")
    facts = hashlib.sha256(b"".join(kb.to_files().values())).hexdigest()
    return {
        "facts": facts,
        "questions": digest.hexdigest(),
        "recipe": recipe.to_json(),
        "seed": seed,
    }


class KnowledgeRun(TrainingFolder):
    """The folder of a training.

    Each checkpoint holds the best model so far, as `KnowledgeModel.save` writes it,
    ``metrics.csv``, ``training.json`` and, before the end, ``training.safetensors``.
    """

    _kind, _recipe = KNOWLEDGE, KnowledgeRecipe

    def finished(self) -> tuple[KnowledgeModel, State, KnowledgeEvaluation | None] | None:
        """Return model, state and test of a finished training; None if not finished."""
        found = self._newest()
        if found is None or not found.training.get("finished"):
            return None
        files, training, checkpoint = found
        try:
            test = None if training["test"] is None else evaluation_of(training["test"])
            state = _state(training, files[METRICS].decode())
        except _MALFORMED as error:
            raise MemhopError(f"{checkpoint}: corrupt {TRAINING} or {METRICS}") from error
        return KnowledgeModel.from_files(files, checkpoint), state, test

    def restore(self, tensors: dict[str, Tensor], state: State) -> None:
        """Copy the newest checkpoint into the tensors and the state.

        Raises:
            MemhopError: corrupt files.
        """
        found = self._newest()
        if found is None:
            return
        copy_tensors(found, TENSORS, tensors)
        try:
            state.assign(_state(found.training, found.files[METRICS].decode()))
        except _MALFORMED as error:
            raise MemhopError(f"{found.folder}: corrupt {TRAINING} or {METRICS}") from error

    def write(self, model: KnowledgeModel, state: State, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint of an unfinished training: the best model, and all tensors."""
        best = {name: tensors[f"best.{name}"] for name in model.network.state_dict()}
        files = model.to_files(best) | {TENSORS: to_tensors(tensors)}
        self._write_state(files, state, {"finished": False})

    def finish(self, model: KnowledgeModel, state: State, test: KnowledgeEvaluation | None) -> None:
        """Write the last checkpoint: the model, and its evaluation on the test questions."""
        ended: dict[str, object] = {
            "finished": True,
            "test": None if test is None else asdict(test),
        }
        self._write_state(model.to_files(), state, ended)

    def _write_state(self, files: dict[str, bytes], state: State, more: dict[str, object]) -> None:
        training = {
            "schema": SCHEMA,
            "epoch": state.epoch,
            "best_epoch": state.best_epoch,
            "best": state.best,
            "seconds": state.seconds,
            "identity": self._identity,
        }
        self._write(state.epoch, files | {METRICS: _csv(state.metrics)}, training | more)


def load_with_test(run: str | Path) -> tuple[KnowledgeModel, KnowledgeEvaluation | None]:
    """Return the model of a run, and its evaluation on the test questions of its training.

    The evaluation is None if there were none, or the training is not finished.

    Raises:
        MemhopError: no such run, a run of another kind, or corrupt files.
    """
    checkpoint = find_checkpoint(run, KNOWLEDGE)
    files = read_checkpoint(checkpoint)
    model = KnowledgeModel.from_files(files, checkpoint)
    if TRAINING not in files:
        return model, None
    path = checkpoint / TRAINING
    training = read_training(files, checkpoint)
    try:
        test = training["test"] if training.get("finished") else None
        return model, test and evaluation_of(test)
    except _MALFORMED as error:
        raise MemhopError(f"{path}: corrupt: expected the evaluation of a test") from error


def evaluation_of(content: Any) -> KnowledgeEvaluation:
    """Return an evaluation from untrusted JSON; raise one of ``_MALFORMED``."""
    values: dict[str, Any] = {**content}
    for one in fields(KnowledgeEvaluation):
        value = values[one.name]
        if one.type is int:
            check_integer(one.name, value, 0)
        elif one.type is float:
            values[one.name] = _number(value)
        elif isinstance(value, list) and all(isinstance(word, str) for word in value):
            values[one.name] = tuple(value)
        else:
            raise TypeError(f"expected a list of strings for {one.name}")
    return KnowledgeEvaluation(**values)


def _state(training: dict[str, Any], rows: str) -> State:
    epoch = check_integer("epoch", training["epoch"], 0)
    best_epoch = check_integer("best_epoch", training["best_epoch"], 0)
    best = training["best"]
    if best is not None:
        error, loss = best
        best = _number(error), _number(loss)
    metrics = [_metric(row) for row in csv.DictReader(io.StringIO(rows))]
    if best_epoch > epoch or [metric.epoch for metric in metrics] != [*range(1, epoch + 1)]:
        raise ValueError("expected a row for each epoch")
    return State(epoch, best_epoch, best, _number(training["seconds"], 0), metrics)


def _number(value: object, least: float = -math.inf) -> float:
    """Return a finite number; a loss can be just below 0, as weights add up to 1 with rounding."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("expected a number")
    if not least <= value < math.inf or value == -math.inf:
        raise ValueError(f"expected a finite number from {least}")
    return float(value)


def _metric(row: dict[str, str]) -> Metric:
    error, loss = (float(row[name]) if row[name] else None for name in Metric._fields[2:])
    return Metric(int(row["epoch"]), float(row["loss"]), error, loss)


def _csv(metrics: Sequence[Metric]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Metric._fields)
    writer.writerows(["" if value is None else value for value in metric] for metric in metrics)
    return text.getvalue().encode()
