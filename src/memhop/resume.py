"""Check the folder of a training: it is new, or holds the training that is to be resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memhop.atomic_write import check_writable
from memhop.checkpoint import check_schema, from_json, part, read_checkpoint
from memhop.errors import MemhopError
from memhop.runs import find_run, newest_checkpoint

TRAINING = "training.json"  # in a checkpoint: the state of its training
_NAMES = {"valid": "held-out part", "texts": "division into texts",
          "first_restart": "first restart"}  # fmt: skip
_MAX_SHOWN = 3  # differing settings in an error


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
