"""``memhop kb``: questions over your own facts."""

import typer

from memhop.cli.kb.ask import app as ask_app
from memhop.cli.kb.demo import app as demo_app
from memhop.cli.kb.evaluate import app as evaluate_app
from memhop.cli.kb.train import app as train_app

app = typer.Typer(
    no_args_is_help=True,
    short_help="Questions over your own facts.",
    help="Questions over your own facts: train on questions and answers, ask, see each fact read.",
)
for command in (demo_app, train_app, ask_app, evaluate_app):
    app.add_typer(command)
