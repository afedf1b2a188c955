"""The jobs of one ``memhop train``, and the file in a run from which it resumes."""

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from memhop.atomic_write import atomic_write
from memhop.checkpoint import SCHEMA, check_schema, from_json, to_json
from memhop.cli.run_folder import COMMAND
from memhop.cli.settings import read_file, tasks_in
from memhop.data import read_examples
from memhop.data.babi import find_valid
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import newest_checkpoint

_MINIMA = {"restarts": 1, "seed": 0, "threads": 1}
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)


class Settings(NamedTuple):
    """How to train, apart from the data."""

    recipe: Recipe
    restarts: int
    seed: int
    device: str
    threads: int
    store_examples: bool = True


class Source(NamedTuple):
    """The files of a bAbI task, or other files (``task`` None)."""

    task: int | None
    train: Path
    test: Path | None
    valid: Path | None = None

    def files(self) -> dict[str, Path]:
        """Return the existing files by split."""
        files = {"train": self.train, "test": self.test, "valid": self.valid}
        return {split: path for split, path in files.items() if path}


class TrainingJob(NamedTuple):
    """A model to train, into one folder; ``joint`` if it is for all tasks."""

    folder: Path
    joint: bool
    sources: tuple[Source, ...]
    settings: Settings
    train: list[list[Example]]  # from each source
    test: list[Example]
    valid: list[list[Example]]  # held out, of each source; if empty, a share of `train` is

    @property
    def name(self) -> str:
        """Return the name for tables and progress lines."""
        if self.joint:
            return f"{len(self.sources)} tasks"
        [source] = self.sources
        return source.train.name if source.task is None else f"task {source.task}"

    @property
    def held_out(self) -> str:
        """Return a line about the validation files."""
        names = ", ".join(source.valid.name for source in self.sources if source.valid)
        return f"{self.name}: held out: {names}, {sum(map(len, self.valid)):,} questions"


def own_job(folder: Path, train: Path, test: Path | None, settings: Settings) -> TrainingJob:
    """Return the job for --train FILE --test FILE."""
    examples = read_file("--train", train)
    tested = read_file("--test", test) if test else []
    valid = find_valid(train)
    held_out = [read_examples(valid)] if valid else []
    sources = (Source(None, train, test, valid),)
    return TrainingJob(folder, False, sources, settings, [examples], tested, held_out)


def task_jobs(
    folder: Path, data: Path, task: str | None, joint: bool, settings: Settings
) -> list[TrainingJob]:
    """Return a job for each task of the folder ``data``, or one for all."""
    sources = [
        Source(number, splits["train"], splits.get("test"), splits.get("valid"))
        for number, splits in tasks_in(data, task, split="train").items()
    ]
    if joint:
        _check_valid(sources)
        return [_read(folder, True, tuple(sources), settings)]
    return [_read(folder / f"qa{one.task}", False, (one,), settings) for one in sources]


def _check_valid(sources: Sequence[Source]) -> None:
    """Raise MemhopError if only some tasks have validation files: the rest has no held-out part."""
    without = [str(source.task) for source in sources if not source.valid]
    if 0 < len(without) < len(sources):
        raise MemhopError(
            "--joint: expected a validation file for each task or for none, "
            f"got none for task {', '.join(without)}"
        )


def stored_jobs(folder: Path) -> list[TrainingJob]:
    """Return the stored jobs of a run, with their data.

    Raises:
        MemhopError: no job is stored, or a file is missing or differs from its checksum.
    """
    below = sorted(folder.glob("qa*"), key=lambda path: (len(path.name), path.name))
    folders = [one for one in (folder, *below) if (one / COMMAND).is_file()]
    if not folders:
        raise MemhopError(
            f"{folder}: no {COMMAND} to resume from: repeat the whole command with --resume"
        )
    return [_read(one, *_stored(one / COMMAND)) for one in folders]


def store_all(jobs: Sequence[TrainingJob]) -> None:
    """Write each job into the folder of its training."""
    for job in jobs:
        store(job)


def store(job: TrainingJob) -> None:
    """Write the job for `stored_jobs`, unless the training has a checkpoint."""
    if newest_checkpoint(job.folder):
        return
    files = [
        {"task": source.task}
        | {split: {"path": str(path), "sha256": checksum(path)}
           for split, path in source.files().items()}
        for source in job.sources
    ]  # fmt: skip
    settings = job.settings._asdict() | {"recipe": job.settings.recipe.to_json()}
    content = {"schema": SCHEMA, "joint": job.joint, "files": files, **settings}
    with atomic_write(job.folder / COMMAND) as out:
        out.write(to_json(content).decode())


def _read(
    folder: Path, joint: bool, sources: tuple[Source, ...], settings: Settings
) -> TrainingJob:
    train = [read_examples(source.train) for source in sources]
    test = list(chain.from_iterable(read_examples(one.test) for one in sources if one.test))
    valid = [read_examples(one.valid) for one in sources if one.valid]
    return TrainingJob(folder, joint, sources, settings, train, test, valid)


def _stored(path: Path) -> tuple[bool, tuple[Source, ...], Settings]:
    try:
        content = from_json(path.read_bytes(), path)
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
    check_schema(content, path)
    try:
        numbers = {name: _integer(content[name], minimum) for name, minimum in _MINIMA.items()}
        recipe, device = Recipe.from_json(content["recipe"]), _text(content["device"])
        joint, files = content["joint"], content["files"]
        store_examples = content.get("store_examples", True)  # not in older runs
        sources = tuple(_source(entry) for entry in files)
        if type(store_examples) is not bool:
            raise ValueError("expected true or false")
        if type(joint) is not bool or not (len(files) > 0 if joint else len(files) == 1):
            raise ValueError("expected one file, or several for a joint training")
    except _MALFORMED as error:  # MemhopError too: a wrong recipe
        raise MemhopError(f"{path}: corrupt file") from error
    for entry in files:
        for split in set(entry) - {"task"}:
            check_unchanged(Path(entry[split]["path"]), entry[split]["sha256"], path)
    return (
        joint,
        sources,
        Settings(recipe=recipe, device=device, store_examples=store_examples, **numbers),
    )


def _source(entry: Any) -> Source:
    task = entry["task"] if entry["task"] is None else _integer(entry["task"], 1)
    paths = {split: Path(_text(entry[split]["path"])) for split in set(entry) - {"task"}}
    return Source(task, paths.pop("train"), paths.pop("test", None), **paths)


def _integer(value: Any, minimum: int) -> int:
    if type(value) is not int or value < minimum:
        raise ValueError("expected an integer")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("expected a string")
    return value


def check_unchanged(path: Path, stored: str, command: Path) -> None:
    """Check that a file has the SHA-256 that ``command`` stores."""
    try:
        is_same = checksum(path) == stored
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(
            f"{path}: cannot be read: {reason}; {command.parent} was trained on it"
        ) from None
    if not is_same:
        raise MemhopError(f"{path}: changed since the training of {command.parent} began")


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
