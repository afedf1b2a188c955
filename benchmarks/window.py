"""Time hops over a window of words against other ways to compute the same, on one thread."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.hop.clock import Timed, time_interleaved
from memhop.cli.reproduce import Tiny
from memhop.kernels import warmup
from memhop.ops import Hop, Table, multi_hop, read
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import Rows, Sheet, provenance

BLOCK = 64  # queries of a block of SDPA
TOLERANCE = 1e-4


class Sizes(NamedTuple):
    """A case: sequences of words, hops over windows of N words; without hops one ``read``."""

    sequences: int
    words: int
    window: int
    hops: int
    dim: int = 150


CASES = (Sizes(2, 64, 200, 7), Sizes(8, 128, 200, 7), Sizes(2, 64, 50, 6), Sizes(1, 2048, 200, 0))
TINY = (Sizes(2, 5, 3, 2, 4), Sizes(1, 130, 6, 0, 4))


class Problem:
    """The tensors of a case, and how each candidate computes it.

    With hops these are those of the language model of section 5 of arXiv 1503.08895: layer-wise
    tying, temporal rows for each lag, and a ReLU on half of the units.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, generator = sizes, torch.Generator().manual_seed(0)
        batch, words, window, num_hops, dim = sizes
        rows = words + window - 1

        def drawn(*shape: int) -> Tensor:
            found: Tensor = torch.randn(*shape, generator=generator) / dim**0.25
            found.requires_grad_()
            return found

        self.query, self.keys, self.values = (
            drawn(batch, count, dim) for count in (words, rows, rows)
        )
        self.leaves = [self.query, self.keys, self.values]
        self.hops: list[Hop] = []
        if num_hops:
            of_keys, of_values = drawn(window, dim), drawn(window, dim)
            transform = (drawn(dim, dim).detach() / dim**0.25).requires_grad_()
            self.leaves += [of_keys, of_values, transform]
            hop = Hop(Table(None, None, of_keys), Table(None, None, of_values), transform, 0.5)
            self.hops = [hop] * num_hops
        places = torch.arange(words)
        self.slots = places[:, None] + torch.arange(window)
        lag = torch.arange(rows) - places[:, None]
        self.outside = (lag < 0) | (lag >= window)  # of the band [T, T + N - 1]

    def window(self) -> Tensor:
        """Return the result with ``window``."""
        query, keys, values, window = self.query, self.keys, self.values, self.sizes.window
        if not self.hops:
            found: Tensor = read(query, keys, values, window=window)
            return found
        result: Tensor = multi_hop(query, keys, self.hops, values=values, window=window)
        return result

    def gathered(self) -> Tensor:
        """Return the result of the textbook form over the gathered slots of each word."""
        keys, values = self.keys[:, self.slots], self.values[:, self.slots]
        if self.hops:
            of_keys, of_values = self.leaves[3:5]
            keys, values = keys + of_keys.flip(0), values + of_values.flip(0)
        query = self.query
        for k in range(max(1, len(self.hops))):
            weights = torch.einsum("btd,btnd->btn", query, keys).softmax(-1)
            read_out = torch.einsum("btn,btnd->btd", weights, values)
            query = read_out if not self.hops else self._updated(query, read_out, k)
        return query

    def by_slots(self) -> Tensor:
        """Return the result with ``slots`` of a bank."""
        return self._by_rows(slots=self.slots)

    def by_mask(self) -> Tensor:
        """Return the result of shared keys and the mask of a band."""
        return self._by_rows(padding_mask=self.outside)

    def sdpa(self) -> Tensor:
        """Return the result of SDPA with the mask of a band."""
        return functional.scaled_dot_product_attention(
            self.query, self.keys, self.values, attn_mask=~self.outside, scale=1.0
        )

    def sdpa_blocks(self) -> Tensor:
        """Return the result of SDPA on blocks of words, each with the keys of its windows."""
        batch, words, window, _, dim = self.sizes
        rows = BLOCK + window - 1
        padding = -words % BLOCK
        query, keys, values = (
            functional.pad(rows, (0, 0, 0, padding))
            for rows in (self.query, self.keys, self.values)
        )
        keys, values = (x.unfold(1, rows, BLOCK).mT for x in (keys, values))
        lag = torch.arange(rows) - torch.arange(BLOCK)[:, None]
        found = functional.scaled_dot_product_attention(
            query.view(batch, -1, BLOCK, dim), keys, values,
            attn_mask=(lag >= 0) & (lag < window), scale=1.0,
        )  # fmt: skip
        return found.reshape(batch, -1, dim)[:, :words]

    def _by_rows(self, **options: Any) -> Tensor:
        keys, values = self.keys.unsqueeze(1), self.values.unsqueeze(1)
        if not self.hops:
            found: Tensor = read(self.query, keys, values, **options)
            return found
        result: Tensor = multi_hop(self.query, keys, self.hops, values=values, **options)
        return result

    def _updated(self, query: Tensor, read_out: Tensor, k: int) -> Tensor:
        transform = self.hops[k].transform
        assert transform is not None
        half = query.shape[-1] - query.shape[-1] // 2
        updated = query @ transform.T + read_out
        return torch.cat([updated[..., :half], updated[..., half:].relu()], -1)

    def candidates(self) -> dict[str, Callable[[], Tensor]]:
        """Return the ways to compute the case, by name."""
        found = {
            "window": self.window, "gathered": self.gathered, "slots": self.by_slots,
            "band mask": self.by_mask,
        }  # fmt: skip
        if not self.hops:
            found |= {"SDPA": self.sdpa, "SDPA on blocks": self.sdpa_blocks}
        return found

    def check(self) -> None:
        """Check that all candidates have equal results and gradients."""
        expected: list[Tensor] = []
        for name, call in self.candidates().items():
            result = call()
            found = [result, *torch.autograd.grad(result.sum(), self.leaves)]
            for one, other in zip(found, expected or found, strict=True):
                largest = float(other.detach().abs().max())
                if not torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * largest):
                    raise AssertionError(f"{name} differs from window at {self.sizes}")
            expected = expected or found


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Time a window against gathered slots, masks and SDPA."""
    if not tiny:
        warmup()  # other forms are measured with compiled kernels
    with one_thread():
        for sizes in TINY if tiny else CASES:
            problem = Problem(sizes)
            problem.check()
            for has_gradients in (False, True):
                yield list(_rows(problem, has_gradients, 0.0 if tiny else 3.0))


def _rows(problem: Problem, has_gradients: bool, seconds: float) -> Iterator[dict[str, Any]]:
    def timed(call: Callable[[], Tensor]) -> Timed:
        def with_gradients() -> None:
            call().sum().backward()  # type: ignore[no-untyped-call]

        def forget() -> None:
            for leaf in problem.leaves:
                leaf.grad = None

        return Timed(with_gradients, forget) if has_gradients else Timed(call)

    candidates = problem.candidates()
    times = time_interleaved(
        [timed(call) for call in candidates.values()], gradients=has_gradients, seconds=seconds
    )
    for name, each in zip(candidates, times, strict=True):
        sizes = problem.sizes
        yield {  # the progress has the first three
            "sequences": sizes.sequences, "window": sizes.window, "gradients": has_gradients,
            **sizes._asdict(), "form": name,
            "ms": 1000 * each.seconds, "cpu_ms": 1000 * each.cpu_seconds, "rounds": each.rounds,
            **provenance(),
        }  # fmt: skip


def sheets(rows: Rows) -> list[Sheet]:
    """Return a table: a line for each form, and forward / with backward of each case."""
    cases = [*dict.fromkeys(tuple(row[name] for name in Sizes._fields) for row in rows)]
    found = {
        (tuple(row[name] for name in Sizes._fields), row["form"], row["gradients"]): row["cpu_ms"]
        for row in rows
    }
    lines = []
    for form in dict.fromkeys(row["form"] for row in rows):
        cells = []
        for case in cases:
            both = [found.get((case, form, each)) for each in ("False", "True")]
            cells.append(" / ".join(f"{float(each):.1f}" for each in both if each) or "-")
        lines.append([form, *cells])
    columns = ("form", *map(_title, cases))
    note = (
        "Milliseconds of CPU time on one thread, forward / forward and backward, medians of "
        "interleaved rounds."
    )
    return [Sheet("A window of words", columns, lines, note)]


def _title(case: tuple[str, ...]) -> str:
    sizes = Sizes(*map(int, case))
    hops = f"{sizes.hops} hops" if sizes.hops else "one read"
    return f"{sizes.sequences} x {sizes.words} words, {hops}, N = {sizes.window}"
