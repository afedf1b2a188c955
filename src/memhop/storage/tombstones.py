"""Which rows are deleted: a bit for each row, in blobs of 32,768 rows."""

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memhop.errors import MemhopError

BLOCK_ROWS = 32_768
_BLOB_BYTES = BLOCK_ROWS // 8


def are_dead(connection: sqlite3.Connection, rows: Sequence[int]) -> list[bool]:
    """Return for each row whether it is deleted."""
    blobs: dict[int, bytes] = {}
    dead = []
    for row in rows:
        block, place = divmod(row, BLOCK_ROWS)
        blob = blobs.get(block)
        if blob is None:
            blob = blobs[block] = _blob(connection, block)
        dead.append(bool(blob[place >> 3] >> (place & 7) & 1))
    return dead


def bury(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Mark rows as deleted."""
    numbers = np.asarray(rows, dtype=np.int64)
    blocks, places = numbers // BLOCK_ROWS, numbers % BLOCK_ROWS
    for block in np.unique(blocks).tolist():
        bits = np.frombuffer(bytearray(_blob(connection, block)), dtype=np.uint8)
        chosen = places[blocks == block]
        np.bitwise_or.at(bits, chosen >> 3, (1 << (chosen & 7)).astype(np.uint8))
        connection.execute(
            "INSERT INTO tombstones VALUES (?1, ?2) ON CONFLICT (block) DO UPDATE SET bits = ?2",
            (block, bits.tobytes()),
        )


def dead_mask(connection: sqlite3.Connection, num_rows: int) -> NDArray[np.bool_] | None:
    """Return whether each of the first rows is deleted, bool [num_rows]; None if none is."""
    mask: NDArray[np.bool_] | None = None
    for block, blob in connection.execute(
        "SELECT block, bits FROM tombstones WHERE block >= 0 AND block * ? < ?",
        (BLOCK_ROWS, num_rows),
    ):
        if mask is None:
            mask = np.zeros(num_rows, dtype=np.bool_)
        begin = block * BLOCK_ROWS
        bits = np.frombuffer(_checked(blob), dtype=np.uint8)
        part = mask[begin : begin + BLOCK_ROWS]
        part[:] = np.unpackbits(bits, bitorder="little")[: len(part)].view(np.bool_)
    return mask


def _blob(connection: sqlite3.Connection, block: int) -> bytes:
    found = connection.execute("SELECT bits FROM tombstones WHERE block = ?", (block,)).fetchone()
    return bytes(_BLOB_BYTES) if found is None else _checked(found[0])


def _checked(blob: object) -> bytes:
    if isinstance(blob, bytes) and len(blob) == _BLOB_BYTES:
        return blob
    raise MemhopError(f"corrupt store: expected tombstones of {_BLOB_BYTES} bytes, got others")
