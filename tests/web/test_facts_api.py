"""The HTTP API for models of facts: answers of the model, one-sentence errors, examples."""

import json
import re
import threading
import unicodedata
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
import torch

from memhop.checkpoint import RETRIEVAL, write_checkpoint
from memhop.errors import MemhopError
from memhop.knowledge.answer import KnowledgeAnswer
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.generate import generate
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.names import question_words
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.web import fact_examples
from memhop.web.fact_examples import example_questions, relations_of
from memhop.web.fact_schemas import question_pattern
from memhop.web.models import Served, ServedFacts, load

from .conftest import FILMS, Client, running

ASKED = "which films have the same director as Jaws?"


def test_an_answer_equals_the_answer_of_the_model(
    facts_client: Client, films: KnowledgeModel
) -> None:
    reply = facts_client.ask_facts(ASKED, facts=2)
    expected = films.answer(ASKED, facts=2)
    assert reply.status == 200
    value = reply.value
    assert {one["answer"] for one in value["answers"]} == {"Duel", "Lincoln"}
    assert value["answer"] == expected.answer == value["answers"][0]["answer"]
    for name, pairs in (("answers", expected.answers), ("runners_up", expected.runners_up)):
        assert [one["answer"] for one in value[name]] == [entity for entity, _ in pairs]
        shares = [one["probability"] for one in value[name]]
        assert shares == pytest.approx([share for _, share in pairs], abs=1e-6)
    assert (value["model"], value["question"], value["topics"]) == ("films", ASKED, ["Jaws"])
    assert (value["no_answer"], value["picture"]) == ("", None)
    assert len(value["hops"]) == len(expected.hops) == 2
    for hop, read in zip(value["hops"], expected.hops, strict=True):
        assert hop["num_facts"] == read.num_facts
        assert hop["dropped"] == pytest.approx(read.dropped)
        assert [(one["word"], one["attention"]) for one in hop["words"]] == [
            (word, pytest.approx(share, abs=1e-6)) for word, share in read.words
        ]
        for one, fact in zip(hop["facts"], read.facts, strict=True):
            assert (one["subject"], one["relation"], one["object"]) == fact[:3]
            assert one["is_inverse"] is fact.is_inverse
            assert (one["weight"], one["support"]) == pytest.approx(fact[4:], abs=1e-6)


def test_the_picture_is_that_of_the_answer(facts_client: Client, films: KnowledgeModel) -> None:
    drawn = facts_client.ask_facts(ASKED, picture=True).value["picture"]
    assert drawn == films.answer(ASKED).picture().svg()
    assert fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


def test_topics_are_given_in_brackets_or_found(facts_client: Client) -> None:
    same: list[tuple[str, dict[str, Any]]] = [
        ("who directed [Alien]?", {}),
        ("who directed it?", {"topics": ["Alien"]}),
        ("who directed Alien?", {"topics": None}),
    ]
    for asked, more in same:
        value = facts_client.ask_facts(asked, **more).value
        assert (value["answer"], value["topics"]) == ("Ridley Scott", ["Alien"])
    value = facts_client.ask_facts("who directed it?", topics=["Alien", "Solaris"]).value
    assert (value["topics"], value["unknown_entities"]) == (["Alien"], ["Solaris"])


def test_the_character_nul_is_a_space(facts_client: Client) -> None:
    assert facts_client.ask_facts("who\0directed Alien?").value["answer"] == "Ridley Scott"


def test_without_an_answer_it_says_why(facts_client: Client) -> None:
    for asked, topics in (("who directed Solaris?", None), ("who directed Jaws?", [])):
        value = facts_client.ask_facts(asked, picture=True, topics=topics).value
        assert (value["answer"], value["answers"], value["hops"]) == (None, [], [])
        assert value["no_answer"] == "no answer: no entity of the facts in the question"
        assert value["picture"] is None
    assert facts_client.ask_facts("who directed Solaris?").value["unknown_words"] == ["solaris"]


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        (b"{", 422, "body.1: JSON decode error"),
        (b"[" * 100_000, 400, "There was an error parsing the body"),
        (None, 422, "body: Input should be a valid"),
        ({}, 422, "body.question: Field required"),
        ({"question": 1}, 422, "body.question: Input should be a valid string"),
        ({"question": ""}, 422, "body.question: expected at least one word"),
        ({"question": " ?! "}, 422, "body.question: expected at least one word"),
        ({"question": "\0"}, 422, "body.question: expected at least one word"),
        ({"question": "who \ud800"}, 422, "body.question: Input should be a valid string"),
        ({"question": "a" * 1001}, 422, "body.question: String should have at most 1000"),
        ({"question": "who", "story": []}, 422, "body.story: Extra inputs are not permitted"),
        ({"question": "who", "topics": "Jaws"}, 422, "body.topics: Input should be a valid list"),
        ({"question": "who", "topics": [""] * 101}, 422, "body.topics: List should have at most"),
        ({"question": "who", "topics": ["a" * 1001]}, 422, "body.topics.0: String should have at"),
        ({"question": "who", "facts": 0}, 422, "body.facts: Input should be greater than or"),
        ({"question": "who", "facts": 101}, 422, "body.facts: Input should be less than or"),
        ({"question": "who", "facts": "5"}, 422, "body.facts: Input should be a valid integer"),
        ({"question": "who", "picture": 1}, 422, "body.picture: Input should be a valid boolean"),
        ({"question": "who", "model": "x"}, 404, "no model 'x'; expected one of films"),
    ],
)
def test_an_invalid_request_gets_one_sentence(
    facts_client: Client, asked: Any, status: int, sentence: str
) -> None:
    detail = facts_client.ask(asked, "/api/kb/answer").error(status)
    assert detail.startswith(sentence)
    assert len(detail) < 200


def test_a_request_without_a_json_content_type_gets_415(facts_client: Client) -> None:
    body = json.dumps({"question": "who directed Jaws?"}).encode()
    reply = facts_client.call("POST", "/api/kb/answer", body, **{"Content-Type": "text/plain"})
    assert reply.error(415).startswith("expected the header Content-Type: application/json")


def test_models_of_two_kinds(facts_client: Client) -> None:
    models = facts_client.get("/api/models").value
    assert [(one["name"], one["kind"]) for one in models] == [
        ("walks", "stories"), ("own/qa1", "stories"), ("films", "knowledge"),
    ]  # fmt: skip
    assert models[2] == {
        "name": "films", "kind": "knowledge", "test_error": 2.5, "words": models[2]["words"],
        "memory_slots": None, "hops": 2, "facts": 21, "entities": 24, "rows": None, "dim": None,
        "has_encoder": None,
    }  # fmt: skip
    story = {"story": ["Mary left."], "question": "Where is Mary?"}
    assert facts_client.ask(story).value["model"] == "walks"  # the first of its kind
    assert facts_client.ask_facts(ASKED).value["model"] == "films"


def test_a_request_to_a_model_of_the_other_kind_gets_404(
    facts_client: Client, client: Client, of_both_kinds: dict[str, Any]
) -> None:
    facts = "films answers questions about facts: use /api/kb/answer"
    story = {"story": ["Mary left."], "question": "Where is Mary?", "model": "films"}
    assert facts_client.ask(story).error(404) == facts
    assert facts_client.ask([story]).error(404) == facts
    assert facts_client.ask({"story": "", "model": "films"}, "/api/read").error(404) == facts
    for path in ("tasks", "stories", "words", "example"):
        query = f"/api/{path}?model=films" + "&task=1" * (path == "example")
        assert facts_client.get(query).error(404) == facts
    stories = "walks answers questions about stories: use /api/answer"
    assert facts_client.ask_facts(ASKED, model="walks").error(404) == stories
    for path in ("examples", "relations"):
        assert facts_client.get(f"/api/kb/{path}?model=walks").error(404) == stories
    assert client.ask_facts(ASKED).error(404) == "this server has no model of facts"
    with running({"films": of_both_kinds["films"]}) as only_facts:
        missing = only_facts.ask(story | {"model": None})
        assert missing.error(404) == "this server has no model of stories"
        assert only_facts.ask_facts("who directed Jaws?").value["answer"] == "Steven Spielberg"


def test_examples_are_questions_that_the_model_answers_right(
    facts_client: Client, films: KnowledgeModel
) -> None:
    examples = facts_client.get("/api/kb/examples").value
    assert examples == facts_client.get("/api/kb/examples?model=films").value
    assert len(examples) == 6
    assert examples == [one.model_dump() for one in example_questions(films)]
    values = {value for film in FILMS for value in film}
    for one in examples:
        assert films.answer(one["question"]).answer in one["answers"]
        assert set(one["answers"]) <= values
    assert all(": " in one["question"] for one in examples)  # a few relations only


def test_examples_about_generated_facts_are_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_examples, "_right", lambda model, examples, tried: examples)
    kb = generate(facts=300, seed=0)
    with torch.random.fork_rng():
        model = KnowledgeModel.untrained(kb, [], KnowledgeRecipe(word_dim=8))
    examples = example_questions(model)
    assert len(examples) == 6
    assert not any(": " in one.question for one in examples)


def test_examples_about_other_relations_name_them_in_turn() -> None:
    names = ("made by", "seen in", "bought for")
    triples = [
        (film, name.replace(" ", "_"), value)
        for film, *values in FILMS
        for name, value in zip(names, values, strict=True)
    ]
    kb = KnowledgeBase.from_triples(triples)
    torch.manual_seed(0)
    asked = [Question(f"{name} {film}?") for film, name, _ in triples]
    model = KnowledgeModel.untrained(kb, asked, KnowledgeRecipe(num_hops=1, word_dim=16))
    right = {f"{film}: {name.replace('_', ' ')}?": [value] for film, name, value in triples}
    examples = example_questions(model)
    assert 3 <= len(examples) <= 6
    for one in examples:
        assert one.answers == right[one.question]
        assert model.answer(one.question).answer == one.answers[0]
    assert len({one.question.split(": ")[1] for one in examples[:3]}) == 3
    others = {one.question for one in example_questions(model, seed=1)}
    assert others != {one.question for one in examples}


def test_an_example_has_all_right_answers_and_a_word() -> None:
    kb = KnowledgeBase.from_triples(
        [("$", "%", "&"), *(("film", "cast", f"actor {i}") for i in range(3)),
         *(("crowd", "cast", f"actor {i}") for i in range(9)), ("x" * 1000, "cast", "actor 1")]
    )  # fmt: skip
    model = KnowledgeModel.untrained(kb, [], KnowledgeRecipe(num_hops=1, word_dim=4))
    for example in example_questions(model):
        assert example.question == "film: cast?"
        assert example.answers == ["actor 0", "actor 1", "actor 2"]


def test_relations_are_listed_with_a_fact(facts_client: Client) -> None:
    assert facts_client.get("/api/kb/relations").value == {
        "relations": [
            {"relation": relation, "facts": 7, "subject": "Jaws", "object": value}
            for relation, value in zip(
                ("directed_by", "starred_actors", "release_year"), FILMS[0][1:], strict=True
            )
        ],
        "total": 3,
    }
    many = [("a", f"r{i}", "b") for i in range(300)] + [("c", "r299", "d")]
    relations = relations_of(KnowledgeBase.from_triples(many))
    assert (relations.total, len(relations.relations)) == (300, 200)
    assert (relations.relations[0].relation, relations.relations[0].facts) == ("r299", 2)


def test_a_slow_question_about_facts_does_not_delay_other_requests(
    of_both_kinds: dict[str, Any], films: KnowledgeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer, has_started = threading.Event(), threading.Event()
    answer = films.answer

    def slow(question: str, **more: Any) -> KnowledgeAnswer:
        if question == ASKED:
            has_started.set()
            assert may_answer.wait(20)
        return answer(question, **more)

    monkeypatch.setattr(films, "answer", slow)
    replies = []
    with running(of_both_kinds) as client:
        asking = threading.Thread(target=lambda: replies.append(client.ask_facts(ASKED)))
        asking.start()
        assert has_started.wait(20)
        story = {"story": ["Mary went to the garden."], "question": "Where is Mary?"}
        assert client.ask(story).value["answer"] == "garden"
        assert client.get("/api/models").status == 200
        may_answer.set()
        asking.join()
    assert replies[0].value["answers"]


def test_a_question_of_unassigned_characters_has_no_answer(facts_client: Client) -> None:
    value = facts_client.ask_facts("\U00050000", picture=True).value
    assert (value["answer"], value["hops"], value["picture"]) == (None, [], None)
    assert value["no_answer"] == "no answer: expected a question, got '\\U00050000'"


def test_the_pattern_and_the_model_agree_on_questions_without_a_word() -> None:
    pattern = re.compile(question_pattern())
    for code in (*range(0xD800), *range(0xE000, 0x20000), 0x20000, 0xE0100):
        character = chr(code)
        is_mark = unicodedata.category(character)[0] == "M"  # of a letter, or of a symbol
        has_word = bool(question_words(character)) and not is_mark
        assert bool(pattern.search(character)) is has_word, hex(code)
    for text in ("a\u0301", "(a)", "?\n½", "'s", "龘", "\U0001f600 1"):
        assert pattern.search(text)
        assert question_words(text)
    for text in ("", "=\u0338", "\U0001f600 ?", "\u200b", "\u2019"):
        assert not pattern.search(text)


def test_a_knowledge_run_is_loaded_with_its_test_error(
    tmp_path: Path, films: KnowledgeModel, model: Any
) -> None:
    films.save(tmp_path / "films")
    model.save(tmp_path / "walks")
    served = load([tmp_path / "films", tmp_path / "walks"])
    assert [type(one) for one in served.values()] == [ServedFacts, Served]
    films_served = served["films"]
    assert isinstance(films_served, ServedFacts)
    assert films_served.test_error is None
    loaded = films_served.model
    assert loaded.answer(ASKED).answers == films.answer(ASKED).answers


def test_a_run_of_another_kind_is_not_served(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "other", {}, RETRIEVAL)
    expected = "other: expected a story model or a knowledge model, got a retrieval model"
    with pytest.raises(MemhopError, match=re.escape(expected)):
        load([tmp_path / "other"])
