"""Open a store, and describe it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memhop.cli.store.options import parse_ids
from memhop.errors import MemhopError

if TYPE_CHECKING:
    from memhop.storage.record import Record
    from memhop.storage.store import Store


def open_store(folder: Path, **options: Any) -> "Store":
    """Return a store; SQLite is loaded here. Only a dim creates one.

    Raises:
        MemhopError: no store, a corrupt one, or another process that writes it.
    """
    from memhop.storage.store import Store

    if "dim" not in options and not folder.is_dir():
        raise MemhopError(f"{folder}: no such store; memhop store create makes one")
    return Store(folder, **options)


def is_store(folder: Path) -> bool:
    """Return whether a folder is that of a store."""
    from memhop.storage.folder import DATABASE

    return (folder / DATABASE).is_file()


def described(store: "Store") -> dict[str, Any]:
    """Return what a store holds, as a JSON object."""
    from memhop.storage.file_state import below_here

    return {
        "store": str(below_here(store.path)),
        "rows": len(store),
        "deleted": store.num_rows - len(store),
        "dim": store.dim,
        "dtype": dtype_name(store),
        "generation": store.generation,
        "bytes": size(store.path),
    }


def dtype_name(store: "Store") -> str:
    """Return the name of the dtype of a store, such as "float32"."""
    return str(store.dtype).removeprefix("torch.")


def size(folder: Path) -> int:
    """Return the bytes of the files of a folder."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def counted(number: int, noun: str = "row") -> str:
    """Return a number with its noun.

    >>> counted(1), counted(2000)
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def find_record(store: "Store", text: str) -> "Record":
    """Return the row with an id that was typed: an integer if there is one, or else a text.

    Raises:
        MemhopError: no such row.
    """
    names = parse_ids(text)
    name = next((one for one in names if one in store), names[-1])
    return store.get([name])[0]
