"""What an encoder may return, and what is made of it."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from memhop.errors import MemhopError
from memhop.retrieval import Memory, Questions, train
from memhop.retrieval.encoder import encode, matrix
from tests.retrieval import hashed_encoder


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]],
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[1, 2], [3, 4]], dtype=np.int16),
        np.asfortranarray(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float16)),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.bfloat16, requires_grad=True),
    ],
)
def test_a_matrix_of_any_numbers_is_frozen_float32(values: Any) -> None:
    found = matrix("keys", values)
    assert found.tolist() == [[1, 2], [3, 4]]
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    assert found.is_contiguous()


@pytest.mark.parametrize(
    ("values", "got"),
    [
        ([1.0, 2.0], "got the shape [2]"),
        ([[]], "got the shape [1, 0]"),
        (np.zeros((0, 3)), "got the shape [0, 3]"),
        (np.zeros((1, 2, 3)), "got the shape [1, 2, 3]"),
        ([["a"]], "got [['a']]"),
        ([[1.0], [2.0, 3.0]], "got [[1.0], [2.0, 3.0]]"),
        (None, "got None"),
        (torch.tensor([[True]]), "got bool"),
        (torch.tensor([[1j]]), "got complex64"),
        (torch.eye(2).to_sparse(), "got the layout sparse_coo"),
    ],
)
def test_anything_else_than_a_matrix_is_an_error(values: Any, got: str) -> None:
    expected = f"keys: expected a matrix of numbers, [n, dim], {got}"
    with pytest.raises(MemhopError, match=f"^{re.escape(expected)}$"):
        matrix("keys", values)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_an_error(number: float) -> None:
    expected = "^keys: expected finite numbers in float32, got others in row 2$"
    with pytest.raises(MemhopError, match=expected):
        matrix("keys", np.array([[0.0, 1.0], [1.0, 1.0], [0.0, number]]))


@pytest.mark.parametrize("values", [np.eye(2, dtype=np.float32), torch.eye(2)])
def test_a_matrix_is_a_copy(values: Any) -> None:
    found = matrix("keys", values)
    values[0, 1] = 5
    assert found.tolist() == [[1, 0], [0, 1]]


def test_tensors_of_inference_mode_can_be_trained_on() -> None:
    @torch.inference_mode()
    def encoder(texts: list[str]) -> torch.Tensor:
        return torch.eye(2)[[int(text) for text in texts]]

    def train_on(memory: Memory, questions: Questions) -> None:
        assert not memory.keys.is_inference()
        assert not questions.vectors.is_inference()
        train(memory, questions, num_hops=1, epochs=1)

    gold = [[0], [1]]
    train_on(Memory(encoder(["0", "1"])), Questions(encoder(["0", "1"]), gold=gold))
    with torch.inference_mode():
        memory = Memory.of_passages(["0", "1"], encoder)
        questions = Questions.of_texts(["1", "0"], encoder, gold=gold)
        facts = Memory.of_facts([("0", "1", "0"), ("1", "1", "0")], encoder)
        about = Questions.of_texts(["1", "0"], encoder, topics=["0", "1"], answers=[["0"], ["0"]])
    train_on(memory, questions)
    train_on(facts, about)


def test_very_long_and_very_short_vectors_are_divided_by_their_lengths() -> None:
    rows = [[1e30, 0], [3e38, 3e38], [3e-30, 4e-30], [0, 1e-45], [0, 0]]
    expected = torch.tensor([[1, 0], [0.5**0.5, 0.5**0.5], [0.6, 0.8], [0, 1], [0, 0]])
    found = encode(lambda _: rows, list("abcde"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_each_distinct_text_is_encoded_once_and_has_length_1() -> None:
    calls: list[list[str]] = []

    def encoder(texts: list[str]) -> Any:
        calls.append(texts)
        return [[3.0 * len(text), 4.0 * len(text)] for text in texts]

    found = encode(encoder, ["ab", "", "ab", "abc"])
    assert calls == [["ab", "", "abc"]]
    expected = torch.tensor([[0.6, 0.8], [0, 0], [0.6, 0.8], [0.6, 0.8]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        ([], [], "expected at least 1 text to encode, got none"),
        (["a", 3], [], "text 1: expected a text to encode, got 3"),
        (["a", "b"], [[1.0]], "encoder: expected 2 vectors for 2 texts, got 1"),
        (["a"], [1.0], "encoder: expected a matrix of numbers, [n, dim], got the shape [1]"),
        (["a"], [[np.nan]], "encoder: expected finite numbers in float32, got others in row 0"),
    ],
)
def test_a_wrong_text_or_encoder_is_an_error(texts: Any, vectors: Any, message: str) -> None:
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        encode(lambda _: vectors, texts)


def test_the_hashed_encoder_is_the_same_everywhere_and_finds_related_words() -> None:
    near, far = hashed_encoder.encode(["the house", "The houses!"]), hashed_encoder.encode(["x"])
    assert near[0, 0] == pytest.approx(0.23108174, abs=1e-6)
    cosine = near[0] @ near[1] / np.linalg.norm(near[0]) / np.linalg.norm(near[1])
    assert 0.5 < cosine < 0.95
    assert abs(near[0] @ far[0]) < 0.5
    assert hashed_encoder.encode([" ... "]).tolist() == [[0.0] * hashed_encoder.DIM]
