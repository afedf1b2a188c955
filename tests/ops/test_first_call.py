"""What a first call costs and needs: a cache for what was compiled, or no compiler at all."""

import shutil
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import memhop
from tests.ops.processes import run_script

pytestmark = pytest.mark.slow  # processes that begin without what is compiled

# numba tells of each pass of its compiler: a count, where a time would depend on the machine.
COUNTED = """
    import sys
    from numba.core.event import install_recorder

    compiler = install_recorder("numba:run_pass")
    passes = compiler.__enter__().buffer
"""

TINY = """
    import torch
    from memhop import MultiHop

    hops = MultiHop(16, 16)
    query, memories = torch.randn(1, 16), torch.randn(1, 10, 16)
    hops(query, memories).sum().backward()
    print(len(passes))
"""

LARGE = """
    import memhop
    import torch
    from tests.ops.large_calls import FORMS, assert_close, forward, results

    assert memhop.__file__.startswith(sys.argv[2])
    torch.set_grad_enabled(sys.argv[1] == "back")
    call = results if sys.argv[1] == "back" else lambda impl, form: [forward(impl, form)]
    for form in FORMS:
        assert_close(call("fused", form), call("reference", form))
    print(len(passes))
"""


# The kernel that compiles fastest: all are cached in the same way
ONE = """
    import memhop
    import torch
    from memhop.kernels import call_embedding_bag

    assert memhop.__file__.startswith(sys.argv[1])
    call_embedding_bag(torch.float32)
    print(len(passes))
"""


def passes(script: str, *arguments: str, **options: Any) -> int:
    """How many passes of the compiler a script takes in a process of its own."""
    return int(run_script(dedent(COUNTED) + dedent(script), *arguments, **options))


# A call that needs the kernels, its passes of the compiler, and what is logged of it
COLD = """
    import logging
    import torch
    from memhop.ops.cpu import background
    from tests.ops.large_calls import assert_same, results

    handler = logging.Handler()
    handler.emit = lambda record: print(record.levelname, record.getMessage())
    logging.getLogger().addHandler(handler)
    for _ in range(3):
        found = results("auto", "rows")
        if sys.argv[1] == "eager" and background.is_ready(torch.float32):
            break  # a slow machine: compiled in the meantime
        assert_same(found, results(sys.argv[1], "rows"))
    print(len(passes))
"""


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    """Return a copy of memhop in a folder that nobody can write to, not even root."""
    package = tmp_path / "installed" / "memhop"
    source = Path(memhop.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("a file, and so no folder to write to")
    return package.parent


def test_a_tiny_call_never_waits_for_the_compiler(tmp_path: Path) -> None:
    assert passes(TINY, NUMBA_CACHE_DIR=str(tmp_path)) == 0


def test_a_large_call_loads_what_was_compiled_before() -> None:
    here = str(Path(memhop.__file__).parent)
    if passes(LARGE, "back", here) > 0:
        assert passes(LARGE, "back", here) == 0
    assert passes(LARGE, "there", here) == 0


def test_a_read_only_install_keeps_what_it_compiled_until_a_record_has_a_field_more(
    read_only: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    kept: dict[str, str | None] = {
        "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "NUMBA_CACHE_DIR": None
    }  # fmt: skip
    assert passes(ONE, str(read_only), path=(read_only,), **kept) > 0
    assert list(home.rglob("*.nbc")) != []
    assert passes(ONE, str(read_only), path=(read_only,), **kept) == 0
    problem = read_only / "memhop" / "ops" / "fused" / "problem.py"
    text = problem.read_text()
    changed = text.replace("    a: int = -1\n", "    new_field: int = 0\n    a: int = -1\n")
    assert changed != text
    problem.write_text(changed)
    assert passes(ONE, str(read_only), path=(read_only,), **kept) > 0


def test_where_nothing_can_be_kept_it_is_compiled_anew(read_only: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("a file, and so no folder to write to")
    kept: dict[str, str | None] = {
        "HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere / "cache"), "NUMBA_CACHE_DIR": None
    }  # fmt: skip
    assert passes(ONE, str(read_only), path=(read_only,), **kept) > 0


WITHOUT_A_KERNEL = """
    import sys, warnings
    import torch
    from tests.ops.large_calls import FORMS, assert_close, results

    if sys.argv[1] == "compile":
        from numba.core import dispatcher

        def fail(*arguments):
            raise TypeError("numba does not compile today")

        dispatcher.Dispatcher.compile = fail
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [results(impl, form) for impl in ("fused", "auto") for form in FORMS]
    for form, tensors in zip(2 * FORMS, found, strict=True):
        assert_close(tensors, results("reference", form))
    print(*(str(warning.message) for warning in caught), sep="\\n")
"""


@pytest.mark.parametrize("step", ["import", "compile"])
def test_where_numba_fails_torch_takes_over_with_one_warning(step: str, tmp_path: Path) -> None:
    fake = tmp_path / "numba"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise ImportError('numba does not import today')")
    said = run_script(
        WITHOUT_A_KERNEL,
        step,
        path=(tmp_path,) if step == "import" else (),
        NUMBA_CACHE_DIR=str(tmp_path / "empty"),
    )
    assert len(said.splitlines()) == 1
    assert f"numba does not {step} today" in said
    assert "eager form" in said


def test_the_eager_form_serves_on_a_new_machine_and_the_next_process_is_fused(
    tmp_path: Path,
) -> None:
    script, folder = dedent(COUNTED) + dedent(COLD), str(tmp_path)
    line, count = run_script(script, "eager", NUMBA_CACHE_DIR=folder).splitlines()
    assert line.startswith("WARNING memhop compiles its kernels in the background")
    assert count == "0"
    limit = time.monotonic() + 900  # the process that compiles outlives ours
    while not list(tmp_path.glob("*write_bank_float32*.nbc")) and time.monotonic() < limit:
        time.sleep(1)
    assert run_script(script, "fused", NUMBA_CACHE_DIR=folder) == "0\n"


TRAINED = """
    import torch
    import memhop

    torch.set_num_threads(1)
    examples = list(memhop.to_examples(memhop.generate(1, questions=100)))
    model = memhop.train(examples, recipe=memhop.Recipe(epochs=3), restarts=2).model
    print([weight.double().sum().item() for weight in model.state_dict().values()], len(passes))
"""


def test_a_training_has_the_same_bits_whatever_was_compiled_before(tmp_path: Path) -> None:
    """So has one that is resumed: what is compiled by then changes nothing."""
    script = dedent(COUNTED) + dedent(TRAINED)
    (cold, first), (warm, second) = (
        run_script(script, NUMBA_CACHE_DIR=str(tmp_path)).rsplit(maxsplit=1) for _ in range(2)
    )
    assert cold == warm
    assert (int(first) > 0, int(second)) == (True, 0)
