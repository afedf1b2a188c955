"""Load the encoder of ``--encoder MODULE:FUNCTION``."""

import importlib
import os
import sys
from functools import reduce
from typing import Annotated

import typer

from memhop.errors import MemhopError, shown
from memhop.retrieval import Encoder

EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="MODULE:FUNCTION",
        help="Python function from a list of texts to their vectors. Its module is imported from "
        "the current folder or the installed packages, and runs.",
    ),
]


def load_encoder(name: str | None) -> Encoder | None:
    """Return the function ``MODULE:FUNCTION``; None for None.

    The module is imported, so that its code runs. Modules of the current folder are found.

    Raises:
        MemhopError: a name in another form, a module that cannot be imported, no such function.
    """
    if name is None:
        return None
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise MemhopError(f"--encoder: expected MODULE:FUNCTION, got {shown(name)}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        encoder = reduce(getattr, function.split("."), importlib.import_module(module_name))
    except AttributeError:
        raise MemhopError(f"--encoder: {module_name} has no function {shown(function)}") from None
    except Exception as error:  # whatever the module of the user raises
        reason = f"{type(error).__name__}: {error}"
        raise MemhopError(f"--encoder: cannot import {module_name!r}: {reason:.200}") from error
    if not callable(encoder):
        raise MemhopError(f"--encoder: expected a function, got {shown(encoder)}")
    return encoder  # type: ignore[no-any-return]
