"""The folder of a run: its name, and its creation before a training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from memhop.atomic_write import check_writable
from memhop.errors import MemhopError
from memhop.runs import CONTROL, RUNS, find_run, holds_anything, newest_checkpoint, trained_in

COMMAND = "command.json"  # in the folder of each training: from it the training resumes


def named_folder(name: str) -> Path:
    """Return the folder of a run under ``runs/``."""
    if not name or Path(name).name != name or name[0] in ".-" or not name.isprintable():
        raise MemhopError(f"--name: expected the name of a folder under {RUNS}/, got {name!r}")
    return RUNS / name


def given_options(context: typer.Context, stored: Mapping[str, str]) -> set[str]:
    """Return the names of the parameters of a command line that resumes a run.

    Args:
        context: the command.
        stored: the options that the run stores, by the name of their parameter.

    Raises:
        MemhopError: one of these is given.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    for name, option in stored.items():
        if name in given:
            raise MemhopError(
                f"--resume takes {option} from the run: leave it out, or repeat the whole command"
            )
    return given


def check_kind(folder: Path, kind: str) -> None:
    """Check that a run, if there is one in a folder, is of a kind of models.

    Raises:
        MemhopError: it is of another kind.
    """
    if trained_in(folder):
        find_run(folder, kind)


def check_free(folder: Path, kind: str, *, resume: bool) -> None:
    """Check that a run does not exist, or, to resume it, that it is of a kind of models.

    Raises:
        MemhopError: it exists, or is of another kind.
    """
    if not resume and holds_anything(folder):
        raise MemhopError(f"{folder}: the run already exists: use --resume, or another --name")
    check_kind(folder, kind)


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
        try:
            for one in folders:
                one.mkdir(parents=True, exist_ok=True)
            store()
        except OSError as error:
            raise MemhopError(f"{folder}: cannot be written to: {error.strerror}") from error
        yield
    except MemhopError:
        for one in trainings:
            if not newest_checkpoint(one) and not newest_checkpoint(one / CONTROL):
                (one / COMMAND).unlink(missing_ok=True)
        raise
    finally:
        for one in reversed(folders):
            with suppress(OSError):  # it holds something
                one.rmdir()
