"""Load the models of a server from runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from memhop.checkpoint import KNOWLEDGE, STORIES
from memhop.errors import MemhopError
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.training_run import load_with_test
from memhop.runs import find_run, run_kind, trained_in
from memhop.text.model import MemN2N
from memhop.training.run import load_with_score


class Served(NamedTuple):
    """A model of stories.

    Attributes:
        name: the name of its run, such as ``demo`` or ``babi/qa1``.
        model: the model.
        test_error: error in percent on the test questions of its training; None if not measured.
    """

    name: str
    model: MemN2N
    test_error: float | None


class ServedFacts(NamedTuple):
    """A model of facts; attributes as of `Served`."""

    name: str
    model: KnowledgeModel
    test_error: float | None


Models = Mapping[str, Served | ServedFacts]


def load(runs: Sequence[str | Path | None]) -> dict[str, Served | ServedFacts]:
    """Return all models of the runs by name; None is the newest finished run.

    Raises:
        MemhopError: a run does not exist, has models of another kind or corrupt files, or two
            models have one name.
    """
    models: dict[str, Served | ServedFacts] = {}
    for run in dict.fromkeys(find_run(run).resolve() for run in runs):
        for trained in trained_in(run):
            parts = run.name, *trained.relative_to(run).parts
            name = "/".join(parts)
            if name in models:
                raise MemhopError(f"{trained}: another model is called {name}: rename one")
            models[name] = _load(name, trained)
    return models


def _load(name: str, run: Path) -> Served | ServedFacts:
    kind = run_kind(run)
    if kind == STORIES:
        model, score = load_with_score(run)
        return Served(name, model, score.test_error if score else None)
    if kind == KNOWLEDGE:
        facts, test = load_with_test(run)
        return ServedFacts(name, facts, 100 - test.hits if test else None)
    raise MemhopError(f"{run}: expected a run of {STORIES} or {KNOWLEDGE}, got one of {kind}")
