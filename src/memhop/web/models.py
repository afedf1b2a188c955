"""Load the models of a server from runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memhop.errors import MemhopError
from memhop.runs import find_run, trained_in
from memhop.text.model import MemN2N
from memhop.training.run import load_with_score


class Served(NamedTuple):
    """A model of a server.

    Attributes:
        name: the name of its run, such as ``demo`` or ``babi/qa1``.
        model: the model.
        test_error: error in percent on the test questions of its training; None if not measured.
    """

    name: str
    model: MemN2N
    test_error: float | None


def load(runs: Sequence[str | Path | None]) -> dict[str, Served]:
    """Return all models of the runs by name; None is the newest finished run.

    Raises:
        MemhopError: a run does not exist, a file is corrupt, or two models have one name.
    """
    models: dict[str, Served] = {}
    for run in dict.fromkeys(find_run(run).resolve() for run in runs):
        for trained in trained_in(run):
            parts = run.name, *trained.relative_to(run).parts
            name = "/".join(parts)
            if name in models:
                raise MemhopError(f"{trained}: another model is called {name}: rename one")
            model, score = load_with_score(trained)
            models[name] = Served(name, model, score.test_error if score else None)
    return models
