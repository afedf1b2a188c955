"""Files and stores that several processes share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memhop import Store
from tests.distributed import files
from tests.distributed.ranks import Ranks
from tests.ops.test_streaming import I


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("num_slots", [2, 29])
def test_a_file(ranks: Ranks, tmp_path: Path, num_slots: int, is_streamed: bool) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, np.random.default_rng(0).standard_normal((num_slots, I), dtype=np.float32))
    first, *others = ranks.run(files.over_a_file, str(path), is_streamed)
    assert all(other == first for other in others)


def test_a_store(ranks: Ranks, tmp_path: Path) -> None:
    with Store(tmp_path / "store", dim=I) as store:
        ids = store.add(torch.randn(29, I))
        store.delete([ids[3], ids[28], *ids[8:15]])  # all rows of a rank among them
    first, *others = ranks.run(files.over_a_store, str(tmp_path / "store"))
    assert all(other == first for other in others)
