"""The folder of a run: its name, and its creation before a training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from memhop.atomic_write import check_writable
from memhop.errors import MemhopError
from memhop.runs import RUNS, newest_checkpoint

COMMAND = "command.json"  # in the folder of each training: from it the training resumes


def named_folder(name: str) -> Path:
    """Return the folder of a run under ``runs/``."""
    if not name or Path(name).name != name or name[0] in ".-" or not name.isprintable():
        raise MemhopError(f"--name: expected the name of a folder under {RUNS}/, got {name!r}")
    return RUNS / name


@contextmanager
def claimed(folder: Path, trainings: Sequence[Path], store: Callable[[], None]) -> Iterator[None]:
    """Create the folders of a run and store its commands.

    After an error before a checkpoint both are removed.

    Args:
        folder: the run.
        trainings: the folder of each training; the run itself, or folders in it.
        store: writes the commands of all trainings.
    """
    folders = [folder, *trainings]
    for one in folders:  # before an hour of training
        check_writable(one)
    try:
        for one in folders:
            one.mkdir(parents=True, exist_ok=True)
        store()
    except OSError as error:
        raise MemhopError(f"{folder}: cannot be written to: {error.strerror}") from error
    try:
        yield
    except MemhopError:
        for one in trainings:
            if not newest_checkpoint(one):
                (one / COMMAND).unlink(missing_ok=True)
        raise
    finally:
        for one in reversed(folders):
            with suppress(OSError):  # it holds something
                one.rmdir()
