"""``memhop store compact``: free the space of deleted rows."""

import typer

from memhop.cli.screen import print_json, print_line
from memhop.cli.settings import Json
from memhop.cli.store.folder import counted, described, open_store, size
from memhop.cli.store.options import Folder

app = typer.Typer()


@app.command()
def compact(folder: Folder, json: Json = False) -> None:
    """Remove deleted rows from the disk.

    The store is written to new files, then the old ones are removed. You can stop it at any time:
    the store is then as before. Programs that read the store keep what they have opened.
    """
    before = size(folder) if folder.is_dir() else 0
    with open_store(folder) as store:
        deleted = store.num_rows - len(store)
        store.compact()
        found = described(store) | {"removed": deleted}
    if json:
        print_json(found)
        return
    print_line(f"{folder}: removed {counted(deleted)}; {counted(found['rows'])} left")
    print_line(f"{before / 1e6:,.1f} MB before, {size(folder) / 1e6:,.1f} MB now")
