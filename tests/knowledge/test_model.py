"""KnowledgeModel: answers, ties, thresholds, what it does not know, and what it dropped."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from memhop import MemN2N
from memhop.errors import MemhopError
from memhop.knowledge import (
    KnowledgeAnswer,
    KnowledgeBase,
    KnowledgeModel,
    KnowledgeRecipe,
    Question,
    evaluate,
)
from memhop.knowledge.encoding import batch_of
from memhop.knowledge.evaluation import losses
from memhop.knowledge.model import ranked_row

from .worlds import FILM_QUESTIONS, TINY, film_model, films, same_bits

HOPS_1 = KnowledgeRecipe(word_dim=8, num_hops=1)


def star(targets: int, recipe: KnowledgeRecipe, relations: int = 1) -> KnowledgeModel:
    """Return an untrained model of facts from one entity to many."""
    triples = [("Sun", f"r{number % relations}", f"planet {number}") for number in range(targets)]
    kb = KnowledgeBase.from_triples(triples)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KnowledgeModel.untrained(kb, [Question("what is around the Sun?", ("Sun",))], recipe)


def test_a_loaded_model_has_the_same_bits_and_answers(tmp_path: Path) -> None:
    model = film_model()
    model.save(tmp_path / "run")
    loaded = KnowledgeModel.load(tmp_path / "run")
    assert same_bits(model, loaded)
    assert (loaded.recipe, loaded.kb.entities) == (model.recipe, model.kb.entities)
    for question in FILM_QUESTIONS:
        assert loaded.answer(question.text) == model.answer(question.text)
    loaded.save(tmp_path / "again")
    for path in (tmp_path / "run").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    with pytest.raises(MemhopError, match="never overwritten"):
        model.save(tmp_path / "run")
    assert all(weight.requires_grad for weight in loaded.network.parameters())


def test_loading_leaves_the_random_generator_of_torch(tmp_path: Path) -> None:
    film_model().save(tmp_path / "run")
    state = torch.get_rng_state()
    KnowledgeModel.load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loaded_model_trains(tmp_path: Path) -> None:
    film_model().save(tmp_path / "run")
    loaded = KnowledgeModel.load(tmp_path / "run")
    before = loaded.network.relations.detach().clone()
    step = torch.optim.SGD(loaded.network.parameters(), 0.5)
    encoded = [loaded.encoder.encode(question) for question in FILM_QUESTIONS]
    batch = batch_of(encoded)
    loss = losses(loaded, loaded.track(batch), batch).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    step.step()
    assert not torch.equal(loaded.network.relations, before)
    again = losses(loaded, loaded.track(batch), batch).sum()
    assert float(again.detach()) != float(loss.detach())


def test_the_kinds_of_runs_are_not_confused(tmp_path: Path) -> None:
    film_model().save(tmp_path / "run")
    with pytest.raises(MemhopError, match="expected a story model, got a knowledge model: use"):
        MemN2N.load(tmp_path / "run")
    golden = Path(__file__).parents[1] / "golden"
    with pytest.raises(MemhopError, match="expected a knowledge model, got a story model: use"):
        KnowledgeModel.load(golden)


@pytest.mark.parametrize(
    ("weights", "nodes", "expected"),
    [
        ([0.2, 0.5, 0.3], [7, 1, 4], [1, 4, 7]),
        ([0.25, 0.5, 0.25], [7, 1, 4], [1, 4, 7]),
        ([0.25, 0.25 * (1 + 1e-7), 0.5], [4, 7, 9], [9, 4, 7]),  # equal up to rounding
        ([0.25, 0.25 * (1 + 1e-3), 0.5], [4, 7, 9], [9, 7, 4]),
        ([0.0, 1.0], [0, 3], [3]),
        ([0.0, 0.0], [0, 3], []),
        ([], [], []),
        ([1e-30, 1e-30, 2e-30], [5, 2, 8], [8, 2, 5]),
    ],
)
def test_ranking(weights: list[float], nodes: list[int], expected: list[int]) -> None:
    found = ranked_row(np.array(weights, dtype=float), np.array(nodes, dtype=int))
    assert found.entities.tolist() == expected
    assert len(found.probabilities) == len(expected)
    if expected:
        assert found.probabilities.sum() == pytest.approx(1)


def test_equal_answers_are_in_the_order_of_the_facts() -> None:
    answer = star(20, HOPS_1).answer("what is around the Sun?")
    assert [name for name, _ in answer.answers] == [f"planet {number}" for number in range(20)]
    assert answer.runners_up == ()
    assert sum(share for _, share in answer.answers) == pytest.approx(1)


def test_answers_have_a_tenth_of_the_weight_of_the_strongest() -> None:
    model = star(6, HOPS_1, relations=6)
    shares = np.array([0.4, 0.3, 0.2, 0.0405, 0.0395, 0.02])
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.zero_()
        model.network.words.weight[2:] = 1 / 8
        model.network.scale.fill_(1)
        model.network.relations[:6] = torch.from_numpy(np.log(shares)).float()[:, None]
        model.network.words.weight[:, 1:] = 0
        model.network.words.weight[2:, 0] = 1
        model.network.relations[:, 1:] = 0
    answer = model.answer("what is around the Sun?")
    assert [name for name, _ in answer.answers] == [f"planet {n}" for n in range(4)]
    assert [name for name, _ in answer.runners_up] == ["planet 4", "planet 5"]
    found = [share for _, share in (*answer.answers, *answer.runners_up)]
    np.testing.assert_allclose(found, shares, rtol=1e-5)


def test_many_answers_are_cut() -> None:
    answer = star(60, HOPS_1).answer("what is around the Sun?")
    assert (len(answer.answers), len(answer.runners_up)) == (50, 3)
    assert answer.shares().endswith(" and 40 more")
    assert answer.hops[0].num_facts == 60


def test_the_facts_of_an_answer() -> None:
    model = film_model()
    answer = model.answer("where was the director of Metropolis born?", facts=1000)
    assert answer.topics == ("Metropolis",)
    known = {(s, r, o) for s, r, o in zip(*columns(films()), strict=True)}
    for hop in answer.hops:
        assert len(hop.facts) == hop.num_facts
        assert {fact[:3] for fact in hop.facts} <= known
        assert sum(fact.support for fact in hop.facts) == pytest.approx(1)
        assert sum(fact.weight for fact in hop.facts) == pytest.approx(1)
        assert [fact.support for fact in hop.facts] == sorted(
            (fact.support for fact in hop.facts), reverse=True
        )
        assert [word for word, _ in hop.words] == [
            "where", "was", "the", "director", "of", "<topic>", "born",
        ]  # fmt: skip
        assert sum(share for _, share in hop.words) == pytest.approx(1)
    first = answer.hops[0].facts
    assert {fact.subject for fact in first} == {"Metropolis"}
    last = answer.hops[-1].facts[0]
    assert (last.subject if last.is_inverse else last.object) == answer.answer
    few = model.answer("where was the director of Metropolis born?", facts=1)
    assert [len(hop.facts) for hop in few.hops] == [1] * len(answer.hops)
    assert [hop.num_facts for hop in few.hops] == [hop.num_facts for hop in answer.hops]


def columns(kb: KnowledgeBase) -> tuple[list[str], list[str], list[str]]:
    """Return subjects, relations and objects by name."""
    s, r, o = kb.facts.T.tolist()
    return (
        [kb.labels[one] for one in s],
        [kb.relation_labels[one] for one in r],
        [kb.labels[one] for one in o],
    )


@pytest.mark.parametrize("facts", [0, -1, True, 2.5])
def test_a_wrong_number_of_facts_is_an_error(facts: int) -> None:
    with pytest.raises(MemhopError, match=r"^facts: expected an integer from 1"):
        film_model().answer("who directed M?", facts=facts)


def test_unknown_words_and_entities_are_named() -> None:
    model = film_model()
    answer = model.answer("who photographed Metropolis in Berlin?")
    assert answer.unknown_words == ("photographed", "berlin")
    assert answer.topics == ("Metropolis",)
    answer = model.answer("who directed [Faust] and [M]?")
    assert (answer.topics, answer.unknown_entities) == (("M",), ("Faust",))
    assert answer.answers
    answer = model.answer("who directed it?", topics=["Nosferatu", "It"])
    assert (answer.topics, answer.unknown_entities) == (("Nosferatu",), ("It",))
    answer = model.answer("who directed Faust?")
    assert (answer.answer, answer.answers, answer.hops) == (None, (), ())
    assert answer.reason == "no answer: no entity of the facts in the question"
    assert model.answer("who directed M?", topics=()).reason == answer.reason


def test_no_path_has_a_reason() -> None:
    kb = KnowledgeBase.from_triples([("a", "to", "b")])
    recipe = dataclasses.replace(HOPS_1, inverse=False)
    model = KnowledgeModel.untrained(kb, [Question("where to?")], recipe)
    answer = model.answer("where to?", topics=["b"])
    assert answer.reason == "no answer: no path over the facts from b"


@pytest.mark.parametrize("question", ["", " ", "?", "...", "\0", "a\udc00b"])
def test_a_question_without_a_word_is_an_error(question: str) -> None:
    with pytest.raises(MemhopError, match=r"^(expected a question|question)"):
        film_model().answer(question)


def two_steps(width: int, recipe: KnowledgeRecipe) -> KnowledgeAnswer:
    """Return the answer about facts from a topic to ``width`` entities, and from these to one."""
    triples = [("root", "to", f"n{number}") for number in range(width)]
    triples += [(f"n{number}", "then", "end") for number in range(width)]
    kb = KnowledgeBase.from_triples(triples)
    model = KnowledgeModel.untrained(kb, [Question("where is root?")], recipe)
    with torch.no_grad():  # the last hop is the second
        model.network.stop.bias.copy_(torch.tensor([-50.0, 50.0]))
    result = evaluate(model, [Question("where is root?", ("end",)), Question("to?", ("end",))])
    answer = model.answer("where is root?")
    assert result.estimated == (answer.dropped > 0)
    return answer


def test_dropped_is_zero_exactly_if_nothing_was_dropped() -> None:
    recipe = KnowledgeRecipe(word_dim=8, num_hops=2, inverse=False, max_entities=7, min_weight=0.01)
    for width in range(1, 8):
        answer = two_steps(width, recipe)
        assert [hop.dropped for hop in answer.hops] == [0.0, 0.0]
    for width in (8, 20):
        answer = two_steps(width, recipe)
        assert answer.hops[0].dropped == 0.0
        assert answer.hops[1].dropped == pytest.approx(1 - 7 / width)
        assert answer.dropped == answer.hops[1].dropped
        assert answer.answer == "end"
    wide = dataclasses.replace(recipe, max_entities=1000)
    for width in (99, 101):  # a hundredth of all weight, and less
        assert two_steps(width, wide).dropped == 0.0


def test_the_least_dropped_weight_is_reported() -> None:
    kb = KnowledgeBase.from_triples([("a", "r", "b"), ("a", "s", "c"), ("b", "r", "d")])
    recipe = KnowledgeRecipe(word_dim=8, num_hops=2, inverse=False)
    model = KnowledgeModel.untrained(kb, [Question("to?")], recipe)
    with torch.no_grad():  # the relation s has a weight of exp(-50)
        for weight in model.network.parameters():
            weight.zero_()
        model.network.words.weight[2:, 0] = 1
        model.network.scale.fill_(1)
        model.network.relations[1, 0] = -50
    [(tracked, _)] = model.ranked([model.encoder.encode(Question("to?", topics=("a",)))])
    assert tracked.hops[0].after.weights.tolist() == pytest.approx([1, 1.9e-22], rel=0.1)
    assert float(tracked.hops[1].dropped) == pytest.approx(1.9e-22, rel=0.1)


def test_names_with_markup_and_escape_codes_are_literal() -> None:
    names = "[bold]Ann[/bold]", "<b>&amp;\x1b[31mred", "a\nb\x07"
    kb = KnowledgeBase.from_triples(
        [(names[0], "[red]r[/red]", names[1]), (names[0], "s", names[2])]
    )
    model = KnowledgeModel.untrained(kb, [Question("who?")], HOPS_1)
    answer = model.answer("who?", topics=[names[0]])
    assert {name for name, _ in answer.answers + answer.runners_up} == set(names[1:])
    text = str(answer.picture())
    assert "[bold]Ann[/bold]" in text
    assert "[red]r[/red]" in text
    assert "<b>&amp;\\x1b[31mred" in text
    svg, html = answer.picture().svg(answer.title()), answer._repr_html_()
    for page in (svg, html):
        assert "\x1b" not in page
        assert "<b>" not in page.replace("<div><b>", "").replace("&#8195;<b>", "")
        assert "&lt;b&gt;&amp;amp;" in page


def test_evaluation_counts() -> None:
    model = film_model()
    questions = [
        *FILM_QUESTIONS,
        Question("who directed Faust?", ("Murnau",)),
        Question("who directed Nosferatu?", ("Nobody", "Murnau")),
        Question("which films did Fritz Lang direct?", ("M",)),
    ]
    result = evaluate(model, questions)
    hits = listed = 0
    right = {
        text: {a for one in questions if one.text == text for a in one.answers}
        for text, _, _ in questions
    }
    for one in questions:
        first = model.answer(one.text).answer
        hits += first in right[one.text]
        listed += first == one.answers[0]
    assert (result.questions, result.unanswered, result.without_topic) == (8, 1, 1)
    assert result.hits == pytest.approx(100 * hits / 8)
    assert result.listed_hits == pytest.approx(100 * listed / 8)
    assert (result.unknown_words, result.unknown_answers) == (("faust",), ("Nobody",))
    assert result.estimated == 0
    empty = evaluate(model, [])
    assert (empty.questions, empty.hits) == (0, 0)


def test_a_word_dim_that_is_odd_is_an_error() -> None:
    with pytest.raises(MemhopError, match="word_dim: expected an even number, got 7"):
        dataclasses.replace(TINY, word_dim=7)


def test_topics_as_one_string_are_an_error() -> None:
    message = "topics: expected a list of names, got 'Metropolis'"
    with pytest.raises(MemhopError, match=f"^{message}$"):
        film_model().answer("who directed it?", topics="Metropolis")


@pytest.mark.parametrize("question", ["wer war Metropolis", "[Metropolis]"])
def test_a_question_without_a_known_word_has_no_answer(question: str) -> None:
    answer = film_model().answer(question)
    assert (answer.topics, answer.answers) == (("Metropolis",), ())
    assert answer.reason == (
        "no answer: the model knows no word of the question besides its entities"
    )


def test_a_model_is_float32_whatever_the_default_dtype(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        model = film_model()
        answer = model.answer("who directed M?")
        model.save(tmp_path / "run")
        assert KnowledgeModel.load(tmp_path / "run").answer("who directed M?") == answer
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(weight.dtype == torch.float32 for weight in model.network.parameters())
