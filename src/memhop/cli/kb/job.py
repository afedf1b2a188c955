"""The data and settings of one ``memhop kb train``, and the file from which it resumes."""

from pathlib import Path
from typing import Any, NamedTuple

from memhop.atomic_write import atomic_write
from memhop.checkpoint import SCHEMA, check_schema, from_json, to_json
from memhop.cli.run_folder import COMMAND
from memhop.cli.training_jobs import check_unchanged, checksum
from memhop.errors import MemhopError, check_integer
from memhop.knowledge import KnowledgeBase, KnowledgeRecipe, Question, read_facts, read_questions
from memhop.runs import newest_checkpoint

FILES = ("facts", "aliases", "questions", "valid", "test")
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)


class Job(NamedTuple):
    """What to train, and on which files; the names are those of the options.

    Attributes:
        files: the given files by name, some of `FILES`.
        recipe, seed, threads: as in `memhop.knowledge.train`.
    """

    files: dict[str, Path]
    recipe: KnowledgeRecipe
    seed: int
    threads: int

    def read_facts(self) -> KnowledgeBase:
        """Return the facts."""
        return read_facts(self.files["facts"], aliases=self.files.get("aliases"))

    def read_questions(self, name: str) -> list[Question]:
        """Return the questions of a file, none if it is not given."""
        return read_questions(self.files[name]) if name in self.files else []


def store(job: Job, folder: Path) -> None:
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


def stored(folder: Path) -> Job:
    """Return the stored job of a run.

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
        if not {"facts", "questions"} <= files.keys() <= set(FILES):
            raise ValueError("expected facts and questions")
        recipe = KnowledgeRecipe.from_json(content["recipe"])
        numbers = (check_integer(name, content[name], low) for name, low in
                   (("seed", 0), ("threads", 1)))  # fmt: skip
        job = Job({name: Path(one) for name, one in files.items()}, recipe, *numbers)
    except _MALFORMED as error:  # MemhopError too: a wrong recipe
        raise MemhopError(f"{path}: corrupt file") from error
    for name, file in job.files.items():
        check_unchanged(file, sums[name], path)
    return job
