"""``memhop warmup``: progress, errors, and that nothing is left to compile afterwards."""

from collections.abc import Iterator
from pathlib import Path

import numba
import pytest

from memhop import kernels
from tests.ops.processes import run_script

from .conftest import Program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for compiled kernels."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def test_it_says_what_it_compiles_and_where_that_is(
    memhop: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(kernels.kernels())
    two = [kernel for kernel in every if "vectors" in kernel.name]
    monkeypatch.setattr(kernels, "kernels", lambda: iter(two))
    said = memhop("warmup")
    assert said.status == 0
    assert said.out.startswith(f"all kernels are in {folder} (")
    assert said.err.splitlines() == [
        "kernel 1/2: sums of word vectors, float32", "kernel 2/2: sums of word vectors, float64"
    ]  # fmt: skip


def test_without_a_folder_to_write_to_nothing_is_compiled(
    memhop: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("a file, and so no folder to write to")
    monkeypatch.setattr(kernels, "kernels", lambda: pytest.fail("compiles"))
    complaint = memhop("warmup").complaint()
    assert complaint == (
        f"cannot write compiled kernels to {folder}: set NUMBA_CACHE_DIR to a folder"
    )


def test_a_compiler_that_fails_is_an_error_of_one_line(
    memhop: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> Iterator[kernels.Kernel]:
        raise TypeError("numba does not compile today\nbecause of the weather")
        yield

    monkeypatch.setattr(kernels, "kernels", failing)
    complaint = memhop("warmup").complaint()
    assert complaint == "the kernels do not compile here: TypeError: numba does not compile today"


AFTERWARDS = """
    from numba.core.event import install_recorder

    compiler = install_recorder("numba:run_pass")
    passes = compiler.__enter__().buffer
    import memhop
    from tests.ops.large_calls import FORMS, results

    for form in FORMS:
        results("fused", form)
    examples = list(memhop.to_examples(memhop.generate(1, questions=300)))
    for linear_start_epochs in (0, 2):
        recipe = memhop.Recipe(epochs=3, linear_start_epochs=linear_start_epochs)
        memhop.train(examples, recipe=recipe, restarts=1)
    print(len(passes))
"""


@pytest.mark.slow
def test_nothing_is_left_to_compile(tmp_path: Path) -> None:
    command = "import sys; from memhop.cli import main; sys.argv[1:] = ['warmup']; main()"
    run_script(command, NUMBA_CACHE_DIR=str(tmp_path))
    assert int(run_script(AFTERWARDS, NUMBA_CACHE_DIR=str(tmp_path))) == 0
