"""The HTTP API: answers of the model, one-sentence errors, only own files."""

import json
import re
from typing import Any

import pytest

from memhop.text.model import MemN2N
from memhop.tokenizer import split_words

from .conftest import Client

STORY = ["Mary went to the garden.", "John moved to the office.", "Mary moved to the kitchen."]
ASKED = {"story": STORY, "question": "Where is Mary?"}


def test_an_answer_equals_the_answer_of_the_model(client: Client, model: MemN2N) -> None:
    reply = client.ask(ASKED)
    expected = model.answer(STORY, "Where is Mary?")
    assert reply.status == 200
    assert reply.value["answer"] == expected.answer == "kitchen"
    assert reply.value["probability"] == pytest.approx(expected.probability, abs=1e-6)
    ranked = [(one["answer"], one["probability"]) for one in reply.value["runners_up"]]
    assert [word for word, _ in ranked] == [word for word, _ in expected.runners_up]
    attention = [pytest.approx(hop, abs=1e-6) for hop in expected.attention.tolist()]
    assert reply.value["attention"] == attention
    assert reply.value["sentences"] == STORY
    assert (reply.value["model"], reply.value["unknown_words"]) == ("walks", [])


def test_a_text_is_split_as_a_model_splits_it(client: Client) -> None:
    as_text = client.ask({"story": " ".join(STORY), "question": "Where is Mary?"}).value
    assert as_text == client.ask(ASKED).value


def test_several_questions_are_answered_in_order_each_by_its_model(
    client: Client, model: MemN2N
) -> None:
    asked = [
        {"story": STORY[:length], "question": f"Where is {name}?", "model": which}
        for length in (0, 1, 3)
        for name in ("Mary", "John")
        for which in ("walks", "own/qa1")
    ]
    answers = client.ask(asked).value
    assert [one["model"] for one in answers] == ["walks", "own/qa1"] * 6
    for one, answer in zip(asked, answers, strict=True):
        assert (answer["question"], answer["sentences"]) == (one["question"], one["story"])
        if one["model"] == "walks":
            expected = model.answer(one["story"], str(one["question"]))
            assert answer["probability"] == pytest.approx(expected.probability, abs=1e-5)
    assert len(answers[1]["attention"]) == 2
    assert answers[-1]["unknown_words"] == [
        "mary", "went", "to", "garden", "john", "moved", "office", "kitchen", "where", "is"
    ]  # fmt: skip


def test_an_empty_list_has_no_answers(client: Client) -> None:
    assert client.ask([]).value == []


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        (b"{", 422, "body.1: JSON decode error"),
        (b"[" * 100_000, 400, "There was an error parsing the body"),
        (None, 422, "body: Input should be a valid"),
        ({"story": []}, 422, "body.question: Field required"),
        ([ASKED, {"question": "Who?"}], 422, "body.1.story: Field required"),
        ({"story": [1], "question": "Who?"}, 422, "body.story.0: Input should be a valid string"),
        ({"story": [], "question": "?!"}, 422, "body.question: expected at least one word"),
        ({"story": [], "question": "\x1c."}, 422, "body.question: expected at least one word"),
        ({"story": [], "question": "\x85"}, 422, "body.question: expected at least one word"),
        (ASKED | {"modle": "walks"}, 422, "body.modle: Extra inputs are not permitted"),
        (ASKED | {"model": "../x"}, 404, "no model '../x'; expected one of walks, own/qa1"),
        (ASKED | {"question": "Who \ud800?"}, 422, "body.question: Input should be a valid string"),
        (ASKED | {"story": ["\udc00"]}, 422, "body.story.0: Input should be a valid string"),
        (ASKED | {"story": ["a"] * 1001}, 422, "body.story: List should have at most 1000 items"),
        (ASKED | {"story": "a\n" * 1001}, 422, "body.story: List should have at most 1000 items"),
        (
            [ASKED | {"story": ["a"] * 500}] * 41,
            422,
            "body: expected at most 20,000 sentences in all stories, got 20,500",
        ),
        (ASKED | {"\x1b\n" * 9999: 1}, 422, r"body.'\x1b\n\x1b\n\x1b\n"),
        (ASKED | {"story": ["a" * 1001]}, 422, "body.story.0: String should have at most 1000"),
        (ASKED | {"question": "a" * 1001}, 422, "body.question: String should have at most 1000"),
        ([ASKED] * 257, 422, "body: List should have at most 256 items"),
    ],
)
def test_an_invalid_request_gets_one_sentence(
    client: Client, asked: Any, status: int, sentence: str
) -> None:
    detail = client.ask(asked).error(status)
    assert detail.startswith(sentence)
    assert len(detail) < 200


def test_the_api_and_the_tokenizer_agree_on_questions_without_a_word(client: Client) -> None:
    odd = [*map(chr, range(0x21)), "\x7f", "\x85", "\xa0", "\u200b", "\u3000", "\ufeff", ".", "a"]
    for text in (*odd, *(f"{one}." for one in odd)):
        status = client.ask({"story": [], "question": text}).status
        assert status == (200 if split_words(text) else 422), repr(text)


def test_a_page_of_another_site_cannot_send_a_form(client: Client) -> None:
    body = json.dumps(ASKED).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        reply = client.call("POST", "/api/answer", body, **{"Content-Type": kind})
        assert reply.error(415).startswith("expected the header Content-Type: application/json")
    assert "access-control-allow-origin" not in client.ask(ASKED).headers


def test_a_request_without_a_json_content_type_gets_415(client: Client) -> None:
    body = json.dumps(ASKED).encode()
    expected = "expected the header Content-Type: application/json, got "
    for path in ("/api/answer", "/api/read"):
        assert client.call("POST", path, body).error(415) == expected + "none"
        assert client.call("POST", path).error(415) == expected + "none"
        curl = client.call(
            "POST", path, body, **{"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert curl.error(415) == expected + "'application/x-www-form-urlencoded'"
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"):
        assert client.call("POST", "/api/answer", body, **{"Content-Type": kind}).status == 200
    odd = client.call("POST", "/api/answer", b"[", **{"Content-Type": "x" * 500})
    assert len(odd.error(415)) < 200


def test_words_and_stories_of_a_model(client: Client, model: MemN2N) -> None:
    stories = client.get("/api/stories").value
    assert [one["story"] for one in stories] == [list(one.story) for one in model.examples]
    assert len(stories) == 3
    assert client.get("/api/stories?model=own/qa1").value == []
    words = client.get("/api/words?model=own/qa1").value
    assert words == {"words": ["has", "it", "sold", "the", "tom", "who", "zebra"], "total": 7}
    assert client.get("/api/words?model=no").error(404)


def test_the_list_of_models(client: Client) -> None:
    walks, own = client.get("/api/models").value
    assert walks == {
        "name": "walks", "kind": "stories", "test_error": 1.5, "words": 19, "memory_slots": 10,
        "hops": 3, "facts": None, "entities": None, "rows": None, "dim": None, "has_encoder": None,
    }  # fmt: skip
    assert (own["name"], own["test_error"], own["hops"]) == ("own/qa1", None, 2)


def test_known_tasks_have_new_examples(client: Client, model: MemN2N) -> None:
    (task,) = client.get("/api/tasks?model=walks").value
    assert (task["task"], task["title"]) == (1, "single supporting fact")
    assert 0 <= task["error"] < 20
    made = [client.get("/api/example?task=1").value for _ in range(8)]
    assert len({tuple(one["story"]) for one in made}) > 4
    for one in made:
        assert 2 <= len(one["story"]) <= 10
        assert one["answer"] in model.vocabulary
        assert client.ask({"story": one["story"], "question": one["question"]}).status == 200
    assert client.get("/api/tasks?model=own/qa1").value == []


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/api/example?task=2", 404, "walks knows no task 2; it knows 1"),
        ("/api/example?task=1&model=own/qa1", 404, "own/qa1 knows no task 1; it knows none"),
        ("/api/example?task=one", 422, "query.task: Input should be a valid integer"),
        ("/api/example?task=21", 422, "query.task: Input should be less than or equal to 20"),
        ("/api/tasks?model=%ff%00", 404, "no model '\ufffd\\x00'; expected one of walks, own/qa1"),
        ("/api/answer", 405, "Method Not Allowed"),
        ("/elsewhere", 404, "Not Found"),
    ],
)
def test_missing_things_get_a_sentence(
    client: Client, path: str, status: int, sentence: str
) -> None:
    assert client.get(path).error(status).startswith(sentence)


def test_healthz(client: Client) -> None:
    assert client.get("/healthz").value["status"] == "ok"


@pytest.mark.parametrize(
    "path",
    ["/page/../api.py", "/page/%2e%2e/api.py", "/page/..%2fapi.py", "/page//etc/passwd", "/page/"],
)
def test_only_files_of_the_page_are_served(client: Client, path: str) -> None:
    assert client.get(path).status == 404


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_only_own_files(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 200
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    named = re.findall(r"""(?:src|href)=["']([^"']+)""", reply.body.decode())
    assert len(named) > 2
    for name in named:
        assert name.startswith("/")
        assert not name.startswith("//")
        assert client.get(name).status == 200


def test_inline_scripts_are_allowed_only_for_openapi(
    client: Client,
) -> None:
    assert "unsafe-inline" in client.get("/docs").headers["content-security-policy"]
    assert "unsafe-inline" not in client.get("/").headers["content-security-policy"]


def test_the_openapi_schema_has_every_error(client: Client) -> None:
    paths = client.get("/openapi.json").value["paths"]
    assert sorted(paths) == [
        "/api/answer", "/api/example", "/api/kb/answer", "/api/kb/examples", "/api/kb/relations",
        "/api/models", "/api/read", "/api/store/rows", "/api/store/search/row",
        "/api/store/search/text", "/api/stories", "/api/tasks", "/api/words", "/healthz",
    ]  # fmt: skip
    for path in ("/api/answer", "/api/kb/answer", "/api/store/search/row"):
        answer = paths[path]["post"]["responses"]
        assert sorted(answer) == ["200", "400", "404", "408", "413", "415", "422", "429"]
        for status in sorted(answer)[1:]:
            schema = answer[status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
