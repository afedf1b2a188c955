"""What a shell offers for a value: names of runs, tasks, recipes.

See ``memhop --install-completion``.
"""

from collections.abc import Iterator
from contextlib import suppress

from memhop.data import TASK_NAMES
from memhop.errors import MemhopError
from memhop.runs import RUNS, trained_in

Offer = Iterator[tuple[str, str]]  # a value, and a word about it


def runs(incomplete: str) -> Offer:
    """Return the trained runs under ``runs/``, and the models of each task in one."""
    with suppress(OSError, MemhopError):  # an unreadable folder offers nothing
        for run in sorted(RUNS.iterdir()):
            found = trained_in(run) if run.is_dir() else []
            names = [run.name] if found else []
            names += [f"{run.name}/{model.name}" for model in found if model != run]
            yield from ((name, "") for name in names if name.startswith(incomplete))


def run_names(incomplete: str) -> Offer:
    """Return the names of runs alone, as --name takes them."""
    return (one for one in runs(incomplete) if "/" not in one[0])


def tasks(incomplete: str) -> Offer:
    """Return the 20 tasks; in a list such as 1,2 the last one is completed."""
    begin, comma, last = incomplete.rpartition(",")
    for number, name in TASK_NAMES.items():
        if str(number).startswith(last):
            yield f"{begin}{comma}{number}", name


def recipes(incomplete: str) -> Offer:
    """Return the named recipes; the shell itself offers files."""
    return ((name, "") for name in ("paper", "best") if name.startswith(incomplete))
