"""Find a model by its name: a path, a run, a model that comes with memhop, or one on the Hub."""

from pathlib import Path

from memhop.checkpoint import STORIES
from memhop.pretrained.hub import HubOptions, download, is_hub_id
from memhop.runs import RUNS, any_run, find_run, is_folder, kind_error, named_run, no_run_error

SHIPPED = Path(__file__).parent / "models"  # a pretrained folder for each
DEFAULT = SHIPPED / "stories"  # where no run is trained


def shipped_names() -> list[str]:
    """Return the names of the models that come with memhop."""
    return sorted(path.name for path in SHIPPED.iterdir()) if SHIPPED.is_dir() else []


def find_model(
    name: str | Path | None = None, kind: str | None = None, hub: HubOptions | None = None
) -> Path:
    """Return the folder of a model: the first of a path, a run, a shipped model, a Hub id.

    A Hub id, ``owner/name``, is downloaded to the cache of the Hub's client. None is the newest
    run, as for `memhop.runs.find_run`, or the shipped model of stories if there is no run.

    Args:
        name: a path, a name, or None.
        kind: the kind of model, such as `memhop.checkpoint.STORIES`; None for any.
        hub: how a model on the Hub is downloaded.

    Raises:
        MemhopError: no such model, one of another kind, or a failed download.
    """
    if name is None and kind in (None, STORIES) and not any_run(kind):
        return DEFAULT
    if name is None or not str(name):
        return find_run(name, kind)
    run = named_run(name, kind)
    if run is not None:
        return run
    text = str(name)
    if text in shipped_names() and not is_folder(RUNS / text):
        found = SHIPPED / text
    elif is_hub_id(text) and not is_local(text):
        found = download(text, hub)
    else:
        shipped = ", ".join(shipped_names())
        raise no_run_error(text, f"; with memhop: {shipped}" if shipped else "")
    if error := kind_error(found, kind, text):
        raise error
    return found


def is_local(name: str) -> bool:
    """Return whether a name with a slash is of a folder, of a run or in ``runs/``.

    The models of a run of several tasks have names such as ``babi/qa1``.
    """
    owner = Path(name).parts[0]
    return is_folder(Path(name)) or owner == RUNS.name or is_folder(RUNS / owner)
