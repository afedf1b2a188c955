"""Banks of sentences against sums word by word; what is measured on training text."""

import unicodedata
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from memhop.example import Example
from memhop.ops.text import embedding_bag
from memhop.recipe import Position, Recipe
from memhop.text.encoding import (
    NO_ANSWER,
    Encoder,
    PositionEncoding,
    Sentences,
    Sizes,
    training_vocabulary,
)
from memhop.text.vocabulary import UNKNOWN, Vocabulary
from memhop.tokenizer import answer_word

POSITIONS: list[Position] = ["bag", "paper", "code"]
BANKS = [
    [[1, 2, 3], [4, 4, 4, 4], [2]],
    [[], [1, 2], [], [], [3, 1, 1, 5, 5, 2, 3], [4], []],
    [[], []],
    [[5]],
]


def word_by_word(bank: list[list[int]], table: Tensor, position: str, longest: int) -> Tensor:
    """sum_j l_j * E[word_j] in loops; the first row of a table is word 1."""
    d = table.shape[-1]
    total = torch.zeros(*table.shape[:-2], len(bank), d, dtype=table.dtype) + 0 * table.sum()
    for row, words in enumerate(bank):
        for j, word in enumerate(words, start=1):
            for k in range(1, d + 1):
                weight = 1.0
                if position == "paper":
                    weight = (1 - j / len(words)) - k / d * (1 - 2 * j / len(words))
                elif position == "code":
                    size, at = longest + 1, min(j, longest)
                    weight = 1 + 4 * (k - (d + 1) / 2) * (at - (size + 1) / 2) / (d * size)
                total[..., row, k - 1] += weight * table[..., word - 1, k - 1]
    return total


@pytest.fixture(params=["compiled", "torch"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to sum bags of words, whatever their number."""
    monkeypatch.setattr(
        embedding_bag, "WORTH_COMPILING", 0 if request.param == "compiled" else 10**9
    )
    return str(request.param)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("num_ages", [0, 3])
@pytest.mark.parametrize("bank", BANKS, ids=str)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_bank_is_sums_of_weighted_words(
    position: Position, bank: list[list[int]], num_ages: int
) -> None:
    torch.manual_seed(0)
    weights = PositionEncoding(position, 4, 5)
    sentences = Sentences(bank, weights, num_ages)
    for axes in ((2,), (3, 2)):
        tables = torch.randn(*axes, 1 + num_ages + 5, 4, dtype=torch.float64, requires_grad=True)
        words = word_by_word(bank, tables[..., num_ages + 1 :, :], position, 5)
        ages = tables[..., 1 : num_ages + 1, :] * of_age(weights)
        nothing = torch.zeros_like(tables[..., :1, :])
        wanted = torch.cat([words, nothing, ages], dim=-2).movedim(-3, 0)
        got = sentences.embed(tables)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
        upstream = torch.randn_like(got)
        grads = [torch.autograd.grad(t, tables, upstream)[0] for t in (got, wanted)]
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("form")
def test_rows_may_be_chosen_for_each_restart() -> None:
    sentences = Sentences([[], [1, 2], [3, 3, 1]], PositionEncoding("code", 4, 5), num_ages=2)
    tables = torch.randn(2, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([[2, 0, 5, 2], [1, 1, 4, 3]])
    got, whole = sentences.embed(tables, chosen), sentences.embed(tables)
    wanted = torch.stack([whole[:, r, rows] for r, rows in enumerate(chosen)], dim=1)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(got)
    grads = [torch.autograd.grad(t, tables, upstream)[0] for t in (got, wanted)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


def test_a_bank_follows_the_dtype_of_the_table() -> None:
    sentences, tables = Sentences([[1, 2, 3]], PositionEncoding("code", 4, 5)), torch.randn(1, 4, 4)
    single = sentences.embed(tables)
    double = sentences.embed(tables.double())
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(sentences.embed(tables), single, rtol=0, atol=0)
    wanted = word_by_word([[1, 2, 3]], tables.double()[..., 1:, :], "code", 5)
    torch.testing.assert_close(double[:, :1], wanted, rtol=1e-6, atol=1e-6)


def of_age(weights: PositionEncoding) -> Tensor:
    plain, slope_weight = weights.of_age()
    return plain + slope_weight * (torch.zeros(1) if weights.slope is None else weights.slope)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_the_weight_of_an_age(d: int) -> None:
    size = 7
    wanted = [
        1 + 4 * (k - (d + 1) / 2) * (size - (size + 1) / 2) / (d * size) for k in range(1, d + 1)
    ]
    np.testing.assert_allclose(of_age(PositionEncoding("code", d, 6)), wanted, rtol=1e-12)
    assert (
        PositionEncoding("bag", d, 6).of_age() == PositionEncoding("paper", d, 6).of_age() == (1, 0)
    )


TEXT = [
    Example(("Mary went home.", "She slept."), "Where is Mary?", "Home", (0,)),
    Example(("It is.",) * 7, "Who, of the two, was it then that it was?", "apple, Milk"),
    Example((), "Why?", "the Old  Town."),
]


def test_sizes_are_those_of_the_training_text() -> None:
    assert Sizes.of(TEXT, Recipe()) == Sizes(sentence_words=10, memory_slots=7)
    assert Sizes.of(TEXT, Recipe(memory_slots=4)) == Sizes(10, 4)
    assert Sizes.of([Example((), "", "yes")], Recipe()) == Sizes(1, 1)


def test_the_vocabulary_is_that_of_the_training_text() -> None:
    words = list(training_vocabulary(TEXT))
    assert words[:6] == ["mary", "went", "home", "she", "slept", "where"]
    assert {"apple,milk", "the old town", "two"} <= set(words)
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("Kitchen", "kitchen"),
        ("apple,milk", "apple,milk"),
        ("Apple ,  milk.", "apple,milk"),
        ("milk,apple", "milk,apple"),
        ("the  Old town", "the old town"),
        ("n,w", "n,w"),
        ('"The Kitchen."', "the kitchen"),
        ("office,", "office"),
        ("apple,milk,", "apple,milk"),
        ("apple,,milk", "apple,milk"),
        (", apple", "apple"),
        *((sign, sign) for sign in "-*/%&+="),
        ("-, milk", "-,milk"),
        ("苹果，牛奶、茶", "苹果,牛奶,茶"),  # noqa: RUF001
    ],
)
def test_an_answer_is_one_class(answer: str, word: str) -> None:
    assert answer_word(answer) == word
    assert answer_word(word) == word


@given(st.text(max_size=20))
def test_an_answer_word_stays_as_it_is(answer: str) -> None:
    assert answer_word(answer_word(answer)) == answer_word(answer)


def test_the_most_frequent_spelling_is_kept() -> None:
    texts = [
        (("IBM met Anna.", "Anna met IBM."), "Who met the old town?", "Anna"),
        (("ibm left.",), "Who left?", "ANNA"),
        ((), "Who?", "ANNA"),
        ((), "who?", "anna"),
        ((), "Who?", "Old  town, New Town."),
    ]
    vocabulary = training_vocabulary([Example(*text) for text in texts])
    assert vocabulary.spellings == {
        "ibm": "IBM", "anna": "ANNA", "who": "Who", "old town,new town": "Old town, New Town."
    }  # fmt: skip
    for shown in ("O\u2019Brien", "U.S.A.", "Apple, Milk", "Cafe\u0301"):
        vocabulary = training_vocabulary([Example((), "Who?", f" {shown} ")])
        assert vocabulary.spelling(len(vocabulary) - 1) == unicodedata.normalize("NFC", shown)
    tie = training_vocabulary([Example((), "Who?", answer) for answer in ("bob", "Bob")])
    assert "bob" not in tie.spellings


def encoder(**changes: Any) -> Encoder:
    recipe = Recipe(**{"memory_slots": 3, **changes})
    return Encoder(training_vocabulary(TEXT), recipe, Sizes.of(TEXT, recipe))


def test_a_statement_stands_once_in_the_bank() -> None:
    encoded = encoder().encode(TEXT)
    assert encoded.sentences.num_sentences == 1 + 3 + 3  # empty, three statements, three questions
    assert len(encoded.sentences) == 7 + 1 + 3  # and no age, and those of three slots
    assert encoded.slots.tolist() == [[1, 2, 0], [4, 4, 4], [0, 0, 0]]
    assert encoded.lengths.tolist() == [2, 3, 0]
    assert encoded.question.tolist() == [3, 5, 6]


def test_empty_slots_have_a_place_only_where_they_are_read() -> None:
    assert encoder().encode(TEXT[:1]).slots.shape == (1, 2)
    assert encoder(mask_empty_slots=False).encode(TEXT[:1]).slots.shape == (1, 3)
    for mask in (True, False):
        empty = encoder(mask_empty_slots=mask).encode([])
        assert (len(empty.answers), len(empty.slots)) == (0, 0)
        assert empty.sentences.num_sentences == 1


def test_answers_are_words_of_training_or_none() -> None:
    asked = [Example((), "Why?", answer) for answer in ("HOME", "Milk,apple", "apple,milk", "Mars")]
    got = encoder().encode(asked).answers.tolist()
    vocabulary = training_vocabulary(TEXT)
    assert got[1] == got[3] == NO_ANSWER
    assert [vocabulary.word(got[0]), vocabulary.word(got[2])] == ["home", "apple,milk"]


def test_an_unknown_word_is_one_id_and_keeps_its_place() -> None:
    bank = Encoder(Vocabulary(["a", "b"]), Recipe(), Sizes(4, 3))
    encoded = bank.encode([Example(("a x b", "a y b", "a b"), "x?", "a")])
    assert encoded.slots.tolist() == [[1, 1, 2]]  # a x b and a y b are one
    tables = torch.randn(1, 1 + 3 + 3, 20)  # nil, three ages, unknown, a, b
    tables[:, 3 + UNKNOWN] = 0
    rows = encoded.sentences.embed(tables)[0]
    assert rows[0].abs().max() == 0
    assert not torch.allclose(rows[1], rows[2])  # b is third in one and second in the other
