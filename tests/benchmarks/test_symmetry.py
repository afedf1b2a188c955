"""The benchmark plants symmetries, and counts what is found of them."""

import pytest

from benchmarks import symmetry
from memhop.text.augmentation.classes import Swap


def swap(*pairs: str) -> Swap:
    return tuple(((first,), (second,)) for first, second in map(str.split, pairs))


@pytest.mark.parametrize(
    ("pairs", "is_true"),
    [
        (["a0 a1", "b0 b1"], True),
        (["a0 a1"], False),  # the answers stay
        (["a0 a1", "b0 b2"], False),
        (["a0 a1", "b0 b1", "ann ben"], True),
        (["a0 a1", "b0 b1", "ann went"], False),
        (["a0 b0", "a1 b1"], False),
    ],
)
def test_a_swap_must_keep_linked_forms_together(pairs: list[str], is_true: bool) -> None:
    classes: list[symmetry.Elements] = [
        [("a0", "b0"), ("a1", "b1"), ("a2", "b2")],
        [("ann",), ("ben",)],
    ]
    assert symmetry.is_symmetry(swap(*pairs), classes) == is_true


def test_planted_symmetries_are_found_and_no_others() -> None:
    found = symmetry.counts(symmetry.linked(3, 2, seed=0), are_all=True)
    assert (found["classes"], found["found"], found["false"]) == (2, 2, 0)
    nothing = symmetry.counts(symmetry.ordered(6, seed=0), are_all=True)
    assert (nothing["classes"], nothing["swaps"]) == (0, 0)


def test_the_table_sums_over_the_seeds() -> None:
    row = {"text": "t", "classes": "2", "found": "1", "swaps": "9", "false": "3"}
    [sheet] = symmetry.sheets([{**row, "seed": "0"}, {**row, "seed": "1"}])
    assert list(sheet.lines) == [["t", "2 of 4", "6 of 18"]]
    assert sheet.note.startswith("Sums over 2 seeds")
