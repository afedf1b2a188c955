"""A training on named files with one recipe, and the file from which it resumes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from memhop.atomic_write import atomic_write
from memhop.checkpoint import SCHEMA, check_schema, from_json, to_json
from memhop.cli.run_folder import COMMAND
from memhop.cli.training_jobs import check_unchanged, checksum
from memhop.errors import MemhopError, check_integer
from memhop.runs import newest_checkpoint
from memhop.settings import Settings

_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
RecipeType = TypeVar("RecipeType", bound=Settings)


class FileJob(NamedTuple, Generic[RecipeType]):
    """What to train, and on which files; the names are those of the options.

    Attributes:
        files: the given files by the name of their option.
        recipe, seed, threads: of the training.
    """

    files: dict[str, Path]
    recipe: RecipeType
    seed: int
    threads: int


def check_regular(files: Iterable[Path]) -> None:
    """Check that files can be read several times.

    Raises:
        MemhopError: one is a pipe or another stream; a missing file is no error here.
    """
    for path in files:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise MemhopError(f"{path}: expected a file, which is read several times, got a pipe")


def store(job: FileJob[RecipeType], folder: Path) -> None:
    """Write a job into the folder of its run, for `stored`, unless the run has a checkpoint."""
    if newest_checkpoint(folder):
        return
    files = {name: {"path": str(path.absolute()), "sha256": checksum(path)}
             for name, path in job.files.items()}  # fmt: skip
    content: dict[str, Any] = {
        "schema": SCHEMA, "files": files, "recipe": job.recipe.to_json(), "seed": job.seed,
        "threads": job.threads,
    }  # fmt: skip
    with atomic_write(folder / COMMAND) as out:
        out.write(to_json(content).decode())


def stored(
    folder: Path, recipe_type: type[RecipeType], needed: Sequence[str], optional: Sequence[str]
) -> FileJob[RecipeType]:
    """Return the stored job of a run.

    Args:
        folder: the run.
        recipe_type: the class of its recipe.
        needed, optional: the names of the files that it has, and that it may have.

    Raises:
        MemhopError: no job is stored, or a file is missing or has changed.
    """
    path = folder / COMMAND
    if not path.is_file():
        raise MemhopError(
            f"{folder}: no {COMMAND} to resume from: repeat the whole command with --resume"
        )
    content = from_json(path.read_bytes(), path)
    check_schema(content, path)
    try:
        files = {name: entry["path"] for name, entry in content["files"].items()}
        sums = {name: entry["sha256"] for name, entry in content["files"].items()}
        if not {*needed} <= files.keys() <= {*needed, *optional}:
            raise ValueError(f"expected the files {', '.join(needed)}")
        recipe = recipe_type.from_json(content["recipe"])
        numbers = (check_integer(name, content[name], low) for name, low in
                   (("seed", 0), ("threads", 1)))  # fmt: skip
        job = FileJob({name: Path(one) for name, one in files.items()}, recipe, *numbers)
    except _MALFORMED as error:  # MemhopError too: a wrong recipe
        raise MemhopError(f"{path}: corrupt file") from error
    for name, file in job.files.items():
        check_unchanged(file, sums[name], path)
    return job
