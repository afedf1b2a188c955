"""``memhop lm``: language models over your own text."""

import typer

from memhop.cli.lm.evaluate import app as evaluate_app
from memhop.cli.lm.predict import app as predict_app
from memhop.cli.lm.train import app as train_app

app = typer.Typer(
    no_args_is_help=True,
    short_help="Language models over your own text.",
    help="Language models over your own text: the memory is the previous words. Train on a text, "
    "predict the next word, see which words each hop read.",
)
for command in (train_app, predict_app, evaluate_app):
    app.add_typer(command)
