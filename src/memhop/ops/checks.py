"""Check the arguments of the operations; everything else raises a ``ValueError`` of one line.

The checks run at every call and look at shapes, dtypes and devices only. The exceptions are the
ranges of slots and lengths: they become assertions in a graph that is compiled or captured, and are
skipped where values are not available, in an exported graph and under ``vmap``.

``call.common_case`` accepts most calls after a few comparisons. All other calls go through the
checks one by one, which write the messages.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from memhop.ops.call import (
    FLOATING,
    HALF,
    OF_ONE_DTYPE,
    PLAIN,
    Attention,
    Call,
    Precision,
    autocast_dtype,
    common_case,
)
from memhop.ops.errors import (
    INDICES,
    STORED,
    Arguments,
    check_layouts,
    check_share,
    present,
    raise_invalid,
)
from memhop.ops.inputs import Hop, Memory, Quantized, Table, has_temporal_tables, storage

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
LAST_ROW = "U - 1, the last row of the bank"
HIGHEST = {
    "slots": LAST_ROW, "slots of the keys": LAST_ROW, "slots of the values": LAST_ROW,
    "lengths": "N, the number of slots",
}  # fmt: skip


def check_read(query: Tensor, memory: Memory, softmax: bool, dropout: float = 0.0) -> Call:
    """Return the call of a ``read``, or raise ValueError."""
    if dropout != 0:
        check_share("read", "dropout", dropout)
    keys, values, slots, padding_mask, lengths, score_bias = memory
    given = {
        "query": query, "keys": keys, "values": values, "score_bias": score_bias, "slots": slots,
        "padding_mask": padding_mask, "lengths": lengths,
    }  # fmt: skip
    precision = check_together("read", given)
    if query.dim() < 1 or storage(keys).dim() < 2 or query.shape[-1] != storage(keys).shape[-1]:
        rows = "N" if slots is None else "U"
        raise_invalid("read", f"query [..., I] and keys [..., {rows}, I] with equal I", given)
    batch, num_slots = check_sizes("read", query, memory, given)
    check_over_slots("read", (*batch, num_slots), memory, given)
    call = Call(query, memory, (), batch, num_slots, precision, softmax=softmax)
    return call if dropout == 0 else call._replace(dropout=dropout)


def check_multi_hop(
    query: Tensor,
    memory: Memory,
    hops: Sequence[Hop],
    attention: Attention = PLAIN,
    caller: str = "multi_hop",
) -> Call:
    """Return the call of a ``multi_hop``, or raise ValueError."""
    if not hops:
        raise ValueError(f"{caller} expected at least one hop, got none")
    if attention == PLAIN:  # by value, for Dynamo of torch 2.9
        return common_case(query, memory, hops) or check_one_by_one(query, memory, hops, caller)
    num_heads, dropout, newest_first = attention
    call = check_one_by_one(query, memory, hops, caller)
    if query.shape[-1] % num_heads:
        raise ValueError(
            f"{caller} expected num_heads that divides D = {query.shape[-1]} of the query, got "
            f"{num_heads}"
        )
    newest_first = newest_first and has_temporal_tables(hops)  # nothing else depends on it
    return call._replace(num_heads=num_heads, dropout=dropout, newest_first=newest_first)


def check_one_by_one(
    query: Tensor, memory: Memory, hops: Sequence[Hop], caller: str = "multi_hop"
) -> Call:
    """Return the call of any ``multi_hop``, or raise ValueError."""
    memories, values, slots, padding_mask, lengths, score_bias = memory
    given = {
        "query": query, "memories": memories, "values": values, "score_bias": score_bias,
        "slots": slots, "padding_mask": padding_mask, "lengths": lengths,
    }  # fmt: skip
    precision = check_together(caller, given, hops)
    if query.dim() < 1 or storage(memories).dim() < 2:
        rows = "N" if slots is None else "U"
        raise_invalid(caller, f"query [..., D] and memories [..., {rows}, I]", given)
    batch, num_slots = check_sizes(caller, query, memory, given)
    check_weights(caller, query, memory, hops, given)
    one_hop = memory
    if score_bias is not None and score_bias.dim() == len(batch) + 2:
        if score_bias.shape[-2] != len(hops):
            expected = f"score_bias [..., N] or [..., K, N] with K = {len(hops)} hops"
            raise_invalid(caller, expected, given)
        one_hop = memory._replace(score_bias=score_bias.select(-2, 0))
    check_over_slots(caller, (*batch, num_slots), one_hop, given)
    return Call(query, memory, hops, batch, num_slots, precision)


def check_together(caller: str, given: Arguments, hops: Sequence[Hop] = ()) -> Precision:
    """Check that all are tensors on one device in compatible dtypes; return the precision."""
    given = present(given)
    for name, tensor in given.items():
        if not isinstance(tensor, (Tensor, Quantized) if name in STORED else Tensor):
            raise_invalid(caller, "tensors", given)
        if isinstance(tensor, Quantized):
            check_quantized(caller, name, tensor, given)
    check_layouts(caller, given)
    tensors = {name: storage(stored) for name, stored in given.items() if stored is not None}
    weights = [weight for _, weight in named_weights(hops)]
    device = next(iter(tensors.values())).device
    if any(tensor.device != device for tensor in (*tensors.values(), *weights)):
        wrong = first_weight(hops, lambda weight: weight.device != device)
        raise_invalid(caller, "all tensors on one device", {**given, **wrong})
    return check_dtypes(caller, given, hops, device)


def check_quantized(caller: str, name: str, stored: Quantized, given: Arguments) -> None:
    """Check that it is int8 with a float32 scale for each row and requires no gradient."""
    data, scale = stored.data, stored.scale
    if not (
        isinstance(data, Tensor)
        and isinstance(scale, Tensor)
        and data.dtype == torch.int8
        and scale.dtype == torch.float32
        and scale.shape == data.shape[:-1]
        and scale.device == data.device
    ):
        expected = f"{name} Quantized of int8 [..., N, I] with a float32 scale [..., N]"
        raise_invalid(caller, expected, given)
    if scale.requires_grad:
        expected = f"{name} Quantized with a scale that requires no gradient (it would get none)"
        raise_invalid(caller, expected, given)


def check_dtypes(
    caller: str, given: Arguments, hops: Sequence[Hop], device: torch.device
) -> Precision:
    """Check that the floating dtypes are compatible; a memory may be smaller than float32."""
    own = {weight.dtype for _, weight in named_weights(hops)}
    stored: set[torch.dtype] = set()
    quantized = False
    for name, tensor in given.items():
        if isinstance(tensor, Quantized):
            quantized = True
        elif isinstance(tensor, Tensor) and name not in INDICES:
            (stored if name in STORED else own).add(tensor.dtype)
    dtypes = own | stored
    if not dtypes.issubset(FLOATING):
        wrong = first_weight(hops, lambda weight: weight.dtype not in FLOATING)
        raise_invalid(caller, "float32, float64, bfloat16 or float16", {**given, **wrong})
    if quantized and torch.float64 in dtypes:
        wrong = first_weight(hops, lambda weight: weight.dtype == torch.float64)
        expected = "float32, bfloat16 or float16 with Quantized memories (they are float32)"
        raise_invalid(caller, expected, {**given, **wrong})
    autocast = autocast_dtype(device.type)
    if autocast is not None and torch.float64 not in dtypes:
        return Precision(autocast, torch.float32, as_given=False)
    may_be_stored = {torch.float32, *HALF} if own == {torch.float32} else own
    if len(own) > 1 or not stored <= may_be_stored:
        dtype = next(t.dtype for t in given.values() if isinstance(t, Tensor))  # of the query
        wrong = first_weight(hops, lambda weight: weight.dtype != dtype)
        expected = "one dtype, or float32 with memories in bfloat16 or float16"
        raise_invalid(
            caller, f"{expected} (other mixtures only under torch.autocast)", {**given, **wrong}
        )
    result, computed, as_given = OF_ONE_DTYPE[own.pop()]
    return Precision(result, computed, as_given and not quantized and stored <= {computed})


def first_weight(hops: Sequence[Hop], wrong: Callable[[Tensor], bool]) -> dict[str, Tensor]:
    """Return the first wrong weight under its name, or nothing."""
    named = named_weights(hops)
    return next(({name: weight} for name, weight in named if wrong(weight)), {})


def named_weights(hops: Sequence[Hop]) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight of every hop with its name."""
    for number, hop in enumerate(hops):
        for side, table in (("a", hop.a), ("c", hop.c)):
            for part, tensor in zip(Table._fields, table, strict=True):
                if tensor is not None:
                    yield f"hops[{number}].{side}.{part}", tensor
        if hop.transform is not None:
            yield f"hops[{number}].transform", hop.transform


def check_sizes(
    caller: str, query: Tensor, memory: Memory, given: Arguments
) -> tuple[tuple[int, ...], int]:
    """Return the leading axes of the result and N; check values, slots, lengths, leading axes."""
    keys, slots, lengths = storage(memory.keys), memory.slots, memory.lengths
    num_slots = num_rows = keys.shape[-2]
    leading = [query.shape[:-1], keys.shape[:-2]]
    if memory.values is not None:
        values = storage(memory.values)
        if values.dim() < 2 or values.shape[-2] != num_rows:
            rows = "N" if slots is None else "U"
            name = "keys" if "keys" in given else "memories"
            expected = f"values [..., {rows}, V] with the {rows} of the {name}"
            if slots is not None:
                expected += ", or slots as a pair if the banks have different rows"
            raise_invalid(caller, expected, given)
        leading.append(values.shape[:-2])
    if slots is not None:
        if slots.dim() < 1 or slots.dtype not in INTEGERS:
            raise_invalid(caller, "slots [..., N] of integers", given)
        check_range(caller, "slots", num_rows - 1, given)
        leading.append(slots.shape[:-1])
        num_slots = slots.shape[-1]
    if lengths is not None:
        if memory.padding_mask is not None:
            raise_invalid(caller, "padding_mask or lengths, not both", given)
        if lengths.dtype not in INTEGERS:
            raise_invalid(caller, "lengths [...] of integers", given)
        check_range(caller, "lengths", num_slots, given)
    try:
        return broadcast(leading), num_slots
    except ValueError:
        raise_invalid(caller, "leading axes that broadcast together", given)


def broadcast(shapes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return ``torch.broadcast_shapes(*shapes)``, which takes 30 us; or raise ValueError."""
    batch: tuple[int, ...] = ()
    for shape in shapes:
        if len(shape) == len(batch) and shape == batch:
            continue
        long, short = (shape, batch) if len(shape) > len(batch) else (batch, shape)
        first = len(long) - len(short)
        # an exported graph keeps the result of each comparison: only sizes of one axis are compared
        pairs = list(zip(long[first:], short, strict=True))
        if not all(x == y or x == 1 or y == 1 for x, y in pairs):
            raise ValueError(f"{tuple(batch)} and {tuple(shape)} do not broadcast together")
        batch = (*long[:first], *(x if x == y or y == 1 else y for x, y in pairs))
    return batch


def check_range(caller: str, name: str, highest: int, given: Arguments) -> None:
    """Check that the integers of an argument are from 0 to the highest, if values are available."""
    integers = given[name]
    if not isinstance(integers, Tensor) or integers.numel() == 0:
        return
    if torch.compiler.is_exporting():
        return
    is_captured = integers.is_cuda and torch.cuda.is_current_stream_capturing()
    if torch.compiler.is_compiling() or is_captured:  # checked when the graph runs
        is_valid = ((integers >= 0) & (integers <= highest)).all()
        torch._assert_async(is_valid, f"{caller} expected {name} from 0 to {HIGHEST[name]}")
        return
    try:
        outside = range_outside(integers, highest)
    except RuntimeError:  # under vmap and in a tensor without data there are no values
        return
    if outside is not None:
        expected = f"{name} from 0 to {highest} (they are from {outside[0]} to {outside[1]})"
        raise_invalid(caller, expected, given)


def range_outside(integers: Tensor, highest: int) -> tuple[int, int] | None:
    """Return the least and the greatest integer if one is outside of 0 to the highest, or None."""
    least, most = (int(end) for end in integers.aminmax())
    return (least, most) if least < 0 or most > highest else None


def check_over_slots(caller: str, shape: tuple[int, ...], memory: Memory, given: Arguments) -> None:
    """Check that mask, lengths and score bias broadcast to the slots [..., N] of the batch."""
    _, _, _, padding_mask, lengths, score_bias = memory
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        raise_invalid(caller, "a padding mask of bool (True = ignore that slot)", given)
    if lengths is not None and not expands((*lengths.shape, shape[-1]), shape):
        expected = f"lengths {list(shape[:-1])}, or ones that broadcast to it"
        raise_invalid(caller, expected, given)
    for name, tensor in (("padding_mask", padding_mask), ("score_bias", score_bias)):
        if tensor is not None and not expands(tensor.shape, shape):
            expected = f"{name} {list(shape)}, or one that broadcasts to it over the batch"
            raise_invalid(caller, expected, given)


def expands(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Return whether a shape expands to the target; the last axis must be equal."""
    if not 1 <= len(shape) <= len(target) or shape[-1] != target[-1]:
        return False
    ending = target[len(target) - len(shape) :]
    return all(x == y or x == 1 for x, y in zip(shape, ending, strict=True))


def check_weights(
    caller: str, query: Tensor, memory: Memory, hops: Sequence[Hop], given: Arguments
) -> None:
    """Check every weight of every hop against the query, the memory and the values."""
    memory_dim, input_dim = query.shape[-1], storage(memory.keys).shape[-1]
    for number, hop in enumerate(hops):
        check_share(caller, f"hops[{number}].relu", hop.relu)
    value_dim = input_dim if memory.values is None else storage(memory.values).shape[-1]
    weights = {"a": ("I", "memories", input_dim), "c": ("I", "memories", input_dim)}
    if memory.values is not None:
        weights["c"] = ("V", "values", value_dim)
    for number, hop in enumerate(hops):
        for side, table in (("a", hop.a), ("c", hop.c)):
            letter, origin, row_dim = weights[side]
            if table.weight is None and row_dim != memory_dim:
                expected = f"{letter} = D for hops[{number}].{side}, which is the identity"
                raise_invalid(caller, f"{expected} (its weight is None)", given)
    for name, weight in named_weights(hops):
        side, part = name.split(".")[1], name.split(".")[-1]
        shape = weight.shape
        letter, origin, row_dim = weights.get(side, weights["a"])
        sizes, expected = {
            "weight": ((memory_dim, row_dim), f"[D, {letter}]"),
            "bias": ((memory_dim,), "[D]"),
            "temporal": ((memory_dim,), "[T, D] with T at least 1"),
            "transform": ((memory_dim, memory_dim), "[D, D]"),
        }[part]
        if part == "temporal" and shape[:1] != (0,):
            shape = shape[1:]
        if shape != sizes:
            dims = f"D = {memory_dim} from the query and {letter} = {row_dim} from the {origin}"
            raise_invalid(caller, f"{name} {expected}, {dims}", {**given, name: weight})
