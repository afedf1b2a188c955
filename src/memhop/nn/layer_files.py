"""The layers as files: the arguments of the constructor as JSON, the weights as safetensors."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from memhop.checkpoint import (
    SCHEMA,
    check_schema,
    dtype_name,
    from_json,
    from_tensors,
    part,
    to_json,
    to_tensors,
)
from memhop.errors import MemhopError, check_integer, shown
from memhop.nn.embedding import EmbeddingTable
from memhop.pretrained import Pretrained
from memhop.pretrained.card import CardText
from memhop.pretrained.storable import FLOAT_DTYPES, check_storable, shared_weights

_LAYER, _WEIGHTS = "layer.json", "model.safetensors"
_MAX_HOPS, _MAX_SIZE = 1_000, 10**9  # of a file, so that a small one cannot allocate much
_NOT_STORED = {"self", "device", "dtype"}
_MAY_BE_NONE = {"temporal_slots", "num_memories"}
_DTYPES = {dtype_name(dtype): dtype for dtype in FLOAT_DTYPES}


class StoredLayer(Pretrained):
    """What `memhop.pretrained` needs of a layer."""

    def to_files(self) -> dict[str, bytes]:
        """Return the files of the layer: its arguments with the dtype, and its weights.

        A weight that several names share, such as a table that a caller uses in two hops, is
        stored once.

        Raises:
            MemhopError: a part of the layer is not one that its constructor makes.

        >>> from memhop import MemoryHop
        >>> sorted(MemoryHop(input_dim=8, memory_dim=4).to_files())
        ['layer.json', 'model.safetensors']
        """
        self._check_storable()
        weights: dict[str, Tensor] = self._module().state_dict()
        shared = shared_weights(self._module())
        kept = {name: tensor for name, tensor in weights.items() if name not in shared}
        dtypes = {name: dtype_name(tensor.dtype) for name, tensor in kept.items()}
        is_uniform = len(set(dtypes.values())) == 1
        stored = {
            "schema": SCHEMA,
            "layer": self._class().__name__,
            "arguments": self._settings(),
            "dtype": next(iter(dtypes.values())) if is_uniform else dtypes,
        }
        return {
            _LAYER: to_json(stored | ({"shared": shared} if shared else {})),
            _WEIGHTS: to_tensors(kept),
        }

    @classmethod
    def from_files(cls, files: dict[str, bytes], folder: Path) -> Self:
        """Return the layer of files, in evaluation mode; ``folder`` is named in errors.

        Raises:
            MemhopError: missing or corrupt files, or those of another class.
        """
        path = folder / _LAYER
        stored = from_json(part(files, _LAYER, folder), path)
        check_schema(stored, path)
        if stored.get("layer") != cls._class().__name__:
            came = shown(stored.get("layer"))
            raise MemhopError(f"{path}: expected a {cls._class().__name__}, got {came}")
        try:
            arguments = checked_arguments(cls._class(), stored.get("arguments"))
            layer: Self = _on_meta(cls, arguments)
        except ValueError as error:  # also of the constructor, in one line
            raise MemhopError(f"{path}: {error}") from error
        module = layer._module()
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        shared = _checked_shared(stored.get("shared", {}), shapes, path)
        kept = {name: shape for name, shape in shapes.items() if name not in shared}
        dtypes = _checked_dtypes(stored.get("dtype"), kept, path)
        content = part(files, _WEIGHTS, folder)
        weights = from_tensors(content, kept, folder / _WEIGHTS, dtypes)
        weights |= {name: weights[first] for name, first in shared.items()}
        module.load_state_dict(weights, assign=True)
        for name, first in shared.items():
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(first))
        module.eval()
        return layer

    def _module(self) -> nn.Module:
        assert isinstance(self, nn.Module)
        return self

    def _check_storable(self) -> None:
        layer = self._class()
        arguments = self._settings()
        try:
            expected = _on_meta(layer, checked_arguments(layer, arguments))
        except ValueError as error:
            raise MemhopError(f"{layer.__name__} cannot be stored: {error}") from error
        check_storable(self._module(), expected, FLOAT_DTYPES, may_share=True)

    def _settings(self) -> dict[str, Any]:
        return arguments_of(self._module())

    def _card_text(self) -> CardText:
        name, arguments = self._class().__name__, self._settings()
        dtype = next((one.dtype for one in self._module().parameters()), torch.float32)
        slots, options = arguments.get("num_memories") or 5, f"dtype={dtype}"
        is_network = "output_dim" in arguments
        query, memory = arguments["input_dim" if is_network else "memory_dim"], arguments[
            "input_dim"
        ]  # fmt: skip
        tensors = [f"query = torch.randn(2, {query}, {options})"]
        tensors += [f"memories = torch.randn(2, {slots}, {memory}, {options})"]
        values = ""
        if arguments["value_dim"] != memory:
            tensors += [f"values = torch.randn(2, {slots}, {arguments['value_dim']}, {options})"]
            values = ", values=values"
        lines = [
            "import torch", f"from memhop import {name}", "",
            f"layer = {name}.from_pretrained(NAME)", *tensors,
            f"print(layer(query, memories{values}).shape)",
        ]  # fmt: skip
        summary = (
            f"A `{name}` of memhop: attention over a memory in several hops, as in End-to-End "
            "Memory Networks (arXiv 1503.08895)."
        )
        return CardText(summary, "\n".join(lines))


def _on_meta(layer: Any, arguments: dict[str, Any]) -> Any:
    """Return a layer without the memory of its weights."""
    return layer(**arguments, device="meta")


def arguments_of(layer: Any) -> dict[str, Any]:
    """Return the arguments with which the constructor of a layer makes one like it, as JSON.

    >>> from memhop import MultiHop
    >>> arguments = arguments_of(MultiHop(8, 4, num_hops=2, tying="layerwise"))
    >>> arguments["num_hops"], arguments["tying"], arguments["bias"]
    (2, 'layerwise', True)

    Raises:
        MemhopError: the layer has hops or tables of another class.
    """
    is_network = hasattr(layer, "output_proj")
    hops = layer.hops if is_network else layer
    tables = hops._hop_modules()[0][:2] if hasattr(hops, "_hop_modules") else (hops,)
    for table in tables:
        if not isinstance(table, EmbeddingTable):
            name, came = type(layer).__name__, type(table).__name__
            raise MemhopError(f"{name} cannot be stored: expected its own hops, got {came}")
    has_a, has_c = (table.weight is not None for table in tables)
    temporal = tables[0].temporal
    found = {
        "input_dim": hops.input_dim,
        "memory_dim": hops.memory_dim,
        "value_dim": hops.value_dim,
        "num_heads": hops.num_heads,
        "dropout": float(hops.dropout),
        "embed": has_a if has_a == has_c else "a" if has_a else "c",
        "bias": any(table.bias is not None for table in tables) or not (has_a or has_c),
        "relu": bool(hops.relu) if isinstance(hops.relu, bool) else float(hops.relu),
        "softmax": bool(hops.softmax),
        "temporal_slots": None if temporal is None else len(temporal),
        "slot_order": hops.slot_order,
    }
    if hasattr(hops, "tying"):
        found |= {"num_hops": hops.num_hops, "tying": hops.tying}
    if is_network:
        output_dim = getattr(layer.output_proj, "out_features", None)
        found |= {"output_dim": output_dim, "num_memories": layer.num_memories}
    return found


def checked_arguments(layer: type, arguments: object) -> dict[str, Any]:
    """Return the arguments of a layer from untrusted JSON.

    Raises:
        MemhopError: missing or unexpected ones, or a value of another type or out of range. The
            constructor of the layer checks the rest.
    """
    names = inspect.signature(layer).parameters.keys() - _NOT_STORED
    if not isinstance(arguments, dict) or arguments.keys() != names:
        given = arguments.keys() if isinstance(arguments, dict) else set()
        odd = ", ".join(map(shown, sorted(given ^ names)))
        raise MemhopError(f"expected the arguments of {layer.__name__}: missing or odd: {odd:.200}")
    for name, value in arguments.items():
        if name in _MAY_BE_NONE and value is None:
            continue
        if name in ("bias", "softmax"):
            is_right = isinstance(value, bool)
        elif name in ("relu", "dropout"):
            is_number = isinstance(value, int | float) and 0 <= value <= 1
            is_right = is_number and (name == "relu" or not isinstance(value, bool))
        elif name in ("embed", "tying", "slot_order"):
            is_right = isinstance(value, str | bool)
        else:
            most = _MAX_HOPS if name == "num_hops" else _MAX_SIZE
            is_right = check_integer(name, value, 1, most) > 0
        if not is_right:
            raise MemhopError(f"{name}: expected another value, got {shown(value)}")
    return arguments


def _checked_dtypes(stored: object, names: Mapping[str, object], path: Path) -> dict[str, Any]:
    """Return the dtype of each weight from untrusted JSON: one for all, or one by name."""
    by_name: dict[str, Any] = stored if isinstance(stored, dict) else dict.fromkeys(names, stored)
    if by_name.keys() == names.keys() and all(
        isinstance(dtype, str) and dtype in _DTYPES for dtype in by_name.values()
    ):
        return {name: _DTYPES[dtype] for name, dtype in by_name.items()}
    raise MemhopError(f"{path}: dtype: expected {', '.join(_DTYPES)}, got {shown(stored)}")


def _checked_shared(stored: object, shapes: Mapping[str, torch.Size], path: Path) -> dict[str, str]:
    """Return from untrusted JSON which weights are others: names of weights of equal shapes."""
    if isinstance(stored, dict) and all(
        isinstance(first, str)
        and first not in stored
        and name in shapes
        and shapes.get(first) == shapes[name]
        for name, first in stored.items()
    ):
        return stored
    raise MemhopError(f"{path}: shared: expected names of weights, got {shown(stored)}")
