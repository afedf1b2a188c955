"""``memhop kb``: questions over your own facts."""

import typer

from memhop.cli.kb.ask import app as ask
from memhop.cli.kb.demo import app as demo
from memhop.cli.kb.evaluate import app as evaluate
from memhop.cli.kb.train import app as train

app = typer.Typer(
    no_args_is_help=True,
    short_help="Questions over your own facts.",
    help="Questions over your own facts: train on questions and answers, ask, see each fact read.",
)
for command in (demo, train, ask, evaluate):
    app.add_typer(command)
