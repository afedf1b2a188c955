"""The hops against float64 NumPy and against `memhop.ops.multi_hop`; search; files on disk."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memhop import ops
from memhop.checkpoint import RETRIEVAL, to_tensors, write_checkpoint
from memhop.errors import MemhopError
from memhop.retrieval import Memory, Questions, RetrievalModel, recall, train
from memhop.retrieval import model as model_module
from memhop.retrieval.targets import RightRows, loss_of
from tests.retrieval import oracle
from tests.seeds import seeds


def drawn(seed: int) -> tuple[RetrievalModel, Memory, Questions, list[RightRows]]:
    """Return a random model with a memory, questions and right rows."""
    random = np.random.default_rng(seed)
    num_rows, num_questions, num_hops = random.integers(1, 6, 3)
    question_dim = int(random.integers(1, 5))
    is_joined = bool(random.integers(2))
    value_dim = int(random.integers(1, 5)) if is_joined else question_dim
    key_dim = question_dim + value_dim if is_joined else value_dim
    keys, values = (random.standard_normal((num_rows, dim)) for dim in (key_dim, value_dim))
    model = RetrievalModel(key_dim, value_dim, int(num_hops))
    with torch.no_grad():
        model.question_maps.copy_(torch.from_numpy(random.standard_normal(
            (num_hops, question_dim, question_dim))))  # fmt: skip
        model.log_scale.copy_(torch.tensor(random.standard_normal()))
    memory = Memory(keys) if not is_joined and random.integers(2) else Memory(keys, values)
    topics = random.standard_normal((num_questions, value_dim)) if random.integers(2) else None
    right = [
        [[int(row) for row in range(num_rows) if random.integers(2)] for _ in range(num_hops)]
        for _ in range(num_questions)
    ]
    right = [hops if any(hops) else [*hops[:-1], [0]] for hops in right]
    questions = Questions(random.standard_normal((num_questions, question_dim)), topics=topics,
                          gold=right)  # fmt: skip
    return model, memory, questions, [tuple(map(tuple, hops)) for hops in right]


def in_float64(tensor: Tensor) -> oracle.Array:
    return tensor.detach().double().numpy()


def expected(
    memory: Memory, questions: Questions, maps: oracle.Array, log_scale: float
) -> oracle.Array:
    """The attention of all questions by the oracle, [M, K, N]."""
    topics = questions.topics
    return np.array([
        oracle.attention(
            in_float64(memory.keys), in_float64(memory.values), in_float64(questions.vectors[n]),
            None if topics is None else in_float64(topics[n]), maps, float(np.exp(log_scale)),
        )
        for n in range(len(questions))
    ])  # fmt: skip


@pytest.mark.parametrize("seed", seeds(30, 300))
def test_the_attention_equals_the_formula(seed: int) -> None:
    model, memory, questions, _ = drawn(seed)
    found = model(memory, questions)
    wanted = expected(memory, questions, in_float64(model.question_maps), model.log_scale.item())
    np.testing.assert_allclose(in_float64(found), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("seed", seeds(10, 100))
def test_the_gradients_equal_finite_differences(seed: int) -> None:
    model, memory, questions, right = drawn(seed)
    loss = loss_of(model.log_attention(memory, questions), right)
    loss.backward()  # type: ignore[no-untyped-call]
    maps, log_scale = in_float64(model.question_maps), model.log_scale.item()

    def loss_at(maps: oracle.Array, log_scale: float) -> float:
        weights = expected(memory, questions, maps, log_scale)
        losses = [oracle.loss(*pair) for pair in
                  zip(weights, (list(map(list, hops)) for hops in right), strict=True)]  # fmt: skip
        return float(np.mean(losses))

    assert loss.item() == pytest.approx(loss_at(maps, log_scale), rel=1e-4, abs=1e-5)
    step = 1e-6
    by_scale = (loss_at(maps, log_scale + step) - loss_at(maps, log_scale - step)) / (2 * step)
    assert model.log_scale.grad is not None
    assert model.question_maps.grad is not None
    assert model.log_scale.grad.item() == pytest.approx(by_scale, rel=1e-3, abs=1e-3)
    by_maps = np.zeros_like(maps)
    for place in np.ndindex(maps.shape):
        change = np.zeros_like(maps)
        change[place] = step
        by_maps[place] = (loss_at(maps + change, log_scale) - loss_at(maps - change, log_scale)) / (
            2 * step
        )
    np.testing.assert_allclose(in_float64(model.question_maps.grad), by_maps, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("seed", seeds(10, 100))
def test_the_loss_is_that_of_the_weights_in_float64(seed: int) -> None:
    model, memory, questions, right = drawn(seed)
    weights = expected(memory, questions, in_float64(model.question_maps), model.log_scale.item())
    losses = [oracle.loss(*pair) for pair in
              zip(weights, (list(map(list, hops)) for hops in right), strict=True)]  # fmt: skip
    logs = torch.from_numpy(weights).log().unbind(1)
    assert loss_of(logs, right).item() == pytest.approx(np.mean(losses), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("length", [3.0, 10.0, 100.0])
def test_a_right_row_whose_weight_is_0_in_float32_has_a_gradient(length: float) -> None:
    """Row 0 has the score 20 length^2, rows 1 and 2 have 0; right are rows 1 and 2."""
    model, memory = RetrievalModel(3, 3, 1), Memory(length * np.eye(3))
    questions = Questions(length * np.eye(3)[:1])
    assert model(memory, questions).tolist() == [[[1, 0, 0]]]
    loss = loss_of(model.log_attention(memory, questions), [((1, 2),)])
    assert loss.item() == pytest.approx(20 * length**2 - np.log(2), rel=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert model.question_maps.grad is not None
    by_query = 20 * length**2 * np.array([1, -0.5, -0.5])  # times the first axis, of the question
    np.testing.assert_allclose(model.question_maps.grad[0, :, 0], by_query, rtol=1e-5)


def test_the_hops_are_those_of_multi_hop_with_the_state_next_to_the_question() -> None:
    """[e; q] is a query of `multi_hop`: C writes the state, and H keeps the question."""
    torch.manual_seed(0)
    state_dim, question_dim, num_hops = 3, 4, 3
    memory = Memory(torch.randn(9, state_dim + question_dim), torch.randn(9, state_dim))
    questions = Questions(torch.randn(5, question_dim), topics=torch.randn(5, state_dim))
    model = RetrievalModel(state_dim + question_dim, state_dim, num_hops)
    torch.nn.init.normal_(model.question_maps)
    torch.nn.init.zeros_(model.log_scale)
    whole = torch.eye(state_dim + question_dim)
    read, keep = whole[:, :state_dim], whole.clone()
    keep[:state_dim] = 0
    hops = []
    for question_map in model.question_maps.detach():
        a = whole.clone()
        a[state_dim:, state_dim:] = question_map.mT
        hops.append(ops.Hop(ops.Table(a), ops.Table(read), keep))
    assert questions.topics is not None
    start = torch.cat([questions.topics, questions.vectors], dim=-1)
    _, weights = ops.multi_hop(
        start, memory.keys, hops, values=memory.values, need_weights=True, impl="reference"
    )
    torch.testing.assert_close(model(memory, questions), weights, rtol=0, atol=1e-5)


def test_a_key_for_both_parts_is_the_same_key_twice() -> None:
    torch.manual_seed(0)
    passages, values, vectors = torch.randn(7, 4), torch.randn(7, 4), torch.randn(3, 4)
    once, twice = RetrievalModel(4, 4, 2), RetrievalModel(8, 4, 2)
    maps = torch.randn(2, 4, 4)
    for model in (once, twice):
        model.load_state_dict({"question_maps": maps, "log_scale": torch.zeros(())})
    questions = Questions(vectors, topics=torch.randn(3, 4))
    both = [once(Memory(passages, values), questions),
            twice(Memory(torch.cat([passages, passages], 1), values), questions)]  # fmt: skip
    torch.testing.assert_close(*both, rtol=0, atol=1e-5)


def test_an_untrained_model_of_passages_ranks_by_the_dot_product() -> None:
    torch.manual_seed(0)
    passages, vectors = torch.randn(20, 4), 0.1 * torch.randn(3, 4)  # no weight is 0 in float32
    hits = RetrievalModel(4, 4, 1).search(Memory(passages), Questions(vectors), k=20)
    for question, [hop] in enumerate(hits):
        assert list(hop.ids) == (passages @ vectors[question]).argsort(descending=True).tolist()


def test_a_search_gives_ids_and_weights_in_order_whatever_the_size_of_its_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, memory, questions, _ = drawn(4)
    assert (len(questions), model.num_hops, len(memory)) == (5, 5, 4)
    memory = Memory(memory.keys, memory.values, ids="abcd")
    weights = model(memory, questions)
    hits = model.search(memory, questions, k=3)
    for question, hops in enumerate(hits):
        for hop, found in enumerate(hops):
            order = weights[question, hop].argsort(descending=True)[:3]
            assert found.ids == tuple("abcd"[row] for row in order)
            assert found.weights == pytest.approx(weights[question, hop, order].tolist())
            assert found.covered == pytest.approx(sum(found.weights))
    monkeypatch.setattr(model_module, "_WEIGHTS_AT_ONCE", 2 * 5 * 4)
    again = model.search(memory, questions, k=3)
    assert [[hop.ids for hop in hops] for hops in again] == [
        [hop.ids for hop in hops] for hops in hits
    ]
    assert len(model.search(memory, questions, k=99)[0][0].ids) == 4


@pytest.mark.parametrize(("bound", "sizes"), [(30, [2, 2, 1]), (29, [1] * 5), (1, [1] * 5),
                                              (75, [5])])  # fmt: skip
def test_a_search_holds_at_most_so_many_weights_of_all_hops(
    monkeypatch: pytest.MonkeyPatch, bound: int, sizes: list[int]
) -> None:
    """A question has 3 hops x 5 rows = 15 weights; one question is always read as a whole."""
    seen = []

    class Counting(RetrievalModel):
        def forward(self, memory: Memory, questions: Questions) -> Tensor:
            seen.append(super().forward(memory, questions))
            return seen[-1]

    monkeypatch.setattr(model_module, "_WEIGHTS_AT_ONCE", bound)
    Counting(2, 2, 3).top_rows(Memory(np.ones((5, 2))), Questions(np.ones((5, 2))), 2)
    assert [weights.shape for weights in seen] == [(size, 3, 5) for size in sizes]


def test_recall_counts_questions_with_a_right_row_among_the_first() -> None:
    memory = Memory(np.eye(4), ids="abcd", answers="xxyz")
    model = RetrievalModel(4, 4, 2)
    vectors = [[0.4, 0.3, 0.2, 0.1]] * 4
    questions = Questions(vectors, gold=[["b", []], ["d", "a"], [["c", "d"], "b"], [[], "d"]])
    assert recall(model, memory, questions, k=[1, 2, 3, 4]) == [
        {1: 0, 2: 1 / 3, 3: 2 / 3, 4: 1}, {1: 1 / 3, 2: 2 / 3, 3: 2 / 3, 4: 1}
    ]  # fmt: skip
    questions = Questions(vectors[:2], answers=[["x"], ["z"]])
    assert recall(model, memory, questions, k=(1, 4)) == [{}, {1: 0.5, 4: 1.0}]


def small() -> tuple[RetrievalModel, Memory, Questions]:
    return RetrievalModel(5, 2, 1), Memory(np.eye(5), np.eye(5)[:, :2]), Questions(np.eye(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s, q: m(Memory(np.eye(4)), q), "keys: expected vectors of 5 numbers, got 4"),
        (lambda m, s, q: m(Memory(np.eye(5)), q), "values: expected vectors of 2 numbers, got 5"),
        (lambda m, s, q: m.search(s, Questions(np.eye(4))),
         "questions: expected vectors of 3 numbers, got 4"),
        (lambda m, s, q: m(s, Questions(np.eye(3), topics=np.eye(3))),
         "topics: expected vectors of 2 numbers, got 3"),
        (lambda m, s, q: m.search(s, q, k=0), "k: expected an integer from 1, got 0"),
        (lambda m, s, q: recall(m, s, Questions(np.eye(3), gold=[[0]] * 3), k=[1, True]),
         "k: expected an integer from 1, got True"),
        (lambda m, s, q: recall(m, s, Questions(np.eye(3), gold=[[0]] * 3), k=[]),
         "k: expected at least 1 number, got none"),
        (lambda m, s, q: recall(m, s, q), "question 0: expected gold ids or answers, got neither"),
        (lambda m, s, q: RetrievalModel(2, 3, 1),
         "value_dim: expected an integer from 1 to 2, got 3"),
        (lambda m, s, q: RetrievalModel(2, 2, 0),
         "num_hops: expected an integer from 1 to 1,000, got 0"),
    ],
)  # fmt: skip
def test_wrong_sizes_are_an_error(
    call: Callable[[RetrievalModel, Memory, Questions], Any], message: str
) -> None:
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        call(*small())


def test_a_saved_model_loads_with_the_same_bits(tmp_path: Path) -> None:
    model, memory, questions, _ = drawn(3)
    model.save(tmp_path / "model")
    loaded = RetrievalModel.load(tmp_path / "model")
    assert str(loaded) == str(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)
    assert torch.equal(loaded(memory, questions), model(memory, questions))
    assert loaded.question_maps.requires_grad
    message = f"{tmp_path / 'model'}: exists; a checkpoint is never overwritten"
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        model.save(tmp_path / "model")


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64_by_default")
def test_all_is_float32_whatever_the_default_dtype_is(tmp_path: Path) -> None:
    memory, questions = Memory(np.eye(3)), Questions(np.eye(3), gold=[[1], [2], [0]])
    result = train(memory, questions, num_hops=1, valid=questions, epochs=3)
    result.model.save(tmp_path / "model")
    loaded = RetrievalModel.load(tmp_path / "model")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert loaded(memory, questions).dtype == torch.float32
    assert loaded.search(memory, questions) == result.model.search(memory, questions)
    text = Memory.of_passages(["a", "b"], lambda texts: np.eye(2))
    assert RetrievalModel(2, 2, 1).search(text, Questions([[0, 1.0]]), k=1)[0][0].ids == (1,)


SETTINGS = {"schema": 1, "key_dim": 5, "value_dim": 2, "num_hops": 1}
WEIGHTS = {"question_maps": torch.zeros(1, 3, 3), "log_scale": torch.zeros(())}


@pytest.mark.parametrize(
    ("settings", "weights", "message"),
    [
        ({"schema": 2}, {}, "/retrieval.json: expected schema 1, got 2: written by a newer version "
                            "of memhop"),
        ({"key_dim": "5"}, {}, "/retrieval.json: key_dim: expected an integer from 1, got '5'"),
        ({"key_dim": 10**9}, {}, "/retrieval.json: key_dim: expected an integer from 1 to "
                                 "1,000,000, got 1000000000"),
        ({"key_dim": 10**6, "num_hops": 1000}, {},
         "/model.safetensors: corrupt: expected float32 [1000, 999998, 999998] for "
         "'question_maps', got float32 [1, 3, 3]"),
        ({"num_hops": True}, {}, "/retrieval.json: num_hops: expected an integer from 1, got True"),
        ({"value_dim": 6}, {}, "/retrieval.json: value_dim: expected an integer from 1 to 5, "
                               "got 6"),
        ({}, {"question_maps": torch.zeros(1, 3, 4)},
         "/model.safetensors: corrupt: expected float32 [1, 3, 3] for 'question_maps', "
         "got float32 [1, 3, 4]"),
        ({}, {"log_scale": torch.tensor(torch.nan)},
         "/model.safetensors: expected finite values for 'log_scale', got others"),
        ({}, {"other": torch.zeros(1)},
         "/model.safetensors: missing or unexpected tensors: 'other'"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_an_error(
    tmp_path: Path, settings: dict[str, Any], weights: dict[str, Tensor], message: str
) -> None:
    folder = tmp_path / "model"
    files = {"retrieval.json": json.dumps(SETTINGS | settings).encode(),
             "model.safetensors": to_tensors(WEIGHTS | weights)}  # fmt: skip
    write_checkpoint(folder, files, RETRIEVAL)
    with pytest.raises(MemhopError, match=f"^{re.escape(f'{folder}{message}')}$"):
        RetrievalModel.load(folder)


def test_other_folders_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(MemhopError, match=r"model/checkpoint\.json: no such file$"):
        RetrievalModel.load(folder)
    write_checkpoint(folder, {"model.safetensors": b"", "recipe.json": b"{}"})
    message = f"{folder}: expected a retrieval model, got a story model"
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        RetrievalModel.load(folder)
    RetrievalModel(2, 1, 1).save(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(MemhopError, match=r"corrupt: its SHA-256 is not that of checkpoint\.json$"):
        RetrievalModel.load(tmp_path / "cut")


@pytest.mark.parametrize("seed", seeds(10, 100))
def test_hops_over_given_keys_equal_those_over_a_memory(seed: int) -> None:
    model, memory, questions, _ = drawn(seed)
    hops = [*model.read_hops(questions.vectors, memory.keys, memory.values,
                             topics=questions.topics, impl="eager")]  # fmt: skip
    assert torch.equal(torch.stack([hop.weights for hop in hops], 1), model(memory, questions))
    if questions.topics is None and memory.values is memory.keys:
        last = model.last_state(questions.vectors, memory.keys)
        torch.testing.assert_close(last, hops[-1].state, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", seeds(10, 100))
def test_masked_rows_are_not_read(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    model, vectors = RetrievalModel(4, 4, 2), torch.randn(3, 4, generator=random)
    keys, mask = torch.randn(9, 4, generator=random), torch.rand(9, generator=random) < 0.4
    mask[0] = False
    kept = [*model.read_hops(vectors, keys[~mask])]
    for keys_with_nan in (keys, keys.masked_fill(mask.unsqueeze(-1), torch.nan)):
        for hop, own in zip(
            model.read_hops(vectors, keys_with_nan, padding_mask=mask), kept, strict=True
        ):
            assert not hop.weights[:, mask].any()
            torch.testing.assert_close(hop.weights[:, ~mask], own.weights, rtol=1e-4, atol=1e-6)
        last = model.last_state(vectors, keys_with_nan, padding_mask=mask)
        torch.testing.assert_close(last, kept[-1].state, rtol=1e-4, atol=1e-6)


def test_keys_in_other_formats_are_read_as_they_are() -> None:
    model, keys = RetrievalModel(4, 4, 2), torch.eye(4)
    for stored in (keys.bfloat16(), ops.Quantized.of(keys)):
        state = model.last_state(keys[:1], stored)
        assert state.dtype == torch.float32
        assert state.argmax() == 0
        assert [hop.weights.argmax().item() for hop in model.read_hops(keys[:1], stored)] == [0, 0]
