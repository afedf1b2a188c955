"""The settings of the tests: which warnings are errors, which seeds run, what is counted."""

import warnings

import pytest

from tests.seeds import seeds
from tests.work import instructions


@pytest.mark.parametrize("module", ["memhop", "memhop.ops.eager", "tests.ops.oracle", "__main__"])
def test_a_warning_that_our_code_causes_is_an_error(module: str) -> None:
    with pytest.raises(FutureWarning, match="old"):
        warnings.warn_explicit("old", FutureWarning, f"{module}.py", 1, module)


def test_a_warning_of_torch_about_its_own_code_is_none() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn_explicit("old", FutureWarning, "forward_ad.py", 1, "torch.autograd")
    assert len(caught) == 1


def test_an_unclosed_file_is_an_error_wherever_it_is_found() -> None:
    with pytest.raises(ResourceWarning, match="unclosed"):
        warnings.warn_explicit("unclosed file", ResourceWarning, "gc.py", 1, "torch")


def test_few_seeds_run_always_and_the_others_are_thorough() -> None:
    first, second, third = seeds(2, 3, first=7)
    assert (first, second, third.values) == (7, 8, (9,))
    assert [mark.name for mark in third.marks] == ["thorough"]


def test_a_loop_that_is_twice_as_long_takes_twice_the_instructions() -> None:
    def work(count: int) -> int:
        return instructions(lambda: [number for number in range(count) if number > 3])

    assert work(500) == work(500)
    assert 1.9 < work(2000) / work(1000) < 2.1
