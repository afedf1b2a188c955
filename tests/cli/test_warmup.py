"""``memhop warmup``: progress, errors, and that nothing compiles afterwards."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numba
import pytest

from memhop import kernels
from tests.ops.processes import run_script

from .conftest import Program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for compiled kernels."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def test_it_prints_the_kernels_and_their_folder(
    memhop: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(kernels.kernels())
    two = [kernel for kernel in every if "vectors" in kernel.name]
    monkeypatch.setattr(kernels, "kernels", lambda: iter(two))
    output = memhop("warmup")
    assert output.status == 0
    assert output.out.startswith(f"all kernels are in {folder} (")
    assert output.err.splitlines() == [
        "kernel 1/2: sums of word vectors, float32", "kernel 2/2: sums of word vectors, float64"
    ]  # fmt: skip


def test_nothing_is_compiled_without_a_writable_folder(
    memhop: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("a file, not a folder")
    monkeypatch.setattr(kernels, "kernels", lambda: pytest.fail("compiles"))
    error = memhop("warmup").error()
    assert error == (f"cannot write compiled kernels to {folder}: set NUMBA_CACHE_DIR to a folder")


def test_a_failing_compiler_is_a_one_line_error(
    memhop: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> Iterator[kernels.Kernel]:
        raise TypeError("numba cannot compile this\nsecond line")
        yield

    monkeypatch.setattr(kernels, "kernels", failing)
    error = memhop("warmup").error()
    assert error == "the kernels do not compile here: TypeError: numba cannot compile this"


RECORDED = """
    import memhop
    from memhop.ops.cpu.kernel_cache import KernelCache

    load, kernels = KernelCache.load_overload, set()

    def record(cache, signature, context):
        kernels.add(cache.paths(signature)[0].name)
        return load(cache, signature, context)

    KernelCache.load_overload = record
"""
WARMUP = """
    memhop.warmup()
    print(*kernels)
"""
CALLS = """
    from tests.ops.large_calls import FORMS, results

    for form in FORMS:
        results("fused", form)
    examples = list(memhop.to_examples(memhop.generate(1, questions=300)))
    for linear_start_epochs in (0, 2):
        recipe = memhop.Recipe(epochs=3, linear_start_epochs=linear_start_epochs)
        memhop.train(examples, recipe=recipe, restarts=1)
    print(*kernels)
"""


@pytest.mark.slow
def test_nothing_compiles_after_warmup() -> None:
    """Warmup asks for every kernel that calls ask for; a kernel is compiled if asked for."""
    compiled, used = (
        set(run_script(dedent(RECORDED) + dedent(script)).split()) for script in (WARMUP, CALLS)
    )
    assert len(used) > 4
    assert used <= compiled
