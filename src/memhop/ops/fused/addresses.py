"""Which tensors compiled code may read at their address, and the address."""

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

_TENSORS = (Tensor, torch.nn.Parameter)  # and no subclass: its content may be anywhere


def has_address(tensor: Tensor) -> bool:
    """Return whether a tensor's storage holds its numbers, on the CPU or a GPU.

    Subclasses (fake, distributed, wrapped), meta tensors and layouts other than strided have no
    such storage; of views with the negative bit the numbers there have the other sign.
    """
    return (
        type(tensor) in _TENSORS
        and tensor.layout is torch.strided
        and (tensor.is_cpu or tensor.is_cuda)
        and not tensor.is_neg()
    )


def is_intercepted() -> bool:
    """Return whether every operation of torch is recorded or replaced: a trace, a mode.

    ``torch.jit.trace``, ``make_fx``, ``FakeTensorMode``, FLOP counters and the like see nothing of
    compiled code. A default device (``with torch.device(...)``) is no such mode.
    """
    if torch._C._get_tracing_state() is not None or torch._C._len_torch_dispatch_stack() > 0:
        return True
    modes = range(torch._C._len_torch_function_stack())
    stack = (torch._C._get_function_stack_at(place) for place in modes)
    return any(not isinstance(mode, DeviceContext) for mode in stack)


def are_readable(*tensors: Tensor | None) -> bool:
    """Return whether compiled code may read all tensors, and nothing has to see what it does."""
    return (
        not is_intercepted()
        and not torch._C._are_functorch_transforms_active()
        and all(tensor is None or has_address(tensor) for tensor in tensors)
    )


def address(tensor: Tensor) -> int:
    """Return where a tensor's numbers begin.

    Raises:
        RuntimeError: for a tensor that has numbers and no address.
    """
    place = tensor.data_ptr()
    if place == 0 and tensor.numel():
        raise RuntimeError(f"expected a tensor with an address, got {type(tensor).__name__}")
    return place
