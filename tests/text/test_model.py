"""The text model against the paper's formulas in plain loops, and what ``answer`` promises."""

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from memhop.example import Example
from memhop.recipe import Recipe
from memhop.text.answer import Answer
from memhop.text.encoding import Batch, Sizes
from memhop.text.model import MemN2N
from memhop.text.vocabulary import UNKNOWN, Vocabulary
from memhop.tokenizer import split_words
from memhop.training.sampler import chosen_rows
from tests.text import memn2n_oracle as oracle

WORDS = ["mary", "john", "went", "to", "the", "garden", "kitchen", "where", "is", "ball"]
WORDS += ["apple,milk", "took", "old", "town"]
STORIES = [
    [],
    ["Mary went to the garden."],
    ["John took the ball.", "", "Mary went to the kitchen."],
    ["Mary met the Queen of Mars."],  # words never seen
    ["the the the ball the ball mary john is where the went took to."],  # long
    [f"{who} went to the {place}" for who in ("Mary", "John") for place in ("garden", "kitchen")],
    [f"{'Mary' if n % 3 else 'John'} {'took' if n % 2 else 'went to'} the ball." for n in range(9)],
]
QUESTIONS = [
    "Where is the ball?",
    "Mary?",
    "Who is the Queen of Mars and the ball of Mary and John?",
]
PAIRS = zip(STORIES + STORIES[-2:], itertools.cycle(QUESTIONS))
EXAMPLES = [Example(tuple(story), question, "garden") for story, question in PAIRS]
SIZES = Sizes(sentence_words=6, memory_slots=5)

FORMS: list[dict[str, Any]] = [
    {"tying": tying, "position": position, "temporal": temporal, "relu": relu, "num_hops": hops}
    for tying, position, temporal, (relu, hops) in itertools.product(
        ("adjacent", "layerwise"),
        ("bag", "paper", "code"),
        (True, False),
        ((False, 3), (True, 2), (False, 1)),
    )
]
FORMS += [
    {"memory_dim": 8, "heads": 2},
    {"memory_dim": 6, "heads": 3, "hop_units": 5, "tying": "layerwise", "relu": True},
    {"memory_dim": 4, "heads": 4, "position": "bag", "num_hops": 2},
    {"hop_units": 3, "temporal": False},
]


def make(seed: int = 0, *, restarts: int | None = None, **changes: Any) -> MemN2N:
    """A model with drawn weights, large enough for the softmax to be far from even."""
    torch.manual_seed(seed)
    recipe = Recipe(**{"memory_dim": 7, "memory_slots": 5, "init_std": 0.6, **changes})
    return MemN2N(Vocabulary(WORDS), recipe, SIZES, restarts=restarts)


def oracle_settings(model: MemN2N) -> oracle.Settings:
    recipe = model.recipe
    return oracle.Settings(
        list(WORDS), recipe.memory_dim, recipe.num_hops, recipe.tying, recipe.position,
        recipe.temporal, recipe.relu, recipe.mask_empty_slots, SIZES.sentence_words,
        SIZES.memory_slots, recipe.heads, recipe.hop_units,
    )  # fmt: skip


def weights_of(model: MemN2N) -> dict[str, NDArray[np.float64]]:
    return {name: w.detach().double().numpy() for name, w in model.state_dict().items()}


def check(model: MemN2N, tolerance: float, *, softmax: bool) -> None:
    """All examples in one batch equal the oracle one by one."""
    encoded = model.encoder.encode(EXAMPLES)
    scores, attention = model(model.batch_of(encoded), softmax=softmax, need_weights=True)
    truth, weights = oracle_settings(model), weights_of(model)
    for index, example in enumerate(EXAMPLES):
        wanted, read = oracle.forward(
            weights, example.story, example.question, truth, softmax=softmax
        )
        np.testing.assert_allclose(scores[index].detach(), wanted, rtol=tolerance, atol=tolerance)
        got = attention[index].detach().numpy()
        np.testing.assert_allclose(got[:, : read.shape[1]], read, rtol=tolerance, atol=tolerance)
        assert (got[:, read.shape[1] :] == 0).all()


@pytest.mark.parametrize("mask_empty_slots", [True, False])
@pytest.mark.parametrize("softmax", [True, False])
def test_every_form_equals_the_formulas(softmax: bool, mask_empty_slots: bool) -> None:
    for seed, form in enumerate(FORMS):
        scale = 0.6 if softmax else 0.2  # without the softmax hops multiply
        model = make(seed, **form, mask_empty_slots=mask_empty_slots, init_std=scale)
        check(copy.deepcopy(model).double(), 1e-9, softmax=softmax)
        check(model, 2e-4, softmax=softmax)


def test_nil_and_unknown_rows_are_read_as_they_are() -> None:
    """The formulas hold whatever stands in the rows that training holds at zero."""
    model = make(3).double()
    with torch.no_grad():
        model.tables[:, model._num_ages + UNKNOWN] = 0.3
    check(model, 1e-9, softmax=True)


def test_drawn_ages_and_empty_slots_equal_the_formulas() -> None:
    for mask in (True, False):
        model = make(4, mask_empty_slots=mask).double()
        story = ("Mary took the ball.", "John went to the garden.")
        encoded = model.encoder.encode([Example(story, "Where is Mary?", "ball")])
        first, second = encoded.slots[0, :2].tolist()
        batch = model.batch_of(encoded)._replace(
            slots=torch.tensor([[first, 0, second, 0, 0]]),
            ages=torch.tensor([[5, 3, 2, 0, 0]]),
            lengths=torch.tensor([3]),
        )
        scores, attention = model(batch, need_weights=True)
        wanted, read = oracle.forward(
            weights_of(model),
            [story[0], None, story[1]],
            "Where is Mary?",
            oracle_settings(model),
            ages=[5, 3, 2],
        )
        np.testing.assert_allclose(scores[0].detach(), wanted, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(attention[0, :, : read.shape[1]].detach(), read, rtol=1e-9)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("blank", ["", "  ", "...", "—", "\u200b", "«»", "***"])
def test_items_without_a_word_take_no_slot(blank: str, mask: bool) -> None:
    model = make(1, mask_empty_slots=mask)
    story = list(STORIES[-1])
    plain = model.answer(story, "Where is Mary?")
    mixed = [item for sentence in story for item in (blank, sentence)] + [blank] * 9
    answer = model.answer(mixed, "Where is Mary?")
    assert (answer.probability, answer.truncated) == (plain.probability, plain.truncated)
    assert answer.sentences == tuple(mixed)
    assert torch.equal(answer.attention[:, 1:18:2], plain.attention)
    assert not answer.attention[:, 0:18:2].any()
    assert not answer.attention[:, 18:].any()
    assert model.answer([blank] * 9, "Where is Mary?").attention.shape == (3, 9)


def test_the_sentences_beyond_the_memory_are_counted() -> None:
    model = make(1)
    counts = [model.answer(["Mary went."] * n, "Where is Mary?").truncated for n in (0, 4, 5, 6, 9)]
    assert counts == [0, 0, 0, 1, 4]
    assert model.answer("Mary went. " * 7 + "... !", "Where is Mary?").truncated == 2


def test_an_answer_is_spelled_as_in_training() -> None:
    words = Vocabulary(WORDS, {"mary": "Mary", "apple,milk": "Apple,Milk"})
    model = MemN2N(words, make().recipe, SIZES)
    answer = model.answer("Mary went.", "Where is Mary?")
    shown = {answer.answer, *(word for word, _ in answer.runners_up)}
    few = MemN2N(Vocabulary(["mary"], {"mary": "Mary"}), Recipe(memory_dim=2), Sizes(1, 1))
    assert few.answer("", "Mary?").answer == "Mary"
    assert shown <= {*WORDS, "Mary", "Apple,Milk"} - {"mary", "apple,milk"}


def test_only_the_last_sentences_are_the_memory() -> None:
    model = make(1)
    story = list(STORIES[-1])
    whole = model.answer(story, "Where is Mary?")
    last = model.answer(story[-5:], "Where is Mary?")
    assert whole.probability == last.probability
    assert torch.equal(whole.attention[:, -5:], last.attention)
    assert whole.attention.shape == (3, 9)
    assert not whole.attention[:, :4].any()


@pytest.mark.parametrize("form", FORMS[::4], ids=str)
def test_restarts_are_models_side_by_side(form: dict[str, Any]) -> None:
    many = make(2, restarts=3, **form).double()
    encoded = many.encoder.encode(EXAMPLES)
    batch = many.batch_of(encoded)
    # Each restart sees its own questions.
    orders = torch.stack([torch.randperm(len(EXAMPLES)) for _ in range(3)])
    mixed = Batch(batch.sentences, *(tensor[orders] for tensor in batch[1:5]))
    scores, attention = many(mixed, need_weights=True)
    for restart, order in enumerate(orders):
        single = many.pick(restart).double()
        single.load_state_dict({name: w[restart] for name, w in many.state_dict().items()})
        asked = Batch(batch.sentences, *(tensor[order] for tensor in batch[1:5]))
        one, read = single(asked, need_weights=True)
        torch.testing.assert_close(scores[restart], one, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(attention[restart], read, rtol=1e-12, atol=1e-12)


def test_pick_is_a_copy() -> None:
    many = make(restarts=2)
    one = many.pick(1)
    with torch.no_grad():
        many.tables.zero_()
    assert one.tables.any()
    assert one.restarts is None
    assert not one.training


def test_gradients_reach_every_weight_and_equal_differences() -> None:
    for tying in ("adjacent", "layerwise"):
        model = make(5, tying=tying, memory_dim=3, num_hops=2, init_std=0.3).double()
        encoded = model.encoder.encode(EXAMPLES[3:9])

        def summed_loss(*weights: Tensor, model: MemN2N = model, encoded: Any = encoded) -> Tensor:
            names = [name for name, _ in model.named_parameters()]
            batch = model.batch_of(encoded)
            named = dict(zip(names, weights, strict=True))
            scores: Tensor = torch.func.functional_call(model, named, (batch,))[0]
            loss: Tensor = torch.logsumexp(scores, -1).sum() - scores[:, -1].sum()
            return loss

        weights = [w.detach().requires_grad_() for w in model.parameters()]
        assert torch.autograd.gradcheck(summed_loss, weights, fast_mode=True)


def test_reset_draws_the_weights_and_holds_the_zero_rows() -> None:
    model = make(init_std=0.25, memory_dim=400)
    table = model.tables[1].detach()
    zero = [0, 5 + UNKNOWN]
    assert (table[zero] == 0).all()
    kept = [row for row in range(len(table)) if row not in zero]
    assert table[kept].std().item() == pytest.approx(0.25, rel=0.05)
    before = table.clone()
    model.reset_parameters()
    assert not torch.equal(model.tables[1], before)


def test_the_state_dict_is_as_documented() -> None:
    rows = 5 + 2 + len(WORDS)
    shapes = {name: tuple(w.shape) for name, w in make().state_dict().items()}
    assert shapes == {"tables": (4, rows, 7)}
    shapes = {
        n: tuple(w.shape) for n, w in make(tying="layerwise", restarts=2).state_dict().items()
    }
    assert shapes == {"tables": (2, 4, rows, 7), "hop_map": (2, 7, 7)}
    shapes = {n: tuple(w.shape) for n, w in make(hop_units=4, restarts=2).state_dict().items()}
    assert {name: shape for name, shape in shapes.items() if name != "tables"} == {
        "network.inner": (2, 3, 7, 4), "network.bias": (2, 3, 1, 4), "network.outer": (2, 3, 4, 7)
    }  # fmt: skip
    assert make(temporal=False).num_rows == 2 + len(WORDS)


def test_the_network_starts_at_the_scale_of_its_input() -> None:
    network = make(memory_dim=64, hop_units=256).network
    assert network is not None
    assert network["inner"].std().item() == pytest.approx(1 / 8, rel=0.05)
    assert network["outer"].std().item() == pytest.approx(1 / 32, rel=0.05)
    assert (network["bias"] == 0).all()


# What a user sees.


def test_an_answer_holds_the_softmax_over_all_rows() -> None:
    model = make(6).double()
    story = ["Mary went to the garden.", "Mary took the ball."]
    answer = model.answer(story, "Where is the ball?")
    scores, read = oracle.forward(
        weights_of(model), story, "Where is the ball?", oracle_settings(model)
    )
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    best = sorted(zip(shares[7:], WORDS, strict=True), reverse=True)
    assert answer.answer == best[0][1]
    assert answer.probability == pytest.approx(best[0][0], rel=1e-9)
    assert [word for word, _ in answer.runners_up] == [word for _, word in best[1:4]]
    assert [p for _, p in answer.runners_up] == pytest.approx([p for p, _ in best[1:4]], rel=1e-9)
    np.testing.assert_allclose(answer.attention, read, rtol=1e-6)
    assert answer.attention.dtype == torch.float32
    assert answer.sentences == tuple(story)
    assert answer.question == "Where is the ball?"
    assert answer.unknown_words == ()


def test_a_text_is_split_and_a_list_is_not() -> None:
    model = make()
    text = model.answer("Mary went. John took the ball!\nMary is old", "Where is Mary?")
    assert text.sentences == ("Mary went.", "John took the ball!", "Mary is old")
    as_list = model.answer(list(text.sentences), "Where is Mary?")
    assert as_list.probability == text.probability
    assert model.answer(["Mary went. John took the ball!"], "Mary?").attention.shape == (3, 1)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_many_questions_at_once_are_answered_as_one_by_one(mask: bool, times: int) -> None:
    model = make(mask_empty_slots=mask)
    asked = [(story, question) for story in ([], *STORIES, "Mary went. John slept.")
             for question in ("Where is Mary?", "Where is the ball?")] * times  # fmt: skip
    answers = model.answers(asked)
    assert len(answers) == len(asked)
    for found, (story, question) in zip(answers, asked, strict=True):
        alone = model.answer(story, question)
        assert (found.question, found.sentences) == (question, alone.sentences)
        assert (found.answer, found.unknown_words) == (alone.answer, alone.unknown_words)
        assert found.probability == pytest.approx(alone.probability, rel=1e-4)
        torch.testing.assert_close(found.attention, alone.attention, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("story", ["", [], (), "\n \n", "..."])
def test_an_empty_story_is_answered(story: Any) -> None:
    answer = make().answer(story, "Where is Mary?")
    assert answer.attention.shape == (3, 0)
    assert answer.answer in WORDS


@pytest.mark.parametrize("mask", [True, False])
def test_sentences_without_a_known_word(mask: bool) -> None:
    answer = make(mask_empty_slots=mask).answer(["Xyz qrs xyz!", "", "Tuv mary."], "Abc qrs?")
    assert answer.unknown_words == ("xyz", "qrs", "tuv", "abc")
    assert answer.attention.shape == (3, 3)
    total = answer.attention.sum(-1)
    assert (total <= 1 + 1e-6).all()
    assert bool((total > 1 - 1e-6).all()) == mask  # unmasked, two empty slots take their part


@pytest.mark.parametrize("question", ["", " ", "?", ". ! ?", None, 3, ["Where?"]])
def test_a_question_needs_a_word(question: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a question with a word") as caught:
        make().answer("Mary went.", question)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("story", [None, 3, b"Mary", ["Mary", 3], [["Mary"]], {"Mary": 1}, [None]])
def test_a_story_is_text(story: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a story as a text or a sequence of sentences"):
        make().answer(story, "Where is Mary?")


MODEL, UNMASKED = make(), make(mask_empty_slots=False, position="paper", tying="layerwise")
MARKS = ".!?…。！？।؟\"'”»)(—-*,;:\u200b\u00ad\u0301 \n"  # noqa: RUF001
any_text = st.text(st.characters(), max_size=30) | st.text(st.sampled_from(f"aÅé{MARKS}"))
some_text = any_text | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@settings(max_examples=150)
@given(story=some_text | st.lists(some_text, max_size=8), question=some_text)
def test_no_text_crashes_the_model(story: str | list[str], question: str) -> None:
    for model in (MODEL, UNMASKED):
        try:
            answer = model.answer(story, question)
        except ValueError as error:
            assert "expected a question" in str(error)  # noqa: PT017
            assert len(str(error).splitlines()) == 1  # noqa: PT017
            continue
        ranked = [answer.probability, *(p for _, p in answer.runners_up)]
        assert ranked == sorted(ranked, reverse=True)
        assert len(ranked) == 4
        assert 0 <= ranked[-1] <= sum(ranked) <= 1 + 1e-6
        assert answer.attention.shape == (model.recipe.num_hops, len(answer.sentences))
        assert answer.attention.dtype == torch.float32
        assert (answer.attention >= 0).all()
        assert (answer.attention.sum(-1) <= 1 + 1e-5).all()
        if not isinstance(story, str):
            assert answer.sentences == tuple(story)
        read = sum(bool(split_words(sentence)) for sentence in answer.sentences)
        assert answer.truncated == max(0, read - SIZES.memory_slots)
        assert set(answer.unknown_words).isdisjoint(WORDS)


def test_asking_leaves_no_gradient_and_can_be_mixed_with_training() -> None:
    model = make()
    encoded = model.encoder.encode(EXAMPLES)
    with torch.inference_mode():
        before, _ = model(model.batch_of(encoded))
    model.answer(STORIES[1], "Where is Mary?")
    assert all(w.grad is None and w.requires_grad for w in model.parameters())
    scores, _ = model(model.batch_of(encoded))  # the same banks, now with a gradient
    scores.sum().backward()
    assert all(w.grad is not None for w in model.parameters())
    torch.testing.assert_close(scores.detach(), before.clone())


def test_an_answer_is_an_ordinary_value() -> None:
    answer = make().answer(STORIES[2], "Where is Mary?")
    for other in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert isinstance(other, Answer)
        assert torch.equal(other.attention, answer.attention)
    assert not answer.attention.requires_grad
    assert not answer.attention.is_inference()  # a caller may use it in a graph of theirs
    assert "Mary went to the kitchen" in str(answer.picture())


def test_copies_and_pickles_answer_alike() -> None:
    model = make(tying="layerwise")
    wanted = model.answer(STORIES[2], "Where is Mary?")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.answer(STORIES[2], "Where is Mary?").probability == wanted.probability
        assert other.tables.data_ptr() != model.tables.data_ptr()


def test_one_word_of_a_vocabulary_is_enough() -> None:
    model = MemN2N(Vocabulary(["yes"]), Recipe(memory_dim=2), Sizes(1, 1))
    answer = model.answer("No.", "Yes?")
    assert (answer.answer, answer.runners_up, answer.unknown_words) == ("yes", (), ("no",))


@pytest.mark.parametrize("width", [1, 4])
def test_few_words_mean_few_runners_up(width: int) -> None:
    words = WORDS[:width]
    model = MemN2N(Vocabulary(words), Recipe(memory_dim=2), Sizes(1, 1))
    assert len(model.answer("", "mary").runners_up) == width - 1


def test_a_batch_may_name_the_sentences_that_it_needs() -> None:
    many = make(2, restarts=3).double()
    batch = many.batch_of(many.encoder.encode(EXAMPLES))
    orders = torch.stack([torch.randperm(len(EXAMPLES))[:4] for _ in range(3)])
    whole = Batch(batch.sentences, *(tensor[orders] for tensor in batch[1:5]))
    chosen, slots, question = chosen_rows(batch.sentences, whole.slots, whole.question)
    assert chosen.shape[-1] < len(batch.sentences)
    fewer = whole._replace(slots=slots, question=question, chosen=chosen)
    for one, other in zip(
        many(fewer, need_weights=True), many(whole, need_weights=True), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
