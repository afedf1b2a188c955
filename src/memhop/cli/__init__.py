"""The command line: one command a file, and here what is common to all of them."""

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

import memhop
from memhop.cli import ask, bench, data, demo, evaluate, generate, train
from memhop.cli.screen import say_error
from memhop.errors import MemhopError

app = typer.Typer(
    name="memhop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Multi-hop memory for PyTorch: train a memory network on stories, ask it questions, "
    "see which sentence each hop read. Begin with: memhop demo",
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("ask")(ask.ask)
app.command("generate")(generate.generate)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"memhop {memhop.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its status: 2 and one line for a mistake of the user."""
    try:
        status = app(args=arguments, standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # no command was given: the message is the help
            print(message)
        else:
            say_error(message)
        sys.exit(2)
    except MemhopError as error:
        say_error(str(error))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        say_error("stopped")
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
