"""Arguments and options of the commands on a store, and how their values are read."""

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.errors import MemhopError, shown

Folder = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE",
        help="Only rows whose payload has this value; 'a.b' is a nested field. Repeat it for "
        "other fields, or for further values of one field.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Only rows from this time on: 2026-11-29T12:00Z, or seconds since 1970.",
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only rows before this time.")]


def parse_where(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Return the filter of some FIELD=VALUE; a value is JSON, or else a text.

    >>> parse_where(["color=red", "n=3", "color=blue"])
    {'color': ['red', 'blue'], 'n': 3}
    """
    values: dict[str, list[Any]] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise MemhopError(f"--where: expected FIELD=VALUE, got {shown(text)}")
        values.setdefault(name, []).append(_json_or_text(value))
    return {name: each if len(each) > 1 else each[0] for name, each in values.items()} or None


def _json_or_text(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def parse_time(name: str, value: object) -> float:
    """Return a time in seconds since 1970, given as such or in ISO 8601; UTC without a zone.

    >>> parse_time("time", "1970-01-01T00:01"), parse_time("time", "90.5")
    (60.0, 90.5)
    """
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            if re.fullmatch(r"-?\d+(\.\d+)?", value):
                return float(value)
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(seconds := float(value)):
                return seconds
    expected = "a time such as 2026-11-29T12:00Z or seconds since 1970"
    raise MemhopError(f"{name}: expected {expected}, got {shown(value)}")


def parse_limits(
    where: Sequence[str] | None, since: str | None, until: str | None
) -> dict[str, Any]:
    """Return the filter arguments of `Store.search`."""
    return {
        "where": parse_where(where),
        "since": None if since is None else parse_time("--since", since),
        "until": None if until is None else parse_time("--until", until),
    }


def parse_ids(text: str) -> list[str | int]:
    """Return what an id on the command line can be: an integer, then the text itself.

    >>> parse_ids("7"), parse_ids("seven"), parse_ids("07")
    ([7, '7'], ['seven'], ['07'])
    """
    is_integer = re.fullmatch(r"0|-?[1-9]\d{0,18}", text) is not None
    return [int(text), text] if is_integer else [text]
