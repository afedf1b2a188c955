"""A rank that ends, hangs, raises or makes another call is an error of all ranks, without a hang.

The timeout of a collective is longer than a test waits, unless the test is about the timeout: an
error that only the timeout reports fails the test. ``benchmarks/distributed.py`` measures the
seconds; the limits here allow for a machine with many other processes.
"""

import datetime
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from memhop.ops import exchange
from tests.distributed import failures
from tests.distributed.ranks import Outcome, Ranks

# What each call raises in the rank that is wrong ("" for a GroupError), and in the others.
HAS = "GroupError: MultiHop, hop 1: rank {wrong} of 3 has "
FAILED = "GroupError: MultiHop, {}: rank {{wrong}} of 3 has failed: "
ERRORS = {
    "wrong_width": (
        "ValueError: MultiHop expected query", FAILED.format("hop 1") + "ValueError: MultiHop exp",
    ),
    "wrong_query_of_a_network": (
        "ValueError: MemoryNetwork expected query [B, 6] with memories",
        "GroupError: MultiHop, hop 1: rank {wrong} of 3 has failed: ValueError: Memo",
    ),
    "no_tensor": (
        "ValueError: MultiHop expected tensors", FAILED.format("hop 1") + "ValueError: Multi",
    ),
    "wrong_impl": (
        "ValueError: read expected impl",
        "GroupError: read, hop 1: rank {wrong} of 3 has failed: ValueError: read expected impl",
    ),
    "wrong_lengths": (
        "ValueError: MultiHop expected lengths from 0 to 5", FAILED.format("hop 1") + "ValueError",
    ),
    "hooks": (
        "ValueError: MultiHop expected memories in one tensor, since its tables have hooks, an "
        "adapter or another class and must be called, got a group",
        FAILED.format("hop 1") + "ValueError: MultiHop expected memories in one tensor",
    ),
    "a_memory_that_breaks_in_hop_2": (
        "OSError: the file is gone", FAILED.format("hop 2") + "OSError: the file is gone",
    ),
    "a_memory_that_breaks_in_the_backward_pass": (
        "OSError: the file is gone",
        FAILED.format("backward pass of hop 2") + "OSError: the file is gone",
    ),
    "other_dtype_of_memories": ("", HAS + "dtype of memories bfloat16, but rank {own} has float32"),
    "other_number_of_hops": (
        "",
        HAS.replace("MultiHop", "multi_hop") + "number of hops 3, but rank {own} has 2",
    ),
    "other_number_of_queries": ("", HAS + "number of queries 1, but rank {own} has 2"),
    "other_size_of_slots": (
        "",
        "GroupError: read, hop 1: rank {wrong} of 3 has size of a query 7, but rank {own} has 6",
    ),
    "need_weights": ("", HAS + "need_weights 1, but rank {own} has 0"),
    "no_grad": ("", HAS + "other gradients of query and weights than rank {own}"),
    "a_frozen_weight": ("", HAS + "other gradients of query and weights than rank {own}"),
    "other_temporal_rows": ("", HAS + "other shapes of weights than rank {own}"),
    "gradients_of_one_memory": ("", HAS + "gradients of local tensors 1, but rank {own} has 0"),
    "another_operation": ("", HAS + "number of hops 0, but rank {own} has 3"),
}  # fmt: skip


@pytest.fixture(scope="module")
def three() -> Iterator[Ranks]:
    with Ranks(3, timeout=300) as pool:
        yield pool


def test_every_call_has_its_errors() -> None:
    assert ERRORS.keys() == failures.CALLS.keys()


@pytest.mark.parametrize("wrong_rank", [0, 2])
@pytest.mark.parametrize("name", ERRORS)
def test_a_rank_that_raises_or_makes_another_call(three: Ranks, name: str, wrong_rank: int) -> None:
    """All ranks get the error at once, and the group can be used on."""
    outcomes = three.run(failures.call, name, wrong_rank)
    own, of_others = ERRORS[name]
    for rank, (error, _) in enumerate(outcomes):
        if rank == wrong_rank:
            assert error.startswith(own or "GroupError: "), error
        else:
            assert error.startswith(of_others.format(wrong=wrong_rank, own=rank)), error
            assert "\n" not in error


@pytest.mark.parametrize(
    ("num_ranks", "wrong_rank", "num_reads", "stage"),
    [
        (4, 1, 1, "hop 2"),
        (2, 0, 4, "backward pass of hop 2"),
        pytest.param(4, 0, 4, "backward pass of hop 2", marks=pytest.mark.slow),
        pytest.param(2, 1, 1, "hop 2", marks=pytest.mark.slow),
    ],
)
def test_a_killed_rank_is_reported_at_once(
    num_ranks: int, wrong_rank: int, num_reads: int, stage: str
) -> None:
    others = [rank for rank in range(num_ranks) if rank != wrong_rank]
    with Ranks(num_ranks, timeout=300) as pool:
        pool.start(failures.end_in_a_read, wrong_rank, signal.SIGKILL, num_reads)
        pool.processes[wrong_rank].join(60)
        start = time.monotonic()
        outcomes = pool.outcomes(others)
    check(outcomes, f"{stage}: rank {wrong_rank} of {num_ranks} does not answer: ", start, 20.0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_rank_with_the_store_is_reported_too(number: int) -> None:
    """The others cannot sign then, so the error has no name."""
    with Ranks(4, timeout=3.0 if number == signal.SIGSTOP else 300.0, is_hosted=True) as pool:
        pool.run(failures.end_in_a_read, 0, 0, -1)
        pool.start(failures.end_in_a_read, 0, number, 1)
        start = time.monotonic()
        outcomes = pool.outcomes([1, 2, 3])
    check(outcomes, r"hop 2: rank \d of 4 cannot reach the others: ", start, 23.0)


def check(outcomes: list[Outcome], expected: str, start: float, seconds: float) -> None:
    for outcome in outcomes:
        error, at = outcome.value
        assert re.match(rf"GroupError: MultiHop, {expected}", error), error
        assert at - start < seconds


@pytest.mark.slow
@pytest.mark.parametrize("wrong_rank", [0, 2])
@pytest.mark.parametrize(("num_reads", "stage"), [(1, "hop 2"), (4, "backward pass of hop 2")])
def test_a_rank_that_hangs_is_reported_after_the_timeout(
    wrong_rank: int, num_reads: int, stage: str
) -> None:
    others = [rank for rank in range(3) if rank != wrong_rank]
    with Ranks(3, timeout=3.0) as pool:
        pool.run(failures.end_in_a_read, wrong_rank, 0, -1)  # the first call takes long
        pool.start(failures.end_in_a_read, wrong_rank, signal.SIGSTOP, num_reads)
        start = time.monotonic()
        outcomes = pool.outcomes(others)
    check(outcomes, f"{stage}: rank {wrong_rank} of 3 does not answer: ", start, 3.0 + 20.0)


@pytest.mark.slow
@pytest.mark.parametrize("job", [failures.without_group, failures.backward_on_all_but])
def test_a_rank_that_does_not_take_part_is_reported_after_the_timeout(job: failures.Job) -> None:
    with Ranks(3, timeout=3.0) as pool:
        pool.run(failures.end_in_a_read, 0, 0, -1)
        pool.start(job, 1)
        outcomes = pool.outcomes()
    assert outcomes[1].value[0] == ""
    stage = "hop 1" if job is failures.without_group else "backward pass of hop 3"
    check(
        [outcomes[0], outcomes[2]],
        f"{stage}: rank 1 of 3 does not answer",
        outcomes[1].value[1],
        23.0,
    )


@pytest.mark.slow
def test_traced_calls(three: Ranks) -> None:
    """``torch.compile`` leaves the call out of its graph; other traces are errors."""
    for is_equal, of_export, of_vmap in three.run(failures.traced):
        assert is_equal
        assert "NotImplementedError: MultiHop over a group cannot be exported" in of_export
        assert of_vmap.startswith("NotImplementedError: memories in parts cannot be compiled")


def test_no_process_is_left() -> None:
    with Ranks(2) as pool:
        processes = [process.pid for process in pool.processes]
        assert pool.run(failures.rank_of) == [0, 1]
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


class LateWork:
    """A collective that ends, with an error or without, just after a wait of limited time."""

    def __init__(self, error: RuntimeError | None) -> None:
        self.error, self.is_over = error, False

    def wait(self, timeout: datetime.timedelta | None = None) -> None:
        if not self.is_over:
            self.is_over = True
            raise RuntimeError("Operation timed out!")
        if self.error:
            raise self.error

    def is_completed(self) -> bool:
        return self.is_over


def test_a_collective_that_ends_as_its_wait_does_has_not_failed() -> None:
    assert exchange.waited(LateWork(None))
    with pytest.raises(RuntimeError, match="connection closed"):
        exchange.waited(LateWork(RuntimeError("connection closed")))
