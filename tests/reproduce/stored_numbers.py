"""Compare the rows of trainings with stored ones."""

from collections.abc import Mapping
from typing import Any

import pytest


def assert_as_stored(old: Mapping[str, str], new: Mapping[str, Any]) -> None:
    """Check the numbers of a row: rounding may change a loss a little, and one answer a part."""
    assert float(old["train_loss"]) == pytest.approx(new["train_loss"], rel=1e-3)
    held_out = new["train_questions"] // 10
    asked = (new["train_questions"] - held_out, held_out, new["test_questions"])
    for part, questions in zip(("train", "validation", "test"), asked, strict=True):
        of_one = 100 / questions
        assert abs(float(old[f"{part}_error"]) - new[f"{part}_error"]) <= 1.01 * of_one
