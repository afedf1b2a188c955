"""Read a memory part by part, and merge what the parts give.

Where the tensors of a part do not stay, the backward pass streams the memory again and reads each
part once more, with gradients. From the gradients G_o of o, G_i of p_i and G_lse, part j has

    G_o_j = w_j G_o,    G_i_j = w_j G_i,    w_j = exp(lse_j - lse),
    G_lse_j = w_j (G_o . (o_j - o) + sum_{i in j} G_i p_ji - sum_i G_i p_i + G_lse).
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop.ops import checks, forms, heads
from memhop.ops.call import OF_ONE_DTYPE, Call, Precision
from memhop.ops.errors import refuse_create_graph
from memhop.ops.inputs import Memory, Quantized, Stored, converted
from memhop.ops.merging import merge_reads
from memhop.ops.reference import Readable, slot_ages
from memhop.ops.streamed import Ranges, Streams


class Scores(NamedTuple):
    """What the scores of one read depend on besides the keys; all may have gradients.

    Attributes:
        query: u, [..., I], with heads [..., H, I] or [..., H, d].
        by_age: q . T_A(t) for each age t, [..., T], or None.
        constant: q . a without a softmax, [..., 1], or None.
        score_bias: [..., N], or None; of a part, [..., n].
    """

    query: Tensor
    by_age: Tensor | None = None
    constant: Tensor | None = None
    score_bias: Tensor | None = None


class Partial(NamedTuple):
    """What one read returns of a part, or of all parts.

    Attributes:
        sums: sum_i p_i v_i, and the sums of p over the slots of each age, or of all, [..., V + T].
        lse: log sum_i exp(s_i), [...]; None without a softmax.
        weights: p, [..., n], or None if not needed.
    """

    sums: Tensor
    lse: Tensor | None
    weights: Tensor | None


class Part(NamedTuple):
    """A part of the memory: its range of slots, keys and values.

    Attributes:
        ignored, ages: of its slots, as in ``Readable``.
    """

    slots: slice
    keys: Stored
    values: Stored | None
    ignored: Tensor | None
    ages: Tensor | None

    def of(self, scores: Scores) -> Scores:
        """Return what the scores of its slots depend on."""
        bias = scores.score_bias
        return scores if bias is None else scores._replace(score_bias=bias[..., self.slots])


class Reader(NamedTuple):
    """One read of a memory in parts.

    Attributes:
        streams: the memory.
        call: the call that it belongs to.
        impl: the form that reads each part.
        excluded: which slots are ignored, and the score bias.
        softmax: False takes the scores as weights.
        need_weights: whether p is returned.
        ages: T of the sums by age; 0 for the sum of all weights.
        splits_keys, splits_values: whether each head reads its own columns, without a table.
        num_newer: the number of readable slots of other ranks that are newer, [...].
        on_backward_error: called with the error of a memory that is read again in the backward
            pass.
    """

    streams: Streams
    call: Call
    impl: str
    excluded: Readable
    softmax: bool
    need_weights: bool
    ages: int = 0
    splits_keys: bool = False
    splits_values: bool = False
    num_newer: Tensor | int = 0
    on_backward_error: Callable[[Exception], None] | None = None


def read_parts(reader: Reader, scores: Scores) -> Partial:
    """Return what one read returns of all parts, in the dtype of the query; lse in float64."""
    if torch.is_grad_enabled() and reader.streams.is_transient:
        trained = reader.streams.trained()
        given = *scores, *trained
        if any(tensor is not None and tensor.requires_grad for tensor in given):
            return Partial(*_Streamed.apply(reader, *given))  # type: ignore[no-untyped-call]
    return read_one_by_one(reader, scores)


def read_one_by_one(reader: Reader, scores: Scores) -> Partial:
    """Return what one read returns of all parts; an error leaves no part open."""
    with closing(parts_of(reader, scores)) as parts:
        return merged(read_part(reader, part.of(scores), part) for part in parts)


def parts_of(reader: Reader, scores: Scores) -> Generator[Part, None, None]:
    """Yield the parts of the memory; one without slots if the memory has none."""
    ranges: Ranges = reader.streams.ranges() or [(0, 0)]
    is_aged = scores.by_age is not None or reader.ages > 0
    newer = newer_slots(reader, ranges) if is_aged else [0] * len(ranges)
    all_rows = reader.streams.parts(ranges)
    for (first, last), num_newer, (keys, values) in zip(ranges, newer, all_rows, strict=True):
        slots = slice(first, last)
        ignored = reader.excluded.ignored
        ignored = None if ignored is None else ignored[..., slots]
        ages = None
        if is_aged:
            newest_first = reader.call.newest_first
            ages = slot_ages(last - first, ignored, scores.query.device, newest_first, num_newer)
        yield Part(slots, keys, values, ignored, ages)


def newer_slots(reader: Reader, ranges: Ranges) -> list[int | Tensor]:
    """Return for each part the number of readable slots that are newer than all of its own."""
    ignored = reader.excluded.ignored
    counts: list[Any] = [
        last - first if ignored is None else (~ignored[..., first:last]).sum(-1)
        for first, last in ranges
    ]
    ordered = counts if reader.call.newest_first else counts[::-1]
    newer: list[Any] = [reader.num_newer]
    for count in ordered[:-1]:
        newer.append(newer[-1] + count)
    return newer if reader.call.newest_first else newer[::-1]


def read_part(reader: Reader, scores: Scores, part: Part) -> Partial:
    """Return what the queries read of one part, by the scores of its slots."""
    slots, keys, values, ignored, ages = part
    u, by_age, constant, score_bias = scores
    terms = [] if score_bias is None else [score_bias]
    if by_age is not None and ages is not None:
        rows = ages.clamp(max=by_age.shape[-1] - 1)
        batch = checks.broadcast([by_age.shape[:-1], rows.shape[:-1]])
        terms.append(by_age.expand(*batch, -1).gather(-1, rows.expand(*batch, -1)))
    if constant is not None:
        terms.append(constant.expand(*constant.shape[:-1], slots.stop - slots.start))
    bias = sum(terms[1:], start=terms[0]) if terms else None
    if reader.call.num_heads > 1:
        keys, values = rows_of_heads(reader, keys, values, u.dtype)
    needs_p = reader.need_weights or reader.ages > 0 or not reader.softmax
    call = checks.check_read(u, Memory(keys, values, None, ignored, None, bias), reader.softmax)
    call = call._replace(need_lse=reader.softmax, precision=precision_of(u, keys, values))
    o, p, lse = forms.outputs_of(call, reader.impl, needs_p)
    p = None if p is None else p.squeeze(-2)
    if reader.ages and p is not None and ages is not None:
        rows = ages.clamp(max=reader.ages - 1)
        sums = p.new_zeros(*p.shape[:-1], reader.ages).scatter_add(-1, rows.expand(p.shape), p)
    elif lse is not None:
        sums = (lse != -torch.inf).to(o.dtype).unsqueeze(-1)
    else:
        assert p is not None
        sums = p.sum(-1, keepdim=True)
    return Partial(torch.cat([o, sums], -1), lse, p if reader.need_weights else None)


def precision_of(u: Tensor, keys: Stored, values: Stored | None) -> Precision:
    """Return the precision of a read in the compute dtype, that of u."""
    is_same = all(
        isinstance(rows, Tensor) and rows.dtype == u.dtype
        for rows in (keys, keys if values is None else values)
    )
    return OF_ONE_DTYPE[u.dtype]._replace(as_given=is_same)


def rows_of_heads(
    reader: Reader, keys: Stored, values: Stored | None, dtype: torch.dtype
) -> tuple[Stored, Stored | None]:
    """Return the rows as heads read them: [H, n, d] where a head reads its own columns."""
    num_heads, splits = reader.call.num_heads, (reader.splits_keys, reader.splits_values)
    if values is None and splits[0] == splits[1]:
        return of_heads(keys, splits[0], num_heads, dtype), None
    values = keys if values is None else values
    return (
        of_heads(keys, splits[0], num_heads, dtype),
        of_heads(values, splits[1], num_heads, dtype),
    )


def of_heads(rows: Stored, splits: bool, num_heads: int, dtype: torch.dtype) -> Stored:
    """Return rows [..., n, I] with an axis for heads: [..., H, n, d], or [..., 1, n, I]."""
    if splits:
        return heads.split_rows(converted(rows, dtype), num_heads)
    if rows.dim() == 2:
        return rows
    if isinstance(rows, Quantized):
        return Quantized(rows.data.unsqueeze(-3), rows.scale.unsqueeze(-2))
    return rows.unsqueeze(-3)


def merged(parts: Iterator[Partial]) -> Partial:
    """Return what all parts give together."""
    first = next(parts)
    dtype, sums = first.sums.dtype, first.sums.double()
    lse = None if first.lse is None else first.lse.double()
    all_weights = [(first.weights, lse)]
    for part in parts:
        part_lse = None
        if lse is None or part.lse is None:
            sums = sums + part.sums.double()
        else:
            part_lse = part.lse.double()
            sums, lse = merge_reads([sums, part.sums.double()], [lse, part_lse])
        all_weights.append((part.weights, part_lse))
    weights = [
        p if of_part is None or lse is None else p * factor_of(of_part, lse, p.dtype)
        for p, of_part in all_weights
        if p is not None
    ]
    return Partial(sums.to(dtype), lse, torch.cat(weights, -1) if weights else None)


def factor_of(lse_of_part: Tensor, lse: Tensor, dtype: torch.dtype) -> Tensor:
    """Return exp(lse_j - lse), [..., 1]; 0 for a part without readable slots."""
    is_empty = lse_of_part == -torch.inf
    difference = (lse_of_part - lse.masked_fill(is_empty, 0.0)).masked_fill(is_empty, -torch.inf)
    return difference.exp().to(dtype).unsqueeze(-1)


class _Streamed(torch.autograd.Function):
    """``read_parts`` over parts whose tensors do not stay."""

    @staticmethod
    def forward(
        ctx: Any, reader: Reader, *given: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        partial = read_one_by_one(reader, Scores._make(given[: len(Scores._fields)]))
        ctx.reader = reader
        ctx.save_for_backward(*partial, *given)
        ctx.set_materialize_grads(False)
        return partial

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_create_graph("over a streamed memory")
        saved, reader = ctx.saved_tensors, ctx.reader
        total, grad = Partial._make(saved[: len(Partial._fields)]), Partial._make(grads)
        grad = less_mean(grad, total)
        given = saved[len(Partial._fields) :]
        sums = [
            torch.zeros_like(tensor) if need and tensor is not None else None
            for tensor, need in zip(given, ctx.needs_input_grad[1:], strict=True)
        ]
        scores, trained = Scores._make(given[: len(Scores._fields)]), reader.streams.trained()
        try:
            with (
                torch.enable_grad(),
                forms.no_autocast(scores.query),
                closing(parts_of(reader, scores)) as parts,
            ):
                for part in parts:
                    add_gradients(reader, part, scores, trained, sums, total, grad)
        except Exception as error:
            if reader.on_backward_error is not None:
                reader.on_backward_error(error)
            raise
        return None, *sums


def add_gradients(
    reader: Reader,
    part: Part,
    scores: Scores,
    trained: list[Tensor],
    sums: list[Tensor | None],
    total: Partial,
    grad: Partial,
) -> None:
    """Read a part again and add its gradients to the sums, None for those that are not needed.

    The sums are those of the scores, and then those of ``trained``, the tensors that the part may
    be a slice of.
    """
    num_scores = len(Scores._fields)
    of_scores = part.of(Scores._make(sums[:num_scores]))  # views of the gradient of the bias
    leaves = Scores._make(
        None if tensor is None else tensor.detach().requires_grad_(sum_ is not None)
        for tensor, sum_ in zip(part.of(scores), of_scores, strict=True)
    )
    outputs, grads = gradients_of_part(read_part(reader, leaves, part), total, grad, part.slots)
    pairs = zip((*leaves, *trained), (*of_scores, *sums[num_scores:]), strict=True)
    wanted = [(tensor, sum_) for tensor, sum_ in pairs if tensor is not None and sum_ is not None]
    if not outputs:
        return
    found = torch.autograd.grad(outputs, [each for each, _ in wanted], grads, allow_unused=True)
    for (_, sum_), each in zip(wanted, found, strict=True):
        if each is not None:
            sum_ += each


def less_mean(grad: Partial, total: Partial) -> Partial:
    """Return the gradients with sum_i G_i p_i of all slots subtracted from that of lse."""
    if grad.weights is None or total.weights is None or total.lse is None:
        return grad
    mean = (grad.weights * total.weights).sum(-1).to(total.lse.dtype)
    return grad._replace(lse=-mean if grad.lse is None else grad.lse - mean)


def gradients_of_part(
    own: Partial, total: Partial, grad: Partial, slots: slice
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of a part and their gradients, from those after ``less_mean``."""
    grad_weights = None if grad.weights is None else grad.weights[..., slots]
    if own.lse is None or total.lse is None:
        pairs = [(own.sums, grad.sums), (own.weights, grad_weights)]
    else:
        factor = factor_of(own.lse.detach().double(), total.lse, own.sums.dtype)
        grad_lse = torch.zeros_like(own.lse, dtype=torch.float64)
        if grad.sums is not None:
            grad_lse += (grad.sums.double() * (own.sums.detach().double() - total.sums)).sum(-1)
        if grad_weights is not None and own.weights is not None:
            grad_lse += (grad_weights * own.weights.detach()).sum(-1)
        if grad.lse is not None:
            grad_lse += grad.lse
        pairs = [
            (own.sums, None if grad.sums is None else factor * grad.sums),
            (own.weights, None if grad_weights is None else factor * grad_weights),
            (own.lse, (grad_lse * factor.squeeze(-1)).to(own.lse.dtype)),
        ]
    found = [
        (output, each)
        for output, each in pairs
        if output is not None and each is not None and output.requires_grad
    ]
    return [output for output, _ in found], [each for _, each in found]
