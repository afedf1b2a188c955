"""A store in the current folder, and a module with an encoder."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Program

DIM = 4
RECORDS: list[dict[str, Any]] = [
    {"id": "a", "vector": [1, 0, 0, 0], "text": "red", "payload": {"n": 1}, "time": 10},
    {"id": 7, "vector": [0, 1, 0, 0], "text": "green", "payload": {"n": 2}, "time": 20},
    {"id": "c", "vector": [0, 0, 1.5, 0], "payload": {"n": 2, "at": {"x": "y"}}, "time": 30},
    {"id": "d", "vector": [0, 0, 0, 2], "text": "two\nlines \x1b[31m"},
]
ENCODER = """
def encode(texts):
    return [[float(word in text) for word in ("red", "green", "blue", "x")] for text in texts]

def narrow(texts):
    return [[1.0, 2.0] for text in texts]

def fails(texts):
    raise OSError("no model")

name = "text"
"""


def write_records(path: str, records: list[Any]) -> None:
    """Write records a line each; a text is a line as it is."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    Path(path).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def store(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the folder of a store with the records."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("hashing.py").write_text(ENCODER)
    memhop("store", "create", "notes", "--dim", str(DIM)).ok()
    write_records("records.jsonl", RECORDS)
    memhop("store", "add", "notes", "records.jsonl").ok()
    yield "notes"
    sys.modules.pop("hashing", None)
