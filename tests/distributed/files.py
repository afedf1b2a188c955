"""Jobs over a file or a store of which each rank reads its own rows."""

import torch
import torch.distributed as dist
from torch import Tensor

from memhop import FileMemory, MultiHop, Store
from tests.distributed.cases import assert_near
from tests.ops.test_streaming import D, I

BOUND = 1e-5


def layer_and_query() -> tuple[MultiHop, Tensor]:
    torch.manual_seed(0)
    return MultiHop(I, D, 2, temporal_slots=5), torch.randn(3, D)


def over_a_file(rank: int, path: str, is_streamed: bool) -> list[float]:
    """Compare a layer over the shards of a file with one process; return the result."""
    net, query = layer_and_query()
    memory = FileMemory(path)
    whole = memory.whole()
    assert isinstance(whole, Tensor)
    expected = net(query, whole)
    grads = torch.autograd.grad(expected.sum(), list(net.parameters()), allow_unused=True)
    shard = memory.shard(rank, dist.get_world_size(), stream=is_streamed)
    found = net(query, shard, group=dist.group.WORLD)
    assert_near(found, expected, BOUND, "result")
    own = torch.autograd.grad(found.sum(), list(net.parameters()), allow_unused=True)
    for each, grad in zip(own, grads, strict=True):
        assert (each is None) == (grad is None)
        if grad is not None:
            assert_near(each, grad, BOUND, "gradient")
    return [float(number) for number in found.detach().flatten()]


def over_a_store(rank: int, path: str) -> list[float]:
    """Compare a layer over the shards of a store, with deleted rows, with one process."""
    net, query = layer_and_query()
    with Store(path, read_only=True) as store, torch.no_grad():
        expected = store.read(query, net)
        memories, mask, _ = store.shard(rank, dist.get_world_size())
        found = net(query, memories, memory_padding_mask=mask, group=dist.group.WORLD)
    assert_near(found, expected, BOUND, "result")
    return [float(number) for number in found.flatten()]
