"""Memories as ``DTensor``, the parallel wrappers of torch around a layer, and checkpoints."""

from pathlib import Path

import pytest

from tests.distributed import sharded
from tests.distributed.ranks import Ranks


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", [(4,), (2, 2), (4, 1)])
@pytest.mark.parametrize("num_slots", [11, 2])
def test_a_memory_as_dtensor(
    ranks: Ranks, num_slots: int, shape: tuple[int, ...], own: bool
) -> None:
    ranks.run(sharded.memory_as_dtensor, num_slots, shape, own)


def test_storages(ranks: Ranks) -> None:
    ranks.run(sharded.storages)


MEMORIES = "MultiHop expected memories with Replicate, or Shard(0) on one axis of the mesh"
WEIGHT = "expected hops[0].a.weight as a plain tensor (fully_shard the layer, not parts of it)"
EXPECTED = {
    "columns": MEMORIES,
    "partial": MEMORIES,
    "twice": MEMORIES,
    "query": "MultiHop expected query with Replicate",
    "mask": "MultiHop expected memory_padding_mask sharded as the memories",
    "mask on its batch": (
        "MultiHop expected memory_padding_mask with Replicate, or Shard(1) on one axis of the mesh"
    ),
    "bias on another mesh": "read expected score_bias sharded as the keys",
    "lengths": (
        "MultiHop expected lengths of the slots of this rank, a plain tensor, with sharded memories"
    ),
    "group": "MultiHop expected no group with memories as a DTensor, whose mesh has one",
    "order": "MultiHop expected a mesh of ascending ranks",
    "weights": f"MultiHop {WEIGHT}",
    "weights over a group": f"MultiHop {WEIGHT}",
    "weights in hops": f"multi_hop {WEIGHT}",
    "fully_shard of a table": (
        "MultiHop expected memories in one tensor, since its tables have hooks, an adapter or "
        "another class and must be called"
    ),
}


def test_what_cannot_work_is_refused(ranks: Ranks) -> None:
    first, *others = ranks.run(sharded.refused)
    assert {name: error.partition(", got")[0] for name, error in first.items()} == EXPECTED
    assert first["columns"].endswith(", got a DTensor [8, 6] with (S(1)) on mesh [4]")
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    "wrap", ["ddp", "fsdp", "fsdp hops", "tensor parallel", "tensor parallel rows"]
)
def test_parallel_wrappers(ranks: Ranks, wrap: str) -> None:
    ranks.run(sharded.parallel, wrap)


def test_every_submodule_sharded_alone(ranks: Ranks) -> None:
    """The tables are called; over a group their gradients would be of the local slots only."""
    expected = (
        "FSDPMultiHop expected memories in one tensor, since its tables have hooks, an adapter or "
        "another class and must be called, got a group"
    )
    assert ranks.run(sharded.every_submodule) == [(expected, "")] * 4


@pytest.mark.parametrize("num_ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_checkpoint_is_loaded_on_another_number_of_ranks(
    ranks: Ranks, tmp_path: Path, num_ranks: int
) -> None:
    ranks.run(sharded.save, str(tmp_path))
    with Ranks(num_ranks) as pool:
        pool.run(sharded.load, str(tmp_path))
