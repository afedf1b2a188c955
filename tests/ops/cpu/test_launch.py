"""The CPU kernels, for rows that share no memory, against the textbook formula."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from memhop.ops.cpu import launch
from memhop.ops.fused.problem import Gradients, Problem, Step, Trace, Wanted
from tests.ops.optional_parts import MEMORIES, Parts, parts_with, problem_of
from tests.ops.problem_oracle import (
    assert_close,
    assert_kernel_agrees,
    draw_problem,
    outcome,
    weight_gradients_from,
)
from tests.seeds import seeds

STORED = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


@pytest.fixture
def threads() -> Iterator[int]:
    """Set an odd number of threads, more than some machines have cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.fixture(params=["rows", "splits"])
def cut(request: pytest.FixtureRequest, threads: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run small problems on several threads: a row for each, or splits of the slots of rows."""
    monkeypatch.setattr(launch, "SERIAL", -1)
    if request.param == "rows":
        monkeypatch.setattr(launch, "is_split", lambda *sizes: False)
    return str(request.param)


def plain(num_rows: int, num_slots: int, width: int, std: float = 1.0) -> Problem:
    """Return a problem of three hops in float32, without any optional part."""
    make = torch.Generator().manual_seed(0)
    weights = (torch.randn(6, width, width, generator=make) / width**0.5).unbind()
    keys = torch.randn(num_rows, num_slots, width, generator=make) * std
    query = torch.randn(num_rows, width, generator=make)
    steps = tuple(Step(a=2 * k, c=2 * k + 1) for k in range(3))
    none = None
    return Problem(query, keys, none, none, none, none, none, none, none, weights, steps)


def bank(num_rows: int, num_slots: int, bank_rows: int, width: int) -> Problem:
    """Return the same over a bank, each row of which many slots hold."""
    problem = plain(num_rows, 1, width)
    make = torch.Generator().manual_seed(1)
    return problem._replace(
        keys=torch.randn(bank_rows, width, generator=make) / width**0.5,
        slots=torch.randint(bank_rows, (num_rows, num_slots), generator=make),
    )


def run(problem: Problem, scores: bool = True) -> tuple[Trace, Gradients]:
    trace = launch.forward(problem, True)
    wanted = Wanted(problem.keys.is_floating_point(), False, scores)
    return trace, launch.backward(problem, trace, problem.query.sign(), None, wanted)


def results_of(problem: Problem) -> list[Tensor]:
    trace, gradients = run(problem)
    assert gradients.grad_keys is not None
    grad_weights = weight_gradients_from(problem, trace, gradients)
    return [trace.queries[:, -1], gradients.grad_query, gradients.grad_keys, *grad_weights]


def true_results_of(problem: Problem) -> list[Tensor]:
    truth = outcome(problem, problem.query.sign())
    assert truth.grad_keys is not None
    return [truth.result, truth.grad_query, truth.grad_keys, *truth.grad_weights]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("seed", seeds(15, 500))
def test_all_in_float64(seed: int) -> None:
    assert_kernel_agrees(
        launch.forward, launch.backward, draw_problem(seed),
        rtol=1e-11, atol=1e-11, keep=(True,),
    )  # fmt: skip


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("storage", STORED)
@pytest.mark.parametrize("seed", seeds(5, 100, first=100))
def test_all_storages(seed: int, storage: torch.dtype) -> None:
    problem = draw_problem(seed, dtype=torch.float32, storage=storage)
    assert_kernel_agrees(
        launch.forward, launch.backward, problem, rtol=1e-5, atol=1e-4, keep=(True,)
    )


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("slots", [63, 64, 65, 64 * 16, 64 * 16 + 1, 2000])
@pytest.mark.parametrize(("rows", "seed"), [(1, 0), (2, 1), (7, 2), (8, 3)])
def test_blocks_and_groups_of_every_size(rows: int, seed: int, slots: int) -> None:
    problem = draw_problem(seed, num_rows=rows, num_slots=slots)
    assert_kernel_agrees(
        launch.forward, launch.backward, problem, rtol=1e-9, atol=1e-11, keep=(True,)
    )


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(
    ("parts", "memory", "cut"), parts_with(MEMORIES, ["rows", "splits"]), indirect=["cut"]
)
def test_tables_that_are_left_out_and_shares_of_relu(parts: Parts, memory: str) -> None:
    assert_kernel_agrees(
        launch.forward, launch.backward, problem_of(parts, memory),
        rtol=1e-11, atol=1e-11, keep=(True,),
    )  # fmt: skip


def test_a_forward_without_weights_reads_the_same() -> None:
    problem = plain(5, 70, 9)
    kept, bare = (launch.forward(problem, keep) for keep in (True, False))
    assert bare.weights is None
    for one, other in zip(bare[:-1], kept[:-1], strict=True):
        assert (one is other is None) or torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("slots", [3, 300])
def test_the_content_of_ignored_slots_does_not_matter(slots: int) -> None:
    problem = plain(4, slots, 6)
    ignored = torch.rand(4, slots, generator=torch.Generator().manual_seed(3)) < 0.5
    ignored[0], ignored[1] = True, False
    lengths = torch.tensor([slots, slots, slots // 2, slots - 1])
    bias = torch.zeros(4, 1, slots)
    bias[1, 0, 0] = -torch.inf
    beyond = torch.arange(slots) >= lengths.unsqueeze(1)
    unread = ignored | beyond | bias[:, 0].isinf()
    given = problem._replace(ignored=ignored, lengths=lengths, score_bias=bias)
    modified = given._replace(keys=given.keys.masked_fill(unread.unsqueeze(2), torch.nan))
    for one, other in zip(results_of(given), results_of(modified), strict=True):
        assert torch.equal(one, other)
    trace, gradients = run(modified)
    assert trace.weights is not None
    assert gradients.grad_keys is not None
    assert gradients.grad_scores is not None
    assert not trace.weights.masked_select(unread.unsqueeze(1)).any()
    assert not gradients.grad_scores.masked_select(unread.unsqueeze(1)).any()
    assert not gradients.grad_keys[unread].any()
    assert torch.equal(trace.queries[0, -1], problem.query[0])  # no readable slot


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("where", ["bias", "product"])
def test_huge_scores(where: str) -> None:
    problem = plain(3, 200, 5)
    if where == "bias":
        bias = torch.randn(3, 3, 200, generator=torch.Generator().manual_seed(1)) * 1e30
        problem = problem._replace(score_bias=bias)
    else:
        problem = problem._replace(query=problem.query * 1e25, keys=problem.keys * 1e5)
    trace, _ = run(problem)
    truth = outcome(problem, problem.query.sign())
    assert trace.weights is not None
    assert torch.equal(trace.weights, truth.weights.float())  # all on one slot
    results, true = results_of(problem), true_results_of(problem)
    assert_close("result", results[0], true[0], 1e-6, 0.0)
    assert all(part.isfinite().all() for part in results)
    if where == "bias":  # by 1e25, a difference that should be 0 is only rounding
        for got, want in zip(results, true, strict=True):
            assert_close("gradient", got, want, 1e-5, 1e-4)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("problem", [plain(7, 1000, 64), plain(1, 60_000, 32)])
def test_results_are_deterministic(problem: Problem) -> None:
    first, again = results_of(problem), results_of(problem)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.usefixtures("threads")
def test_the_gradient_of_a_bank_with_repeated_rows_is_deterministic_and_right() -> None:
    problem = bank(9, 4000, 1500, 32)
    first = results_of(problem)
    for _ in range(3):
        again = results_of(problem)
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for got, want in zip(first, true_results_of(problem), strict=True):
        assert_close("of a bank", got, want, 2e-6, 0.0)


def test_bank_rows_that_no_slot_holds_have_a_gradient_of_zero() -> None:
    problem = bank(3, 20, 40, 4)
    assert problem.slots is not None
    unused = torch.ones(40, dtype=torch.bool)
    unused[problem.slots] = False
    modified = problem._replace(keys=problem.keys.masked_fill(unused.unsqueeze(1), torch.nan))
    _, gradients = run(modified)
    assert unused.any()
    assert gradients.grad_keys is not None
    assert not gradients.grad_keys[unused].any()
    assert gradients.grad_keys.isfinite().all()


def test_sums_over_many_slots_stay_exact() -> None:
    problem = plain(1, 300_000, 3, 0.1)
    problem = problem._replace(keys=problem.keys + 0.25)  # sums that grow with the number of slots
    for got, want in zip(results_of(problem), true_results_of(problem), strict=True):
        assert_close("a sum", got, want, 1e-6, 0.0)


@pytest.mark.usefixtures("cut")
def test_the_order_of_slots_changes_nothing_but_rounding() -> None:
    problem = plain(5, 137, 4)
    order = torch.randperm(137, generator=torch.Generator().manual_seed(2))
    trace, gradients = run(problem)
    permuted, by = run(problem._replace(keys=problem.keys[:, order]))
    assert trace.weights is not None
    assert permuted.weights is not None
    assert gradients.grad_keys is not None
    assert by.grad_keys is not None
    assert_close("result", permuted.queries[:, -1], trace.queries[:, -1].double(), 1e-5, 0.0)
    assert_close("weights", permuted.weights, trace.weights[..., order].double(), 1e-5, 0.0)
    assert_close("grad_keys", by.grad_keys, gradients.grad_keys[:, order].double(), 1e-5, 0.0)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("rows", [3, 4, 9, 27])
@pytest.mark.parametrize(("memory_dim", "columns"), [(64, 64), (65, 133), (130, 67), (1, 80)])
def test_weights_larger_than_a_tile(rows: int, memory_dim: int, columns: int) -> None:
    """Groups of rows multiply weights tile by tile, and what remains of a tile with a mask."""
    make = torch.Generator().manual_seed(rows)

    def drawn(*sizes: int) -> Tensor:
        numbers = torch.randn(sizes, generator=make, dtype=torch.float64)
        return numbers / float(sizes[-1] ** 0.5)

    weights = tuple(drawn(memory_dim, columns) for _ in range(4))
    steps, none = (Step(a=0, c=1), Step(a=2, c=3, relu=1)), None
    query, keys = drawn(rows, memory_dim), drawn(rows, 5, columns)
    problem = Problem(query, keys, none, none, none, none, none, none, none, weights, steps)
    assert_kernel_agrees(
        launch.forward, launch.backward, problem, rtol=1e-11, atol=1e-11, keep=(True,)
    )


def test_a_call_without_a_trace_gives_the_same_bits() -> None:
    for problem in (plain(5, 70, 9), plain(1, 3000, 130)):
        trace, (result, weights) = launch.forward(problem, True), launch.infer(problem, True)
        assert torch.equal(result, trace.queries[:, -1])
        assert trace.weights is not None
        assert weights is not None
        assert torch.equal(weights, trace.weights)


def test_calls_in_many_threads_share_no_scratch_memory() -> None:
    problem = plain(6, 40, 33)
    expected, _ = launch.infer(problem, False)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(launch.infer, problem, False) for _ in range(200)]
    assert all(torch.equal(future.result()[0], expected) for future in futures)


def tied_problem(dtype: torch.dtype = torch.float64) -> Problem:
    """Return a problem whose hops share weights in every way, with and without a softmax."""
    make = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=make, dtype=dtype) / 3

    weights = (*[draw(5, 5) for _ in range(4)], *[draw(5) for _ in range(3)])
    steps = (
        Step(a=0, c=1, a_bias=4, c_bias=5, softmax=0),
        Step(a=1, c=2, a_bias=5, c_bias=6, transform=3),
        Step(a=2, c=2, a_bias=4, c_bias=6, transform=3, softmax=0, relu=2),
        Step(a=-1, c=3, transform=3),
    )
    none = None
    return Problem(
        draw(6, 5), draw(6, 7, 5), none, none, none, none, none, none, none, weights, steps
    )


def test_small_weights_that_hops_share() -> None:
    problem = tied_problem()
    assert_kernel_agrees(
        launch.forward, launch.backward, problem, rtol=1e-11, atol=1e-11, keep=(True,)
    )
    trace = launch.forward(problem, True)
    nothing = Wanted(False, False, False)
    assert launch.backward(problem, trace, problem.query, None, nothing).of_weights is None
    needed = (True, False, False, True, False, True, False)
    wanted = nothing._replace(weights=needed)
    gradients = launch.backward(problem, trace, problem.query, None, wanted)
    everything = nothing._replace(weights=(True,) * len(needed))
    expected = launch.backward(problem, trace, problem.query, None, everything).of_weights
    assert gradients.of_weights is not None
    assert expected is not None
    for got, want, need in zip(gradients.of_weights, expected, needed, strict=True):
        assert (got is not None) == need
        assert got is None or want is None or torch.equal(got, want)


@pytest.mark.parametrize(("rows", "width"), [(65, 4), (9, 256)])
def test_products_compute_the_gradients_of_large_weights(rows: int, width: int) -> None:
    problem = plain(rows, 3, width)
    trace = launch.forward(problem, True)
    wanted = Wanted(False, False, False, (True,) * len(problem.weights))
    assert launch.backward(problem, trace, problem.query, None, wanted).of_weights is None
    kernel = plain(rows - 1, 3, width)
    trace = launch.forward(kernel, True)
    of_weights = launch.backward(kernel, trace, kernel.query, None, wanted).of_weights
    assert of_weights is not None
    truth = outcome(kernel, kernel.query).grad_weights
    for got, want in zip(of_weights, truth, strict=True):
        assert got is not None
        assert_close("gradient of a weight", got, want, rtol=1e-5, atol=1e-5)
