"""The command line: one command a file, and here what is common to all of them."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer
from typer.exceptions import TyperException

import memhop
from memhop.cli import ask, data, demo, evaluate, generate, serve, train, warmup
from memhop.cli.screen import Stopped, program, say_error
from memhop.errors import MemhopError

_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended

app = typer.Typer(
    name="memhop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Multi-hop memory for PyTorch: train a memory network on stories, ask it questions, "
    "see which sentence each hop read. Begin with: memhop demo",
)
for command in (demo, train, evaluate, ask, serve, generate, warmup):
    app.add_typer(command.app)
app.add_typer(data.app, name="data")


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
    # what a terminal cannot show, or sends without sense, is spelled out and no error
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_status(arguments))


def _status(arguments: list[str] | None) -> int:
    try:
        status = app(args=arguments, prog_name="memhop", standalone_mode=False)
        if status == _INTERRUPTED:  # typer has caught the KeyboardInterrupt
            raise Stopped("stopped")
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Stopped as stopped:
        say_error(str(stopped))
        return _INTERRUPTED
    except TyperException as error:
        return _misused(error)
    except MemhopError as error:
        say_error(str(error))
    except OSError as error:
        return _refused(error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        say_error("not enough memory: fewer --restarts, or a smaller setting, take less")
    return 2


def _misused(error: TyperException) -> int:
    """Wrong arguments: one line; none at all: the help."""
    message = error.format_message()
    if message.startswith("Usage:"):
        print(message)
        return 0
    context = getattr(error, "ctx", None)
    see = ""
    if context:
        see = f" (see {program()}{context.command_path.removeprefix('memhop')} --help)"
    say_error(message.removesuffix(".") + see)
    return 2


def _refused(error: OSError) -> int:
    """What the system does not let us do, most often to print: the disk is full, a pipe closed."""
    with suppress(OSError, AttributeError):  # else the end of the program tries to print again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:  # such as | head: its reader has seen enough
        return 1
    say_error(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    return 2
