"""The command line: one file per command; here the entry point and the error messages."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer
from typer.exceptions import TyperException

import memhop
from memhop.cli import (
    answer,
    ask,
    convert,
    demo,
    evaluate,
    export,
    generate,
    kb,
    lm,
    reproduce,
    reproduce_knowledge,
    reproduce_language,
    serve,
    setup,
    store,
    train,
)
from memhop.cli.screen import Stopped, print_error, program
from memhop.errors import MemhopError

_INTERRUPTED = 130  # the exit status of a program that Ctrl-C ends

app = typer.Typer(
    name="memhop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Multi-hop memory for PyTorch: train a memory network on stories, ask it questions, "
    "see which sentence each hop read. Begin with: memhop demo",
)
COMMANDS = (demo, train, evaluate, ask, answer, serve, export, generate, convert, setup)
for command in COMMANDS:
    app.add_typer(command.app)
app.add_typer(setup.data, name="data")
app.add_typer(kb.app, name="kb")
app.add_typer(lm.app, name="lm")
app.add_typer(store.app, name="store")
reproduce.app.add_typer(reproduce_knowledge.app)
reproduce.app.add_typer(reproduce_language.app)
app.add_typer(reproduce.app, name="reproduce")
app.command(
    "bench",
    hidden=True,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(reproduce.bench)


def _show_version(value: bool) -> None:
    if value:
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
    """Run one command and exit with its status: 2 and one line for an error of the user."""
    # characters that a terminal cannot encode or decode are escaped
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_status(arguments))


def _status(arguments: list[str] | None) -> int:
    try:
        status = app(args=arguments, prog_name="memhop", standalone_mode=False)
        if status == _INTERRUPTED:  # typer catches KeyboardInterrupt
            raise Stopped("stopped")
        if sys.stdout is not None:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Stopped as stopped:
        print_error(str(stopped))
        return _INTERRUPTED
    except TyperException as error:
        return _usage_error(error)
    except MemhopError as error:
        print_error(str(error))
    except OSError as error:
        return _system_error(error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        print_error("not enough memory: use fewer --restarts, or a smaller setting")
    return 2


def _usage_error(error: TyperException) -> int:
    """Print one line for wrong arguments, the help for none."""
    message = error.format_message()
    if message.startswith("Usage:"):
        print(message)
        return 0
    context = getattr(error, "ctx", None)
    see = ""
    if context:
        see = f" (see {program()}{context.command_path.removeprefix('memhop')} --help)"
    print_error(message.removesuffix(".") + see)
    return 2


def _system_error(error: OSError) -> int:
    """Print one line for an error of the system, such as a full disk; nothing for a closed pipe."""
    with suppress(OSError, AttributeError):  # otherwise Python flushes stdout again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:  # such as | head
        return 1
    print_error(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    return 2
