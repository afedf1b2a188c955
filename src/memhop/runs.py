"""Find runs: folders under ``runs/``, each with the newest checkpoint of a training.

The checkpoint is ``runs/NAME/checkpoint-EPOCH``, or, for a training of several tasks,
``runs/NAME/qa1/checkpoint-EPOCH`` and so on.
"""

import re
import shutil
from pathlib import Path

from memhop.checkpoint import (
    CONFIG,
    KNOWLEDGE,
    LANGUAGE,
    LAYER,
    RETRIEVAL,
    STORIES,
    from_json,
    is_checkpoint,
    kind_of,
    read_manifest,
)
from memhop.errors import MemhopError, shown

RUNS = Path("runs")
CONTROL = "control"  # in a run: the checkpoints of the control of its training
_RECIPES = {STORIES: "recipe.json", KNOWLEDGE: "knowledge.json", LANGUAGE: "language.json"}
_COMMANDS = {
    STORIES: "memhop ask", KNOWLEDGE: "memhop kb ask", LANGUAGE: "memhop lm predict",
}  # fmt: skip
_MODELS = {
    STORIES: "a story model", KNOWLEDGE: "a knowledge model", LANGUAGE: "a language model",
    RETRIEVAL: "a retrieval model", LAYER: "a layer",
}  # fmt: skip
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")


def checkpoint_folder(run: Path, epoch: int) -> Path:
    """Return the folder of the checkpoint after ``epoch`` epochs of a run."""
    return run / f"checkpoint-{epoch:06d}"


def newest_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run with the most epochs; the folder itself if it is one."""
    if is_checkpoint(run):
        return run
    checkpoints = [folder for folder in _children(run) if _CHECKPOINT.fullmatch(folder.name)]
    return max(checkpoints, key=_epoch, default=None)


def drop_older_checkpoints(run: Path) -> None:
    """Remove all checkpoints but the newest, and temporary folders of killed processes."""
    newest = newest_checkpoint(run)
    for folder in _children(run):
        is_old = _CHECKPOINT.fullmatch(folder.name) and folder != newest
        if is_old or folder.name.startswith(".checkpoint-"):
            shutil.rmtree(folder, ignore_errors=True)


def trained_in(folder: Path) -> list[Path]:
    """Return the runs in a folder: itself, or those of its tasks in natural order."""
    if newest_checkpoint(folder):
        return [folder]
    return sorted(
        (child for child in _children(folder)
         if child.name != CONTROL and newest_checkpoint(child)),
        key=lambda child: [int(piece) if piece.isdecimal() else piece for piece in
                           re.split(r"(\d+)", child.name)],
    )  # fmt: skip


def stopped_after(run: Path) -> tuple[int, int] | None:
    """Return the finished and planned epochs of an unfinished training, otherwise None."""
    checkpoint = find_checkpoint(run)
    try:
        paths = [checkpoint / name for name in ("training.json", _RECIPES[kind_of(checkpoint)])]
        training, settings = (from_json(path.read_bytes(), path) for path in paths)
        recipe = settings["recipe"]
        epochs = int(recipe.get("linear_start_epochs", 0)) + int(recipe["epochs"])
        return None if training["finished"] else (int(training["epoch"]), epochs)
    except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None  # a saved model, or a corrupt file, which loading reports


def find_run(name: str | Path | None = None, kind: str | None = None) -> Path:
    """Return the folder of a run, given by its path or its name under ``runs/``.

    None is the newest finished run, or, if none is finished, the newest.

    Args:
        name: a path, a name, or None.
        kind: the kind of its model, such as `memhop.checkpoint.STORIES`; None for any.

    Raises:
        MemhopError: no such run, or a run of another kind.
    """
    if name is None:
        newest = newest_run(kind)
        if newest is None:
            of_kind = "" if kind is None else f" of {model_of(kind)}"
            raise MemhopError(
                f"no trained run{of_kind} under {RUNS}/: train one first, or give its path"
            )
        return newest
    if not str(name):
        raise MemhopError("expected the name or path of a run, got an empty text")
    run = named_run(name, kind)
    if run is None:
        raise no_run_error(name)
    return run


def newest_run(kind: str | None = None) -> Path | None:
    """Return the newest finished run under ``runs/``, or, if none is finished, the newest.

    None if there is no run of this kind of models; the kind None is any.
    """
    trained = [run for run in _children(RUNS) if trained_in(run) and _is_of(run, kind)]
    return max(trained, key=lambda run: (_is_finished(run), _age(run)), default=None)


def named_run(name: str | Path, kind: str | None = None) -> Path | None:
    """Return the folder of a run, given as to `find_run`; None if there is no such run.

    Raises:
        MemhopError: a run of another kind.
    """
    for folder in _folders(name):
        if trained_in(folder):  # a folder of data may have the same name
            if error := kind_error(folder, kind):
                raise error
            return folder
    return None


def no_run_error(name: str | Path, others: str = "") -> MemhopError:
    """Return the error for a name for which `named_run` returns None; ``others`` ends it."""
    for folder in _folders(name)[-1:]:
        try:
            if (folder / CONFIG).is_file():
                read_manifest(folder)
        except MemhopError as error:  # corrupt, or of another library
            return error
        return MemhopError(f"{folder}: no checkpoint in it: not a run, or stopped too early")
    known = ", ".join(sorted(run.name for run in _children(RUNS) if trained_in(run)))
    return MemhopError(f"no run {str(name)!r}; under {RUNS}/: {known or 'none'}{others}")


def kind_error(folder: Path, kind: str | None, name: str | None = None) -> MemhopError | None:
    """Return the error for a run if it is of another kind; ``name`` replaces its path there."""
    if _is_of(folder, kind):
        return None
    came = _described(folder)
    return MemhopError(f"{name or folder}: expected {model_of(kind)}, got {came}")


def find_checkpoint(name: str | Path | None = None, kind: str | None = None) -> Path:
    """Return the newest checkpoint of a run, given as to `find_run`.

    Raises:
        MemhopError: no such run, several, or a run of another kind.
    """
    return checkpoint_of(find_run(name, kind))


def checkpoint_of(run: Path) -> Path:
    """Return the newest checkpoint of a run.

    Raises:
        MemhopError: several runs, one for each task.
    """
    trained = trained_in(run)
    if len(trained) > 1:
        names = ", ".join(child.name for child in trained)
        raise MemhopError(
            f"{run}: expected one run, got {len(trained)} ({names}): choose one, as {trained[0]}"
        )
    checkpoint = newest_checkpoint(trained[0])
    assert checkpoint is not None  # every run of trained_in has one
    return checkpoint


def holds_anything(folder: Path) -> bool:
    """Return whether a folder holds anything but empty folders."""
    if not is_folder(folder):
        return folder.exists()
    return any(not path.is_dir() for path in folder.rglob("*"))


def free_name(stem: str) -> str:
    """Return an unused name under ``runs/``: the stem, or the stem and a number.

    The name of an empty folder is in use: a training may just have created it.
    """
    name, number = stem, 1
    while (RUNS / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def run_kind(run: Path) -> str:
    """Return the kind of the models of a run."""
    return kind_of(newest_checkpoint(trained_in(run)[0]) or run)


def model_of(kind: str | None) -> str:
    """Return the words for a model of a kind in messages.

    >>> model_of(LANGUAGE), model_of("other")
    ('a language model', "a model of kind 'other'")
    """
    return "a model" if kind is None else _MODELS.get(kind, f"a model of kind {shown(kind)}")


def _is_of(run: Path, kind: str | None) -> bool:
    try:
        return kind is None or run_kind(run) == kind
    except MemhopError:  # a corrupt file, which loading reports
        return True


def _described(run: Path) -> str:
    kind = run_kind(run)
    return model_of(kind) + (f": use {_COMMANDS[kind]}" if kind in _COMMANDS else "")


def _folders(name: str | Path) -> list[Path]:
    return [folder for folder in (Path(name), RUNS / name) if is_folder(folder)]


def _children(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir()] if is_folder(folder) else []


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; no name is too long to ask."""
    try:
        return path.is_dir()
    except OSError:  # a name too long to be one
        return False


def _epoch(folder: Path) -> int:
    match = _CHECKPOINT.fullmatch(folder.name)
    return int(match[1]) if match else -1


def _is_finished(run: Path) -> bool:
    return not any(stopped_after(child) for child in trained_in(run))


def _age(run: Path) -> float:
    return max((newest_checkpoint(child) or child).stat().st_mtime for child in trained_in(run))
