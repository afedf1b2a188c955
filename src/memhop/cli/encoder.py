"""Load the encoder of ``--encoder MODULE:FUNCTION``."""

import importlib
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from memhop.errors import MemhopError, shown
from memhop.retrieval import Encoder
from memhop.retrieval.encoder import encode

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

    The module is imported, so that its code runs. Modules of the current folder are found. What
    the function raises becomes an error of one line.

    Raises:
        MemhopError: a name in another form, a module that cannot be imported, no such function.
    """
    if name is None:
        return None
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        raise MemhopError(f"--encoder: expected MODULE:FUNCTION, got {shown(name)}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module of the user raises
        raise MemhopError(f"--encoder: cannot import {module_name!r}: {_named(error)}") from error
    try:
        encoder = reduce(getattr, function.split("."), module)
    except AttributeError:
        raise MemhopError(f"--encoder: {module_name} has no function {shown(function)}") from None
    if not callable(encoder):
        raise MemhopError(f"--encoder: expected a function, got {shown(encoder)}")

    def checked(texts: list[str]) -> Any:
        try:
            return encoder(texts)
        except Exception as error:  # whatever the function of the user raises
            raise MemhopError(f"the encoder failed: {_named(error)}") from error

    return checked


def encoded(encoder: Encoder, texts: Sequence[str], dim: int) -> NDArray[np.float32]:
    """Return the vectors of texts divided by their lengths, [n, dim].

    Raises:
        MemhopError: the encoder fails, or its vectors have another size.
    """
    vectors = encode(encoder, texts)
    if vectors.shape[1] != dim:
        raise MemhopError(f"encoder: expected vectors of {dim} numbers, got {vectors.shape[1]}")
    return np.asarray(vectors.numpy(force=True), dtype=np.float32)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
