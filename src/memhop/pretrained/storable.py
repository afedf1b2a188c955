"""Check that a module can be stored as its class, settings and weights, and nothing is lost."""

from collections.abc import Collection, Mapping
from itertools import pairwise, starmap, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memhop.checkpoint import dtype_name
from memhop.errors import MemhopError, shown

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OF_EVERY_MODULE = {*vars(nn.Module()), "_compiled_call_impl"}  # the last is of `Module.compile`
_CACHES = {"_kept_hops"}  # of memhop's layers; a loaded one computes them again
_MISSING = object()


def check_storable(
    module: nn.Module,
    expected: nn.Module,
    dtypes: Collection[torch.dtype] = (torch.float32,),
    *,
    may_share: bool = False,
) -> None:
    """Check that a module differs in the values of its weights only from what is loaded.

    Hooks, parametrizations such as LoRA, replaced or added modules, weights and attributes, and
    attributes with other values would be lost, and are errors.

    Args:
        module: the module to store.
        expected: a module of the stored class and settings, on any device.
        dtypes: of the weights.
        may_share: whether a parameter may have several names, see `shared_weights`.

    Raises:
        MemhopError: it has something else, or weights that are no finite numbers.

    >>> check_storable(nn.Linear(2, 3), nn.Linear(2, 3))
    >>> check_storable(nn.Linear(2, 3), nn.Linear(2, 3, bias=False))
    Traceback (most recent call last):
    memhop.errors.MemhopError: Linear cannot be stored: unexpected weight 'bias'
    """
    layer = type(expected).__name__
    _check_names(layer, "module", _modules(module), _modules(expected))
    for path, own in _modules(module).items():
        _check_module(layer, path, own, expected.get_submodule(path))
    ours, theirs = _tensors(module), _tensors(expected)
    _check_names(layer, "weight", ours, theirs)
    for name, tensor in ours.items():
        _check_tensor(layer, name, tensor, theirs[name], dtypes)
    for name, first in shared_weights(module).items():
        if not may_share:
            raise MemhopError(f"{layer} cannot be stored: {first!r} and {name!r} are one parameter")


def check_attributes(
    layer: str, own: object, expected: object, place: str = "", ignored: Collection[str] = ()
) -> None:
    """Check that an object has the attributes of another, with equal values.

    Args:
        layer: the name of the class that is stored, for errors.
        own, expected: the objects.
        place: the path of the object, for errors.
        ignored: names of attributes that may differ.

    Raises:
        MemhopError: another attribute, or another value.
    """
    ours, theirs = vars(own), vars(expected)
    for name in [*ours, *theirs]:
        if name not in ignored and not (
            name in ours and name in theirs and _is_equal(ours[name], theirs[name])
        ):
            raise MemhopError(
                f"{layer} cannot be stored: the attribute {name!r}{place} would be lost"
            )


def shared_weights(module: nn.Module) -> dict[str, str]:
    """Return for each parameter that is another one too, the name under which it comes first.

    >>> linear = nn.Linear(2, 2)
    >>> shared_weights(nn.Sequential(linear, linear))
    {'1.weight': '0.weight', '1.bias': '0.bias'}
    """
    first: dict[int, str] = {}
    shared: dict[str, str] = {}
    memory: list[tuple[int, int, int]] = []  # first byte, byte after the last, place in `first`
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            shared[name] = first[id(parameter)]
            continue
        first[id(parameter)] = name
        if parameter.numel() and not parameter.is_meta:
            start = parameter.data_ptr()
            steps = zip(parameter.shape, parameter.stride(), strict=True)
            count = 1 + sum((size - 1) * stride for size, stride in steps)
            memory.append((start, start + count * parameter.element_size(), len(first) - 1))
    for (_, end, one), (start, _, other) in pairwise(sorted(memory)):
        if start < end:
            one, other = sorted([one, other])
            names = [*first.values()]
            raise MemhopError(
                f"{type(module).__name__} cannot be stored: {names[one]!r} and {names[other]!r} "
                "share their memory, but are different parameters"
            )
    return shared


def _modules(module: nn.Module) -> dict[str, nn.Module]:
    return dict(module.named_modules(remove_duplicate=False))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _check_names(
    layer: str, what: str, ours: Mapping[str, object], theirs: Mapping[str, object]
) -> None:
    for name in [*ours, *theirs]:
        if (name in ours) != (name in theirs):
            lacking = "unexpected" if name in ours else "missing"
            raise MemhopError(f"{layer} cannot be stored: {lacking} {what} {shown(name)}")


def _check_module(layer: str, path: str, own: nn.Module, expected: nn.Module) -> None:
    place = f" in {path}" if path else ""
    if type(own) is not type(expected):
        came = type(own).__name__
        raise MemhopError(
            f"{layer} cannot be stored: expected {type(expected).__name__}{place}, got {came}"
        )
    if any(value for name, value in vars(own).items() if name.endswith("_hooks")):
        raise MemhopError(f"{layer} cannot be stored: hooks{place} would be lost")
    is_of_torch = type(expected).__module__.startswith("torch.")  # private: caches of its weights
    private = {name for name in vars(expected) if is_of_torch and name.startswith("_")}
    check_attributes(layer, own, expected, place, _OF_EVERY_MODULE | _CACHES | private)


def _is_equal(own: Any, expected: Any) -> bool:
    """Return whether two values are equal; objects that define no equality, by their attributes."""
    if own is expected:
        return True
    if isinstance(expected, Tensor):
        return isinstance(own, Tensor) and torch.equal(own, expected)
    if isinstance(expected, np.ndarray):
        return isinstance(own, np.ndarray) and np.array_equal(own, expected)
    if isinstance(expected, list | tuple):
        return type(own) is type(expected) and all(
            starmap(_is_equal, zip_longest(own, expected, fillvalue=_MISSING))
        )
    equality: Any = type(expected).__eq__
    if equality is not object.__eq__ or not hasattr(expected, "__dict__"):
        return bool(own == expected)
    return type(own) is type(expected) and _is_equal(
        *([*sorted(vars(one).items())] for one in (own, expected))
    )


def _check_tensor(
    layer: str, name: str, tensor: Tensor, expected: Tensor, dtypes: Collection[torch.dtype]
) -> None:
    if type(tensor) is not type(expected) or tensor.layout != torch.strided or tensor.is_meta:
        came = "one on the meta device" if tensor.is_meta else type(tensor).__name__
        raise MemhopError(
            f"{layer} cannot be stored: expected a plain tensor as {name!r}, got {came}"
        )
    if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
        raise MemhopError(f"{layer} cannot be stored: hooks of {name!r} would be lost")
    if tensor.dtype not in dtypes or tensor.shape != expected.shape:
        names = " or ".join(map(dtype_name, dtypes))
        raise MemhopError(
            f"{layer} cannot be stored: expected {names} {list(expected.shape)} for {name!r}, "
            f"got {dtype_name(tensor.dtype)} {list(tensor.shape)}"
        )
    if not tensor.isfinite().all():
        raise MemhopError(f"{layer} cannot be stored: {name!r} holds values that are not finite")
