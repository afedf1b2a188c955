"""Decide which tensors compiled code can read at their address, and return the address."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

_TENSORS = (Tensor, torch.nn.Parameter)  # a subclass may store its contents elsewhere


def has_address(tensor: Tensor) -> bool:
    """Return whether a tensor's storage holds its numbers, on the CPU or a GPU.

    Subclasses (fake, distributed, wrapped), meta tensors and layouts other than strided have no
    such storage; views with the negative bit store numbers with the opposite sign.
    """
    return are_addressable((tensor,))


def are_addressable(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether ``has_address`` holds for all tensors."""
    for tensor in tensors:
        if tensor is not None and not (
            type(tensor) in _TENSORS
            and tensor.layout is torch.strided
            and (tensor.is_cpu or tensor.is_cuda)
            and not tensor.is_neg()
        ):
            return False
    return True


def is_intercepted() -> bool:
    """Return whether a mode or a trace records or replaces every operation of torch.

    ``torch.jit.trace``, ``make_fx``, ``FakeTensorMode``, FLOP counters and similar modes do not see
    compiled code. A default device (``with torch.device(...)``) is no such mode.
    """
    if torch._C._get_tracing_state() is not None or torch._C._len_torch_dispatch_stack() > 0:
        return True
    for index in range(torch._C._len_torch_function_stack()):
        if not isinstance(torch._C._get_function_stack_at(index), DeviceContext):
            return True
    return False


def are_readable(*tensors: Tensor | None) -> bool:
    """Return whether compiled code can read all tensors, and no mode or transform must see it."""
    return (
        not is_intercepted()
        and not torch._C._are_functorch_transforms_active()
        and are_addressable(tensors)
    )


def address(tensor: Tensor) -> int:
    """Return the address of a tensor's first number.

    Raises:
        RuntimeError: for a tensor that has numbers but no address.
    """
    place = tensor.data_ptr()
    if place == 0 and tensor.numel():
        raise RuntimeError(f"expected a tensor with an address, got {type(tensor).__name__}")
    return place


def addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    """Return the address of each tensor, 0 for None.

    ``address`` is called only for those without one: a call takes longer than ``data_ptr``.
    """
    return [0 if tensor is None else tensor.data_ptr() or address(tensor) for tensor in tensors]
