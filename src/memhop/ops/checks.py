"""What the operations accept; for all else one line that says what was needed and what came.

These run at every call, so they look at shapes, dtypes and devices only. The one look at values,
that slots name rows which exist, is left out where values cannot be looked at: while a graph is
compiled, exported or captured, and under ``vmap``.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from memhop.ops.weights import Hop, Table

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

INDICES = ("slots", "padding_mask", "memory_padding_mask")  # what is not floating

OPTIONAL = ("values", "score_bias", "slots", "padding_mask", "memory_padding_mask")

Given = Mapping[str, Tensor | None]


class Precision(NamedTuple):
    """The dtype of the results, and the one computed in; ``as_given``: nothing has to be cast."""

    result: torch.dtype
    computed: torch.dtype
    as_given: bool


class Sizes(NamedTuple):
    """The sizes of one read: the leading axes of the result, and the slots of each of its rows."""

    batch: tuple[int, ...]
    num_slots: int


def refuse(caller: str, needed: str, given: Given) -> NoReturn:
    """Raise the ValueError that names what was needed and everything that came."""
    came = ", ".join(describe(name, tensor) for name, tensor in present(given).items())
    raise ValueError(f"{caller} needs {needed}; got {came}")


def present(given: Given) -> Given:
    """What came, and None where it is not one of those that may be left out."""
    return {k: tensor for k, tensor in given.items() if tensor is not None or k not in OPTIONAL}


def describe(name: str, tensor: object) -> str:
    """A tensor's name, sizes, dtype and device, such as ``query [4, 16] float32 on cpu``."""
    if not isinstance(tensor, Tensor):
        return f"{name} of type {type(tensor).__name__}"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{name} {list(tensor.shape)} {dtype} on {tensor.device}"


def check_word(caller: str, argument: str, word: str, words: Sequence[str]) -> None:
    """The word is one of a few."""
    if word not in words:
        choices = ", ".join(repr(choice) for choice in words)
        raise ValueError(f"{caller} needs {argument} to be one of {choices}; got {word!r}")


def check_alike(caller: str, given: Given, hops: Sequence[Hop] = ()) -> Precision:
    """All are tensors on one device; all but slots and mask have one floating dtype."""
    given = present(given)
    tensors = [tensor for tensor in given.values() if isinstance(tensor, Tensor)]
    if len(tensors) < len(given):
        refuse(caller, "tensors", given)
    weights = [part for hop in hops for part in (*hop.a, *hop.c, hop.transform) if part is not None]
    device = tensors[0].device
    if any(tensor.device != device for tensor in (*tensors, *weights)):
        wrong = first_weight(hops, lambda weight: weight.device != device)
        refuse(caller, "all tensors on one device", {**given, **wrong})
    came = {tensor.dtype for tensor in weights}
    came.update(t.dtype for name, t in given.items() if t is not None and name not in INDICES)
    if not came.issubset(FLOATING):
        wrong = first_weight(hops, lambda weight: weight.dtype not in FLOATING)
        refuse(caller, "float32, float64, bfloat16 or float16", {**given, **wrong})
    autocast = autocast_dtype(device.type)
    if autocast is not None and torch.float64 not in came:
        return Precision(autocast, torch.float32, as_given=False)
    if len(came) > 1:
        wrong = first_weight(hops, lambda weight: weight.dtype != tensors[0].dtype)
        refuse(caller, "one dtype (several only under torch.autocast)", {**given, **wrong})
    dtype = came.pop()
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    return Precision(dtype, computed, as_given=dtype == computed and autocast is None)


def first_weight(hops: Sequence[Hop], wrong: Callable[[Tensor], bool]) -> dict[str, Tensor]:
    """The first weight that is wrong, under its name; nothing where none is."""
    named = named_weights(hops).items()
    return next(({name: weight} for name, weight in named if wrong(weight)), {})


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The dtype of ``torch.autocast``, and None where it is off or unknown."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)


def read_sizes(
    query: Tensor, keys: Tensor, values: Tensor | None, slots: Tensor | None, given: Given
) -> Sizes:
    """The sizes of a read, whose shapes are checked."""
    rows = "N" if slots is None else "U"
    if query.dim() < 1 or keys.dim() < 2 or query.shape[-1] != keys.shape[-1]:
        refuse("read", f"query [..., I] and keys [..., {rows}, I] with one I", given)
    leading = [query.shape[:-1], keys.shape[:-2]]
    if values is not None:
        if values.dim() < 2 or values.shape[-2] != keys.shape[-2]:
            refuse("read", f"values [..., {rows}, V] with the {rows} of the keys", given)
        leading.append(values.shape[:-2])
    return slot_sizes("read", leading, keys, slots, given)


def multi_hop_sizes(query: Tensor, memories: Tensor, slots: Tensor | None, given: Given) -> Sizes:
    """The sizes of several hops over one memory, whose shapes are checked."""
    if query.dim() < 1 or memories.dim() < 2:
        rows = "N" if slots is None else "U"
        refuse("multi_hop", f"query [..., D] and memories [..., {rows}, I]", given)
    return slot_sizes("multi_hop", [query.shape[:-1], memories.shape[:-2]], memories, slots, given)


def slot_sizes(
    caller: str, leading: list[torch.Size], bank: Tensor, slots: Tensor | None, given: Given
) -> Sizes:
    """The sizes of a read, once slots and leading axes are known to fit."""
    num_slots = bank.shape[-2]
    if slots is not None:
        if slots.dim() < 1 or slots.dtype not in INTEGERS:
            refuse(caller, "slots [..., N] of integers", given)
        check_range(caller, slots, bank.shape[-2], given)
        leading.append(slots.shape[:-1])
        num_slots = slots.shape[-1]
    try:
        return Sizes(broadcast(leading), num_slots)
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


def check_range(caller: str, slots: Tensor, num_rows: int, given: Given) -> None:
    """Every slot names a row of the bank, wherever the values can be looked at."""
    if torch.compiler.is_compiling() or slots.numel() == 0:
        return
    if slots.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    try:
        lowest, highest = (int(end) for end in slots.aminmax())
    except RuntimeError:  # under vmap, and in a tensor without data, there is no value to look at
        return
    if lowest < 0 or highest >= num_rows:
        came = f"there are slots from {lowest} to {highest}"
        refuse(caller, f"slots from 0 to {num_rows - 1} and {came}", given)


def bias_of_each_hop(
    score_bias: Tensor | None, num_hops: int, sizes: Sizes, given: Given
) -> tuple[Tensor | None, ...]:
    """The score bias [..., K, N] as K biases; one that is for all hops stays one."""
    if score_bias is None or score_bias.dim() != len(sizes.batch) + 2:
        return (score_bias,)
    if score_bias.shape[-2] != num_hops:
        refuse("multi_hop", f"score_bias [..., N] or [..., K, N] with K = {num_hops} hops", given)
    return score_bias.unbind(-2)


def check_over_slots(
    caller: str, sizes: Sizes, padding_mask: Tensor | None, score_bias: Tensor | None, given: Given
) -> None:
    """The padding mask is bool, and it and the score bias are laid out over the slots."""
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        refuse(caller, "a padding mask of bool (True = ignore that slot)", given)
    shape = (*sizes.batch, sizes.num_slots)
    for name, tensor in (("padding_mask", padding_mask), ("score_bias", score_bias)):
        if tensor is not None and not expands(tensor.shape, shape):
            refuse(
                caller, f"{name} {list(shape)}, or one that broadcasts to it over the batch", given
            )


def expands(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor of this shape expands to the target, with the last axis as it is."""
    if not 1 <= len(shape) <= len(target) or shape[-1] != target[-1]:
        return False
    ending = target[len(target) - len(shape) :]
    return all(x == y or x == 1 for x, y in zip(shape, ending, strict=True))


def named_weights(hops: Sequence[Hop]) -> dict[str, Tensor]:
    """Every weight of every hop under its name."""
    weights = {}
    for number, hop in enumerate(hops):
        for side, table in (("a", hop.a), ("c", hop.c)):
            for part, tensor in zip(table._fields, table, strict=True):
                if tensor is not None:
                    weights[f"hops[{number}].{side}.{part}"] = tensor
        if hop.transform is not None:
            weights[f"hops[{number}].transform"] = hop.transform
    return weights


def check_weights(hops: Sequence[Hop], memory_dim: int, input_dim: int, given: Given) -> None:
    """Every weight of every hop fits the query and the memory."""
    sizes: dict[str, tuple[str, tuple[int, ...]]] = {
        "weight": ("[D, I]", (memory_dim, input_dim)),
        "bias": ("[D]", (memory_dim,)),
        "temporal": ("[T, D] with T at least 1", (memory_dim,)),
        "transform": ("[D, D]", (memory_dim, memory_dim)),
    }
    for hop in hops:
        for part, tensor in (
            *zip(Table._fields, hop.a, strict=True),
            *zip(Table._fields, hop.c, strict=True),
            ("transform", hop.transform),
        ):
            if tensor is None:
                continue
            shape = (
                tensor.shape[1:]
                if part == "temporal" and tensor.shape[:1] != (0,)
                else tensor.shape
            )
            if shape != sizes[part][1]:
                named = first_weight(hops, partial(operator.is_, tensor))
                dims = f"D = {memory_dim} from the query and I = {input_dim} from the memories"
                needed = f"{next(iter(named))} {sizes[part][0]}, {dims}"
                refuse("multi_hop", needed, {**given, **named})


def check_layer_sizes(layer: str, **sizes: int | None) -> None:
    """Every size is an integer of at least 1; None is a size not asked for."""
    for name, size in sizes.items():
        if size is not None and not is_a_size(size):
            came = ", ".join(f"{name}={size!r}" for name, size in sizes.items())
            raise ValueError(f"{layer} needs {name} to be an integer of at least 1; got {came}")


def is_a_size(size: object) -> bool:
    """Whether it is an integer of any type, but not bool, and at least 1."""
    try:
        return not isinstance(size, bool) and operator.index(size) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False


def check_layer_inputs(
    layer: str,
    query_dim: int,
    query: Tensor,
    memories: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    num_memories: int | None = None,
) -> None:
    """The inputs fit each other and the layer; ``weight`` [_, input_dim] is one of its own."""
    given = {"query": query, "memories": memories, "memory_padding_mask": mask}
    check_alike(layer, {**given, "weights": weight})
    input_dim = weight.shape[1]
    batched = query.dim() == 2
    if (
        query.dim() not in (1, 2)
        or memories.dim() not in ((2, 3) if batched else (2,))
        or query.shape[-1] != query_dim
        or memories.shape[-1] != input_dim
        or (memories.dim() == 3 and memories.shape[0] != query.shape[0])
    ):
        needed = (
            f"query [B, {query_dim}] with memories [B, N, {input_dim}] or [N, {input_dim}], "
            f"or query [{query_dim}] with memories [N, {input_dim}]"
        )
        refuse(layer, needed, given)
    num_slots = memories.shape[-2]
    if num_memories is not None and num_slots != num_memories:
        refuse(layer, f"{num_memories} slots (num_memories), not {num_slots}", given)
    if mask is not None:
        shape = (*query.shape[:-1], num_slots)
        shared = (num_slots,) if memories.dim() == 2 else shape
        if mask.dtype != torch.bool or (mask.shape != shape and mask.shape != shared):
            choices = f"{list(shape)}" + (f" or {list(shared)}" if shared != shape else "")
            needed = f"memory_padding_mask {choices} of bool (True = ignore that slot)"
            refuse(layer, needed, given)
