"""Kernels that compile in another process: the fallback until then, and its messages."""

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from memhop.ops.call import OF_ONE_DTYPE, Call
from memhop.ops.cpu import background, kernel_cache
from memhop.ops.fused import backends
from memhop.ops.inputs import Memory
from tests.ops.large_calls import assert_same, forward

F32 = torch.float32


class Machine:
    """A fake disk, and programs in place of the compiler."""

    def __init__(self) -> None:
        self.kept: set[bool] = set()
        self.started: list[subprocess.Popen[bytes]] = []
        self.program = "import time; time.sleep(600)"

    def start(self, dtype: str) -> "subprocess.Popen[bytes]":
        """Start the program in place of the compiler."""
        assert dtype == "float32"
        process = subprocess.Popen([sys.executable, "-S", "-c", self.program])
        self.started.append(process)
        return process

    def run(self, program: str) -> None:
        """Start a process that runs a program, and wait for it."""
        self.program = program
        background.is_ready(F32)
        self.started[-1].wait()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a machine on which nothing is compiled yet."""
    machine = Machine()
    monkeypatch.setattr(background, "_state", background._State())
    monkeypatch.setattr(background, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(background, "start_compiler", machine.start)
    monkeypatch.setattr(background, "are_kept", lambda dtype, back: back in machine.kept)
    monkeypatch.setattr(kernel_cache, "writable_folder", Path)
    yield machine
    for process in machine.started:
        process.kill()
        process.wait()


def is_ready() -> bool:
    return background.is_ready(F32)


def test_one_process_compiles_and_one_line_says_so(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    assert [is_ready() for _ in range(5)] == [False] * 5
    with torch.no_grad():
        assert not is_ready()
    assert len(machine.started) == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("memhop", logging.WARNING)
    assert "memhop warmup" in record.getMessage()


def test_a_call_with_gradients_waits_for_the_kernels_of_both_passes(machine: Machine) -> None:
    assert not is_ready()
    machine.kept = {False}
    assert not is_ready()
    with torch.no_grad():
        assert is_ready()
    machine.kept = {False, True}
    assert is_ready()
    assert len(machine.started) == 1


def test_kernels_on_disk_are_found_once(machine: Machine) -> None:
    machine.kept = {True}
    assert is_ready()
    machine.kept = set()
    assert is_ready()
    assert machine.started == []


def test_a_shared_memory_has_no_kernel_to_wait_for(machine: Machine) -> None:
    query, memory = torch.zeros(3, 4), Memory(torch.zeros(1, 3, 4))
    assert backends.is_usable(Call(query, memory, (), (3,), 3, OF_ONE_DTYPE[F32]))
    assert machine.started == []


def test_where_the_compiler_fails_the_eager_form_stays_with_one_warning(machine: Machine) -> None:
    machine.run("raise SystemExit(3)")
    compilation = background._state.of(F32)
    while compilation.process is not None and compilation.process.returncode is None:
        compilation.process.wait()
    with pytest.warns(
        RuntimeWarning, match="exit status 3.*memhop warmup.* shows the error"
    ) as caught:
        assert [is_ready() for _ in range(3)] == [False] * 3
    assert len(caught) == 1
    assert len(machine.started) == 1


def test_where_the_fused_form_failed_before_no_process_is_started(machine: Machine) -> None:
    background.give_up(F32)
    assert not is_ready()
    assert machine.started == []


def test_a_process_that_compiles_itself_terminates_the_other(machine: Machine) -> None:
    assert not is_ready()
    background.stop(F32)
    assert machine.started[0].returncode not in (None, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_ready()
    assert len(machine.started) == 2


def waits(caplog: pytest.LogCaptureFixture, reason: str) -> bool:
    """Return whether the call compiles its kernels itself, and one line says why."""
    ready = is_ready() and is_ready()
    (record,) = caplog.records
    return ready and record.levelno == logging.WARNING and reason in record.getMessage()


def test_deterministic_algorithms_wait(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        assert waits(caplog, "deterministic")
    finally:
        torch.use_deterministic_algorithms(False)
    assert machine.started == []


def test_activation_checkpointing_waits(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    found = []

    def function(x: torch.Tensor) -> torch.Tensor:
        found.append(is_ready())
        return x.sin()

    x = torch.ones(3, requires_grad=True)
    checkpoint(function, x, use_reentrant=False).sum().backward()
    assert found == [True, True]
    assert "checkpointing" in caplog.text
    assert machine.started == []


def test_a_frozen_program_waits(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert waits(caplog, "frozen")
    assert machine.started == []


def test_without_a_folder_to_write_to_a_call_waits(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_cache, "writable_folder", lambda: None)
    assert waits(caplog, "NUMBA_CACHE_DIR")
    assert machine.started == []


def test_a_graph_that_is_compiled_waits(machine: Machine) -> None:
    compiled = torch.compile(lambda x: x + is_ready(), fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)) == 1
    assert machine.started == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_starts_no_process(machine: Machine) -> None:
    assert not is_ready()
    lock = background._state.lock
    lock.acquire()  # as another thread may hold it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks in a process with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)  # a hang ends here
            before = is_ready()
            machine.kept = {True}
            status = 0 if (before, is_ready(), len(machine.started)) == (False, True, 1) else 1
            background.stop(F32)  # must not stop the process of its parent
        finally:
            os._exit(status)
    lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert machine.started[0].poll() is None
    assert not is_ready()


@pytest.mark.parametrize("form", ["rows", "one row"])
def test_the_fallback_is_bitwise_the_eager_form(machine: Machine, form: str) -> None:
    assert_same([forward("auto", form)], [forward("eager", form)])
    assert len(machine.started) == 1
