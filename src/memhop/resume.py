"""The folder of a training: it is new, or holds the training that is to be resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from memhop.atomic_write import check_writable
from memhop.checkpoint import (
    check_schema,
    from_json,
    from_tensors,
    part,
    read_checkpoint,
    to_json,
    write_checkpoint,
)
from memhop.errors import MemhopError
from memhop.runs import (
    checkpoint_folder,
    drop_older_checkpoints,
    find_run,
    newest_checkpoint,
)
from memhop.settings import Settings

TRAINING = "training.json"  # in a checkpoint: the state of its training
_NAMES = {"valid": "held-out part", "texts": "division into texts",
          "first_restart": "first restart"}  # fmt: skip
_MAX_SHOWN = 3  # differing settings in an error


class Checkpoint(NamedTuple):
    """A checkpoint of a training: its files, the content of ``training.json``, and its folder."""

    files: dict[str, bytes]
    training: dict[str, Any]
    folder: Path


class TrainingFolder:
    """The folder of a training, with its newest checkpoint; a base of those of each model.

    Attributes:
        folder: the folder.
    """

    _kind: ClassVar[str]  # of the models
    _recipe: ClassVar[type[Settings]]
    _key: ClassVar[str] = "identity"  # the name of the identity in ``training.json``

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        self.folder = folder
        self._identity = identity

    @classmethod
    def open(
        cls, folder: str | Path | None, identity: dict[str, object], *, resume: bool
    ) -> Self | None:
        """Return the run in ``folder``, which must not exist or, to resume, have this identity.

        Raises:
            MemhopError: the run exists, cannot be written, or has another identity.
        """
        if folder is None:
            return None
        defaults = cls._recipe().to_json()
        check_run(Path(folder), cls._kind, identity, defaults, resume=resume, key=cls._key)
        return cls(Path(folder), identity)

    def _newest(self) -> Checkpoint | None:
        """Return the newest checkpoint, verified; None if there is none."""
        folder = newest_checkpoint(self.folder)
        if folder is None:
            return None
        files = read_checkpoint(folder)
        return Checkpoint(files, read_training(files, folder), folder)

    def _write(self, number: int, files: dict[str, bytes], training: dict[str, Any]) -> None:
        """Write a checkpoint, and remove the older ones.

        One of this number is of a training that was interrupted again at the same place: it stays,
        unless this one is finished, which gets the next number.
        """
        folder = checkpoint_folder(self.folder, number)
        if folder.exists():
            if not training["finished"]:
                return
            folder = checkpoint_folder(self.folder, number + 1)
        write_checkpoint(folder, files | {TRAINING: to_json(training)}, self._kind)
        drop_older_checkpoints(self.folder)


def copy_tensors(checkpoint: Checkpoint, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a file of a checkpoint into those of a training.

    Raises:
        MemhopError: corrupt bytes, or other tensors.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    content = part(checkpoint.files, name, checkpoint.folder)
    for key, tensor in from_tensors(content, shapes, checkpoint.folder / name).items():
        tensors[key].data.copy_(tensor)


def new_adam_state(adam: torch.optim.Adam, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Create the state of Adam, so that it can be restored before the first step.

    Returns:
        its tensors, named ``adam.WEIGHT.KEY``.
    """
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        own: dict[str, Tensor] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        adam.state[weight] = own
        tensors |= {f"adam.{name}.{key}": tensor for key, tensor in own.items()}
    return tensors


def check_run(
    folder: Path,
    kind: str,
    identity: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    resume: bool,
    key: str = "identity",
) -> None:
    """Check that a run does not exist, or, to resume, that it has this identity.

    Args:
        folder: of the run.
        kind: of its models.
        identity, defaults: see `differences`.
        resume: whether the run may exist.
        key: the name of the identity in ``training.json``.

    Raises:
        MemhopError: the run exists, cannot be written, or has another kind or identity.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        if folder.is_file():
            raise MemhopError(f"{folder}: expected a folder for the run, got a file")
        check_writable(folder)  # fails before the training, not after it
        return
    find_run(folder, kind)  # raises for a run of another kind
    if not resume:
        raise MemhopError(f"{folder}: the run exists: resume it, or choose another name")
    stored = read_training(read_checkpoint(checkpoint), checkpoint).get(key)
    if differing := differences(stored, identity, defaults):
        raise MemhopError(f"{folder}: cannot resume: different {differing}")


def read_training(files: Mapping[str, bytes], checkpoint: Path) -> dict[str, Any]:
    """Return the content of ``training.json``, of this schema."""
    path = checkpoint / TRAINING
    training = from_json(part(files, TRAINING, checkpoint), path)
    check_schema(training, path)
    return training


def differences(stored: object, identity: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the differing parts of two identities in words; empty if there are none.

    Args:
        stored: the identity from a checkpoint, untrusted.
        identity: that of the training which resumes.
        defaults: the default settings of a recipe; a recipe stored by an older version lacks some.

    >>> before, now = {"seed": 1, "recipe": {"epochs": 9}}, {"seed": 2, "recipe": {"epochs": 9}}
    >>> differences(before, now, {})
    'seed (1, now 2)'
    """
    before = dict(stored) if isinstance(stored, dict) else {}
    if isinstance(before.get("recipe"), dict):
        before["recipe"] = {**defaults, **before["recipe"]}
    return " and ".join(
        _NAMES.get(name, name) + _changes(before.get(name), identity.get(name))
        for name in _differing(before, identity)
    )


def _changes(before: Any, now: Any) -> str:
    """Return how a part differs, in parentheses; empty for checksums."""
    if isinstance(before, dict) and isinstance(now, dict):
        settings = [f"{key} {before.get(key)}, now {now.get(key)}"
                    for key in _differing(before, now)]  # fmt: skip
        more = "; ..." if len(settings) > _MAX_SHOWN else ""
        return f" ({'; '.join(settings[:_MAX_SHOWN])}{more})"
    if isinstance(before, int) and isinstance(now, int):
        return f" ({before}, now {now})"
    return ""


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*now, *before))
    return [name for name in names if before.get(name) != now.get(name)]
