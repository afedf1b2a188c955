"""Random changes leave a store as they leave a model in RAM, also after it was closed."""

import random
from pathlib import Path

import pytest
import torch

from benchmarks.store_crash.workload import DIM, Difference, Model, draw
from memhop.storage.store import Store
from tests.seeds import seeds

DTYPES = [torch.float32, torch.int8, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("seed", seeds(4, 60))
def test_random_changes_equal_those_of_a_model(tmp_path: Path, seed: int) -> None:
    rng, model = random.Random(seed), Model(DTYPES[seed % 4])
    store = Store(tmp_path / "store", DIM, model.dtype)
    reader = Store(tmp_path / "store", read_only=True)
    for number in range(60):
        change = draw(model, seed, number)
        assert change.apply(store) == model.apply(change)
        if rng.random() < 0.2:
            store.close()
            store = Store(tmp_path / "store")
        if rng.random() < 0.3:
            assert model.difference(store) == Difference(0, 0)
            assert model.difference(reader) == Difference(0, 0)
    assert model.difference(reader) == model.difference(store) == Difference(0, 0)
    store.close()
    reader.close()
