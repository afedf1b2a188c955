"""Jobs with ``DTensor``, and with the parallel wrappers of torch around a layer."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import save as save_state
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from memhop import MemoryNetwork, MultiHop
from memhop.ops import Quantized, multi_hop, read
from tests.distributed.cases import assert_near
from tests.distributed.ranks import Collectives
from tests.ops.test_streaming import D, I, normal

MESHES: dict[tuple[int, ...], DeviceMesh] = {}


def mesh_of(*shape: int) -> DeviceMesh:
    if shape not in MESHES:
        MESHES[shape] = init_device_mesh("cpu", shape)
    return MESHES[shape]


def memory_as_dtensor(rank: int, num_slots: int, shape: tuple[int, ...], own: bool) -> None:
    """Compare a layer over a sharded memory, with mask and bias, with one process."""
    torch.manual_seed(num_slots)
    mesh, net = mesh_of(*shape), MultiHop(I, D, 3, temporal_slots=5).double()
    query, memory = normal(3, D).requires_grad_(), normal(*[3] * own, num_slots, I)
    mask, bias = torch.rand(3, num_slots) < 0.3, normal(3, num_slots)

    def sharded(tensor: Tensor, axis: int) -> DTensor:
        placements = [Replicate()] * (len(shape) - 1) + [Shard(tensor.dim() + axis)]
        return distribute_tensor(tensor, mesh, placements)

    parts: list[Any] = [sharded(memory, -2).requires_grad_(), sharded(mask, -1), sharded(bias, -1)]
    leaves = [*net.parameters(), query, memory.requires_grad_()]
    expected = net(query, memory, memory_padding_mask=mask, score_bias=bias)
    expected_grads = torch.autograd.grad(expected.sin().sum(), leaves)
    with Collectives() as counts:
        found = net(query, parts[0], memory_padding_mask=parts[1], score_bias=parts[2])
    assert counts == ({"all_gather": 4} if shape[-1] > 1 else {})
    found_grads: Any = torch.autograd.grad(found.sin().sum(), [*leaves[:-1], parts[0]])
    assert type(found) is Tensor
    assert_near(found, expected, 1e-12, "result")
    assert found_grads[-1].placements == parts[0].placements
    for grad, other in zip(found_grads, expected_grads, strict=True):
        whole = grad.full_tensor() if isinstance(grad, DTensor) else grad
        assert_near(whole, other, 1e-12, "gradient")


def storages(rank: int) -> None:
    """``Quantized`` of two DTensors, keys and values, and replicated memories."""
    torch.manual_seed(0)
    mesh, query = mesh_of(4), normal(2, D).float()
    keys, values = Quantized.of(normal(11, D)), normal(11, 5).float()
    sharded = Quantized(*(distribute_tensor(x, mesh, [Shard(0)]) for x in (keys.data, keys.scale)))
    rows = distribute_tensor(values, mesh, [Shard(0)])
    assert_near(read(query, sharded, rows), read(query, keys, values), 1e-6, "quantized")
    whole = distribute_tensor(values, mesh, [Replicate()])
    with Collectives() as counts:
        replicated = read(query, keys, whole)
    assert counts == {}
    assert torch.equal(replicated, read(query, keys, values))
    everywhere = distribute_tensor(query, mesh, [Replicate()])
    assert torch.equal(read(everywhere, keys, values), replicated)


def refused(rank: int) -> dict[str, str]:
    """Return the error of each call that cannot work; every rank gets it."""
    torch.manual_seed(0)
    mesh, two = mesh_of(4), mesh_of(2, 2)
    net, query, rows = MultiHop(I, D, 2).double(), normal(3, D), normal(8, I)
    memory = distribute_tensor(rows, mesh, [Shard(0)])
    mask = torch.zeros(3, 8, dtype=torch.bool)
    partial = DTensor.from_local(rows, mesh, [Partial()])
    parts = MultiHop(I, D, 2).double()
    parts.get_submodule("0.embed_a").weight = nn.Parameter(
        distribute_tensor(torch.zeros(D, I).double(), mesh, [Shard(0)])
    )
    backwards = DeviceMesh("cpu", [3, 2, 1, 0])
    hooked: Any = fully_shard(MultiHop(I, D, 2).double().get_submodule("0.embed_a"), mesh=mesh)
    each = MultiHop(I, D, 2).double()
    each.get_submodule("0").embed_a = hooked
    calls: dict[str, Callable[[], Any]] = {
        "columns": lambda: net(query, distribute_tensor(rows, mesh, [Shard(1)])),
        "partial": lambda: net(query, partial),
        "twice": lambda: net(query, distribute_tensor(rows, two, [Shard(0), Shard(0)])),
        "query": lambda: net(distribute_tensor(query, mesh, [Shard(0)]), memory),
        "mask": lambda: net(
            query, rows, memory_padding_mask=distribute_tensor(mask, mesh, [Shard(1)])
        ),
        "mask on its batch": lambda: net(
            query, memory, memory_padding_mask=distribute_tensor(mask, mesh, [Shard(0)])
        ),
        "bias on another mesh": lambda: read(
            query, distribute_tensor(normal(8, D), mesh, [Shard(0)]),
            score_bias=distribute_tensor(normal(8), two, [Replicate(), Shard(0)]),
        ),
        "lengths": lambda: net(
            query, memory, lengths=distribute_tensor(torch.tensor([1, 2, 3]), mesh, [Replicate()])
        ),
        "group": lambda: net(query, memory, group=dist.group.WORLD),
        "order": lambda: net(query, distribute_tensor(rows, backwards, [Shard(0)])),
        "weights": lambda: parts(query, rows),
        "weights over a group": lambda: parts(query, memory),
        "weights in hops": lambda: multi_hop(query, rows, parts.as_hops()),
        "fully_shard of a table": lambda: each(query, memory),
    }  # fmt: skip
    found = {}
    for name, call in calls.items():
        try:
            call()
            found[name] = ""
        except ValueError as error:
            found[name] = str(error)
    return found


def shard_of(rows: Tensor, rank: int) -> Tensor:
    """Return the rows of a rank, of uneven shards with an empty one."""
    ends = [0, 5, 5, 9, len(rows)]
    return rows[ends[rank] : ends[rank + 1]]


def parallel(rank: int, wrap: str) -> None:
    """Compare a step of a network that torch has wrapped with one in one process."""
    torch.manual_seed(0)
    plain = MemoryNetwork(I, D, 3, output_dim=4, temporal_slots=6).double()
    net = MemoryNetwork(I, D, 3, output_dim=4, temporal_slots=6).double()
    net.load_state_dict(plain.state_dict())
    query, rows = normal(3, I), normal(11, I)
    torch.autograd.backward(plain(query, rows).sin().sum())
    mesh: DeviceMesh = mesh_of(4)
    called: Any = net
    if wrap == "ddp":
        called = DistributedDataParallel(net)
    elif wrap == "fsdp":
        fully_shard(net, mesh=mesh)
    elif wrap == "fsdp hops":
        fully_shard(net.hops, mesh=mesh)
        fully_shard(net, mesh=mesh)
    elif wrap == "tensor parallel":
        plan: dict[str, ParallelStyle] = {
            "query_proj": ColwiseParallel(output_layouts=Replicate()),
            "output_proj": ColwiseParallel(output_layouts=Replicate()),
        }
        parallelize_module(net, mesh, plan)
    elif wrap == "tensor parallel rows":
        plan = {
            "query_proj": RowwiseParallel(input_layouts=Replicate()),
            "output_proj": RowwiseParallel(input_layouts=Replicate()),
        }
        parallelize_module(net, mesh, plan)
    result = called(query, shard_of(rows, rank), group=dist.group.WORLD)
    assert_near(result, plain(query, rows), 1e-12, "result")
    torch.autograd.backward(result.sin().sum())
    for (name, found), expected in zip(net.named_parameters(), plain.parameters(), strict=True):
        grad = found.grad
        assert grad is not None
        whole = grad.full_tensor() if isinstance(grad, DTensor) else grad
        assert expected.grad is not None
        assert_near(whole, expected.grad, 1e-12, name)


def every_submodule(rank: int) -> tuple[str, str]:
    """Shard every module of a network alone; return the errors with a group and without."""
    net = MemoryNetwork(I, D, 2, output_dim=4).double()
    for module in reversed([*net.modules()]):
        if [*module.parameters()] and not isinstance(module, nn.ModuleDict):
            fully_shard(module, mesh=mesh_of(4))
    query, rows, errors = normal(3, I), normal(11, I), []
    for group in (dist.group.WORLD, None):
        try:
            torch.autograd.backward(net(query, rows, group=group).sum())
            errors.append("")
        except ValueError as error:
            errors.append(str(error))
    return errors[0], errors[1]


def save(rank: int, folder: str) -> None:
    torch.manual_seed(3)
    rows = normal(11, I)
    save_state({"rows": distribute_tensor(rows, mesh_of(4), [Shard(0)])}, checkpoint_id=folder)


def load(rank: int, folder: str) -> None:
    """Load a sharded memory on any number of ranks, and read it."""
    torch.manual_seed(3)
    rows, query = normal(11, I), normal(2, I)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    state = {"rows": distribute_tensor(torch.zeros_like(rows), mesh, [Shard(0)])}
    load_state(state, checkpoint_id=folder)
    assert_near(read(query, state["rows"]), read(query, rows), 1e-12, "o")
