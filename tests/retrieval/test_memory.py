"""Memories and questions: what they hold, and errors for what they cannot."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from memhop.errors import MemhopError
from memhop.retrieval import Memory, Questions
from memhop.retrieval.encoder import encode as normalized
from memhop.retrieval.questions import without_topic
from memhop.retrieval.targets import right_rows
from tests.retrieval.hashed_encoder import encode

FACTS = [("Ann", "spouse", "Bob"), ("Bob", "born in", "Rome"), ("Ann", "spouse", "Bob"),
         ("Eve", "born in", "Rome")]  # fmt: skip


def test_the_key_of_a_fact_is_its_subject_and_relation_and_its_value_the_object() -> None:
    memory = Memory.of_facts(FACTS, encode)
    assert memory.ids == (FACTS[0], FACTS[1], FACTS[3])
    assert memory.answers == ("Bob", "Rome", "Rome")
    for row, (subject, relation, object_) in enumerate(FACTS[:2]):
        vectors = normalized(encode, [subject, relation, object_])
        assert torch.equal(memory.keys[row], torch.cat([vectors[0], vectors[1]]))
        assert torch.equal(memory.values[row], vectors[2])
    assert memory.rows_of(FACTS[3]) == (2,)
    assert memory.rows_answering("Rome") == (1, 2)
    assert memory.rows_of("Rome") == memory.rows_answering("Paris") == ()


def test_a_passage_is_key_and_value() -> None:
    memory = Memory.of_passages(["Ann lives here.", "Bob does not."], encode, ids=["a", "b"])
    assert memory.values is memory.keys
    assert (memory.ids, memory.answers) == (("a", "b"), ("a", "b"))
    assert Memory.of_passages(["one", "one"], encode).ids == (0, 1)
    assert repr(memory) == "Memory(2 rows, key_dim=64, value_dim=64)"


def test_moving_a_memory_keeps_the_rest() -> None:
    memory = Memory.of_passages(["one", "two"], encode, ids="ab")
    assert memory.to("cpu") is memory
    moved = memory.to("meta")
    assert moved.values is moved.keys
    assert moved.keys.is_meta
    assert (moved.ids, moved.rows_of("b")) == (("a", "b"), (1,))
    facts = Memory.of_facts(FACTS, encode).to("meta")
    assert facts.values.is_meta
    questions = Questions([[1.0]], topics=[[1.0]], answers=[["a"]]).to("meta")
    assert questions.vectors.is_meta
    assert questions.topics is not None
    assert questions.topics.is_meta
    assert questions.answers == (["a"],)


EYE = np.eye(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Memory(EYE, EYE[:2]), "values: expected 3 rows, as keys, got 2"),
        (lambda: Memory(EYE[:, :2], EYE), "keys: expected at least 3 columns, as values, got 2"),
        (lambda: Memory(EYE, ids="ab"), "ids: expected 3, one for each row, got 2"),
        (lambda: Memory(EYE, answers="abcd"), "answers: expected 3, one for each row, got 4"),
        (lambda: Memory(EYE, ids="aba"), "ids: expected distinct ids, got 'a' in rows 0 and 2"),
        (lambda: Memory(EYE, ids=["a", ("b", ["c"]), "d"]),
         "ids: expected hashable values, got ('b', ['c']) in row 1"),
        (lambda: Memory("keys"), "keys: expected a matrix of numbers, [n, dim], got 'keys'"),
        (lambda: Memory.of_facts([("a", "b", "c"), ("a", "b")], encode),  # type: ignore[list-item]
         "fact 1: expected three texts (subject, relation, object), got ('a', 'b')"),
        (lambda: Memory.of_facts(["abc"], encode),  # type: ignore[list-item]
         "fact 0: expected three texts (subject, relation, object), got 'abc'"),
        (lambda: Memory.of_facts([("a", "b", 3)], encode),  # type: ignore[list-item]
         "fact 0: expected three texts (subject, relation, object), got ('a', 'b', 3)"),
        (lambda: Memory.of_facts([], encode), "expected at least 1 text to encode, got none"),
        (lambda: Memory.of_passages([], encode), "expected at least 1 text to encode, got none"),
        (lambda: Questions(EYE, topics=EYE[:2]), "topics: expected 3, got 2"),
        (lambda: Questions(EYE, gold=[["a"]]), "gold: expected 3, one for each question, got 1"),
        (lambda: Questions(EYE, answers=["a", "b", "c"]),
         "answers of question 0: expected a list, got 'a'"),
        (lambda: Questions(EYE, gold=[["a"], 3, ["c"]]),  # type: ignore[list-item]
         "gold of question 1: expected a list, got 3"),
        (lambda: Questions(EYE, texts=["a"]), "texts: expected 3, got 1"),
        (lambda: Questions.of_texts(["a"], encode, topics=["a", "b"]),
         "topics: expected 1, got 2"),
        (lambda: Questions.of_texts(["a"], encode, topics=[3]),  # type: ignore[list-item]
         "expected a question and its topic as texts, got 'a' and 3"),
    ],
)  # fmt: skip
def test_a_wrong_memory_or_question_is_an_error(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        make()


def test_the_vector_of_a_question_has_it_for_the_topic() -> None:
    questions = Questions.of_texts(
        ["Who is Ann's aunt Annie?", "Where is it?"], encode, topics=["Ann", "rome"]
    )
    expected = normalized(encode, ["Who is it's aunt Annie?", "Where is it?", "Ann", "rome"])
    assert torch.equal(questions.vectors, expected[:2])
    assert questions.topics is not None
    assert torch.equal(questions.topics, expected[2:])
    assert questions.texts == ("Who is Ann's aunt Annie?", "Where is it?")
    plain = Questions.of_texts(["Where is it?"], encode, answers=[["a"]])
    assert torch.equal(plain.vectors[0], expected[1])
    assert (plain.topics, repr(plain)) == (None, "Questions(1, answers)")


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("Is ANN Ann?", "Ann", "Is it it?"),
        ("Annie and Joann", "Ann", "Annie and Joann"),
        ("What is C++?", "C++", "What is it?"),
        (r"What is \1?", r"\1", "What is it?"),
        ("Who?", "", "Who?"),
    ],
)
def test_a_topic_is_replaced_as_a_word(text: str, topic: str, expected: str) -> None:
    assert without_topic(text, topic) == expected


def test_selected_questions_keep_what_is_known() -> None:
    questions = Questions(EYE, topics=2 * EYE, gold=[["a"], ["b"], ["c"]], texts="xyz")
    chosen = questions.select([2, 0])
    assert chosen.vectors.tolist() == EYE[[2, 0]].tolist()
    assert chosen.topics is not None
    assert chosen.topics.tolist() == (2 * EYE[[2, 0]]).tolist()
    assert (chosen.gold, chosen.answers, chosen.texts) == ((["c"], ["a"]), None, ("z", "x"))
    assert len(chosen) == 2


def test_the_right_rows_are_gold_rows_or_those_that_give_an_answer() -> None:
    memory = Memory.of_facts(FACTS, encode)
    first, second, third = memory.ids
    gold: list[list[Any]] = [[first, second], [[], [second, third]], [first, []]]
    answers: list[list[Any]] = [["Bob"], [], ["Paris", "Rome"]]
    questions = Questions(EYE, gold=gold, answers=answers)
    assert right_rows(memory, questions, 2) == [((0,), (1,)), ((), (1, 2)), ((0,), (1, 2))]
    questions = Questions(EYE, answers=[["Bob"], ["Rome"], ["Rome", "Bob", "Rome"]])
    assert right_rows(memory, questions, 2) == [((), (0,)), ((), (1, 2)), ((), (1, 2, 0))]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"gold": [["a"]]}, "gold of question 0: expected 2 hops, got 1"),
        ({"gold": [["a", "z"]]}, "gold of question 0: expected an id of the memory, got 'z'"),
        ({"gold": [["a", ["b", "z"]]]}, "gold of question 0: expected an id of the memory, "
                                        "got 'z'"),
        ({"gold": [["a", {}]]}, "gold of question 0: expected an id of the memory, got {}"),
        ({"answers": [[{}]]}, "question 0: expected an answer of the memory, got [{}]"),
        ({"gold": [[[], []]]}, "question 0: expected gold ids or answers, got neither"),
        ({}, "question 0: expected gold ids or answers, got neither"),
        ({"answers": [["y", "z"]]}, "question 0: expected an answer of the memory, "
                                    "got ['y', 'z']"),
    ],
)  # fmt: skip
def test_a_question_of_which_nothing_is_known_is_an_error(known: Any, message: str) -> None:
    memory, questions = Memory(EYE, ids="abc"), Questions(EYE[:1], **known)
    with pytest.raises(MemhopError, match=f"^{re.escape(message)}$"):
        right_rows(memory, questions, 2)
