"""The weights of a layer's hops, and whether the hops may read them instead of calling modules."""

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.parametrize import type_before_parametrizations

from memhop import ops
from memhop.nn.checks import Dims
from memhop.nn.embedding import EmbeddingTable
from memhop.ops.call import Attention
from memhop.ops.repeated import RepeatedHops

# embed_a, embed_c and the transform of layer-wise tying, of a hop. The tables are called with
# memories [..., N, input_dim] and return [..., N, memory_dim]; the hop adds the temporal rows of
# the ``EmbeddingTable`` that each is or contains.
HopModules = tuple[nn.Module, nn.Module, nn.Module | None]

# to detect a patched class
_FORWARDS: dict[type[nn.Module], Any] = {kind: kind.forward for kind in (EmbeddingTable, nn.Linear)}


class Layer(NamedTuple):
    """The name, sizes and options of a layer, which all of its hops share.

    Attributes:
        dims: the sizes of its query, slots and values, and its number of hops.
        relu, softmax: as in ``ops.Hop``.
        attention: the heads, the dropout and the order of the slots.
    """

    name: str
    dims: Dims
    relu: bool | float
    softmax: bool
    attention: Attention


def are_plain(modules: Iterable[nn.Module | None], kind: type[nn.Module]) -> bool:
    """Return whether a call of each module computes the formula of a class and does nothing else.

    A module is not plain if it is of a subclass or another class, has hooks (pruning and the older
    weight norm are hooks), or if its ``forward`` or its class's is patched. Parametrized weights
    are plain: their values are read at every call.
    """
    if kind.forward is not _FORWARDS[kind]:
        return False
    for module in modules:  # one loop, since function calls dominate the time of small layers
        if type(module) is not kind and (
            module is None or type_before_parametrizations(module) is not kind
        ):
            return False
        if (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or "forward" in module.__dict__
        ):
            return False
    return True


def must_be_called(hops: Sequence[HopModules]) -> bool:
    """Return whether the modules of the hops, or all modules, have attachments."""
    if _has_any_global_hook():  # type: ignore[no-untyped-call]
        return True
    all_a, all_c, all_transforms = zip(*hops, strict=True)
    if not are_plain(all_a + all_c, EmbeddingTable):
        return True
    transform = all_transforms[0]  # one for all hops
    return transform is not None and not (
        are_plain((transform,), nn.Linear) and transform.bias is None
    )


def hops_of(hops: Sequence[HopModules], layer: Layer) -> list[ops.Hop]:
    """Return the weights and options of hops in the form that ``ops.multi_hop`` expects.

    The weights of a module are read once; parametrized ones are computed when they are read.
    """
    tables: dict[nn.Module, ops.Table] = {}
    found: list[ops.Hop] = []
    for embed_a, embed_c, transform in hops:
        for module in (embed_a, embed_c):
            if module in tables:
                continue
            if not isinstance(module, EmbeddingTable):
                came = type(module).__name__
                raise ValueError(f"expected an EmbeddingTable, whose weights are read, got {came}")
            # The attribute lookup of a module is slow, so parameters are read from its dictionary.
            # Parametrized weights and None are only attributes, hence no ``dict.get``.
            held = module._parameters
            tables[module] = ops.Table(
                held["weight"] if "weight" in held else module.weight,  # noqa: SIM401
                held["bias"] if "bias" in held else module.bias,  # noqa: SIM401
                held["temporal"] if "temporal" in held else module.temporal,  # noqa: SIM401
            )
        h = None if transform is None else found[0].transform if found else weight_of(transform)
        found.append(ops.Hop(tables[embed_a], tables[embed_c], h, layer.relu, layer.softmax))
    return found


def weight_of(transform: nn.Module) -> Tensor:
    """Return H, the weight of the transform of layer-wise tying."""
    if not isinstance(transform, nn.Linear):
        came = type(transform).__name__
        raise ValueError(
            f"expected torch.nn.Linear as the transform, whose weight is read, got {came}"
        )
    return transform.weight


_PARAMETERS = {nn.Parameter, type(None)}


class KeptHops:
    """The hops of a layer, as long as its modules hold the same parameters; not copied with it."""

    def __init__(self) -> None:
        # one attribute, which threads replace as a whole
        self._kept: tuple[Layer | None, list[Tensor | None], RepeatedHops]
        self._kept = None, [], RepeatedHops()

    def __reduce__(self) -> tuple[type["KeptHops"], tuple[()]]:
        return KeptHops, ()

    @property
    def hops(self) -> RepeatedHops:
        """The hops as they were at the last call."""
        return self._kept[-1]

    def update(self, modules: Sequence[HopModules], layer: Layer) -> Sequence[ops.Hop]:
        """Return the hops as they are now."""
        if torch.compiler.is_compiling():
            return hops_of(modules, layer)
        now: list[Tensor | None] = []
        for embed_a, embed_c, transform in modules:
            for table in (embed_a, embed_c):
                if type(table) is not EmbeddingTable:
                    return hops_of(modules, layer)  # computed weights are other tensors each time
                own = table.__dict__  # holds None, and tensors that are no parameters
                now += own["_parameters"].values()
                now += own["_buffers"].values()
                now += own.get("weight"), own.get("bias"), own.get("temporal")
            if transform is not None:
                if type(transform) is not nn.Linear or "weight" not in transform._parameters:
                    return hops_of(modules, layer)
                now += transform._parameters.values()
        kept_layer, weights, hops = self._kept
        is_same = len(now) == len(weights) and all(map(is_, now, weights))
        if not is_same or layer != kept_layer:
            hops = RepeatedHops(hops_of(modules, layer))
            if _PARAMETERS.issuperset(map(type, now)):  # a computed weight would keep its graph
                self._kept = layer, now, hops
        return hops
