"""A training on disk: its checkpoints, and going on from them."""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch import Tensor

from memhop.atomic_write import check_writable
from memhop.checkpoint import (
    SCHEMA,
    check_schema,
    from_json,
    from_tensors,
    part,
    read_checkpoint,
    to_json,
    to_tensors,
    write_checkpoint,
)
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import (
    checkpoint_folder,
    drop_older_checkpoints,
    find_checkpoint,
    newest_checkpoint,
)
from memhop.text.model import MemN2N, read_settings
from memhop.text.vocabulary import Vocabulary

_TRAINING, _RESTARTS, _METRICS = "training.json", "restarts.safetensors", "metrics.csv"
_IN_WORDS = {"valid": "held-out part", "texts": "division into texts",
             "first_restart": "first restart"}  # fmt: skip
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, csv.Error)


class Metric(NamedTuple):
    """One epoch of one restart.

    Attributes:
        epoch: from 1 on.
        restart: from 0 on.
        learning_rate: the rate of this epoch.
        softmax: False in the linear start.
        loss: mean over the questions drawn, with noise, while the weights moved; NaN from the
            epoch on in which the restart diverged.
        train_error: percent wrong among these.
        validation_error: percent wrong of the held-out questions after the epoch; None
            where none are held out.
    """

    epoch: int
    restart: int
    learning_rate: float
    softmax: bool
    loss: float
    train_error: float
    validation_error: float | None


@dataclass(frozen=True)
class RestartScore:
    """How a restart ended; errors in percent, without noise; None where there was no question.

    Attributes:
        restart: from 0 on.
        train_error, train_loss: on the part that was trained on.
        validation_error: on the part held out.
        test_error: on the test questions.
        diverged: None, or the epoch in which the loss was not finite (then no error is given).
        kept: whether the training's model is this one.
    """

    restart: int
    train_error: float | None = None
    train_loss: float | None = None
    validation_error: float | None = None
    test_error: float | None = None
    diverged: int | None = None
    kept: bool = False


@dataclass
class State:
    """How far a training is, beside the weights."""

    epoch: int
    seconds: float
    diverged: dict[int, int]
    metrics: list[Metric]


def fingerprint(
    train_examples: Sequence[Example],
    test_examples: Sequence[Example],
    recipe: Recipe,
    restarts: int,
    seed: int,
) -> dict[str, object]:
    """What a training is the answer to: a resumed one must have the same."""
    data = checksum(train_examples, test_examples)
    return {"data": data, "recipe": recipe.to_json(), "restarts": restarts, "seed": seed}


def checksum(*parts: Sequence[Example]) -> str:
    """Return the SHA-256 of examples, in hexadecimal digits."""
    digest = hashlib.sha256()
    for examples in parts:
        for example in examples:
            digest.update(repr(tuple(example)).encode())
        digest.update(b"\n")
    return digest.hexdigest()


class TrainingRun:
    """The folder of a training.

    Each checkpoint holds the best model so far, as `MemN2N.save` writes it, ``metrics.csv``
    (a row an epoch and restart), ``training.json``, and, until the end, all restarts in
    ``restarts.safetensors``.
    """

    def __init__(self, folder: Path, question: dict[str, object]) -> None:
        self.folder = folder
        self._question = question

    @classmethod
    def open(
        cls, folder: str | Path | None, question: dict[str, object], *, resume: bool
    ) -> Self | None:
        """The run in ``folder``; ``question`` is what a resumed training must have asked too."""
        if folder is None:
            return None
        run = cls(Path(folder), question)
        begun = newest_checkpoint(run.folder)
        if begun is None:
            if run.folder.is_file():
                raise MemhopError(f"{folder}: a file is there; a run needs a folder")
            check_writable(run.folder)  # not after an hour of training
            return run
        if not resume:
            raise MemhopError(f"{folder}: a run is there already: resume it, or name another")
        asked = run._read(begun)[1].get("question")
        if asked != question:
            known = asked if isinstance(asked, dict) else {}
            names = dict.fromkeys((*question, *known))
            differing = [
                _IN_WORDS.get(name, name) for name in names if known.get(name) != question.get(name)
            ]
            raise MemhopError(f"{folder}: cannot go on with another {' and '.join(differing)}")
        return run

    def _read(self, checkpoint: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
        files = read_checkpoint(checkpoint)
        return files, _training(files, checkpoint)

    def finished(self) -> tuple[MemN2N, State, tuple[RestartScore, ...]] | None:
        """The model, state and scores of a training that came to its end."""
        checkpoint = newest_checkpoint(self.folder)
        if checkpoint is None:
            return None
        files, training = self._read(checkpoint)
        if not training.get("finished"):
            return None
        state, scores = _ended(training, checkpoint)
        return MemN2N.from_files(files, checkpoint), state, scores

    def restore(self, vocabulary: Vocabulary, tensors: dict[str, Tensor], state: State) -> None:
        """Put all restarts' tensors and the state back to where the newest checkpoint left them.

        Raises:
            MemhopError: malformed files, or another vocabulary than that of the training text.
        """
        checkpoint = newest_checkpoint(self.folder)
        if checkpoint is None:
            return
        files, training = self._read(checkpoint)
        if list(read_settings(files, checkpoint)[1]) != list(vocabulary):
            raise MemhopError(
                f"{checkpoint}: cannot resume: an older version of memhop split the training text "
                "into other words; train again under another name"
            )
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        content = part(files, _RESTARTS, checkpoint)
        for name, tensor in from_tensors(content, shapes, checkpoint / _RESTARTS).items():
            tensors[name].copy_(tensor)
        rows = part(files, _METRICS, checkpoint)
        try:
            restored = _state(training, _metrics(rows.decode()))
        except _MALFORMED as error:
            raise MemhopError(f"{checkpoint}: not as it was written") from error
        for field in fields(State):
            setattr(state, field.name, getattr(restored, field.name))

    def write(self, best: MemN2N, state: State, tensors: dict[str, Tensor]) -> None:
        """A checkpoint of a training that goes on: the best restart, and all that moves."""
        self._write(best, state, {"finished": False}, {_RESTARTS: to_tensors(tensors)})

    def finish(self, model: MemN2N, state: State, scores: tuple[RestartScore, ...]) -> None:
        """The last checkpoint: the model that was kept, and how all restarts ended."""
        ended = {"finished": True, "scores": [asdict(score) for score in scores]}
        self._write(model, state, ended, {})

    def _write(
        self, best: MemN2N, state: State, more: dict[str, object], files: dict[str, bytes]
    ) -> None:
        folder = checkpoint_folder(self.folder, state.epoch)
        if folder.exists():  # interrupted again before an epoch was through
            return
        training = {
            "schema": SCHEMA,
            "epoch": state.epoch,
            "seconds": state.seconds,
            "diverged": {str(restart): epoch for restart, epoch in state.diverged.items()},
            "question": self._question,
        }
        files = files | best.to_files() | {
            _TRAINING: to_json(training | more),
            _METRICS: _csv(state.metrics),
        }  # fmt: skip
        write_checkpoint(folder, files)
        drop_older_checkpoints(self.folder)


def load_with_score(run: str | Path) -> tuple[MemN2N, RestartScore | None]:
    """The model of a run, and how its restart ended; None where no training to its end wrote it."""
    checkpoint = find_checkpoint(run)
    files = read_checkpoint(checkpoint)
    model = MemN2N.from_files(files, checkpoint)
    training = _training(files, checkpoint) if _TRAINING in files else {}
    if not training.get("finished"):
        return model, None
    _, scores = _ended(training, checkpoint)
    return model, next(score for score in scores if score.kept)


def _training(files: dict[str, bytes], checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / _TRAINING
    training = from_json(part(files, _TRAINING, checkpoint), path)
    check_schema(training, path)
    return training


def _ended(training: dict[str, Any], checkpoint: Path) -> tuple[State, tuple[RestartScore, ...]]:
    try:
        return _state(training, []), _scores(training["scores"])
    except _MALFORMED as error:
        raise MemhopError(f"{checkpoint / _TRAINING}: not as it was written") from error


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
            raise ValueError("a score of another kind")
    if [one.diverged for one in scores if one.kept] != [None]:
        raise ValueError("needs one score that is kept")
    return scores


def _csv(metrics: list[Metric]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Metric._fields)
    for metric in metrics:
        writer.writerow("" if value is None else value for value in metric)
    return text.getvalue().encode()


def _metrics(text: str) -> list[Metric]:
    rows = list(csv.reader(io.StringIO(text)))
    return [
        Metric(int(row[0]), int(row[1]), float(row[2]), row[3] == "True", float(row[4]),
               float(row[5]), float(row[6]) if row[6] else None)
        for row in rows[1:]
    ]  # fmt: skip
