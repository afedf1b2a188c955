"""``read_ragged``, compiled and by torch operations, and the dense read over all facts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.hop.clock import Timed, time_interleaved
from benchmarks.knowledge.answers import FACTS_FILE
from benchmarks.knowledge.rows import COMPILED, DENSE, EAGER, row
from benchmarks.knowledge.zipf import HUB
from memhop.errors import MemhopError
from memhop.knowledge.encoding import memory_of
from memhop.knowledge.fact_files import read_facts
from memhop.ops.ragged import read as ragged
from memhop.ops.ragged.frontier import Frontier, RaggedMemory, offsets_of, rows_of

DIM, ENTITIES = 64, 64  # of the query; of a frontier
MAX_ERROR = 1e-5


class Inputs(NamedTuple):
    """The arguments of a read; the query needs gradients if ``gradients``."""

    query: Tensor
    keys: Tensor
    frontier: Frontier
    gradients: bool


def reads(folder: Path, tiny: bool) -> Iterator[dict[str, Any]]:
    """Compare the results of the forms with the dense read in float64, then measure them."""
    kb = read_facts(folder / FACTS_FILE)
    memory = memory_of(kb, inverse=True)
    (hub,) = kb.find(HUB)
    cases = {
        "1 question": drawn(memory, 1, None),
        "64 questions": drawn(memory, 2 if tiny else 64, None),
        "64 questions, with gradients": drawn(memory, 2 if tiny else 64, None, gradients=True),
        "1 question, at the hub": drawn(memory, 1, hub),
    }
    for case, inputs in cases.items():
        yield from compared(case, memory, inputs, len(kb))


def drawn(memory: RaggedMemory, batch: int, hub: int | None, gradients: bool = False) -> Inputs:
    """Draw queries and frontiers of 64 entities, those with many facts more often."""
    random = np.random.Generator(np.random.Philox(batch))
    crowded = int(memory.offsets.diff().argmax())
    nodes = []
    for _ in range(batch):
        targets = memory.targets[torch.from_numpy(random.integers(memory.num_slots, size=200))]
        found = [node for node in dict.fromkeys(targets.tolist()) if node != crowded]
        nodes += [*([] if hub is None else [hub]), *found][:ENTITIES]
    offsets = offsets_of(torch.full((batch,), ENTITIES))
    weights = torch.from_numpy(random.random(len(nodes), dtype=np.float32))
    query, keys = (
        torch.from_numpy(random.standard_normal((count, DIM), dtype=np.float32)) / 4
        for count in (batch, int(memory.keys.max()) + 1)
    )
    frontier = Frontier(offsets, torch.tensor(nodes), weights)
    return Inputs(query.requires_grad_(gradients), keys, frontier, gradients)


def compared(
    case: str, memory: RaggedMemory, inputs: Inputs, num_facts: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each form."""
    starts = rows_of(memory.offsets)
    exact = dense(starts, memory, in_float64(inputs)).detach()
    num_slots = 0

    def sparse(read: Callable[..., Any]) -> Tensor:
        """Return x' of a form of `read_ragged` on all nodes."""
        nonlocal num_slots
        after, found = read(inputs, memory)
        num_slots = len(found.slots)
        places = after.rows() * memory.num_nodes + after.nodes
        whole = after.weights.new_zeros(exact.numel()).index_add(0, places, after.weights)
        placed: Tensor = whole.view_as(exact)
        return placed

    results = {
        DENSE: dense(starts, memory, inputs),
        EAGER: sparse(eager),
        COMPILED: sparse(compiled),
    }
    errors = {form: float((one.detach() - exact).abs().max()) for form, one in results.items()}
    if wrong := [form for form, error in errors.items() if not error < MAX_ERROR]:
        raise MemhopError(f"{case}: {wrong[0]} differs by {errors[wrong[0]]:.1e}")
    del results
    calls: dict[str, Callable[[], Tensor]] = {
        DENSE: lambda: dense(starts, memory, inputs),
        EAGER: lambda: eager(inputs, memory)[0].weights,
        COMPILED: lambda: compiled(inputs, memory)[0].weights,
    }
    candidates = [timed(call, inputs) for call in calls.values()]
    times = time_interleaved(candidates, gradients=inputs.gradients, rounds=3)
    for form, own in zip(calls, times, strict=True):
        yield row(
            "reads", case, form=form, facts=num_facts, questions=len(inputs.query),
            seconds=own.seconds, cpu_seconds=own.cpu_seconds, slots=num_slots, error=errors[form],
        )  # fmt: skip


def timed(call: Callable[[], Tensor], inputs: Inputs) -> Timed:
    """Return a forward call, or forward and backward."""
    if not inputs.gradients:
        return Timed(call)

    def both() -> None:
        (call() ** 2).sum().backward()  # type: ignore[no-untyped-call]

    def before() -> None:
        inputs.query.grad = None

    return Timed(both, before)


def compiled(inputs: Inputs, memory: RaggedMemory) -> Any:
    """Return the result of `read_ragged`."""
    return ragged.read_ragged(inputs.query, inputs.keys, memory, inputs.frontier)


def eager(inputs: Inputs, memory: RaggedMemory) -> Any:
    """Return the result of `read_ragged` by torch operations."""
    with patch.object(ragged, "WORTH_COMPILING", memory.num_slots * len(inputs.query) + 1):
        return compiled(inputs, memory)


def in_float64(inputs: Inputs) -> Inputs:
    """Return the inputs in float64."""
    frontier = inputs.frontier._replace(weights=inputs.frontier.weights.double())
    query, keys = inputs.query.detach().double(), inputs.keys.double()
    return inputs._replace(query=query, keys=keys, frontier=frontier)


def dense(starts: Tensor, memory: RaggedMemory, inputs: Inputs) -> Tensor:
    """Return x' by a read of all facts, [B, num_nodes]; see `memhop.ops.ragged.read`."""
    scores = inputs.query @ inputs.keys.mT
    found = []
    for number, own in enumerate(scores):
        begin, end = inputs.frontier.offsets[number : number + 2].tolist()
        x = own.new_zeros(memory.num_nodes)
        x = x.index_add(0, inputs.frontier.nodes[begin:end], inputs.frontier.weights[begin:end])
        shares = (x[starts].log() + own[memory.keys]).softmax(0)
        found.append(own.new_zeros(memory.num_nodes).index_add(0, memory.targets, shares))
    return torch.stack(found)
