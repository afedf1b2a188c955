"""How wrongs are counted, and what counts as reading a supporting fact."""

from typing import Any

import pytest
import torch

from memhop.example import Example
from memhop.recipe import Recipe
from memhop.text.encoding import Sizes
from memhop.text.model import MemN2N
from memhop.text.vocabulary import UNKNOWN, Vocabulary
from memhop.training import evaluation
from memhop.training.evaluation import Evaluation, confusion, evaluate, score

WORDS = ["ask", "a", "b", "c", "yes", "no"]


def reader(hops: int = 1, **changes: Any) -> MemN2N:
    """A model made by hand: it reads most the last sentence that says "a", and answers "yes".

    The question ``ask`` looks along the first column; there "a" counts 5, and "b" and "c" less.
    What is read of "b" turns the answer into "no".
    """
    recipe = Recipe(memory_dim=3, num_hops=hops, temporal=False, position="bag", memory_slots=4,
                    tying="layerwise", **changes)  # fmt: skip
    model = MemN2N(Vocabulary(WORDS), recipe, Sizes(3, 4))
    place = {word: UNKNOWN + 1 + index for index, word in enumerate(WORDS)}
    with torch.no_grad():
        model.tables.zero_()
        b, a, c, w = model.tables
        b[place["ask"], 0] = 1
        a[place["a"], 0], a[place["b"], 0], a[place["c"], 0] = 5, 4, -3
        c[place["b"], 1] = 9
        w[place["yes"], 0], w[place["no"], 1] = 1, 1
        assert model.hop_map is not None
        model.hop_map.copy_(torch.eye(3))
    return model


def ask(story: str, answer: str, *facts: int) -> Example:
    return Example(tuple(story.split()), "Ask?", answer, facts)


def test_wrong_answers_are_counted() -> None:
    examples = [ask("a c", "yes"), ask("b c", "no"), ask("a c", "no"), ask("c", "mars")]
    assert evaluate(reader(), examples) == Evaluation(4, 50.0, None, 50.0, (), ("mars",))
    assert evaluate(reader(), examples[:2]).error == 0
    assert evaluate(reader(), examples[3:]).error == 100  # an answer never seen is wrong
    assert evaluate(reader(), examples).answers == ("yes", "no", "yes", "yes")
    assert confusion(examples, ("yes", "no", "yes", "yes")) == {
        "mars": {"yes": 1}, "no": {"no": 1, "yes": 1}, "yes": {"yes": 1}
    }  # fmt: skip
    assert evaluate(reader(), []) == Evaluation(0, 0.0, None)


def test_a_guess_without_a_known_word_is_no_answer() -> None:
    examples = [ask("a", "yes"), ask("", "yes"), ask("x y", "yes"), ask("x a", "yes"),
                Example(("a",), "Why?", "yes")]  # fmt: skip
    assert evaluate(reader(), examples).answers == ("yes", "", "", "yes", "")
    assert evaluate(reader(), examples).error == 60.0


def test_what_the_model_never_saw_is_named() -> None:
    asked = [ask("a x y.", "Yes"), ask("a x", "mars"), ask("z", "mars"), ask("a", "Venus")]
    result = evaluate(reader(), [*asked, ask("a", "yes"), ask("a", "YES")])
    assert result.unknown_words == ("x", "y", "z")
    assert result.unknown_answers == ("mars", "venus")
    assert result.majority_error == 50.0


def test_a_story_as_one_text_and_blank_statements_are_evaluated() -> None:
    plain = ask("c a c b", "yes", 1)
    text = plain._replace(story="C. A! C.\nB.")
    blank = Example(("c", "", "a", "...", "c", "b", "—"), "Ask?", "yes", (2, 1))
    wanted = evaluate(reader(), [plain])
    assert wanted.support_read == 100
    for other in (text, blank):
        assert evaluate(reader(), [other]) == wanted


def test_stories_longer_than_the_memory_are_counted() -> None:
    blank = Example(("a", "", "...", "c", "a", "c"), "Ask?", "yes")  # four sentences with a word
    asked = [ask("a c a c", "yes"), ask("a c a c a", "yes"), ask("c " * 9, "no"), blank]
    assert evaluate(reader(), asked).truncated_stories == 2


@pytest.mark.parametrize(("error", "failed"), [(0.0, False), (5.0, False), (5.1, True)])
def test_above_five_percent_is_failed(error: float, failed: bool) -> None:
    assert Evaluation(1000, error, None).failed == failed


@pytest.mark.parametrize(
    ("example", "read"),
    [
        (ask("a c", "yes", 0), 100),
        (ask("c a", "yes", 0), 0),
        (ask("c a", "yes", 1, 0), 100),
        (ask("c b", "yes", 1), 100),
        (ask("a b", "yes", 1), 0),
        (ask("a c c c", "yes", 0), 100),
        # a memory of four: the story's first statements are not in it
        (ask("c a c c c", "yes", 1), 100),
        (ask("c a c c c", "yes", 0), 0),
        (ask("a a c c a c", "yes", 4), 100),
        (ask("a c c c c c b", "yes", 0), 0),
        (ask("c c c a c c c", "yes", 0), 0),
        (ask("c c c a c c c", "yes", 3), 100),
        (ask("", "yes"), None),
        (ask("a", "yes"), None),
    ],
)
@pytest.mark.parametrize("mask", [True, False])
def test_the_strongest_sentence_is_a_supporting_fact(
    example: Example, read: float | None, mask: bool
) -> None:
    assert evaluate(reader(mask_empty_slots=mask), [example]).support_read == read


@pytest.mark.parametrize("mask", [True, False])
def test_the_strongest_is_a_sentence_where_nothing_is_stronger(mask: bool) -> None:
    """Unmasked, an empty slot (0) takes more attention than "c" (-3), but is no sentence."""
    longer = ask("c c b", "yes", 2)  # makes room for empty slots beside the shorter story
    assert evaluate(reader(mask_empty_slots=mask), [longer, ask("c", "yes", 0)]).support_read == 100


def test_several_restarts_are_refused() -> None:
    one = reader()
    several = MemN2N(one.vocabulary, one.recipe, one.sizes, restarts=2)
    with pytest.raises(ValueError, match=r"^evaluate: expected one model, got 2; pick\(\) one$"):
        evaluate(several, [ask("a", "yes")])


def test_any_hop_may_have_read_it() -> None:
    model = reader(hops=2)
    with torch.no_grad():
        assert model.hop_map is not None
        model.hop_map.copy_(-torch.eye(3))  # the second hop reads what the first would not
    example = ask("a c", "yes", 1)
    assert evaluate(reader(hops=2), [example]).support_read == 0
    assert evaluate(model, [example]).support_read == 100


EXAMPLES = [
    ask(
        " ".join("abc"[(n * m) % 3] for m in range(n % 7)),
        ("yes", "no", "mars")[n % 3],
        *[0][: n % 7],
    )
    for n in range(60)
]


@pytest.mark.parametrize("chunk", [1, 3, 50, 10**6])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, many = reader(hops=2), MemN2N(Vocabulary(WORDS), Recipe(), Sizes(3, 6), restarts=3)
    encoded = many.encoder.encode(EXAMPLES)
    whole = evaluate(model, EXAMPLES), *score(many, encoded)
    monkeypatch.setattr(evaluation, "_CHUNK", chunk)
    parts = evaluate(model, EXAMPLES), *score(many, encoded)
    assert parts[0] == whole[0]
    assert torch.equal(parts[1], whole[1])
    torch.testing.assert_close(parts[2], whole[2], rtol=1e-6, atol=0)


def test_restarts_are_scored_side_by_side() -> None:
    torch.manual_seed(1)
    many = MemN2N(Vocabulary(WORDS), Recipe(init_std=1.0), Sizes(3, 6), restarts=3)
    examples = [example for example in EXAMPLES if example.story]
    errors, losses = score(many, many.encoder.encode(examples))
    assert errors.dtype == losses.dtype == torch.float64
    for restart in range(3):
        single = many.pick(restart)
        error, loss = score(single, single.encoder.encode(examples))
        assert error.shape == (1,)
        assert error.item() == errors[restart] == pytest.approx(evaluate(single, examples).error)
        assert loss.item() == pytest.approx(losses[restart].item(), rel=1e-5)


def test_the_scores_of_a_restart_are_the_same_bits_beside_any_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "_CHUNK", 150)  # some of the examples at once
    torch.manual_seed(2)
    many, few = (
        MemN2N(Vocabulary(WORDS), Recipe(init_std=1.0), Sizes(3, 6), restarts=restarts)
        for restarts in (6, 2)
    )
    few.load_state_dict({name: weight[3:5] for name, weight in many.state_dict().items()})
    encoded = many.encoder.encode(EXAMPLES)
    for whole, part in zip(score(many, encoded), score(few, encoded), strict=True):
        assert torch.equal(whole[3:5], part)


def test_the_loss_is_that_of_the_right_answers() -> None:
    model = reader()
    examples = [ask("a c", "yes"), ask("b c", "no"), ask("a", "mars")]
    total = 0.0
    for example in examples[:2]:
        answer = model.answer(example.story, example.question)
        total -= torch.tensor(answer.probability).log().item()
        assert answer.answer == example.answer
    _, loss = score(model, model.encoder.encode(examples))
    assert loss.item() == pytest.approx(total / 3, rel=1e-5)
    error, loss = score(model, model.encoder.encode([]))
    assert (error.item(), loss.item()) == (0, 0)


def test_a_score_leaves_no_trace() -> None:
    model = reader()
    encoded = model.encoder.encode(EXAMPLES)
    score(model, encoded)
    assert all(weight.grad is None for weight in model.parameters())
    model(model.batch_of(encoded))[0].sum().backward()
