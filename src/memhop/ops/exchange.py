"""The messages of one call between the ranks of a process group, each of which has a shard.

All ranks send one message a hop by one ``all_gather``. A message begins with a head that says
whether its rank has failed, so that no rank waits for one that raises. Gloo ends the process
where the messages of two ranks differ in size. So the first message of a call has the same size in
every call, and its head has the sizes of the call, which are compared.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

FIRST_BYTES = 2**16  # of the first message; a longer one is followed by the rest
_INTEGERS = 32  # of a head
_TEXT_BYTES = 512  # of an error
_HEAD_BYTES = 8 * _INTEGERS + _TEXT_BYTES
_MAGIC = 0x6D656D686F70


class GroupError(RuntimeError):
    """A process group that cannot go on: a rank has failed, ended, or made another call."""


class Exchange:
    """The messages of one call.

    Args:
        group: of ``torch.distributed``.
        caller: the name of the operation or layer, for errors.
        device: of the messages.

    Attributes:
        rank, num_ranks: of this process and of the group.
        num_messages: how many payloads are still to be gathered; None before ``begin``.
    """

    def __init__(self, group: Any, caller: str, device: torch.device) -> None:
        self.group, self.caller, self.device = group, caller, device
        self.rank, self.num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self.num_messages: int | None = None
        self._sizes: dict[str, int] = {}
        self._next_bytes, self._hop, self._is_first = 0, 0, True

    def begin(self, num_messages: int, sizes: Mapping[str, int]) -> None:
        """Set the number of messages, and by name what must be equal on all ranks."""
        self.num_messages, self._sizes = num_messages, dict(sizes)

    def expect(self, hop: int, num_bytes: int) -> None:
        """Set the hop of the next message, from 0 on, and the size of its payload."""
        self._hop, self._next_bytes = hop, num_bytes

    def gather(self, payload: Tensor) -> Tensor:
        """Return the payloads of all ranks, [W, n], of one of bytes [n].

        Raises:
            GroupError: a rank has failed, has ended, or makes another call.
        """
        assert self.num_messages is not None
        self.num_messages -= 1
        return self._exchange(payload, "")

    def fail(self, error: Exception) -> None:
        """Send an error in place of the next payload, so that the other ranks raise it too."""
        if self.num_messages == 0:
            return
        payload = torch.zeros(self._next_bytes, dtype=torch.uint8, device=self.device)
        with suppress(GroupError):  # the error itself is raised
            self._exchange(payload, f"{type(error).__name__}: {error}")

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the ranks."""
        try:
            dist.all_reduce(tensor, group=self.group)
        except (RuntimeError, ValueError) as error:
            self._raise("backward pass", error)

    def _exchange(self, payload: Tensor, failure: str) -> Tensor:
        head, num_bytes = self._head(len(payload), failure), len(payload)
        if not self._is_first:
            return self._checked(self._all_gather(torch.cat([head, payload])))
        self._is_first = False
        room = FIRST_BYTES - _HEAD_BYTES
        now, rest = payload[:room], payload[room:]
        padding = payload.new_zeros(room - len(now))
        first = self._checked(self._all_gather(torch.cat([head, now, padding])))[:, :num_bytes]
        return first if not len(rest) else torch.cat([first, self._all_gather(rest)], 1)

    def _all_gather(self, message: Tensor) -> Tensor:
        found = message.new_empty(self.num_ranks * len(message))
        try:
            dist.all_gather_into_tensor(found, message, group=self.group)
        except (RuntimeError, ValueError) as error:
            self._raise(f"hop {self._hop + 1}", error)
        return found.view(self.num_ranks, -1)

    def _head(self, num_bytes: int, failure: str) -> Tensor:
        text = failure.encode()[:_TEXT_BYTES]
        integers = [_MAGIC, len(text), self._hop, num_bytes, *self._sizes.values()]
        integers += [0] * (_INTEGERS - len(integers))
        numbers = torch.tensor(integers, dtype=torch.int64).view(torch.uint8)
        letters = torch.tensor([*text] + [0] * (_TEXT_BYTES - len(text)), dtype=torch.uint8)
        return torch.cat([numbers, letters]).to(self.device)

    def _checked(self, messages: Tensor) -> Tensor:
        """Return the payloads of messages [W, n], or raise the first error of a rank."""
        heads = messages[:, :_HEAD_BYTES].cpu()
        integers = heads[:, : 8 * _INTEGERS].contiguous().view(torch.int64).tolist()
        own = integers[self.rank]
        for rank, (magic, length, hop, *sizes) in enumerate(integers):
            where = f"{self.caller}, hop {self._hop + 1}: rank {rank} of {self.num_ranks}"
            if length:
                text = bytes(heads[rank, 8 * _INTEGERS :][:length].tolist())
                raise GroupError(f"{where} has failed: {text.decode(errors='replace')}")
            if magic != _MAGIC or hop != self._hop:
                raise GroupError(f"{where} makes another call, of its hop {hop + 1}")
            for name, here, there in zip(self._names(), own[3:], sizes, strict=False):
                if here != there:
                    raise GroupError(f"{where} has {name} {there}, but rank {self.rank} has {here}")
        return messages[:, _HEAD_BYTES:]

    def _names(self) -> list[str]:
        return ["bytes of a message", *self._sizes]

    def _raise(self, stage: str, error: Exception) -> NoReturn:
        reason = str(error).splitlines()[0]
        raise GroupError(
            f"{self.caller}, {stage}: rank {self.rank} of {self.num_ranks} cannot reach the "
            f"others: {reason:.200}"
        ) from error


def exchange_of(group: Any, caller: str, query: Tensor) -> AbstractContextManager[Exchange | None]:
    """Return the context of one call, which yields the exchange, or None without a group."""
    return nullcontext() if group is None else exchange_over(group, caller, query.device)


@contextmanager
def exchange_over(group: Any, caller: str, device: torch.device) -> Iterator[Exchange | None]:
    """Yield the exchange of one call; an error in the block is sent to the other ranks.

    Yields None for a group of one rank.

    Raises:
        ValueError: something that is no process group, or one without this rank.
    """
    if not isinstance(group, dist.ProcessGroup):
        came = type(group).__name__
        raise ValueError(f"{caller} expected a ProcessGroup of torch.distributed, got {came}")
    exchange = Exchange(group, caller, device)
    if exchange.rank < 0:
        raise ValueError(f"{caller} expected a group with this process, got one without it")
    if exchange.num_ranks == 1:
        yield None
        return
    try:
        yield exchange
    except GroupError:
        raise
    except Exception as error:
        exchange.fail(error)
        raise
