"""``memhop store delete``: delete rows by their ids."""

from typing import Annotated

import typer

from memhop.cli.screen import print_json, print_line
from memhop.cli.settings import Json
from memhop.cli.store.folder import counted, described, find_record, open_store
from memhop.cli.store.options import Folder

app = typer.Typer()


@app.command()
def delete(
    folder: Folder,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of rows.")],
    json: Json = False,
) -> None:
    """Delete rows: all of them, or none if an id is unknown.

    The space is free after memhop store compact.
    """
    with open_store(folder) as store:
        deleted = store.delete([find_record(store, text).id for text in dict.fromkeys(ids)])
        found = described(store)
    if json:
        print_json({"deleted": deleted, "rows": found["rows"]})
        return
    print_line(f"deleted {counted(deleted)} from {folder}; {counted(found['rows'])} left")
