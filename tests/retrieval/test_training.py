"""Training raises recall, with gold facts and with answers alone; its rules."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from memhop.errors import DivergedError, MemhopError
from memhop.retrieval import Memory, Questions, RetrievalModel, TrainingResult, recall, train
from memhop.retrieval import training as training_module
from memhop.retrieval.targets import right_rows
from memhop.retrieval.training import Epoch, split
from tests.retrieval.generated import Generated, generate


@pytest.fixture(scope="module")
def generated() -> Generated:
    return generate("gold")


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("known", "epochs", "rate"), [("gold", 30, 0.01), ("answers", 60, 1e-3)])
def test_training_raises_recall_from_low_to_high(known: str, epochs: int, rate: float) -> None:
    """No topic with the same two relations is in training and test."""
    generated = generate(known)
    untrained = RetrievalModel(key_dim=128, value_dim=64, num_hops=2)
    before = recall(untrained, generated.memory, generated.test)
    with one_thread():
        result = train(generated.memory, generated.train, epochs=epochs, learning_rate=rate)
    after = recall(result.model, generated.memory, generated.test)
    assert before[1][1] < 0.1
    assert before[1][5] < 0.2
    assert after[0][1] > 0.95
    assert after[1][1] > 0.95
    assert result.valid_recall[1][1] > 0.9
    assert bool(result.valid_recall[0]) == (known == "gold")
    assert [epoch.epoch for epoch in result.epochs] == list(range(1, len(result.epochs) + 1))


def test_passages_are_read_one_after_the_other(generated: Generated) -> None:
    """A sentence for each fact; the questions are of people in the training questions."""
    from tests.retrieval.hashed_encoder import encode

    memory = Memory.of_passages(map(" ".join, generated.facts), encode, ids=generated.facts)
    assert generated.train.texts is not None
    questions = Questions.of_texts(generated.train.texts, encode, gold=generated.train.gold)
    untrained = RetrievalModel(key_dim=64, value_dim=64, num_hops=2)
    assert recall(untrained, memory, questions)[1][1] < 0.1
    with one_thread():
        result = train(memory, questions, valid=questions, epochs=25, learning_rate=0.01)
    assert result.valid_recall == recall(result.model, memory, questions)
    assert result.valid_recall[1][1] > 0.8


@pytest.mark.parametrize("length", [3, 10])
def test_vectors_of_another_length_than_1_are_learned(length: float) -> None:
    """At the start each question reads its own row, and the weight of the right one is 0."""
    memory = Memory(length * np.eye(8))
    questions = Questions(length * np.eye(8), gold=[[(row + 1) % 8] for row in range(8)])
    result = train(memory, questions, num_hops=1, valid=questions, learning_rate=0.05)
    assert result.valid_recall == [{1: 1, 5: 1}]


def equal(one: TrainingResult, other: TrainingResult) -> bool:
    return all(torch.equal(*pair) for pair in
               zip(one.model.parameters(), other.model.parameters(), strict=True))  # fmt: skip


def test_a_seed_gives_the_same_bits_and_another_seed_others(generated: Generated) -> None:
    results = [train(generated.memory, generated.train, epochs=2, seed=seed) for seed in (0, 0, 1)]
    assert equal(results[0], results[1])
    assert not equal(results[0], results[2])
    assert results[0].valid_recall == results[1].valid_recall
    losses = [[epoch.loss for epoch in result.epochs] for result in results]
    assert losses[0] == losses[1] != losses[2]


def test_the_seed_orders_the_batches(generated: Generated) -> None:
    memory, questions = generated.memory, generated.train
    one, other = (train(memory, questions, valid=generated.test, epochs=1, seed=n) for n in (0, 1))
    assert not equal(one, other)


def test_the_vectors_are_frozen(generated: Generated) -> None:
    memory, questions = generated.memory, generated.train
    before = [tensor.clone() for tensor in (memory.keys, memory.values, questions.vectors)]
    train(memory, questions, epochs=1)
    after = [memory.keys, memory.values, questions.vectors]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_training_stops_without_a_lower_loss_and_keeps_the_best_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, questions = Memory(np.eye(2)), Questions(np.eye(2), gold=[[0], [1]])
    losses = iter([5.0, 3.0, 4.0, 3.0, 2.5, 2.6, 2.7, 2.8, 9.0])
    weights = []

    def loss(training: Any, _: object) -> float:
        weights.append(training.model.question_maps.detach().clone())
        return next(losses)

    monkeypatch.setattr(training_module._Training, "loss", loss)
    monkeypatch.setattr(training_module, "PATIENCE", 3)
    seen: list[Epoch] = []
    result = train(memory, questions, num_hops=1, valid=questions, on_progress=seen.append)
    assert [epoch.valid_loss for epoch in seen] == [5.0, 3.0, 4.0, 3.0, 2.5, 2.6, 2.7, 2.8]
    assert result.epochs == tuple(seen)
    assert result.best_epoch == 5
    assert torch.equal(result.model.question_maps, weights[4])
    assert not torch.equal(weights[7], weights[4])


def test_a_tenth_of_the_texts_is_held_out_and_questions_of_one_text_stay_together() -> None:
    texts = [f"question {number % 25}" for number in range(60)]
    questions = Questions(np.ones((60, 1)), texts=texts)
    rows, held_out = split(questions, torch.Generator().manual_seed(0))
    assert sorted(rows + held_out) == list(range(60))
    assert {texts[row] for row in rows}.isdisjoint(texts[row] for row in held_out)
    assert len({texts[row] for row in held_out}) == 2
    other, _ = split(questions, torch.Generator().manual_seed(1))
    assert other != rows
    without_texts = Questions(np.ones((60, 1)))
    assert len(split(without_texts, torch.Generator())[1]) == 6
    assert split(Questions(np.ones((9, 1))), torch.Generator())[1] == []


def test_the_mean_loss_of_an_epoch_counts_every_question_once() -> None:
    """Two batches of 64 and 36 questions, whose loss is log 2 for a memory of two equal rows."""
    memory = Memory(np.ones((2, 1)))
    questions = Questions(np.ones((100, 1)), gold=[[0]] * 100)
    result = train(memory, questions, num_hops=1, epochs=1, valid=questions.select(range(70)))
    assert result.epochs[0].loss == pytest.approx(np.log(2), rel=1e-6)
    assert result.epochs[0].valid_loss == pytest.approx(np.log(2), rel=1e-6)


def test_a_loss_that_becomes_infinite_is_an_error() -> None:
    memory, questions = Memory(1e20 * np.eye(2)), Questions(1e20 * np.eye(2), gold=[[1], [0]])
    with pytest.raises(DivergedError, match=r"^the loss became infinite: try a lower "):
        train(memory, questions, num_hops=1)


@pytest.mark.parametrize("valid_loss", [np.nan, np.inf])
def test_a_held_out_loss_that_becomes_infinite_is_an_error(
    monkeypatch: pytest.MonkeyPatch, valid_loss: float
) -> None:
    memory, questions = Memory(np.eye(2)), Questions(np.eye(2), gold=[[0], [1]])
    losses = iter([1.0, valid_loss])
    monkeypatch.setattr(training_module._Training, "loss", lambda *_: next(losses))
    with pytest.raises(DivergedError, match=r"^the loss became infinite: try a lower "):
        train(memory, questions, num_hops=1, valid=questions)


def test_vectors_whose_scores_are_infinite_cannot_be_held_out() -> None:
    memory, questions = Memory(np.eye(2)), Questions(np.eye(2), gold=[[0], [1]])
    valid = Questions(3e38 * np.eye(2), gold=[[0], [1]])
    with pytest.raises(DivergedError, match=r"^the loss became infinite: try a lower "):
        train(memory, questions, num_hops=1, valid=valid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hops": 0}, "num_hops: expected an integer from 1 to 1,000, got 0"),
        ({"num_hops": 2}, "gold of question 0: expected 2 hops, got 1"),
        ({"seed": -1},
         "seed: expected an integer from 0 to 9,223,372,036,854,775,807, got -1"),
        ({"seed": 2**63}, "seed: expected an integer from 0 to 9,223,372,036,854,775,807, "
                          "got 9223372036854775808"),
        ({"epochs": 0}, "epochs: expected an integer from 1, got 0"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0, at most 1, got 0"),
        ({"learning_rate": "1"}, "learning_rate: expected a number above 0, at most 1, got '1'"),
        ({"valid": Questions(np.eye(3), gold=[[0]] * 3)},
         "questions: expected vectors of 2 numbers, got 3"),
        ({"valid": Questions(np.eye(2), gold=[[0]] * 2).select([])},
         "questions: expected at least 1, got 0"),
        ({"valid": Questions(np.eye(2))}, "question 0: expected gold ids or answers, got neither"),
    ],
)  # fmt: skip
def test_wrong_settings_are_an_error(changes: dict[str, Any], message: str) -> None:
    memory, questions = Memory(np.eye(2)), Questions(np.eye(2), gold=[[0], [1]])
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        train(memory, questions, **{"num_hops": 1, **changes})


def test_no_questions_are_an_error() -> None:
    empty = Questions(np.eye(2), gold=[[0], [1]]).select([])
    with pytest.raises(MemhopError, match=r"^questions: expected at least 1, got 0$"):
        train(Memory(np.eye(2)), empty, num_hops=1)


def test_the_greatest_seed_trains() -> None:
    questions = Questions(np.eye(2), gold=[[0], [1]])
    assert train(Memory(np.eye(2)), questions, num_hops=1, epochs=1, seed=2**63 - 1).best_epoch == 1


def test_a_gold_row_that_is_named_twice_counts_once() -> None:
    memory = Memory(torch.eye(3))
    once, twice = (Questions(torch.eye(3)[:1], gold=[[gold]]) for gold in ([0], [0, 0]))
    assert right_rows(memory, once, 1) == right_rows(memory, twice, 1) == [((0,),)]
