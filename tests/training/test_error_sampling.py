"""Sampling by the error on a text: the probabilities, and what they leave as it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memhop.example import Example
from memhop.recipe import Recipe
from memhop.training.epochs import Progress
from memhop.training.error_sampling import question_probabilities
from memhop.training.loop import TrainingResult, train
from memhop.training.trainer import Trainer

WORDS = ("red", "green", "blue", "white")
EASY = [Example((f"it is {word}",), "which one is it", word) for word in WORDS * 12]
# The answers are random, and all stories are the same: at most a quarter can be right.
ANSWERS = np.random.default_rng(0).choice(WORDS, 24).tolist()
HARD = [Example(("who knows",), "what will it be", answer) for answer in ANSWERS]
RECIPE = Recipe(
    memory_dim=8, epochs=12, linear_start_epochs=0, optimizer="adam", learning_rate=0.05,
    clip_norm=0, batch_size=8, held_out="random", sampling="error",
)  # fmt: skip


def test_probabilities_by_hand() -> None:
    # Errors of the first restart: 1/2, 0, 1; weights of their questions: 0.6, 0.1, 1.1.
    wrong = np.array([[1.0, 0.0, 0.0, 1.0, 1.0], [0.0] * 5])
    text = np.array([0, 0, 0, 1, 2, 2])
    found = question_probabilities(wrong, np.array([0, 0, 1, 2, 2]), text)
    weights = np.array([0.6, 0.6, 0.6, 0.1, 1.1, 1.1])
    np.testing.assert_allclose(found[0], weights / 4.1, rtol=1e-12)
    np.testing.assert_allclose(found[1], np.full(6, 1 / 6), rtol=1e-12)


def trainer_of(*texts: list[Example], **changes: Any) -> Trainer:
    return Trainer(texts, replace(RECIPE, **changes), range(2), 0, torch.device("cpu"))


def drawn_hard(trainer: Trainer) -> float:
    """Return the share of questions of the second text, which has a question of its own."""
    batches = trainer.sample_epoch()
    story = batches.slots[..., 0]
    hard = trainer.encoded(HARD[:1]).sentences.sizes[1:3].tolist()
    assert hard == [2, 4]  # words of the statement and of the question
    sizes = trainer.sampler.encoded.sentences.sizes[batches.chosen]
    return float((sizes.gather(-1, story) == 2).double().mean())


def test_the_text_with_errors_is_drawn_more_often() -> None:
    trainer = trainer_of(EASY, HARD)
    before = drawn_hard(trainer)
    for _ in range(8):
        trainer.run_epoch()
        trainer.state.epoch += 1
    equal = trainer_of(EASY, HARD, sampling="uniform")
    share = len(HARD) / len(EASY + HARD)
    assert abs(drawn_hard(equal) - share) < 0.15
    assert before < 0.6
    # 24 questions with an error of about 3/4, of 72; the others are right.
    assert drawn_hard(trainer) > 0.7


def test_of_one_text_every_question_is_as_likely() -> None:
    for name, tensor in trainer_of(EASY).sample_epoch()._asdict().items():
        assert torch.equal(
            tensor, getattr(trainer_of(EASY, sampling="uniform").sample_epoch(), name)
        )


def trained(restarts: int, **more: Any) -> TrainingResult:
    return train([EASY, HARD], recipe=RECIPE, restarts=restarts, **more)


def test_a_restart_is_the_same_whatever_their_number() -> None:
    one, three = trained(1), trained(3)
    assert one.restarts[0].train_loss == three.restarts[0].train_loss
    assert len({each.train_loss for each in three.restarts}) == 3


def test_a_resumed_training_draws_the_same(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(2, run=tmp_path, on_progress=interrupt)
    resumed = trained(2, run=tmp_path, resume=True)
    assert [one.train_loss for one in resumed.restarts] == [
        one.train_loss for one in trained(2).restarts
    ]
