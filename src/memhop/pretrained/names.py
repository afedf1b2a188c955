"""Find a model by its name: a path, a run, a model that comes with memhop, or one on the Hub."""

from pathlib import Path

from memhop.checkpoint import STORIES
from memhop.errors import MemhopError, shown
from memhop.pretrained.hub import HubOptions, download, is_hub_id
from memhop.runs import RUNS, find_run, is_folder, kind_error, named_run, newest_run, no_run_error

SHIPPED = Path(__file__).parent / "models"  # a pretrained folder for each
DEFAULT = SHIPPED / "stories"  # where no run is trained


def shipped_names() -> list[str]:
    """Return the names of the models that come with memhop."""
    return sorted(path.name for path in SHIPPED.iterdir()) if SHIPPED.is_dir() else []


def find_model(
    name: str | Path | None = None, kind: str | None = None, hub: HubOptions | None = None
) -> Path:
    """Return the folder of a model: the first of a path, a run, a shipped model, a Hub id.

    A Hub id, ``owner/name`` where no folder ``owner`` is here, is downloaded to the cache of the
    Hub's client. None is the newest run, as for `memhop.runs.find_run`, or the shipped model of
    stories if there is no run.

    Args:
        name: a path, a name, or None.
        kind: the kind of model, such as `memhop.checkpoint.STORIES`; None for any.
        hub: how a model on the Hub is downloaded.

    Raises:
        MemhopError: no such model, one of another kind, a failed download, or a revision of a model
            that is not on the Hub.
    """
    if name is None and kind in (None, STORIES):
        return newest_run(kind) or DEFAULT
    if name is None or not str(name):
        return find_run(name, kind)
    text = str(name)
    found = named_run(name, kind)
    if found is None and text in shipped_names() and not is_folder(RUNS / text):
        found = SHIPPED / text
    if found is not None and hub and hub.revision is not None:
        revision = shown(hub.revision)
        raise MemhopError(f"revision {revision}: expected a model on the Hub, got {found}")
    if found is None and is_hub_id(text) and not is_local(text):
        found = download(text, hub)
    if found is None:
        raise _unknown(text, kind)
    if error := kind_error(found, kind, text):
        raise error
    return found


def _unknown(name: str, kind: str | None) -> MemhopError:
    """Return the error for a name of no model of a kind."""
    owner = name.partition("/")[0]
    is_mistyped = is_folder(Path(owner)) and not is_folder(Path(name))
    if is_hub_id(name) and owner != RUNS.name and is_mistyped:
        return MemhopError(f"{name}: no such folder in {owner}/, and so not asked of the Hub")
    shipped = ", ".join(shipped_names()) if kind in (None, STORIES) else ""
    return no_run_error(name, f"; with memhop: {shipped}" if shipped else "")


def is_local(name: str) -> bool:
    """Return whether a name with a slash is a path or of a run, not of the Hub.

    It is if its first part is a folder here or in ``runs/``: the models of a run of several tasks
    have names such as ``babi/qa1``, and a mistyped path must not load the model of somebody.
    """
    owner = name.partition("/")[0]
    return owner == RUNS.name or is_folder(Path(owner)) or is_folder(RUNS / owner)
