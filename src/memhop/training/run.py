"""Write the checkpoints of a training, and resume from them."""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from torch import Tensor

from memhop.checkpoint import (
    SCHEMA,
    STORIES,
    part,
    read_checkpoint,
    to_tensors,
)
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.resume import TRAINING, TrainingFolder, copy_tensors, read_training
from memhop.runs import (
    find_checkpoint,
)
from memhop.text.model import MemN2N, read_settings
from memhop.text.reading import Words
from memhop.text.vocabulary import Vocabulary
from memhop.training.class_test import ClassTest

_RESTARTS, _METRICS = "restarts.safetensors", "metrics.csv"
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error)


class Metric(NamedTuple):
    """One epoch of one restart: a row of ``metrics.csv``, whose columns are these attributes.

    Attributes:
        epoch: from 1 on.
        restart: from 0 on.
        learning_rate: the rate of this epoch.
        softmax: False in the linear start.
        loss: mean over the sampled questions, with noise, during the epoch; NaN from the epoch on
            in which the restart diverged.
        train_error: percentage of wrong answers to these questions.
        validation_error: percentage of wrong answers to the held-out questions after the epoch;
            None if none are held out.
    """

    epoch: int
    restart: int
    learning_rate: float
    softmax: bool
    loss: float
    train_error: float
    validation_error: float | None


_PARSERS: dict[Any, Any] = {int: int, float: float, bool: "True".__eq__,
                            float | None: lambda text: float(text) if text else None}  # fmt: skip


@dataclass(frozen=True)
class RestartScore:
    """The final errors of a restart in percent, without noise; None without questions.

    Attributes:
        restart: from 0 on.
        train_error, train_loss: on the training questions.
        validation_error: on the held-out questions.
        test_error: on the test questions.
        diverged: None, or the epoch in which the loss was not finite; then all errors are None.
        kept: whether this restart is the model of the training.
    """

    restart: int
    train_error: float | None = None
    train_loss: float | None = None
    validation_error: float | None = None
    test_error: float | None = None
    diverged: int | None = None
    kept: bool = False


@dataclass(frozen=True)
class ControlResult:
    """The control of a training (`memhop.training.control`).

    Attributes:
        restarts: the scores of its restarts, in order; the test error too was measured once, at
            the end of the control.
        classes: the tests of the classes of exchangeable phrases.
    """

    restarts: tuple[RestartScore, ...]
    classes: tuple[ClassTest, ...]

    @property
    def is_kept(self) -> bool:
        """Whether a restart of the control is the model of the training."""
        return any(one.kept for one in self.restarts)

    def without_kept(self) -> "ControlResult":
        """Return the result of a control of which no restart is kept."""
        return replace(self, restarts=tuple(replace(one, kept=False) for one in self.restarts))


@dataclass
class State:
    """The state of a training besides its tensors."""

    epoch: int
    seconds: float
    diverged: dict[int, int]
    metrics: list[Metric]


class Finished(NamedTuple):
    """A finished training: its model, its state, the scores of its restarts, its control."""

    model: MemN2N
    state: State
    scores: tuple[RestartScore, ...]
    control: ControlResult | None


@dataclass(frozen=True)
class TrainingData:
    """The examples of a training.

    Attributes:
        texts: the training examples of each text.
        test: scored at the end.
        valid_texts: the held-out examples of each text, or of all texts as one; empty if a share of
            the training examples is held out.
        words: the words of each sentence.
    """

    texts: Sequence[Sequence[Example]]
    test: Sequence[Example]
    valid_texts: Sequence[Sequence[Example]]
    words: Words

    @cached_property
    def examples(self) -> list[Example]:
        """The training examples of all texts."""
        return list(chain.from_iterable(self.texts))

    @cached_property
    def checksum(self) -> str:
        """The checksum of the training and test examples."""
        return checksum(self.examples, self.test)


def fingerprint(
    data: TrainingData, recipe: Recipe, restarts: range, seed: int
) -> dict[str, object]:
    """Return the identity of a training; a resumed training must have the same."""
    identity = {
        "data": data.checksum,
        "recipe": recipe.to_json(),
        "restarts": len(restarts),
        "seed": seed,
    }
    if recipe.exchange and len(data.texts) > 1:
        identity["texts"] = list(map(len, data.texts))
    if restarts.start:
        identity["first_restart"] = restarts.start
    if data.valid_texts:
        identity["valid"] = checksum(list(chain.from_iterable(data.valid_texts)))
    return identity


def checksum(*parts: Sequence[Example]) -> str:
    """Return the SHA-256 of examples, in hexadecimal digits."""
    digest = hashlib.sha256()
    for examples in parts:
        for example in examples:
            digest.update(repr(tuple(example)).encode())
        digest.update(b"\n")
    return digest.hexdigest()


class TrainingRun(TrainingFolder):
    """The folder of a training.

    Each checkpoint holds the best model so far, as `MemN2N.save` writes it, ``metrics.csv`` (a row
    for each epoch and restart), ``training.json``, and, before the end, all restarts in
    ``restarts.safetensors``.
    """

    _kind, _recipe, _key = STORIES, Recipe, "question"

    def finished(self) -> Finished | None:
        """Return the result of a finished training; None if not finished."""
        found = self._newest()
        if found is None or not found.training.get("finished"):
            return None
        ended = _ended(found.training, found.folder)
        return Finished(MemN2N.from_files(found.files, found.folder), *ended)

    def restore(self, vocabulary: Vocabulary, tensors: dict[str, Tensor], state: State) -> None:
        """Copy the newest checkpoint into the tensors of all restarts and the state.

        Raises:
            MemhopError: corrupt files, or a vocabulary that differs from the training text's.
        """
        found = self._newest()
        if found is None:
            return
        files, training, checkpoint = found
        if list(read_settings(files, checkpoint)[1]) != list(vocabulary):
            raise MemhopError(
                f"{checkpoint}: cannot resume: an older version of memhop split the training text "
                "into other words; train again with another name"
            )
        copy_tensors(found, _RESTARTS, tensors)
        rows = part(files, _METRICS, checkpoint)
        try:
            restored = _state(training, _metrics(rows.decode()))
        except _MALFORMED as error:
            raise MemhopError(f"{checkpoint}: corrupt {TRAINING} or {_METRICS}") from error
        for field in fields(State):
            setattr(state, field.name, getattr(restored, field.name))

    def write(self, best: MemN2N, state: State, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint of an unfinished training: its best restart, and all tensors."""
        files = {_RESTARTS: to_tensors(tensors)} | best.to_files()
        self._write_state(files, state, {"finished": False})

    def finish(self, end: Finished) -> None:
        """Write the last checkpoint: the kept model, the scores of all restarts, the control."""
        ended: dict[str, object] = {"finished": True}
        ended["scores"] = [asdict(score) for score in end.scores]
        if end.control is not None:
            ended["control"] = asdict(end.control)
        self._write_state(end.model.to_files(), end.state, ended)

    def _write_state(self, files: dict[str, bytes], state: State, more: dict[str, object]) -> None:
        training = {
            "schema": SCHEMA,
            "epoch": state.epoch,
            "seconds": state.seconds,
            "diverged": {str(restart): epoch for restart, epoch in state.diverged.items()},
            "question": self._identity,
        }
        self._write(state.epoch, files | {_METRICS: _csv(state.metrics)}, training | more)


def load_with_score(run: str | Path) -> tuple[MemN2N, RestartScore | None]:
    """Return the model of a run, and its score; None if its training is not finished."""
    checkpoint = find_checkpoint(run, STORIES)
    files = read_checkpoint(checkpoint)
    model = MemN2N.from_files(files, checkpoint)
    training = read_training(files, checkpoint) if TRAINING in files else {}
    if not training.get("finished"):
        return model, None
    _, scores, control = _ended(training, checkpoint)
    return model, next(score for score in all_scores(scores, control) if score.kept)


def all_scores(
    scores: tuple[RestartScore, ...], control: ControlResult | None
) -> tuple[RestartScore, ...]:
    """Return the scores of the restarts of a training and of its control; one of them is kept."""
    return scores if control is None else scores + control.restarts


def _ended(
    training: dict[str, Any], checkpoint: Path
) -> tuple[State, tuple[RestartScore, ...], ControlResult | None]:
    try:
        scores, control = _scores(training["scores"]), _control(training.get("control"))
        every = all_scores(scores, control)
        if [one.diverged for one in every if one.kept] != [None]:
            raise ValueError("expected one score that is kept")
        return _state(training, []), scores, control
    except _MALFORMED as error:
        raise MemhopError(f"{checkpoint / TRAINING}: corrupt scores or state") from error


def _control(content: Any) -> ControlResult | None:
    if content is None:
        return None
    classes = tuple(ClassTest.from_json(one) for one in content["classes"])
    return ControlResult(_scores(content["restarts"]), classes)


def _state(training: dict[str, Any], metrics: list[Metric]) -> State:
    diverged = {int(restart): int(epoch) for restart, epoch in training["diverged"].items()}
    return State(int(training["epoch"]), float(training["seconds"]), diverged, metrics)


def _scores(content: Any) -> tuple[RestartScore, ...]:
    scores = tuple(RestartScore(**score) for score in content)
    for index, one in enumerate(scores):
        errors = [value for name, value in asdict(one).items() if name.endswith(("error", "loss"))]
        numbers = all(value is None or type(value) in (int, float) for value in errors)
        ended = type(one.diverged) is int or type(one.train_error) is type(one.train_loss) is float
        if one.restart != index or type(one.kept) is not bool or not numbers or not ended:
            raise ValueError("expected a score of finite numbers")
    return scores


def _csv(metrics: list[Metric]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Metric._fields)
    for metric in metrics:
        writer.writerow("" if value is None else value for value in metric)
    return text.getvalue().encode()


def _metrics(text: str) -> list[Metric]:
    parsers = {name: _PARSERS[kind] for name, kind in get_type_hints(Metric).items()}
    return [
        Metric(**{name: parse(row[name]) for name, parse in parsers.items()})
        for row in csv.DictReader(io.StringIO(text))
    ]
