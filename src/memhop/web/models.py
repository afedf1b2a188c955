"""The models that a server offers, from the runs it was given."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memhop.errors import MemhopError
from memhop.runs import find_run, trained_in
from memhop.text.model import MemN2N
from memhop.training.run import load_with_score


class Served(NamedTuple):
    """A model and what is known of it.

    Attributes:
        name: of its run, as ``demo`` or ``babi/qa1``.
        model: the model.
        test_error: percent wrong of the test questions of its training; None without such.
    """

    name: str
    model: MemN2N
    test_error: float | None


def load(runs: Sequence[str | Path | None]) -> dict[str, Served]:
    """All models of the runs, by name; None stands for the newest finished run.

    Raises:
        MemhopError: no such run, files not as they were written, or two models of one name.
    """
    found: dict[str, Served] = {}
    for run in dict.fromkeys(find_run(run).resolve() for run in runs):
        for trained in trained_in(run):
            parts = run.name, *trained.relative_to(run).parts
            name = "/".join(parts)
            if name in found:
                raise MemhopError(f"{trained}: another model is called {name}: rename one")
            model, score = load_with_score(trained)
            found[name] = Served(name, model, score.test_error if score else None)
    return found
