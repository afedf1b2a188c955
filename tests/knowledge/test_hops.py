"""Entity-tracking hops, compared with the formulas in float64 over all entities."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from memhop.knowledge import KnowledgeBase, KnowledgeModel, KnowledgeRecipe, Question
from memhop.knowledge.encoding import EncodedQuestion, batch_of
from memhop.knowledge.evaluation import losses
from memhop.knowledge.hops import answer_weights
from memhop.ops.ragged.frontier import Frontier

from ..seeds import seeds
from .hops_oracle import (
    OracleHops,
    double_batch,
    oracle_answer,
    oracle_hops,
    random_kb,
    random_model,
    random_questions,
)

RECIPE = KnowledgeRecipe(word_dim=8, num_hops=3, min_weight=0)


def dense(frontier: Frontier, row: int, size: int) -> np.ndarray:
    """Return the weights of all entities of a question."""
    start, end = frontier.offsets[row : row + 2].tolist()
    nodes = frontier.nodes[start:end].numpy()
    assert len(set(nodes.tolist())) == len(nodes)
    found = np.zeros(size)
    found[nodes] = frontier.weights[start:end].detach().numpy()
    return found


def fact_weights(model: KnowledgeModel, slots: np.ndarray, p: np.ndarray) -> list[tuple[Any, ...]]:
    """Return the facts that were read with their p, sorted."""
    starts = np.searchsorted(model.memory.offsets.numpy(), slots, side="right") - 1
    columns = starts, model.memory.keys.numpy()[slots], model.memory.targets.numpy()[slots], p
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def check(model: KnowledgeModel, questions: list[EncodedQuestion]) -> list[OracleHops]:
    """Compare a batch of questions with the oracle."""
    batch, size = double_batch(questions), len(model.kb.entities)
    with torch.no_grad():
        tracked = model.track(batch)
        weights = answer_weights(tracked, batch, size)
    found = [oracle_hops(model, question) for question in questions]
    for row, (question, expected) in enumerate(zip(questions, found, strict=True)):
        length = len(question.words)
        attention = tracked.attention[row].numpy()
        np.testing.assert_allclose(attention[:, :length], expected.attention, rtol=1e-10)
        assert not attention[:, length:].any()
        np.testing.assert_allclose(tracked.last[row].numpy(), expected.last, rtol=1e-10)
        for hop, right in zip(tracked.hops, expected.hops, strict=True):
            np.testing.assert_allclose(dense(hop.after, row, size), right.after, rtol=1e-9)
            np.testing.assert_allclose(float(hop.dropped[row]), right.dropped, atol=1e-12)
            start, end = hop.reads.offsets[row : row + 2].tolist()
            slots, p = (one[start:end].numpy() for one in (hop.reads.slots, hop.reads.weights))
            np.testing.assert_allclose(
                fact_weights(model, slots, p), sorted(right.reads), rtol=1e-9
            )
        answer = oracle_answer(expected)
        right_weight = answer[list(question.answers)].sum()
        np.testing.assert_allclose(float(weights[row]), right_weight, rtol=1e-9)
    return found


@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize("seed", seeds(4, 100))
def test_hops_equal_the_oracle(seed: int, inverse: bool) -> None:
    kb = random_kb(seed, entities=3 + seed % 9, facts=4 + 3 * (seed % 9))
    model = random_model(kb, dataclasses.replace(RECIPE, inverse=inverse), seed)
    check(model, random_questions(model, 12, seed))


@pytest.mark.parametrize("seed", seeds(3, 50))
def test_pruned_hops_equal_the_oracle(seed: int) -> None:
    kb = random_kb(seed, entities=12, relations=999, facts=40)  # no entities of equal weight
    recipe = dataclasses.replace(RECIPE, max_entities=2 + seed % 3, min_weight=0.03)
    model = random_model(kb, recipe, seed)
    found = check(model, random_questions(model, 12, seed))
    assert any(hop.dropped > 0 for one in found for hop in one.hops)


def test_the_compiled_read_equals_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memhop.ops.ragged.read.WORTH_COMPILING", 1)
    model = random_model(random_kb(1, entities=12, facts=40), RECIPE)
    check(model, random_questions(model, 12))


def test_dead_ends_and_questions_without_a_topic() -> None:
    kb = KnowledgeBase.from_triples([("a", "r", "b"), ("b", "r", "c"), ("d", "s", "d")])
    model = random_model(kb, dataclasses.replace(RECIPE, inverse=False))
    words = (2, 3)
    topics = [(0,), (1,), (2,), (), (0, 2), (3,), (0, 1, 2, 3)]
    found = check(model, [EncodedQuestion(words, own, (1, 2), (), ()) for own in topics])
    sums = [[hop.after.sum() for hop in one.hops] for one in found]
    assert np.round(sums, 9).tolist() == [
        [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1],
    ]  # fmt: skip
    model.network.float()
    [(_, [ranked])] = model.ranked([EncodedQuestion(words, (2,), (), (), ())])
    assert len(ranked.entities) == 0


def test_questions_of_one_word() -> None:
    model = random_model(random_kb(5), RECIPE)
    check(model, [EncodedQuestion((row,), (0, 1), (2,), (), ()) for row in (1, 2, 5)])


def test_a_batch_equals_each_question_alone() -> None:
    model = random_model(random_kb(2, entities=12, facts=40), RECIPE)
    questions = random_questions(model, 20)
    size = len(model.kb.entities)
    with torch.no_grad():
        together = model.track(double_batch(questions))
        for row, question in enumerate(questions):
            alone = model.track(double_batch([question]))
            for one, many in zip(alone.hops, together.hops, strict=True):
                np.testing.assert_allclose(
                    dense(one.after, 0, size), dense(many.after, row, size), rtol=1e-11
                )
                np.testing.assert_array_equal(one.dropped[0], many.dropped[row])
            np.testing.assert_allclose(alone.last[0], together.last[row], rtol=1e-11)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("max_entities", [2, 64])
def test_gradients_equal_finite_differences(
    max_entities: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        monkeypatch.setattr("memhop.ops.ragged.read.WORTH_COMPILING", 1)
    recipe = dataclasses.replace(RECIPE, word_dim=4, max_entities=max_entities)
    model = random_model(random_kb(3, relations=99), recipe, seed=3)
    batch = double_batch(random_questions(model, 6, seed=3))

    def loss() -> torch.Tensor:
        weights = answer_weights(model.track(batch), batch, model.memory.num_nodes)
        return -(weights + 1e-3).log().sum()

    loss().backward()  # type: ignore[no-untyped-call]
    generator, step = torch.Generator().manual_seed(0), 1e-5
    for name, weight in model.network.named_parameters():
        assert weight.grad is not None
        direction = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        if name == "words.weight":
            direction[0] = 0
            assert not weight.grad[0].any()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(direction, alpha=sign * step)
                values.append(float(loss()))
                weight.sub_(direction, alpha=sign * step)
        slope = (values[0] - values[1]) / (2 * step)
        assert float((weight.grad * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7)
        assert weight.grad.any(), name


def test_permuted_facts_give_the_same_answers() -> None:
    kb = random_kb(4, entities=12, facts=30)
    triples = [(kb.entities[s], kb.relations[r], kb.entities[o]) for s, r, o in kb.facts.tolist()]
    order = np.random.default_rng(0).permutation(len(triples))
    other = KnowledgeBase.from_triples([triples[place] for place in order])
    assert other.entities != kb.entities
    model = random_model(kb, RECIPE)
    moved = KnowledgeModel(other, model.vocabulary, RECIPE)
    weights = model.network.state_dict()
    places = [kb.relations.index(name) for name in other.relations]
    rows = [*places, *(len(places) + place for place in places)]
    moved.network.double().load_state_dict(weights | {"relations": weights["relations"][rows]})
    moved.network.eval()
    numbers = [other.entities.index(name) for name in kb.entities]
    questions = random_questions(model, 12)
    renamed = [
        one._replace(topics=tuple(numbers[topic] for topic in one.topics)) for one in questions
    ]
    for one, two in zip(questions, renamed, strict=True):
        before, now = oracle_answer(oracle_hops(model, one)), oracle_answer(oracle_hops(moved, two))
        np.testing.assert_allclose(before, now[numbers], rtol=1e-9)
    check(moved, [one._replace(answers=()) for one in renamed])


def test_dropout_is_only_in_training() -> None:
    model = random_model(random_kb(6), dataclasses.replace(RECIPE, dropout=0.5))
    batch = double_batch(random_questions(model, 5))
    with torch.no_grad():
        still = [model.track(batch).last for _ in range(2)]
        model.network.train()
        moving = [model.track(batch).last for _ in range(2)]
    assert torch.equal(*still)
    assert not torch.equal(*moving)


def test_new_weights_come_from_the_default_generator() -> None:
    kb = random_kb(0)
    models = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            models.append(KnowledgeModel(kb, ("", "<unknown>", "<topic>", "rel0", "of"), RECIPE))
    states = [model.network.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["relations"], states[2]["relations"])
    assert not states[0]["words.weight"][0].any()
    assert float(states[0]["scale"]) == 5


@pytest.mark.parametrize("logit", [-20.0, -88.0, -1e4])
def test_a_closed_gate_on_the_topic_alone_keeps_the_weight(logit: float) -> None:
    kb = KnowledgeBase.from_triples([("A", "is", "A")])
    recipe = KnowledgeRecipe(word_dim=8, num_hops=2, inverse=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = KnowledgeModel.untrained(kb, [Question("what is A?")], recipe)
    with torch.no_grad():
        model.network.back.weight.zero_()
        model.network.back.bias.fill_(logit)
    encoded = model.encoder.encode(Question("what is A?", ("A",)))
    batch = batch_of([encoded])
    tracked = model.track(batch)
    assert [hop.after.weights.tolist() for hop in tracked.hops] == [[1.0], [1.0]]
    losses(model, tracked, batch).sum().backward()  # type: ignore[no-untyped-call]
    grads = [weight.grad for weight in model.network.parameters() if weight.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
