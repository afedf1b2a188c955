"""Measure random shapes in a fresh process; see ``benchmarks.hop.child`` for its output.

The argument is a job in JSON: threads, seconds, tiny, and the numbers of the shapes.
"""

import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks.hop import raw
from benchmarks.hop.cases import Case, Inputs, make
from benchmarks.hop.child import rounded, send
from benchmarks.hop.clock import Times, time_interleaved, timed
from benchmarks.hop.forms import (
    Build,
    Candidate,
    Errors,
    attention_of_torch,
    errors_of,
    float64_reference,
    outcome,
    path,
    refusal,
)
from benchmarks.hop.speed import of_module, why_not_available
from benchmarks.shapes.cases import drawn, row
from memhop import ops
from memhop.errors import MemhopError
from memhop.kernels import warmup
from memhop.nn.hops import MultiHop
from memhop.reproduce.record import provenance

MAX_PROJECTED_BYTES = 2**30  # of the projected memories that the form "project" stores
MAX_PROJECTIONS = 2**34  # its multiplications in a forward pass
ROUNDING_STEPS = 64  # of float32: large scores magnify rounding
HOPELESS = 3.0  # times the fastest: a form this slow has the first rounds only
FIRST_ROUNDS, MIN_ROUNDS = 3, 5


class Shape(NamedTuple):
    """A numbered case and how it is measured; ``seconds`` are those of its rounds."""

    number: int
    case: Case
    seconds: float
    tiny: bool


class Checked(NamedTuple):
    """A form with right results; the seconds to build it and call it once."""

    candidate: Candidate
    errors: Errors
    first_call_seconds: float


def main(job: dict[str, Any]) -> None:
    """Measure the shapes of a job one after the other, forward and with gradients."""
    torch.set_num_threads(job["threads"])
    warmup()  # MultiHop is measured with loaded kernels
    gc.freeze()  # the collector need not scan the imports
    where, tiny = provenance(), job["tiny"]
    cases = drawn(max(job["shapes"]), largest=32 if tiny else None)
    for number in job["shapes"]:
        for gradients in (False, True):
            case = cases[number - 1]._replace(gradients=gradients)
            send(begin=f"shape {number}, {job['threads']} threads: {case.name}")
            for one in measure(Shape(number, case, job["seconds"], tiny)):
                send(row={column: rounded(value) for column, value in one.items()} | where)
        send(measure=str(number))
    gc.unfreeze()  # otherwise libraries report leaks at exit


def measure(shape: Shape) -> Iterator[dict[str, Any]]:
    """Check all forms, time those that are right; yield a row for each."""
    torch.compiler.reset()  # graphs of other shapes count against a limit
    inputs, module = inputs_of(shape.case)
    truth = outcome(float64_reference(inputs), inputs)
    yardstick: Errors | None = None
    right: list[Checked] = []
    for name, build in builds_of(shape, module).items():
        found = tried(build, inputs, truth, yardstick)
        if isinstance(found, str):
            yield row(shape.number, shape.case, name, shape.tiny, note=found)
        else:
            yardstick = yardstick or found.errors
            right.append(found)
    del truth
    times = times_of([one.candidate for one in right], shape)
    for (candidate, errors, first), time_of in zip(right, times, strict=True):
        yield row(
            shape.number, shape.case, candidate.form, shape.tiny, **time_of._asdict(),
            first_call_seconds=first, error=errors.result, gradient_error=errors.gradients,
        )  # fmt: skip


def inputs_of(case: Case) -> tuple[Inputs, MultiHop]:
    """Return the tensors of a case with the weights of a ``MultiHop``, and that."""
    torch.manual_seed(0)
    module = MultiHop(case.input_dim, memory_dim=case.memory_dim, num_hops=case.hops)
    hops = module.requires_grad_(case.gradients).as_hops()
    return make(case)._replace(hops=hops), module


def builds_of(shape: Shape, module: MultiHop) -> dict[str, Build]:
    """Return all forms of a shape by name; the first is the yardstick of the others' errors."""
    case, backend = shape.case, "aot_eager" if shape.tiny else "inductor"
    builds: dict[str, Build] = {
        "raw": raw.raw,
        "compiled raw bmm": raw.compiled_raw(backend, "bmm"),
    }
    if raw.sum_is_feasible(case):
        builds["compiled raw sum"] = raw.compiled_raw(backend, "sum")
    builds["SDPA, raw form"] = attention_of_torch
    builds["MultiHop"] = lambda inputs: of_module(module, inputs)
    for impl in ops.IMPLEMENTATIONS:
        if impl != "reference" and (impl != "project" or project_is_feasible(case)):
            builds[impl] = path(impl)
    return builds


def project_is_feasible(case: Case) -> bool:
    """Return whether the form that projects the memory is measured; its results are large."""
    projected = case.bytes_held // case.bytes_of_row * 2 * case.hops * case.memory_dim
    return 4 * projected <= MAX_PROJECTED_BYTES and projected * case.input_dim <= MAX_PROJECTIONS


def tried(
    build: Build, inputs: Inputs, truth: list[torch.Tensor], yardstick: Errors | None
) -> Checked | str:
    """Build a form and check a call; return why it is not timed if it fails."""
    start = time.perf_counter()
    try:
        candidate = build(inputs)
        results = outcome(candidate, inputs)
    except Exception as error:  # whatever a compiler raises: the others are measured without it
        return why_not_available(error)
    seconds = time.perf_counter() - start
    errors = errors_of(results, truth)
    reason = refusal(errors, yardstick, inputs, ROUNDING_STEPS)
    return f"not timed: {reason}" if reason else Checked(candidate, errors, seconds)


def times_of(candidates: Sequence[Candidate], shape: Shape) -> list[Times]:
    """Time the forms interleaved, in a few rounds, then in more those near the fastest."""
    gradients = shape.case.gradients
    calls = [timed(candidate, gradients) for candidate in candidates]
    run = partial(time_interleaved, gradients=gradients, settle=True)
    times = run(calls, rounds=1 if shape.tiny else FIRST_ROUNDS)
    limit = HOPELESS * min(one.seconds for one in times)
    near = [
        number for number, (candidate, one) in enumerate(zip(candidates, times, strict=True))
        if one.seconds < limit or candidate.form in ("MultiHop", "auto")
    ]  # fmt: skip
    rounds, seconds = (2, 0.0) if shape.tiny else (MIN_ROUNDS, shape.seconds)
    again = run([calls[number] for number in near], rounds=rounds, seconds=seconds)
    for number, one in zip(near, again, strict=True):
        times[number] = one
    return times


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except MemhopError as error:
        send(error=str(error))
    except KeyboardInterrupt:
        sys.exit(130)
