"""``memhop store info``: what a store holds."""

import typer

from memhop.cli.screen import print_json, print_line
from memhop.cli.settings import Json
from memhop.cli.store.folder import counted, described, open_store
from memhop.cli.store.options import Folder

app = typer.Typer()


@app.command()
def info(folder: Folder, json: Json = False) -> None:
    """Show how many rows a store has, and its size on disk."""
    with open_store(folder, read_only=True) as store:
        found = described(store)
    if json:
        print_json(found)
        return
    print_line(f"{folder}: {counted(found['rows'])}, {found['deleted']:,} deleted")
    print_line(f"vectors of {found['dim']} numbers in {found['dtype']}")
    print_line(f"{found['bytes'] / 1e6:,.1f} MB, generation {found['generation']}")
