"""One question in NumPy has the numbers of the model's call; whoever changes the call is heard."""

import copy
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from memhop.text import one_question
from memhop.text.answer import Answer
from memhop.text.model import MemN2N
from memhop.text.reading import Question, SplitSentences
from tests.text import memn2n_oracle as oracle
from tests.text.test_model import EXAMPLES, FORMS, STORIES, make, oracle_settings, weights_of

STORY, QUESTION = STORIES[5], "Where is the ball?"
FORM = {"memory_dim": 6, "heads": 3, "hop_units": 5}


def by_torch(model: MemN2N, story: Any, question: str) -> Answer:
    """Return the answer with the operations of torch."""
    with patch.object(one_question, "is_plain", lambda model: False):
        return model.answer(story, question)


def uses_numpy(model: MemN2N) -> bool:
    """Return whether an answer of the model is computed in NumPy."""
    with patch.object(one_question, "forward", wraps=one_question.forward) as forward:
        model.answer(STORY, QUESTION)
    return forward.called


@pytest.mark.parametrize("mask_empty_slots", [True, False])
def test_every_form_equals_the_formulas(mask_empty_slots: bool) -> None:
    for seed, form in enumerate(FORMS):
        model = make(seed, **form, mask_empty_slots=mask_empty_slots)
        for one, tolerance in ((copy.deepcopy(model).double(), 1e-9), (model, 2e-4)):
            truth, weights = oracle_settings(one), weights_of(one)
            for example in EXAMPLES:
                words = SplitSentences()
                story = tuple(text for text in example.story if words[text])
                asked = Question(story, example.question)
                found = one_question.scores_of(one, asked, words)
                assert found is not None
                scores, attention = (tensor[0].numpy() for tensor in found)
                wanted, read = oracle.forward(weights, story, example.question, truth)
                np.testing.assert_allclose(scores, wanted, rtol=tolerance, atol=tolerance)
                count = attention.shape[1]  # the oracle may count empty slots
                np.testing.assert_allclose(attention, read[:, :count], rtol=1e-4, atol=1e-4)


def test_answers_are_those_of_torch() -> None:
    for story in STORIES:
        model = make(1, **FORM)
        ours, theirs = model.answer(story, QUESTION), by_torch(model, story, QUESTION)
        assert (ours.answer, ours.truncated) == (theirs.answer, theirs.truncated)
        assert ours.probability == pytest.approx(theirs.probability, rel=1e-5)
        assert [word for word, _ in ours.runners_up] == [word for word, _ in theirs.runners_up]
        torch.testing.assert_close(ours.attention, theirs.attention)


def test_changed_weights_change_the_answer() -> None:
    model = make(1, **FORM)
    before = model.answer(STORY, QUESTION)
    changes: list[Any] = [lambda weight: weight.mul_(2), lambda weight: weight.data.mul_(0.3)]
    changes.append(lambda weight: setattr(weight, "data", weight.data + 0.2))
    for change in changes:
        for weight in model.parameters():
            with torch.no_grad():
                change(weight)
        after, wanted = model.answer(STORY, QUESTION), by_torch(model, STORY, QUESTION)
        assert after.probability != before.probability
        assert after.probability == pytest.approx(wanted.probability, rel=1e-5)
        before = after


def test_hooks_and_replaced_calls_count() -> None:
    def halved(module: Any, arguments: Any, result: tuple[Tensor, Any]) -> Any:
        return result[0] * 0.5, result[1]

    model = make(1)
    plain = model.answer(STORY, QUESTION).probability
    assert uses_numpy(model)
    hook = model.register_forward_hook(halved)
    half = model.answer(STORY, QUESTION).probability
    assert half != plain
    hook.remove()
    everywhere = torch.nn.modules.module.register_module_forward_hook(halved)
    assert model.answer(STORY, QUESTION).probability == half
    everywhere.remove()
    assert model.answer(STORY, QUESTION).probability == plain

    class Halved(MemN2N):
        def forward(self, *arguments: Any, **options: Any) -> Any:
            return halved(self, arguments, super().forward(*arguments, **options))

    changed = Halved(model.vocabulary, model.recipe, model.sizes)
    changed.load_state_dict(model.state_dict())
    assert changed.answer(STORY, QUESTION).probability == half
    original = model.forward
    with patch.object(model, "forward", lambda *a, **o: halved(model, a, original(*a, **o))):
        assert model.answer(STORY, QUESTION).probability == half
    with patch.object(MemN2N, "forward", lambda self, *a, **o: halved(self, a, original(*a, **o))):
        assert model.answer(STORY, QUESTION).probability == half


def test_calls_that_torch_must_see() -> None:
    model = make(1)
    assert uses_numpy(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_numpy(model)
    with FlopCounterMode(display=False):
        assert not uses_numpy(model)
    assert not uses_numpy(copy.deepcopy(model).bfloat16())
    compiled = copy.deepcopy(model)
    compiled._compiled_call_impl = compiled._call_impl  # as `compile` sets it
    assert not uses_numpy(compiled)


def test_a_long_sentence_takes_the_operations_of_torch() -> None:
    model, long = make(1), "the " * one_question.MAX_WORDS
    at_most = Question((long,), "Mary?"), Question(("Mary went.",), long)
    more = Question((long + "ball",), "Mary?"), Question(("Mary went.",), long + "ball")
    for asked, beyond in zip(at_most, more, strict=True):
        assert one_question.scores_of(model, asked, SplitSentences()) is not None
        assert one_question.scores_of(model, beyond, SplitSentences()) is None
        assert model.answer(*beyond).probability > 0
        ours, theirs = model.answer(*asked), by_torch(model, *asked)
        assert ours.probability == pytest.approx(theirs.probability, rel=1e-4)


def test_infinite_weights_are_as_in_torch() -> None:
    model = make(1)
    with torch.no_grad():
        model.tables[1] = torch.inf
    assert np.isnan(model.answer(STORY, QUESTION).probability)
    assert np.isnan(by_torch(model, STORY, QUESTION).probability)
