"""The registry of backends: what each one supports, and how its kernels are loaded.

A backend is one entry of ``BACKENDS`` and a module with ``forward`` and ``backward`` as described
in ``problem``, or a form of ``FORMS`` in ``memhop.ops``. An option that an entry does not list is
not supported: ``impl="auto"`` chooses another form, other words raise ``NotImplementedError``.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from memhop.ops.call import HALF, Call, Outputs
from memhop.ops.cpu import background
from memhop.ops.fused.problem import (
    Gradients,
    Problem,
    Step,
    Trace,
    Wanted,
    is_shared,
    log_sum_exp,
    result_of,
)
from memhop.ops.inputs import has_temporal_tables, storage


class Option(NamedTuple):
    """A property of a call that a backend supports or not.

    Attributes:
        label: the words of messages and of the table in docs/layer.md.
        is_used: whether a call has it; None if that is not known before the call is over.
    """

    label: str
    is_used: Callable[[Call], bool] | None


def is_transformed() -> bool:
    """Return whether a transform of torch.func or forward-mode differentiation is active."""
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def _is_per_hop(call: Call) -> bool:
    bias = call.memory.score_bias
    return bias is not None and bias.dim() == len(call.batch) + 2


def _is_stored_as(call: Call, *dtypes: torch.dtype) -> bool:
    rows = [stored for stored in call.memory[:2] if stored is not None]
    return any(storage(stored).dtype in dtypes for stored in rows)


def has_shared_memory(call: Call) -> bool:
    """Return whether several queries, or several heads, read each memory."""
    keys = call.memory.keys
    num_queries = math.prod(call.batch) * call.num_heads
    return call.memory.slots is None and math.prod(keys.shape[:-2]) < num_queries


OPTIONS = {
    "own_memory": Option(
        "a memory of each query",
        lambda call: call.memory.slots is None and not has_shared_memory(call),
    ),
    "shared_memory": Option("a memory that queries share", lambda call: has_shared_memory(call)),
    "padding_mask": Option("`padding_mask`", lambda call: call.memory.padding_mask is not None),
    "lengths": Option("`lengths`", lambda call: call.memory.lengths is not None),
    "score_bias": Option("`score_bias`", lambda call: call.memory.score_bias is not None),
    "bias_per_hop": Option("`score_bias` of each hop", _is_per_hop),
    "window": Option("`window`", lambda call: call.window is not None),
    "slots": Option("`slots` of a bank", lambda call: call.memory.slots is not None),
    "values": Option("separate `values`", lambda call: call.memory.values is not None),
    "half": Option("query and weights in a half type", lambda call: call.query.dtype in HALF),
    "half_memory": Option(
        "a memory in bfloat16 or float16", lambda call: _is_stored_as(call, *HALF)
    ),
    "quantized": Option("`Quantized` memories", lambda call: _is_stored_as(call, torch.int8)),
    "float64": Option("float64", lambda call: call.precision.computed == torch.float64),
    "temporal": Option("temporal tables", lambda call: has_temporal_tables(call.hops)),
    "linear": Option(
        "`softmax=False`", lambda call: not all((call.softmax, *(hop.softmax for hop in call.hops)))
    ),
    "relu": Option("`relu`", lambda call: any(hop.relu for hop in call.hops)),
    "relu_share": Option(
        "`relu` of a share of the units", lambda call: any(0 < hop.relu < 1 for hop in call.hops)
    ),
    "identity": Option(
        "a table left out, `Table(None)`",
        lambda call: any(hop.a.weight is None or hop.c.weight is None for hop in call.hops),
    ),
    "transform": Option(
        "`transform` (layer-wise tying)",
        lambda call: any(hop.transform is not None for hop in call.hops),
    ),
    "heads": Option("`num_heads` above 1", lambda call: call.num_heads > 1),
    "newest_first": Option('`slot_order="newest_first"`', lambda call: call.newest_first),
    "dropout": Option("`dropout`", lambda call: call.dropout > 0),
    "read": Option("`read`, one read without weights", lambda call: not call.hops),
    "lse": Option("`need_lse`", lambda call: call.need_lse),
    "compiled_lse": Option(
        "`need_lse` under `torch.compile`",
        lambda call: call.need_lse and torch.compiler.is_compiling(),
    ),
    "compile": Option("`torch.compile`", lambda call: torch.compiler.is_compiling()),
    "second_derivative": Option("second derivatives", None),
    "transforms": Option(
        "the transforms of `torch.func` (`vmap`, `jvp`, ...) and forward mode",
        lambda call: is_transformed(),
    ),
}


class Backend(NamedTuple):
    """What a backend supports.

    Attributes:
        impl: the word of ``impl`` that selects it.
        devices: the types of its devices; an eager form runs on every device, ().
        options: the names of ``OPTIONS`` that it supports.
        module: the module of its kernels; None for an eager form.
    """

    impl: str
    devices: tuple[str, ...]
    options: frozenset[str]
    module: str | None = None


_FUSED = frozenset(OPTIONS) - {
    "transforms", "newest_first", "dropout", "compiled_lse",
}  # fmt: skip

BACKENDS = {
    "reference": Backend("reference", (), frozenset(OPTIONS)),
    "eager": Backend("eager", (), frozenset(OPTIONS)),
    "project": Backend("project", (), frozenset(OPTIONS)),
    "fused CPU": Backend("fused", ("cpu",), _FUSED - {"shared_memory"}, "memhop.ops.cpu.launch"),
    "fused CUDA": Backend(
        "fused", ("cuda",), _FUSED - {"shared_memory"}, "memhop.ops.cuda.forward"
    ),
    "blocked": Backend(
        "fused", ("cpu", "cuda"), _FUSED - {"own_memory", "slots"}, "memhop.ops.blocked.attention"
    ),
}

# By what ``why_not`` has to ask; ``fused_backend`` chooses by the sharing of the memory.
_CHOSEN = {"own_memory", "shared_memory"}
_LACKING = {
    name: [
        OPTIONS[key]
        for key in OPTIONS
        if key not in each.options and not (each.module and key in _CHOSEN)
    ]
    for name, each in BACKENDS.items()
}


def why_not(name: str, call: Call) -> str | None:
    """Return the first option of a call that a backend does not support, or None."""
    for option in _LACKING[name]:
        if option.is_used is not None and option.is_used(call):
            return option.label
    return None


def fused_backend(device_type: str, is_shared: bool) -> str | None:
    """Return the backend of ``impl="fused"`` for a device, or None."""
    lacking = "own_memory" if is_shared else "shared_memory"
    for name, backend in BACKENDS.items():
        if device_type in backend.devices and lacking not in backend.options:
            return name
    return None


def is_usable(call: Call) -> bool:
    """Return whether the fused form supports a call and its kernels are compiled."""
    name = fused_backend(call.query.device.type, has_shared_memory(call))
    if name is None or why_not(name, call) is not None:
        return False
    return name != "fused CPU" or background.is_ready(call.precision.computed)


def check_supported(impl: str, call: Call) -> None:
    """Raise NotImplementedError if the form that a caller asks for does not support the call."""
    name: str | None = impl
    if impl == "fused":
        name = fused_backend(call.query.device.type, has_shared_memory(call))
    reason = None if name is None else why_not(name, call)
    if reason is not None:
        raise NotImplementedError(
            f"impl={impl!r} does not support {reason.replace('`', '')}; impl='auto' chooses a form "
            "that does"
        )


class Kernel(NamedTuple):
    """The kernels of a backend; see ``problem``. ``infer``, if there is one, keeps no trace."""

    forward: Callable[[Problem, bool], Trace]
    backward: Callable[[Problem, Trace, Tensor, Tensor | None, Wanted, Tensor | None], Gradients]
    infer: Callable[[Problem, bool], tuple[Tensor, Tensor | None]] | None


@cache
def kernel_of(name: str) -> Kernel:
    """Return the kernels of a backend, whose compiler is imported at the first use."""
    module = BACKENDS[name].module
    assert module is not None
    loaded = importlib.import_module(module)
    return Kernel(loaded.forward, loaded.backward, getattr(loaded, "infer", None))


def kernel_for(problem: Problem) -> Kernel:
    """Return the kernels for a problem."""
    name = fused_backend(problem.query.device.type, is_shared(problem))
    assert name is not None
    return kernel_of(name)


def infer(problem: Problem, need_weights: bool, need_lse: bool) -> Outputs:
    """Return the result and what else is needed; nothing is kept for a backward pass."""
    kernel = kernel_for(problem)
    if kernel.infer is not None and not need_lse:
        result, weights = kernel.infer(problem, need_weights)
        return Outputs(result, weights)
    trace = kernel.forward(problem, need_weights)
    lse = log_sum_exp(trace) if need_lse else None
    return Outputs(result_of(problem, trace), trace.weights, lse)


@cache
def compiles(device_type: str, dtype: torch.dtype, backward: bool) -> bool:
    """Return whether the kernels for a memory of each query compile; if not, warn once."""
    name = fused_backend(device_type, is_shared=False)
    if name is None:
        return False
    try:
        with torch.no_grad():
            try_out(kernel_of(name), torch.zeros(1, 1, dtype=dtype, device=device_type), backward)
    except Exception as error:  # any error of a compiler; the eager form computes the same
        warn_once(f"{type(error).__name__}: {error}".partition("\n")[0])
        background.give_up(dtype)
        return False
    return True


def try_out(kernel: Kernel, query: Tensor, backward: bool) -> None:
    """Run the kernels on the smallest problem, which compiles them or loads them from disk."""
    problem = Problem.of_tensors((query, query.unsqueeze(0), *[None] * 7), (Step(),))
    trace = kernel.forward(problem, True)
    if backward:
        kernel.backward(problem, trace, query, None, Wanted(True, False, False), None)


@cache
def warn_once(reason: str) -> None:
    """Warn that the fused kernel does not work, once for each reason."""
    message = f"memhop's fused kernel does not work here, so the eager form is used: {reason}"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
