"""``memhop store``: vectors with texts in a folder that grows, searched hop by hop."""

import typer

from memhop.cli.store.add import app as add_app
from memhop.cli.store.compact import app as compact_app
from memhop.cli.store.create import app as create_app
from memhop.cli.store.delete import app as delete_app
from memhop.cli.store.info import app as info_app
from memhop.cli.store.search import app as search_app

app = typer.Typer(
    no_args_is_help=True,
    short_help="Vectors with texts in a folder that grows.",
    help="Vectors with texts in a folder that grows: add, search hop by hop, delete.",
)
for command in (create_app, add_app, search_app, delete_app, compact_app, info_app):
    app.add_typer(command)
