"""Early stopping: when a training ends, and that a resumed one ends in the same epoch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memhop.example import Example
from memhop.recipe import Recipe
from memhop.training.epochs import Progress, is_solved
from memhop.training.loop import TrainingResult, train
from memhop.training.run import Metric

# The answer is the only statement, so that it is learned within a few epochs.
WORDS = ("red", "green", "blue", "white")
EXAMPLES = [Example((f"it is {word}",), "which one is it", word) for word in WORDS * 16]
RECIPE = Recipe(
    memory_dim=8, epochs=40, linear_start_epochs=1, optimizer="adam", learning_rate=0.05,
    schedule="linear", clip_norm=0, held_out="random", keep="validation", stop_after=3,
)  # fmt: skip


def metrics(*errors: Sequence[tuple[float, float | None]], softmax: bool = True) -> list[Metric]:
    """Return the metrics of epochs: of each restart its training and its held-out error."""
    return [
        Metric(epoch, restart, 0.1, softmax, 0.1, *pair)
        for epoch, row in enumerate(errors, start=1)
        for restart, pair in enumerate(row)
    ]


GOOD, BAD = (0.0, 0.0), (0.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "stop_after", "solved"),
    [
        ([], 1, False),
        (metrics([GOOD], [GOOD]), 2, True),
        (metrics([GOOD], [GOOD]), 3, False),  # fewer epochs
        (metrics([GOOD], [GOOD]), 0, False),  # never
        (metrics([GOOD], [BAD], [GOOD]), 2, False),  # not successive
        (metrics([BAD, GOOD], [BAD, GOOD]), 2, True),  # one restart is enough
        (metrics([BAD, GOOD], [GOOD, BAD]), 2, False),  # of the same restart
        (metrics([(1.0, 0.0)], [(1.0, 0.0)]), 2, False),  # training errors
        (metrics([(0.0, None)], [(0.0, None)]), 2, False),  # nothing held out
        (metrics([GOOD], [GOOD], softmax=False), 2, False),  # the linear start
        (metrics([GOOD], [GOOD])[:1] + metrics([GOOD], [GOOD])[1:], 1, True),
    ],
)
def test_a_training_is_solved_by_successive_epochs_without_an_error(
    rows: list[Metric], stop_after: int, solved: bool
) -> None:
    assert is_solved(rows, stop_after) is solved


def trained(
    run: Path | None = None, *, interrupt_in: int | None = None, recipe: Recipe = RECIPE
) -> tuple[TrainingResult, list[int]]:
    """Return the result of a training and its epochs; ``interrupt_in`` raises after that epoch."""
    epochs: list[int] = []

    def show(progress: Progress) -> None:
        epochs.append(progress.epoch)
        if progress.epoch == interrupt_in:
            raise KeyboardInterrupt

    result = train(
        EXAMPLES, recipe=recipe, restarts=2, run=run, resume=run is not None, on_progress=show
    )
    return result, epochs


def test_it_ends_after_the_first_streak_and_equals_a_training_without_a_stop() -> None:
    result, epochs = trained()
    assert 1 + RECIPE.stop_after <= len(epochs) < 41
    assert result.epochs == len(epochs)
    assert result.best.validation_error == result.best.train_error == 0
    seen: list[Metric] = []
    everything = replace(RECIPE, stop_after=0)
    train(
        EXAMPLES, recipe=everything, restarts=2,
        on_progress=lambda progress: seen.extend(progress.metrics),
    )  # fmt: skip
    ends = [n for n in range(1, 42) if is_solved([m for m in seen if m.epoch <= n], 3)]
    assert ends[0] == len(epochs)


@pytest.mark.parametrize("before_the_end", [0, 1])
def test_a_resumed_training_ends_in_the_same_epoch(before_the_end: int, tmp_path: Path) -> None:
    whole, epochs = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, interrupt_in=len(epochs) - before_the_end)
    resumed, rest = trained(tmp_path)
    assert rest[-1] == len(epochs)
    assert resumed.restarts == whole.restarts
    assert resumed.epochs == whole.epochs == len(epochs)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])
    again, none = trained(tmp_path)
    assert not none
    assert again.restarts == whole.restarts
