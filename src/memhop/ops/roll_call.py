"""Find out over the store of a process group which ranks have failed.

A gloo rank sees that a connection breaks only to the ranks that it exchanges data with at that
moment; the others wait for the timeout of the group. So a rank whose collective fails writes a
notice to the store, and a rank that waits looks for one. Then every rank signs a list: the ranks
that have not signed it have ended or hang.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import torch.distributed as dist

WAIT_SECONDS = 0.25  # between two looks at the store
SIGN_SECONDS = 0.75  # in which every rank that has not failed signs
T = TypeVar("T")


class RollCall:
    """The notice and the signatures of a group.

    Args:
        group: of ``torch.distributed``.
    """

    def __init__(self, group: Any) -> None:
        self._store = store_of(group)
        self._rank, self._num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self._look: Answer[str] | None = None

    def notice(self) -> str:
        """Return the notice of a rank that has failed, or "". A look takes no time here."""
        if self._look is None:
            self._look = Answer(self._read)
        if not self._look.is_there:
            return ""
        found, self._look = self._look.value, None
        return found or ""

    def missing(self, notice: str) -> list[int]:
        """Leave a notice, sign, and return the ranks that have not signed."""
        known = Answer(lambda: self._sign(notice))
        known.wait(2 * SIGN_SECONDS)
        return known.value or []

    def _read(self) -> str:
        if self._store is None:
            return ""
        try:
            if not self._store.check(["memhop/notice"]):
                return ""
            return str(self._store.get("memhop/notice").decode(errors="replace"))
        except RuntimeError:
            return "the process that hosts the store of the group has ended"

    def _sign(self, notice: str) -> list[int]:
        if self._store is None:
            return []
        if not self._store.check(["memhop/notice"]):
            self._store.set("memhop/notice", notice)
        self._store.set(f"memhop/{self._rank}", "here")
        end = time.monotonic() + SIGN_SECONDS
        while True:
            ranks = range(self._num_ranks)
            missing = [rank for rank in ranks if not self._store.check([f"memhop/{rank}"])]
            if not missing or time.monotonic() > end:
                return missing
            time.sleep(0.02)


class Answer(Generic[T]):
    """What a function returns in a thread of its own, since a store may not answer.

    Attributes:
        value: None until the function has returned, or if it raised.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self.value: T | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(RuntimeError):  # the host of the store may have ended
            self.value = self._function()

    @property
    def is_there(self) -> bool:
        """Whether the function has ended."""
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for the function."""
        self._thread.join(seconds)


def store_of(group: Any) -> Any:
    """Return the store of a group, or None if it has none."""
    try:
        return group.get_group_store()
    except (AttributeError, RuntimeError):
        return None
