"""The messages of one call between the ranks of a process group, each of which has a shard.

All ranks send one message a hop by one ``all_gather``. A message begins with a head that says
whether its rank has failed, so that no rank waits for one that raises. Gloo ends the process
where the messages of two ranks differ in size. So the first message of a call has the same size in
every call, and its head has the sizes of the call, which are compared. A sum of the backward pass
has a tail with the same purpose.
"""

import datetime
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo  # the public one imports Dynamo, which takes long

from memhop.ops.call import FLOATING
from memhop.ops.roll_call import WAIT_SECONDS, RollCall

FIRST_BYTES = 2**16  # of the first message; a longer one is followed by the rest
_INTEGERS = 32  # of a head
_TEXT_BYTES = 512  # of an error
_HEAD_BYTES = 8 * _INTEGERS + _TEXT_BYTES
_TAIL_TEXT_BYTES = 200
_MAGIC = 0x6D656D686F70
_DTYPES = (*FLOATING, torch.int8)


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
        self._facts: dict[str, object] = {}
        self._next_bytes, self._hop, self._is_first = 0, 0, True

    def begin(self, num_messages: int, facts: Mapping[str, object]) -> None:
        """Set the number of messages, and by name what must be equal on all ranks.

        An integer or a dtype is sent as a number, anything else as a checksum of its text.
        """
        self.num_messages, self._facts = num_messages, dict(facts)

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

    def sum_(self, tensor: Tensor, hop: int, is_weights: bool = False) -> Tensor:
        """Return the sum of a tensor [n] over the ranks, in the backward pass of a hop.

        Raises:
            GroupError: a rank has failed, has ended, or computes another sum.
        """
        return self._sum(tensor, hop, is_weights, "")

    def fail_sum(self, like: Tensor, num_elements: int, hop: int, error: Exception) -> None:
        """Send an error in place of the next sum, of n elements of the dtype of a tensor."""
        with suppress(GroupError):  # the error itself is raised
            nothing = like.new_zeros(num_elements)
            self._sum(nothing, hop, False, f"{type(error).__name__}: {error}")

    def _sum(self, tensor: Tensor, hop: int, is_weights: bool, failure: str) -> Tensor:
        text = failure.encode()[:_TAIL_TEXT_BYTES]
        failed = [float(bool(text) and rank == self.rank) for rank in range(self.num_ranks)]
        number = 1 + 2 * hop + is_weights
        letters = [*text] + [0] * (_TAIL_TEXT_BYTES - len(text))
        tail = [number, number * number, *failed, *letters]
        both = torch.cat([tensor, tensor.new_tensor(tail)])
        stage = f"backward pass of hop {hop + 1}"
        self._wait(stage, dist.all_reduce, both)
        found, (total, squares, *rest) = both[: len(tensor)], both[len(tensor) :].tolist()
        failed, letters = rest[: self.num_ranks], rest[self.num_ranks :]
        ranks = [rank for rank, has_failed in enumerate(failed) if has_failed]
        if ranks:
            text = bytes(int(letter) for letter in letters if letter) if len(ranks) == 1 else b""
            who = f"{self._ranks(ranks)} ha{'ve' if len(ranks) > 1 else 's'} failed"
            raise GroupError(f"{self.caller}, {stage}: {who}: {text.decode(errors='replace')}")
        if (total, squares) != (self.num_ranks * number, self.num_ranks * number * number):
            raise GroupError(f"{self.caller}, {stage}: another rank is in that of another hop")
        return found

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
        # torch 2.13 deprecates the older name
        all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        self._wait(f"hop {self._hop + 1}", all_gather, found, message)
        return found.view(self.num_ranks, -1)

    def _wait(self, stage: str, collective: Any, *tensors: Tensor) -> None:
        """Run a collective; while it waits, look whether another rank has failed in one."""
        try:
            work = collective(*tensors, group=self.group, async_op=True)
            if self.device.type != "cpu":
                work.wait()
                return
            roll_call = None
            while not waited(work):
                roll_call = roll_call or RollCall(self.group)
                if notice := roll_call.notice():
                    self._raise(stage, notice)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, GroupError):
                raise
            self._raise(stage, str(error), error)

    def _head(self, num_bytes: int, failure: str) -> Tensor:
        text = failure.encode()[:_TEXT_BYTES]
        integers = [_MAGIC, len(text), self._hop, *map(number_of, self._facts.values()), num_bytes]
        integers += [0] * (_INTEGERS - len(integers))
        numbers = torch.tensor(integers, dtype=torch.int64).view(torch.uint8)
        letters = torch.tensor([*text] + [0] * (_TEXT_BYTES - len(text)), dtype=torch.uint8)
        return torch.cat([numbers, letters]).to(self.device)

    def _checked(self, messages: Tensor) -> Tensor:
        """Return the payloads of messages [W, n], or raise the first error of a rank."""
        heads = messages[:, :_HEAD_BYTES].cpu()
        integers = heads[:, : 8 * _INTEGERS].contiguous().view(torch.int64).tolist()
        own = integers[self.rank]
        for rank, (magic, length, hop, *numbers) in enumerate(integers):
            where = f"{self.caller}, hop {self._hop + 1}: rank {rank} of {self.num_ranks}"
            if length:
                text = bytes(heads[rank, 8 * _INTEGERS :][:length].tolist())
                raise GroupError(f"{where} has failed: {text.decode(errors='replace')}")
            if magic != _MAGIC or hop != self._hop:
                raise GroupError(f"{where} makes another call, of its hop {hop + 1}")
            facts = {**self._facts, "bytes of a message": 0}.items()
            for (name, fact), here, there in zip(facts, own[3:], numbers, strict=False):
                if here != there:
                    raise GroupError(f"{where} {self._difference(name, fact, here, there)}")
        return messages[:, _HEAD_BYTES:]

    def _difference(self, name: str, fact: object, here: int, there: int) -> str:
        """Return what differs between another rank and this one."""
        if isinstance(fact, torch.dtype):
            names = [str(_DTYPES[number]).removeprefix("torch.") for number in (there, here)]
            return f"has {name} {names[0]}, but rank {self.rank} has {names[1]}"
        if isinstance(fact, int):
            return f"has {name} {there}, but rank {self.rank} has {here}"
        return f"has other {name} than rank {self.rank}"

    def _ranks(self, ranks: list[int]) -> str:
        names = ", ".join(map(str, ranks))
        return f"rank{'s' * (len(ranks) > 1)} {names} of {self.num_ranks}"

    def _raise(self, stage: str, reason: str, error: Exception | None = None) -> NoReturn:
        """Raise that a rank cannot be reached, with the ranks that do not answer."""
        reason = reason.splitlines()[0][:200]
        missing = RollCall(self.group).missing(reason)
        who = f"{self._ranks([self.rank])} cannot reach the others"
        if missing:
            who = f"{self._ranks(missing)} do{'' if len(missing) > 1 else 'es'} not answer"
        raise GroupError(f"{self.caller}, {stage}: {who}: {reason}") from error


def number_of(fact: object) -> int:
    """Return the number by which a fact is compared between ranks."""
    if isinstance(fact, torch.dtype):
        return _DTYPES.index(fact)
    return int(fact) if isinstance(fact, int) else zlib.crc32(repr(fact).encode())


def waited(work: Any) -> bool:
    """Return whether a collective has finished, after some time; raise its error."""
    try:
        work.wait(datetime.timedelta(seconds=WAIT_SECONDS))
    except RuntimeError:
        if not work.is_completed():
            return False
        work.wait()  # it may have ended after the time: raise its own error, or none
    return True


@_disable_dynamo
def outside_graph(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a function outside of the graph that ``torch.compile`` traces, with all that it calls.

    The messages of a call keep their order only in one piece.
    """
    return function(**arguments)


def is_in_graph(group: Any) -> bool:
    """Return whether a call over a group is traced by ``torch.compile``."""
    return group is not None and torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def exchange_of(group: Any, caller: str, query: Tensor) -> AbstractContextManager[Exchange | None]:
    """Return the context of one call, which yields the exchange, or None without a group."""
    if group is None:
        return nullcontext()
    if torch.compiler.is_exporting():
        raise NotImplementedError(f"{caller} over a group cannot be exported")
    device = query.device if isinstance(query, Tensor) else torch.device("cpu")
    return exchange_over(group, caller, device)


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
