"""Load the models of a server from runs."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from memhop.checkpoint import KNOWLEDGE, LANGUAGE, RETRIEVAL, STORIES
from memhop.errors import MemhopError
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.training_run import load_with_test
from memhop.pretrained.names import find_model
from memhop.retrieval import Encoder, RetrievalModel
from memhop.retrieval.encoder import encode
from memhop.runs import model_of, run_kind, trained_in
from memhop.storage.folder import DATABASE
from memhop.storage.store import Store
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


class ServedStore(NamedTuple):
    """A store, which is opened to read only.

    Attributes:
        name: the name of its folder.
        store: the store, with its encoder if there is one.
        hops: the model that searches it; None for inner products.
    """

    name: str
    store: Store
    hops: RetrievalModel | None

    @property
    def num_hops(self) -> int:
        """Number of hops of a search."""
        return 1 if self.hops is None else self.hops.num_hops


AnyServed = Served | ServedFacts | ServedStore
Models = Mapping[str, AnyServed]


def load(
    runs: Sequence[str | Path | None],
    *,
    encoder: Encoder | None = None,
    hops: RetrievalModel | None = None,
) -> dict[str, AnyServed]:
    """Return all models of the runs, and the stores, by name; None is the newest finished run.

    Args:
        runs: names of models as for `memhop.pretrained.names.find_model`, and paths of stores.
        encoder, hops: of the stores.

    Raises:
        MemhopError: a run does not exist, has models of another kind or corrupt files, two models
            have one name, or the hops have other sizes than a store.
    """
    models: dict[str, AnyServed] = {}
    for run, title in dict(map(_find, runs)).items():
        if is_store(run):
            if run.name in models:
                raise MemhopError(f"{run}: another model is called {run.name}: rename one")
            models[run.name] = _load_store(run, encoder, hops)
            continue
        for trained in trained_in(run):
            name = "/".join((title, *trained.relative_to(run).parts))
            if name in models:
                raise MemhopError(f"{trained}: another model is called {name}: rename one")
            models[name] = _load(name, trained)
    return models


def _find(name: str | Path | None) -> tuple[Path, str]:
    """Return the folder of a run or store, and its name; of a model on the Hub its id."""
    if name is None or not is_store(name):
        try:
            folder = find_model(name)
        except MemhopError as error:
            raise MemhopError(f"expected a run or the folder of a store: {error}") from None
        if name is not None and Path(name).name != folder.name:
            return folder.resolve(), str(name)
        name = folder
    folder = Path(name).resolve()
    return folder, folder.name


def is_store(path: str | Path) -> bool:
    """Return whether a path is the folder of a store."""
    with suppress(OSError, ValueError):  # a name too long, or with the character NUL
        return (Path(path) / DATABASE).is_file()
    return False


def _load_store(folder: Path, encoder: Encoder | None, hops: RetrievalModel | None) -> ServedStore:
    store = Store(folder, encoder=encoder, read_only=True)
    if encoder is not None and (size := encode(encoder, ["memhop"]).shape[1]) != store.dim:
        raise MemhopError(f"{folder}: expected an encoder to {store.dim} numbers, got {size}")
    if hops is not None and (hops.key_dim, hops.value_dim) != (store.dim, store.dim):
        sizes = f"key_dim={hops.key_dim}, value_dim={hops.value_dim}"
        raise MemhopError(f"{folder}: expected hops over {store.dim} numbers, got {sizes}")
    return ServedStore(folder.name, store, hops)


def _load(name: str, run: Path) -> Served | ServedFacts:
    kind = run_kind(run)
    if kind == STORIES:
        model, score = load_with_score(run)
        return Served(name, model, score.test_error if score else None)
    if kind == KNOWLEDGE:
        facts, test = load_with_test(run)
        return ServedFacts(name, facts, 100 - test.hits if test else None)
    hints = {RETRIEVAL: f"memhop serve STORE --hops {run}", LANGUAGE: f"memhop lm predict {run}"}
    hint = f": {hints[kind]}" if kind in hints else ""
    expected = f"expected {model_of(STORIES)} or {model_of(KNOWLEDGE)}"
    raise MemhopError(f"{run}: {expected}, got {model_of(kind)}{hint}")
