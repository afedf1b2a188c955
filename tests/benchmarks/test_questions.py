"""The error by the number of training questions."""

from benchmarks import questions
from memhop.reproduce.record import Row


def row(recipe: str, number: int, seed: int, error: float) -> Row:
    first = {"task": 1, "recipe": recipe, "questions": number, "seed": seed, "restarts": 3}
    return first | {"test_error": error, "majority_error": 80.0}


def test_a_line_for_each_recipe_with_the_mean_of_the_seeds() -> None:
    rows = [row("paper", 1000, 0, 1.0), row("paper", 1000, 1, 3.0), row("paper", 100, 0, 40.0)]
    [sheet] = questions.sheets([*rows, row("best", 100, 0, 50.0)])
    assert sheet.columns == ("task", "recipe", "100", "1,000")
    assert sheet.lines == [["1", "paper", "40.0", "2.0"], ["1", "best", "50.0", "-"]]


def test_a_training_is_a_row_with_its_error() -> None:
    [found] = questions.rows_of(True, (1, "paper", 20, 0))
    assert (found["task"], found["recipe"], found["questions"]) == (1, "paper", 20)
    assert 0 <= found["test_error"] <= 100
    assert 50 < found["majority_error"] < 100
