"""The triton kernels without a GPU: their plans, that they compile, and interpreted results.

Other processes import triton: its interpreter must be enabled before, and compiling for a GPU that
does not exist replaces triton's driver.
"""

import importlib.util
import json
import re
from itertools import product
from pathlib import Path

import pytest
import torch

from memhop.ops.cuda import tiling
from memhop.ops.cuda.tiling import MIN_SPLIT_BYTES, Sizes, plan_for, plan_of
from memhop.ops.fused.problem import Problem, Step
from tests.ops.processes import run_script

HERE = Path(__file__).parent
H100 = 132
SMALLEST_GPU = 99 * 1024  # bytes of shared memory per program, of GPUs since 2020

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")


def sizes(rows: int, slots: int, columns: int, itemsize: int = 4, stored: int = 4) -> Sizes:
    """Return the sizes of a problem whose values are its keys, on an H100."""
    return Sizes(rows, slots, columns, columns, 128, itemsize, columns * stored, H100)


ROWS, SLOTS, COLUMNS = [1, 64, 4096, 100_000], [0, 1, 50, 1000, 300_000], [1, 5, 128, 768, 5000]


@pytest.mark.parametrize(("rows", "slots"), list(product(ROWS, SLOTS)))
@pytest.mark.parametrize("itemsize", [4, 8])
def test_every_slot_is_in_one_split_and_tiles_fit_a_program(
    rows: int, slots: int, itemsize: int
) -> None:
    for columns in COLUMNS:
        config, num_splits, split_slots = plan_for(sizes(rows, slots, columns, itemsize, itemsize))
        assert num_splits * split_slots >= slots
        assert num_splits == 1 or (num_splits - 1) * split_slots < slots
        assert split_slots % config.slots == 0
        powers = {name: size for name, size in vars(config).items() if name != "num_stages"}
        assert all(size > 0 and size & (size - 1) == 0 for size in powers.values())
        assert config.key_width >= columns
        tile = config.rows * config.slots * config.key_width
        registers = tile * itemsize // 4 / (32 * config.num_warps)  # of each thread, for one tile
        assert registers <= 32 or config.slots == config.rows == 1
        assert config.num_warps <= 16


@pytest.mark.parametrize(
    ("given", "split"),
    [
        (sizes(1, MIN_SPLIT_BYTES // 512 * 2, 128), True),
        (sizes(1, MIN_SPLIT_BYTES // 512 * 2 - 1, 128), False),  # two splits would be too short
        (sizes(264, 8192, 128), True),
        (sizes(265, 8192, 128), False),  # the rows alone fill the GPU
        (sizes(32, 1000, 128), False),
        (sizes(64, 8192, 128, stored=2), True),
    ],
)
def test_long_rows_are_split_where_they_are_few(given: Sizes, split: bool) -> None:
    assert (plan_for(given).num_splits > 1) == split


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (sizes(16 * H100, 50, 128), 16),
        (sizes(16 * H100 - 1, 50, 128), 1),  # half of the GPU would be idle
        (sizes(4096, 128, 128), 16),
        (sizes(4096, 129, 128), 1),  # the weights are smaller than the memory
        (sizes(4096, 50, 8), 1),
        (sizes(4096, 10, 512), 1),
        (sizes(4096, 50, 64, itemsize=8), 1),  # float64 does not use tl.dot
    ],
)
def test_many_short_rows_share_loads_of_weights(given: Sizes, rows: int) -> None:
    assert plan_for(given).config.rows == rows


@pytest.mark.parametrize(
    ("columns", "memory_dim", "cut", "unit"),
    [(64, 32, 0, 16), (100, 32, 0, 4), (64, 40, 0, 8), (64, 33, 0, 1), (60, 32, 4, 4)],
)
def test_rows_begin_at_multiples_of_the_unit(
    columns: int, memory_dim: int, cut: int, unit: int
) -> None:
    memory = torch.zeros(3, 5, columns + cut)[..., cut:]
    query = torch.zeros(3, memory_dim)
    problem = Problem._make((query, memory, *[None] * 7, (), (Step(),)))
    assert plan_of(problem).config.unit == unit
    bank = problem._replace(keys=memory[0], slots=torch.zeros(3, 2, dtype=torch.int64))
    assert plan_of(bank).config.unit == unit


@pytest.mark.parametrize(
    ("shape", "storage", "has_values", "stages"),
    [
        ((4096, 50, 128), torch.float32, False, 3),  # 32 KiB per tile, of which two are prefetched
        ((4096, 50, 128), torch.float32, True, 2),
        ((4096, 50, 128), torch.bfloat16, True, 3),
        ((3, 100, 5000), torch.float32, True, 2),
        ((3, 100, 9000), torch.float32, True, 1),
        ((3, 100, 9000), torch.int8, False, 1),  # the query is as wide, in float32
    ],
)
def test_as_many_tiles_are_prefetched_as_fit_the_smallest_gpu(
    shape: tuple[int, int, int],
    storage: torch.dtype,
    has_values: bool,
    stages: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiling, "multiprocessors_of", lambda tensor: H100)
    memory = torch.zeros((), dtype=storage).expand(shape)
    query = torch.zeros(()).expand(shape[0], shape[2])
    values = memory if has_values else None
    problem = Problem._make((query, memory, None, values, *[None] * 5, (), (Step(),)))
    assert plan_of(problem).config.num_stages == stages


def test_the_interpreter_is_one_small_gpu() -> None:
    assert tiling.multiprocessors_of(torch.zeros(1)) == 1


INTERPRET = """
    import sys
    import pytest
    sys.exit(pytest.main(["-n0", "-p", "no:cacheprovider", "-c", *sys.argv[1:]]))
"""


# The number of tests that pass, at least: those that need a GPU are skipped.
INTERPRETED = {"test_gpu.py": 45, "test_edges_gpu.py": 16}


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("file", INTERPRETED)
def test_the_kernels_agree_with_the_textbook_when_interpreted(file: str) -> None:
    """All of ``test_gpu`` and ``test_edges_gpu`` except the large ones."""
    files = str(HERE.parents[2] / "pyproject.toml"), str(HERE / file)
    out = run_script(INTERPRET, *files, TRITON_INTERPRET="1", OMP_NUM_THREADS="1")
    passed = re.search(r"(\d+) passed", out)
    assert passed is not None, out
    assert int(passed[1]) >= INTERPRETED[file], out


def test_every_file_for_a_gpu_is_interpreted() -> None:
    assert {file.name for file in HERE.glob("test_*gpu.py")} == set(INTERPRETED)


COMPILE = """
    import json, re
    import torch, triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction
    from memhop.ops.cuda import forward, tiling
    from memhop.ops.fused.problem import Problem, Step, Wanted

    class NoGpu:
        get_current_device = get_current_stream = lambda self, *which: 0
        get_current_target = lambda self: GPUTarget("cuda", 80, 32)

    def compile_only(kernel, *arguments, grid, warmup, **options):
        built = launch(kernel, *arguments, grid=grid, warmup=True, **options)
        barriers = len(re.findall(r"\\b(?:ttg|gpu)[.]barrier\\b", built.asm["ttgir"]))
        has_tensor_cores = "mma" in built.asm["ptx"]
        name, shared = kernel.fn.__name__, built.metadata.shared
        built_kernels.append((name, shared, has_tensor_cores, barriers))

    triton.runtime.driver.set_active(NoGpu())
    launch, JITFunction.run, built_kernels = JITFunction.run, compile_only, []
    tiling.multiprocessors_of = lambda tensor: 132
    zeros = torch.zeros

    bank, scale = zeros(40, 16, dtype=torch.int8), zeros(40)
    masks = zeros(3, 20, dtype=torch.bool), zeros(3, dtype=torch.int64), zeros(3, 2, 20)
    weights = zeros(16, 16), zeros(16), zeros(3, 16)
    step, slots = Step(0, 1, 2, 0, 1, 2, 0), zeros(3, 20, dtype=torch.int32)
    steps = step._replace(relu=1), step._replace(softmax=0)
    problem = Problem(zeros(3, 16), bank, scale, bank, scale, slots, *masks, weights, steps)
    tiling.MAX_STAGES = 1  # a pipeline takes twice as long to compile
    trace = forward.forward(problem, True)
    wanted = Wanted(False, False, True)
    forward.backward(problem, trace, problem.query, trace.weights, wanted)

    tiling.MAX_STAGES = 3
    wide = zeros(1, 1, 5000).expand(3, 8, -1)
    problem = Problem(zeros(3, 5000), wide, None, wide, *[None] * 5, (), (Step(),))
    forward.forward(problem, False)
    print(json.dumps(built_kernels))
"""


@pytest.mark.slow
@needs_triton
def test_the_compiler_takes_the_kernels(tmp_path: Path) -> None:
    """The compiler rejects types, names and sizes that the interpreter accepts.

    All kernels fit the shared memory of a small GPU, do not use tensor cores, which round float32,
    and have a barrier between stages of a hop that communicate through memory.
    """
    out = run_script(COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    kernels = json.loads(out)
    names = [name for name, *_ in kernels]
    count = "count_readable"
    assert names == [count, "all_hops", "normalize", count, "all_hops_backward", "all_hops"]
    assert kernels[-1][1] > 1 << 15, "no tiles are prefetched for wide rows"
    for name, shared, has_tensor_cores, barriers in kernels:
        assert shared <= SMALLEST_GPU, name
        assert not has_tensor_cores, name
        assert barriers >= {"all_hops": 4, "all_hops_backward": 6}.get(name, 0), name
