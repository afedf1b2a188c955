"""Jobs in which a rank fails in some way; the others return the error that they get."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from memhop import MemoryNetwork, MultiHop
from memhop.ops import Hop, Table, multi_hop, read
from memhop.ops.inputs import Stored
from memhop.ops.streamed import Ranges
from tests.ops.test_streaming import D, I, Overwritten, normal


class Broken(Overwritten):
    """A memory that cannot be read from its n-th stream on."""

    def __init__(self, rows: Stored, sizes: Sequence[int], broken_from: int) -> None:
        super().__init__(rows, sizes)
        self.broken_from = broken_from

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        if self.num_streams >= self.broken_from:
            raise OSError("the file is gone")
        yield from super().stream(ranges)


def attempt(call: Callable[[], Any]) -> tuple[str, float]:
    """Return the error of a call and the time when it came; all calls of a test begin together."""
    dist.barrier()
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}", time.monotonic()
    return "", time.monotonic()


def inputs(num_slots: int = 5) -> tuple[Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return MultiHop(I, D, 3).double(), normal(2, D), normal(num_slots, I)


def end_in_a_read(rank: int, wrong_rank: int, number: int, num_reads: int) -> tuple[str, float]:
    """Send a signal to the own process before a read: 1 in hop 2, 4 in the backward pass."""
    net, query, rows = inputs()
    memory = Overwritten(rows, [2, 3])
    original = memory.stream

    def stream(ranges: Ranges) -> Iterator[Stored]:
        if rank == wrong_rank and memory.num_streams == num_reads:
            os.kill(os.getpid(), number)
        yield from original(ranges)

    memory.stream = stream  # type: ignore[method-assign]
    return attempt(lambda: net(query, memory, group=dist.group.WORLD).sum().backward())


CALLS: dict[str, Callable[[bool, Any], Any]] = {}


def failing(function: Callable[[bool, Any], Any]) -> Callable[[bool, Any], Any]:
    """Register a call, whose first argument says whether this rank fails."""
    CALLS[function.__name__] = function
    return function


@failing
def wrong_width(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    return net(query, memory[:, :4] if fails else memory, group=group)


@failing
def wrong_query_of_a_network(fails: bool, group: Any) -> Any:
    net = MemoryNetwork(I, D, 2).double()
    return net(normal(2, I - fails), normal(4, I), group=group)


@failing
def no_tensor(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    return net("query" if fails else query, memory, group=group)


@failing
def wrong_impl(fails: bool, group: Any) -> Any:
    query, memory = normal(2, I), normal(4, I)
    return read(query, memory, impl="none" if fails else "auto", group=group)


@failing
def wrong_lengths(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    return net(query, memory, lengths=torch.full((2,), 9 if fails else 3), group=group)


@failing
def hooks(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    if fails:
        net.get_submodule("1.embed_c").register_forward_hook(lambda *_: None)
    return net(query, memory, group=group)


@failing
def a_memory_that_breaks_in_hop_2(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    return net(query, Broken(memory, [2, 3], 1 if fails else 9), group=group)


@failing
def a_memory_that_breaks_in_the_backward_pass(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    net(query, Broken(memory, [2, 3], 4 if fails else 9), group=group).sum().backward()


@failing
def other_dtype_of_memories(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    net, query = net.float(), query.float()
    return net(query, memory.bfloat16() if fails else memory.float(), group=group)


@failing
def other_number_of_hops(fails: bool, group: Any) -> Any:
    table = Table(None)
    return multi_hop(
        normal(2, D), normal(4, D), [Hop(table, table)] * (3 if fails else 2), group=group
    )


@failing
def other_number_of_queries(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    return net(query[:1] if fails else query, memory, group=group)


@failing
def other_size_of_slots(fails: bool, group: Any) -> Any:
    size = I + fails
    return read(normal(2, size), normal(4, size), group=group)


@failing
def need_weights(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    return net(query, memory, need_weights=fails, group=group)


@failing
def no_grad(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    with torch.set_grad_enabled(not fails):
        return net(query, memory, group=group)


@failing
def a_frozen_weight(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    net.get_submodule("1.embed_a").requires_grad_(not fails)
    net(query, memory, group=group).sum().backward()


@failing
def other_temporal_rows(fails: bool, group: Any) -> Any:
    torch.manual_seed(0)
    net = MultiHop(I, D, 2, temporal_slots=4 + fails).double()
    return net(normal(2, D), normal(3, I), group=group)


@failing
def gradients_of_one_memory(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    net.requires_grad_(False)
    net(query, memory.requires_grad_(fails), group=group)


@failing
def another_operation(fails: bool, group: Any) -> Any:
    net, query, memory = inputs()
    if fails:
        return read(normal(2, I), memory, group=group)
    return net(query, memory, group=group)


def call(rank: int, name: str, wrong_rank: int) -> tuple[str, float]:
    """Make a call in which one rank is wrong, and then one in which none is."""
    outcome = attempt(lambda: CALLS[name](rank == wrong_rank, dist.group.WORLD))
    CALLS[name](False, dist.group.WORLD)
    return outcome


def without_group(rank: int, wrong_rank: int) -> tuple[str, float]:
    """Call a layer, on one rank without the group."""
    net, query, memory = inputs()
    group = None if rank == wrong_rank else dist.group.WORLD
    return attempt(lambda: net(query, memory, group=group))


def backward_on_all_but(rank: int, wrong_rank: int) -> tuple[str, float]:
    net, query, memory = inputs()
    result = net(query, memory, group=dist.group.WORLD)
    return attempt(lambda: None if rank == wrong_rank else result.sum().backward())


def traced(rank: int) -> tuple[bool, str, str]:
    """Compile, export and transform a call over a group."""
    net, query, memory = inputs()
    group = dist.group.WORLD
    compiled = torch.compile(net, backend="eager")(query, memory, group=group)  # type: ignore[no-untyped-call]
    is_equal = torch.equal(compiled, net(query, memory, group=group))

    def vmapped() -> Any:
        return torch.func.vmap(lambda row: net(row, memory, group=group))(query)

    def exported() -> Any:
        return torch.export.export(net, (query, memory), {"group": group})

    return is_equal, attempt(exported)[0], attempt(vmapped)[0]


Job = Callable[[int, int], tuple[str, float]]


def rank_of(rank: int) -> int:
    return rank
