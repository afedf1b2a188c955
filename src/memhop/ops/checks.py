"""What the operations accept; for all else one line that says what was needed and what came.

These run at every call, so they look at shapes, dtypes and devices only. The one look at values,
that slots name rows and lengths count slots which exist, becomes an assertion in a graph that is
compiled or captured, and is left out where values cannot be looked at: in an exported graph, and
under ``vmap``.

``common_case`` settles most calls by a handful of comparisons. What it leaves open goes through
all checks one by one, and only they find words for it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.errors import (
    HIGHEST,
    INDICES,
    STORED,
    Given,
    check_layouts,
    is_dense,
    present,
    refuse,
)
from memhop.ops.inputs import Hop, Memory, Quantized, Table, storage

HALF = (torch.bfloat16, torch.float16)
FLOATING = (torch.float32, torch.float64, *HALF)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Precision(NamedTuple):
    """The dtype of the results, and the one computed in; ``as_given``: nothing has to be cast."""

    result: torch.dtype
    computed: torch.dtype
    as_given: bool


OF_ONE_DTYPE = {
    dtype: Precision(dtype, torch.float32 if dtype in HALF else dtype, dtype not in HALF)
    for dtype in FLOATING
}


class Checked(NamedTuple):
    """What the checks have found: the leading axes of the result, N, and the dtypes.

    ``plain``: nothing is there but query, memories and tables without temporal rows, all in the
    dtype that is computed in.
    """

    batch: tuple[int, ...]
    num_slots: int
    precision: Precision
    plain: bool = False


def common_case(query: Tensor, memory: Memory, hops: Sequence[Hop]) -> Checked | None:
    """What the checks find for one dtype, a memory for each row or for all, and perhaps a mask.

    None says nothing: that something else is there to be checked, or that something is wrong.
    """
    keys, values, slots, mask, lengths, score_bias = memory
    if not (values is None and slots is None and lengths is None and score_bias is None):
        return None
    if not (isinstance(keys, Tensor) and is_dense(query) and is_dense(keys)):
        return None
    dtype, device, shape, rows = query.dtype, query.device, query.shape, keys.shape
    if keys.dtype != dtype or keys.device != device or len(shape) < 1 or len(rows) < 2:
        return None
    precision = OF_ONE_DTYPE.get(dtype)
    if precision is None or autocast_dtype("cpu" if query.is_cpu else device.type) is not None:
        return None
    batch, num_slots = shape[:-1], rows[-2]
    if len(rows) > 2 and rows[:-2] != batch:
        return None
    # Weights are many, and looked at in one line each. Temporal rows and H are left to the rest.
    memory_dim, sizes = shape[-1:], (shape[-1], rows[-1])
    for a, c, transform, _, _ in hops:
        for weight, bias, temporal in (a, c):
            if weight.shape != sizes or weight.dtype != dtype or weight.device != device:
                return None
            if bias is not None and (
                bias.shape != memory_dim or bias.dtype != dtype or bias.device != device
            ):
                return None
            if temporal is not None:
                return None
        if transform is not None:
            return None
    if mask is None:
        return Checked(batch, num_slots, precision, precision.as_given)
    over_slots = (*batch, num_slots) if len(rows) > 2 or len(mask.shape) > 1 else rows[-2:-1]
    if not is_dense(mask) or mask.dtype != torch.bool or mask.device != device:
        return None
    if mask.shape != over_slots:
        return None
    return Checked(batch, num_slots, precision)


def check_read(query: Tensor, memory: Memory) -> Checked:
    """All that ``read`` needs."""
    keys, values, slots, padding_mask, lengths, score_bias = memory
    given = {
        "query": query, "keys": keys, "values": values, "score_bias": score_bias, "slots": slots,
        "padding_mask": padding_mask, "lengths": lengths,
    }  # fmt: skip
    precision = check_alike("read", given)
    if query.dim() < 1 or storage(keys).dim() < 2 or query.shape[-1] != storage(keys).shape[-1]:
        rows = "N" if slots is None else "U"
        refuse("read", f"query [..., I] and keys [..., {rows}, I] with one I", given)
    batch, num_slots = check_sizes("read", query, memory, given)
    check_over_slots("read", (*batch, num_slots), memory, given)
    return Checked(batch, num_slots, precision)


def check_multi_hop(query: Tensor, memory: Memory, hops: Sequence[Hop]) -> Checked:
    """All that ``multi_hop`` needs."""
    if not hops:
        raise ValueError("multi_hop needs at least one hop; got none")
    return common_case(query, memory, hops) or check_one_by_one(query, memory, hops)


def check_one_by_one(query: Tensor, memory: Memory, hops: Sequence[Hop]) -> Checked:
    """All that ``multi_hop`` needs, whatever comes."""
    memories, values, slots, padding_mask, lengths, score_bias = memory
    given = {
        "query": query, "memories": memories, "values": values, "score_bias": score_bias,
        "slots": slots, "padding_mask": padding_mask, "lengths": lengths,
    }  # fmt: skip
    precision = check_alike("multi_hop", given, hops)
    if query.dim() < 1 or storage(memories).dim() < 2:
        rows = "N" if slots is None else "U"
        refuse("multi_hop", f"query [..., D] and memories [..., {rows}, I]", given)
    batch, num_slots = check_sizes("multi_hop", query, memory, given)
    check_weights(query, memory, hops, given)
    if score_bias is not None and score_bias.dim() == len(batch) + 2:
        if score_bias.shape[-2] != len(hops):
            needed = f"score_bias [..., N] or [..., K, N] with K = {len(hops)} hops"
            refuse("multi_hop", needed, given)
        memory = memory._replace(score_bias=score_bias.select(-2, 0))
    check_over_slots("multi_hop", (*batch, num_slots), memory, given)
    return Checked(batch, num_slots, precision)


def check_alike(caller: str, given: Given, hops: Sequence[Hop] = ()) -> Precision:
    """All are tensors on one device, in dtypes that go together."""
    given = present(given)
    for name, tensor in given.items():
        if not isinstance(tensor, (Tensor, Quantized) if name in STORED else Tensor):
            refuse(caller, "tensors", given)
        if isinstance(tensor, Quantized):
            check_quantized(caller, name, tensor, given)
    check_layouts(caller, given)
    tensors = {name: storage(stored) for name, stored in given.items() if stored is not None}
    weights = [weight for _, weight in named_weights(hops)]
    device = next(iter(tensors.values())).device
    if any(tensor.device != device for tensor in (*tensors.values(), *weights)):
        wrong = first_weight(hops, lambda weight: weight.device != device)
        refuse(caller, "all tensors on one device", {**given, **wrong})
    return check_dtypes(caller, given, hops, device)


def check_quantized(caller: str, name: str, stored: Quantized, given: Given) -> None:
    """It is int8 with a float32 scale for each row, and asks for no gradient."""
    data, scale = stored.data, stored.scale
    if not (
        isinstance(data, Tensor)
        and isinstance(scale, Tensor)
        and data.dtype == torch.int8
        and scale.dtype == torch.float32
        and scale.shape == data.shape[:-1]
        and scale.device == data.device
    ):
        needed = f"{name} Quantized of int8 [..., N, I] with a float32 scale [..., N] beside it"
        refuse(caller, needed, given)
    if scale.requires_grad:
        needed = f"{name} Quantized with a scale that requires no gradient (it is not given one)"
        refuse(caller, needed, given)


def check_dtypes(caller: str, given: Given, hops: Sequence[Hop], device: torch.device) -> Precision:
    """The floating dtypes go together; a memory may be stored in fewer bytes than float32."""
    own = {weight.dtype for _, weight in named_weights(hops)}
    stored: set[torch.dtype] = set()
    quantized = False
    for name, tensor in given.items():
        if isinstance(tensor, Quantized):
            quantized = True
        elif isinstance(tensor, Tensor) and name not in INDICES:
            (stored if name in STORED else own).add(tensor.dtype)
    came = own | stored
    if not came.issubset(FLOATING):
        wrong = first_weight(hops, lambda weight: weight.dtype not in FLOATING)
        refuse(caller, "float32, float64, bfloat16 or float16", {**given, **wrong})
    if quantized and torch.float64 in came:
        wrong = first_weight(hops, lambda weight: weight.dtype == torch.float64)
        needed = "float32, bfloat16 or float16 beside what is Quantized (it is float32)"
        refuse(caller, needed, {**given, **wrong})
    autocast = autocast_dtype(device.type)
    if autocast is not None and torch.float64 not in came:
        return Precision(autocast, torch.float32, as_given=False)
    may_be_stored = {torch.float32, *HALF} if own == {torch.float32} else own
    if len(own) > 1 or not stored <= may_be_stored:
        dtype = next(t.dtype for t in given.values() if isinstance(t, Tensor))  # of the query
        wrong = first_weight(hops, lambda weight: weight.dtype != dtype)
        needed = "one dtype, or float32 with memories in bfloat16 or float16"
        refuse(caller, f"{needed} (other mixtures only under torch.autocast)", {**given, **wrong})
    result, computed, as_given = OF_ONE_DTYPE[own.pop()]
    return Precision(result, computed, as_given and not quantized and stored <= {computed})


def first_weight(hops: Sequence[Hop], wrong: Callable[[Tensor], bool]) -> dict[str, Tensor]:
    """The first weight that is wrong, under its name; nothing where none is."""
    named = named_weights(hops)
    return next(({name: weight} for name, weight in named if wrong(weight)), {})


def named_weights(hops: Sequence[Hop]) -> Iterator[tuple[str, Tensor]]:
    """Every weight of every hop, under its name."""
    for number, hop in enumerate(hops):
        for side, table in (("a", hop.a), ("c", hop.c)):
            for part, tensor in zip(Table._fields, table, strict=True):
                if tensor is not None:
                    yield f"hops[{number}].{side}.{part}", tensor
        if hop.transform is not None:
            yield f"hops[{number}].transform", hop.transform


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The dtype of ``torch.autocast``, and None where it is off or unknown."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)


def check_sizes(
    caller: str, query: Tensor, memory: Memory, given: Given
) -> tuple[tuple[int, ...], int]:
    """The leading axes of the result and N, once values, slots and leading axes fit."""
    keys, slots, lengths = storage(memory.keys), memory.slots, memory.lengths
    num_slots = num_rows = keys.shape[-2]
    leading = [query.shape[:-1], keys.shape[:-2]]
    if memory.values is not None:
        values = storage(memory.values)
        if values.dim() < 2 or values.shape[-2] != num_rows:
            rows, word = (
                ("N" if slots is None else "U"),
                ("keys" if "keys" in given else "memories"),
            )
            refuse(caller, f"values [..., {rows}, V] with the {rows} of the {word}", given)
        leading.append(values.shape[:-2])
    if slots is not None:
        if slots.dim() < 1 or slots.dtype not in INTEGERS:
            refuse(caller, "slots [..., N] of integers", given)
        check_range(caller, "slots", num_rows - 1, given)
        leading.append(slots.shape[:-1])
        num_slots = slots.shape[-1]
    if lengths is not None:
        if memory.padding_mask is not None:
            refuse(caller, "padding_mask or lengths, not both", given)
        if lengths.dtype not in INTEGERS:
            refuse(caller, "lengths [...] of integers", given)
        check_range(caller, "lengths", num_slots, given)
    try:
        return broadcast(leading), num_slots
    except ValueError:
        refuse(caller, "leading axes that broadcast together", given)


def broadcast(shapes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """What ``torch.broadcast_shapes`` gives, which takes 30 us; ValueError where it has none."""
    batch: tuple[int, ...] = ()
    for shape in shapes:
        if shape == batch:
            continue
        left = (1,) * (len(shape) - len(batch)) + batch
        right = (1,) * (len(batch) - len(shape)) + tuple(shape)
        pairs = list(zip(left, right, strict=True))
        if not all(x == y or x == 1 or y == 1 for x, y in pairs):
            raise ValueError(f"{left} and {right} do not broadcast together")
        batch = tuple(y if x == 1 else x for x, y in pairs)
    return batch


def check_range(caller: str, name: str, highest: int, given: Given) -> None:
    """The integers under a name are from 0 to the highest, wherever values can be looked at."""
    integers = given[name]
    if not isinstance(integers, Tensor) or integers.numel() == 0:
        return
    if torch.compiler.is_exporting():
        return
    is_captured = integers.is_cuda and torch.cuda.is_current_stream_capturing()
    if torch.compiler.is_compiling() or is_captured:  # checked where the graph runs
        fits = ((integers >= 0) & (integers <= highest)).all()
        torch._assert_async(fits, f"{caller} needs {name} from 0 to {HIGHEST[name]}")
        return
    try:
        least, most = (int(end) for end in integers.aminmax())
    except RuntimeError:  # under vmap, and in a tensor without data, there is no value to look at
        return
    if least < 0 or most > highest:
        came = f"there are {name} from {least} to {most}"
        refuse(caller, f"{name} from 0 to {highest} and {came}", given)


def check_over_slots(caller: str, shape: tuple[int, ...], memory: Memory, given: Given) -> None:
    """Mask, lengths and score bias are laid out over the slots [..., N] of the batch."""
    _, _, _, padding_mask, lengths, score_bias = memory
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        refuse(caller, "a padding mask of bool (True = ignore that slot)", given)
    if lengths is not None and not expands((*lengths.shape, shape[-1]), shape):
        needed = f"lengths {list(shape[:-1])}, or ones that broadcast to it"
        refuse(caller, needed, given)
    for name, tensor in (("padding_mask", padding_mask), ("score_bias", score_bias)):
        if tensor is not None and not expands(tensor.shape, shape):
            needed = f"{name} {list(shape)}, or one that broadcasts to it over the batch"
            refuse(caller, needed, given)


def expands(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor of this shape expands to the target, with the last axis as it is."""
    if not 1 <= len(shape) <= len(target) or shape[-1] != target[-1]:
        return False
    ending = target[len(target) - len(shape) :]
    return all(x == y or x == 1 for x, y in zip(shape, ending, strict=True))


def check_weights(query: Tensor, memory: Memory, hops: Sequence[Hop], given: Given) -> None:
    """Every weight of every hop fits the query, the memory and the values."""
    memory_dim, input_dim = query.shape[-1], storage(memory.keys).shape[-1]
    value_dim = input_dim if memory.values is None else storage(memory.values).shape[-1]
    weights = {"a": ("I", "memories", input_dim), "c": ("I", "memories", input_dim)}
    if memory.values is not None:
        weights["c"] = ("V", "values", value_dim)
    for name, weight in named_weights(hops):
        side, part = name.split(".")[1], name.split(".")[-1]
        shape = weight.shape
        letter, origin, row_dim = weights.get(side, weights["a"])
        sizes, needed = {
            "weight": ((memory_dim, row_dim), f"[D, {letter}]"),
            "bias": ((memory_dim,), "[D]"),
            "temporal": ((memory_dim,), "[T, D] with T at least 1"),
            "transform": ((memory_dim, memory_dim), "[D, D]"),
        }[part]
        if part == "temporal" and shape[:1] != (0,):
            shape = shape[1:]
        if shape != sizes:
            dims = f"D = {memory_dim} from the query and {letter} = {row_dim} from the {origin}"
            refuse("multi_hop", f"{name} {needed}, {dims}", {**given, name: weight})
