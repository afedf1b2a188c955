"""Stores that an earlier version of memhop has written are opened, read and changed.

``python -m tests.storage.test_golden_store FOLDER`` writes such stores. Those of a version are kept
as they are; a change of the schema adds new ones.
"""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from memhop import Quantized
from memhop.storage.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "store"
DTYPES = {"schema1-float32": torch.float32, "schema1-int8": torch.int8}
VECTORS = torch.tensor([[1.5, -2.0, 127.0], [0.25, 0.0, -127.0], [63.5, 127.0, 1.0]])


def write(folder: Path) -> None:
    """Write the stores."""
    for name, dtype in DTYPES.items():
        with Store(folder / name, 3, dtype) as store:
            store.add(
                VECTORS,
                ids=["a", 7, "gone"],
                texts=["é\n", None, "x"],
                payloads=[{"n": 1, "deep": {"é": None}}, None, {}],
                times=[1.5, 2, 3],
            )
            store.add(VECTORS)
            store.delete(["gone", 9])
            store.compact()
            store.update(["a"], VECTORS[2:])
            store.delete([10])


@pytest.mark.parametrize("name", DTYPES)
def test_a_store_of_an_earlier_version_is_read_and_changed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copytree(GOLDEN / name, path)
    with Store(path, read_only=True) as reader:
        check(reader, DTYPES[name])
    with Store(path) as store:
        check(store, DTYPES[name])
        assert store.add(VECTORS[:1]) == [11]
        store.compact()
        assert list(store.snapshot().ids) == [7, 8, "a", 11]


def check(store: Store, dtype: torch.dtype) -> None:
    memories, mask, ids = store.snapshot()
    expected = VECTORS[[0, 1, 0, 2, 2]]
    if isinstance(memories, Quantized):
        memories, expected = memories.dequantized(), Quantized.of(expected).dequantized()
    assert (store.dim, store.dtype, store.generation, len(store)) == (3, dtype, 2, 3)
    assert isinstance(memories, torch.Tensor)
    assert torch.equal(memories, expected)
    assert mask is not None
    assert mask.tolist() == [True, False, False, True, False]
    assert list(ids) == ["a", 7, 8, 10, "a"]
    a, seven, eight = store.get(["a", 7, 8])
    assert (a.text, a.payload, a.time) == ("é\n", {"n": 1, "deep": {"é": None}}, 1.5)
    assert (seven.text, seven.payload, seven.time) == (None, None, 2.0)
    assert (eight.text, eight.payload) == (None, None)
    assert a.vector is not None
    assert torch.equal(a.vector, expected[4])
    only = store.snapshot(where={"deep.é": None}).padding_mask
    assert only is not None
    assert only.tolist() == [True, True, True, True, False]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
