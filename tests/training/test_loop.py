"""Training: what it draws, how it clips, which restart it keeps, that it learns."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memhop.data import generate, to_examples
from memhop.errors import MemhopError, MemhopWarning
from memhop.example import Example, story_numbers
from memhop.recipe import Recipe
from memhop.text.encoding import Batch, ages
from memhop.text.vocabulary import UNKNOWN
from memhop.tokenizer import answer_word, split_words
from memhop.training.epochs import Progress, kept_restart
from memhop.training.evaluation import evaluate, score
from memhop.training.loop import TrainingResult, train
from memhop.training.run import RestartScore
from memhop.training.sampler import EpochBatches
from memhop.training.trainer import EPOCHS, Trainer
from tests.seeds import thorough


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Small products gain nothing from threads, and lose much where others compute too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stories(questions: int, seed: int = 1, task: int = 1) -> list[Example]:
    return list(to_examples(generate(task, questions=questions, seed=seed, statements=(2, 10))))


def small(**changes: Any) -> Recipe:
    settings: dict[str, Any] = {"epochs": 2, "linear_start_epochs": 1, "memory_dim": 6}
    return Recipe.paper(**settings | changes)


TRAIN, TEST = stories(150), stories(40, seed=2)
FORMS: list[dict[str, Any]] = [
    {},
    {"exchange": True},
    {"mask_empty_slots": True, "noise": "empty", "noise_share": 0.5},
    {"tying": "layerwise", "position": "paper", "held_out": "random", "relu": True},
    {"temporal": False, "position": "bag", "clip_norm": 1.0, "learning_rate": 0.1},
    {"temporal": False, "noise": "empty", "memory_slots": 4},
    {"noise": "none", "clip_norm": 0, "validation_share": 0},
    {"heads": 2, "hop_units": 4, "optimizer": "adam", "schedule": "linear", "keep": "validation"},
]


class Watched:
    """A training and what it said of itself."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.said: list[Progress] = []
        self.result: TrainingResult = train(*args, **settings, on_progress=self.said.append)

    def metrics(self, restart: int) -> list[Any]:
        return [progress.metrics[restart] for progress in self.said]


def epoch(trainer: Trainer, number: int) -> EpochBatches:
    """What an epoch is trained on."""
    restarts = trainer.restart_numbers
    return trainer.sampler.sample([trainer.generator(EPOCHS, r, number) for r in restarts])


def same_weights(first: TrainingResult, second: TrainingResult) -> bool:
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


# Words are only symbols.


@pytest.mark.parametrize(
    ("recipe", "joint"),
    [
        (Recipe.paper, False),
        (Recipe.best, True),
        thorough(Recipe.paper, True),
        thorough(Recipe.best, False),
    ],
)
def test_another_word_for_every_word_changes_no_bit(
    recipe: Callable[..., Recipe], joint: bool
) -> None:
    """Ids follow the order of appearance, so what the words are called makes no difference."""
    random = np.random.default_rng(3)
    names: dict[str, str] = {}

    def name_of(word: str) -> str:
        letters = "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 9))
        return names.setdefault(word, letters)

    def renamed(example: Example) -> Example:
        texts = (*example.story, example.question)
        *story, question = (" ".join(map(name_of, split_words(text))) for text in texts)
        answer = ",".join(map(name_of, example.answer.split(",")))
        return Example(tuple(story), question, answer)

    tasks = (1, 2, 8)  # 8 has answers of several words
    loop = [stories(150, task=task) for task in tasks]  # fewer show too few exchangeable words
    test = [example for task in tasks for example in stories(20, seed=2, task=task)]
    settings = recipe(joint=joint, epochs=3, linear_start_epochs=1)
    plain, other = (
        train(
            [list(map(called, text)) for text in loop],
            list(map(called, test)),
            recipe=settings,
            restarts=2,
            seed=5,
        )
        for called in (lambda example: example, renamed)
    )
    words = [",".join(map(name_of, word.split(","))) for word in plain.model.vocabulary]
    assert list(other.model.vocabulary) == words
    assert same_weights(plain, other)
    assert plain.restarts == other.restarts
    assert plain.best.test_error is not None
    assert 0 < plain.best.test_error < 100


# Clipping.


def test_gradients_are_clipped_in_training() -> None:
    free, bound = (train(TRAIN, recipe=small(clip_norm=norm), restarts=1) for norm in (0, 0.01))
    assert not same_weights(free, bound)
    trainer = Trainer([TRAIN], small(), range(1), 0, torch.device("cpu"))
    start = trainer.model.state_dict()["tables"][0]
    moved = (bound.model.state_dict()["tables"] - start).norm().item()
    steps = 3 * (135 // 32)
    assert 0 < moved <= steps * 0.005 * 0.01 * math.sqrt(4 * 6) + 1e-6


# One step, against the formulas.


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_step_goes_down_the_gradient_of_the_summed_loss(form: dict[str, Any]) -> None:
    """Each restart moves by rate x its own gradient, and nil and unknown rows not at all."""
    plain = {**form, "clip_norm": 0, "optimizer": "sgd"}
    trainer = Trainer([TRAIN], small(**plain), range(2), 3, torch.device("cpu"))
    model = trainer.model
    draws = EpochBatches(*(tensor[0] for tensor in epoch(trainer, 5)))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    batch = Batch(trainer.sampler.encoded.sentences, *draws[:-1])
    scores, _ = model(batch)
    logs = scores.log_softmax(-1)
    rows = draws.answers + model._num_ages
    loss = -logs.gather(-1, rows.unsqueeze(-1)).sum((-1, -2))
    gradients = torch.autograd.grad(loss.sum(), list(model.parameters()))
    got, missed = trainer.step(draws, 0.1, True, 1)
    torch.testing.assert_close(got, loss.detach(), rtol=1e-5, atol=1e-4)
    words = scores[..., model._num_ages + UNKNOWN + 1 :].argmax(-1) + UNKNOWN + 1
    assert missed.tolist() == (words != draws.answers).sum(-1).tolist()
    for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
        wanted = before[name] - 0.1 * gradient
        if name == "tables":
            wanted[..., [0, model._num_ages + UNKNOWN], :] = 0
        torch.testing.assert_close(weight.detach(), wanted, rtol=1e-5, atol=1e-6)


def test_batches_are_drawn_with_replacement_from_the_training_part() -> None:
    trainer = Trainer([TRAIN], small(), range(3), 0, torch.device("cpu"))
    assert trainer.sampler.steps == 135 // 32
    assert Trainer([TRAIN], small(min_steps=9), range(1), 0, trainer.device).sampler.steps == 9
    assert (len(trainer.sampler.encoded.answers), len(trainer.held_out.answers)) == (135, 15)
    draws = epoch(trainer, 0)
    assert draws.answers.shape == (4, 3, 32)
    again, later = epoch(trainer, 0), epoch(trainer, 1)
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert not torch.equal(draws.slots, later.slots)
    assert not torch.equal(draws.slots[:, 0], draws.slots[:, 1])


@pytest.mark.parametrize("noise", ["none", "time", "empty"])
def test_what_is_drawn_has_its_noise(noise: str) -> None:
    trainer = Trainer(
        [TRAIN], small(noise=noise, noise_share=1.0), range(2), 0, torch.device("cpu")
    )
    draws = epoch(trainer, 0)
    most = trainer.model.sizes.memory_slots
    used = (draws.slots > 0).sum(-1)
    in_order = ages(draws.lengths, draws.slots.shape[-1])
    assert draws.ages.max() <= most
    assert torch.equal(draws.ages, in_order) == (noise != "time")
    assert torch.equal(used, draws.lengths) == (noise != "empty")


def test_the_held_out_part_is_the_last_or_a_random_one() -> None:
    def parts(**changes: Any) -> tuple[list[int], list[int]]:
        return Trainer([TRAIN], small(**changes), range(1), 5, torch.device("cpu"))._split(TRAIN)

    every = list(range(150))
    assert parts() == (every[:135], every[135:])
    assert parts(validation_share=0) == (every, [])
    training_part, held_out = parts(held_out="random")
    assert held_out != every[135:]
    assert sorted(training_part + held_out) == every
    assert parts(held_out="random") == (training_part, held_out)


def test_held_out_stories_are_whole() -> None:
    told = [story.story for story in TRAIN]
    numbers = story_numbers(told)
    assert len(set(numbers)) < len(TRAIN)  # several questions a story
    changes = small(held_out="stories", validation_share=0.31)
    one, other = (
        Trainer([TRAIN], changes, range(1), seed, torch.device("cpu"))._split(TRAIN)
        for seed in (5, 6)
    )
    for kept, held_out in (one, other):
        assert sorted(kept + held_out) == list(range(150))
        assert not {numbers[i] for i in kept} & {numbers[i] for i in held_out}
        largest = max(map(numbers.count, numbers))
        assert 46 - largest < len(held_out) <= 46
        assert story_numbers(told[i] for i in kept)[-1] + 1 == len({numbers[i] for i in kept})
    assert one != other
    single = TRAIN[: numbers.count(0)]
    assert Trainer([single], changes, range(1), 5, torch.device("cpu"))._split(single)[1] == []


def test_examples_and_texts_side_by_side_are_an_error() -> None:
    with pytest.raises(MemhopError, match="examples, or texts of examples, got both"):
        train([TRAIN[0], TRAIN[1:]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([(("a b.",), "c?", "d")], "training example 0: expected memhop.Example(story, question, "
         "answer), got tuple"),
        ([TRAIN, (("a b.",), "c?", "d")], "training example 0 of text 1: expected memhop.Example("
         "story, question, answer), got tuple"),
        ([*TRAIN, "a"], "training example 150: expected memhop.Example(story, question, answer), "
         "got str"),
        (None, "expected a sequence of training examples, got NoneType"),
    ],
)  # fmt: skip
def test_what_is_no_example_is_one_line(bad: Any, message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        train(bad, recipe=small(), restarts=1)
    assert str(caught.value) == message
    wrong: Any = [TRAIN[0], 3]
    with pytest.raises(MemhopError, match=r"^test example 1: expected memhop\."):
        train(TRAIN, wrong, recipe=small(), restarts=1)
    with pytest.raises(MemhopError, match=r"^held-out example 1: expected memhop\."):
        train(TRAIN, valid_examples=wrong, recipe=small(), restarts=1)


def test_blank_statements_and_texts_train_the_same_model() -> None:
    def changed(number: int, example: Example) -> Example:
        facts = tuple(2 * fact + 1 for fact in example.supporting_facts)
        blanks = tuple(part for statement in example.story for part in ("...", statement))
        text = example._replace(story=" ".join(example.story))
        return text if number % 2 else Example(blanks, *example[1:3], facts)

    for form in ({}, {"exchange": True}):
        plain, other = (
            train(examples, TEST, recipe=small(**form), restarts=2)
            for examples in (TRAIN, [changed(*pair) for pair in enumerate(TRAIN)])
        )
        assert same_weights(plain, other)
        assert plain.model.vocabulary == other.model.vocabulary


def test_held_out_examples_may_be_given() -> None:
    watched = Watched(TRAIN, TEST, valid_examples=TEST, recipe=small(), restarts=2)
    for one in watched.result.restarts:
        assert one.validation_error == one.test_error
    trainer = Trainer([TRAIN], small(), range(1), 0, torch.device("cpu"), [TEST])
    assert (len(trainer.sampler.encoded.answers), len(trainer.held_out.answers)) == (150, 40)
    whole = train(TRAIN, recipe=small(validation_share=0), restarts=2)
    assert same_weights(watched.result, whole)  # nothing of them is trained on


def test_a_run_resumes_with_the_same_held_out_examples(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"recipe": small(), "restarts": 1, "run": tmp_path / "run"}
    first = train(TRAIN, valid_examples=TEST, **settings)
    again = train(TRAIN, valid_examples=TEST, resume=True, **settings)
    assert same_weights(first, again)
    with pytest.raises(MemhopError, match=r"different held-out part$"):
        train(TRAIN, valid_examples=TEST[1:], resume=True, **settings)
    with pytest.raises(MemhopError, match=r"different held-out part$"):
        train(TRAIN, resume=True, **settings)


def test_single_words_are_warned_of() -> None:
    chinese = [Example(("玛丽去了厨房。",), "玛丽在哪里？", "厨房")] * 5  # noqa: RUF001
    with pytest.warns(MemhopWarning, match="10 of 10 sentences are a single word"):
        train(chinese, recipe=small(), restarts=1)


def test_phrases_are_exchanged_within_a_text() -> None:
    """Asked of one text, the other's names never come; the parts are the same with both."""
    other = [
        Example(tuple(s.replace("Mary", "Zoe") for s in story), question.replace("Mary", "Zoe"), a)
        for story, question, a, _ in stories(300, seed=4)
    ]
    both = [stories(300, seed=3), other]
    trainer = Trainer(both, small(exchange=True), range(1), 0, torch.device("cpu"))
    encoded = trainer.sampler.encoded
    assert trainer.sampler.phrase_swap is not None
    drawn = epoch(trainer, 0)
    assert not torch.equal(drawn.answers, epoch(trainer, 1).answers)
    sentences = trainer.sampler.phrase_swap._variants.sentences
    steps = len(drawn.chosen)
    for step in range(steps):
        chosen = drawn.chosen[step, 0]
        for slots in chosen[drawn.slots[step, 0]].tolist():
            names = {sentences[row][0] for row in slots if row}
            assert not {("mary",), ("zoe",)} <= names
    assert len(encoded.sentences) > len(
        trainer.encoded([e for text in both for e in text]).sentences
    )


def test_texts_apart_are_one_text_where_nothing_is_exchanged() -> None:
    together = train(TRAIN, recipe=small(), restarts=1)
    assert same_weights(together, train([TRAIN[:70], TRAIN[70:]], recipe=small(), restarts=1))
    recipe = small(exchange=True)
    assert not same_weights(train(TRAIN, recipe=recipe, restarts=1), together)


# Restarts.


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_restart_is_the_same_whatever_their_number(form: dict[str, Any]) -> None:
    recipe = small(**form)
    runs = {count: Watched(TRAIN, TEST, recipe=recipe, restarts=count) for count in (1, 2, 4)}
    for count in (1, 2):
        for restart in range(count):
            assert runs[count].metrics(restart) == runs[4].metrics(restart)
            ours, theirs = runs[count].result.restarts[restart], runs[4].result.restarts[restart]
            assert ours.train_loss == theirs.train_loss
    losses = [one.train_loss for one in runs[4].result.restarts]
    assert len(set(losses)) == 4


def test_the_weights_of_a_restart_are_the_same_whatever_their_number() -> None:
    trainers = [
        Trainer([TRAIN], small(), range(count), 0, torch.device("cpu")) for count in (1, 2, 4)
    ]
    first, second, *_ = trainers[2].model.state_dict()["tables"]
    assert not torch.equal(first, second)
    assert first.std().item() == pytest.approx(0.1, rel=0.3)
    for trainer in trainers:
        trainer.run_epoch()
    tables = [trainer.model.state_dict()["tables"] for trainer in trainers]
    assert torch.equal(tables[0][0], tables[1][0])
    assert torch.equal(tables[1], tables[2][:2])


def test_the_same_seed_is_the_same_bits_and_another_is_not() -> None:
    first, second, other = (Watched(TRAIN, recipe=small(), restarts=2, seed=s) for s in (4, 4, 5))
    assert same_weights(first.result, second.result)
    assert first.metrics(1) == second.metrics(1)
    assert not same_weights(first.result, other.result)
    assert not set(first.metrics(0)) & set(other.metrics(0))


def test_test_questions_change_nothing_but_their_own_score() -> None:
    with_test, without = (Watched(TRAIN, test, recipe=small(), restarts=2) for test in (TEST, []))
    assert same_weights(with_test.result, without.result)
    assert list(with_test.result.model.vocabulary) == list(without.result.model.vocabulary)
    assert [one.test_error for one in without.result.restarts] == [None, None]


def test_scores_are_those_of_the_kept_model() -> None:
    result = train(TRAIN, TEST, recipe=small(epochs=4), restarts=3)
    best = result.best
    assert result.restarts[result.kept] is best
    assert [one.kept for one in result.restarts].count(True) == 1
    assert [one.restart for one in result.restarts] == [0, 1, 2]
    assert best.train_error == min(one.train_error or 0 for one in result.restarts)
    for examples, error in ((TRAIN[:135], best.train_error), (TRAIN[135:], best.validation_error),
                            (TEST, best.test_error)):  # fmt: skip
        assert evaluate(result.model, examples).error == pytest.approx(error)
        right = sum(
            result.model.answer(one.story, one.question).answer == one.answer for one in examples
        )
        assert 100 * (1 - right / len(examples)) == pytest.approx(error)


def ended(*scores: tuple[float | None, float | None]) -> list[RestartScore]:
    return [
        RestartScore(restart, error, loss, None, None, None if error is not None else 3)
        for restart, (error, loss) in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([(2.0, 0.1), (1.0, 0.9), (3.0, 0.0)], 1),
        ([(1.0, 0.9), (1.0, 0.2), (1.0, 0.3)], 1),
        ([(1.0, 0.2), (1.0, 0.2)], 0),
        ([(None, None), (99.0, 9.0), (None, None)], 1),
        ([(0.0, 0.0)], 0),
    ],
)
def test_kept_is_the_lowest_training_error_then_loss(scores: Any, kept: int) -> None:
    assert kept_restart(ended(*scores), Recipe()) == kept


def test_kept_by_validation_is_the_lowest_error_of_what_was_held_out() -> None:
    scores = [
        RestartScore(0, 0.0, 0.1, validation_error=7.0),
        RestartScore(1, 2.0, 0.9, validation_error=5.0),
        RestartScore(2, 3.0, 0.3, validation_error=5.0),
        RestartScore(3, diverged=4),
    ]
    assert kept_restart(scores, Recipe(keep="validation")) == 2
    assert kept_restart(scores, Recipe()) == 0
    nothing_held_out = [replace(one, validation_error=None) for one in scores]
    assert kept_restart(nothing_held_out, Recipe(keep="validation")) == 0


# Divergence.


def poison(monkeypatch: pytest.MonkeyPatch, at: dict[int, int], value: float) -> None:
    """Put ``value`` into a weight of some restarts at the start of an epoch."""
    real = Trainer.run_epoch

    def run_epoch(self: Trainer) -> Any:
        for restart, epoch in at.items():
            if self.state.epoch == epoch - 1 and restart in self.restarts:
                with torch.no_grad():
                    self.model.tables[restart, 1, 4, 2] = value
        return real(self)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)


@pytest.mark.parametrize(
    ("value", "form"),
    [(math.nan, FORMS[0]), (math.inf, FORMS[2]), (-math.inf, FORMS[1]), (1e38, FORMS[0])],
    ids=str,
)
def test_a_diverged_restart_spoils_no_other(
    value: float, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(**form, epochs=3)
    clean = Watched(TRAIN, TEST, recipe=recipe, restarts=3)
    poison(monkeypatch, {1: 2}, value)
    spoilt = Watched(TRAIN, TEST, recipe=recipe, restarts=3)
    for restart in (0, 2):
        assert spoilt.metrics(restart) == clean.metrics(restart)
    assert [progress.diverged for progress in spoilt.said] == [{}, {1: 2}, {1: 2}, {1: 2}]
    assert spoilt.result.restarts[1] == RestartScore(1, None, None, None, None, diverged=2)
    assert spoilt.result.kept != 1
    if clean.result.kept != 1:
        assert same_weights(clean.result, spoilt.result)
        assert clean.result.best == spoilt.result.best


def test_only_the_sound_restart_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {0: 1, 2: 3}, math.nan)
    result = train(TRAIN, recipe=small(), restarts=3)
    assert [one.diverged for one in result.restarts] == [1, None, 3]
    assert result.kept == 1


def test_weights_too_large_to_use_after_the_last_step_are_a_divergence() -> None:
    few = TRAIN[:1] * 3
    for rate in (1e2, 1e3, 1e5, 1e9):
        for epochs in range(1, 7):
            recipe = Recipe(
                clip_norm=0, learning_rate=min(rate, 1e6), epochs=epochs, linear_start_epochs=0
            )
            try:
                result = train(few, recipe=recipe, restarts=2)
            except MemhopError as error:
                assert "restarts became infinite" in str(error)  # noqa: PT017
            else:
                for one in result.restarts:
                    assert (one.diverged is None) == (one.train_loss is not None)
                    assert math.isfinite(one.train_loss or 0)


def test_all_restarts_diverged_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {0: 2, 1: 3}, math.nan)
    with pytest.raises(MemhopError, match=r"all 2 restarts became infinite, first in epoch 2: try"):
        train(TRAIN, recipe=small(), restarts=2)


def test_a_rate_far_too_high_is_reported() -> None:
    with pytest.raises(MemhopError, match="restarts became infinite"):
        train(TRAIN, recipe=small(learning_rate=1e6, clip_norm=0), restarts=2)


# What comes in.


@pytest.mark.parametrize("count", [1, 2, 31, 33])
@pytest.mark.parametrize("changes", [{}, {"validation_share": 0.9, "held_out": "random"}], ids=str)
def test_few_examples_are_enough(count: int, changes: dict[str, Any]) -> None:
    seen = Watched(TRAIN[:count], TEST, recipe=small(**changes), restarts=2)
    held_out = int(count * (changes.get("validation_share") or 0.1))
    score = seen.result.best
    assert (score.validation_error is None) == (held_out == 0)
    assert (seen.metrics(0)[0].validation_error is None) == (held_out == 0)
    assert score.train_error is not None


def test_odd_stories_can_be_trained_on() -> None:
    odd = [
        Example((), "Why?", "no"),
        Example(("", "...", "Yes."), "-5?", "Yes"),
        Example(("a b c",) * 60, "a?", "apple, milk"),
        Example(("Zażółć gęślą jaźń",), "Ha \ud800?", "the old town"),
    ]
    for form in FORMS:
        result = train(odd, odd, recipe=small(**{**form, "memory_slots": 3}), restarts=2)
        answer = result.model.answer(odd[3].story, "Why?").answer
        assert answer_word(answer) in result.model.vocabulary


def test_an_answer_never_seen_is_wrong() -> None:
    two = [Example(("It is.",), "Is it?", "yes"), Example(("It is not.",), "Is it?", "no")]
    asked = [*two, Example(("It is.",), "Is it?", "mars"), Example(("It is.",), "Is it?", "it is")]
    recipe = small(epochs=150, learning_rate=0.1, validation_share=0)
    result = train(two * 16, asked, recipe=recipe, restarts=2)
    assert result.best.train_error == 0
    assert result.best.test_error == 50


def test_lists_and_several_words_are_one_answer() -> None:
    pairs = [
        Example(("Mary took the apple.", "Mary took the milk."), "What has Mary?", "apple,milk"),
        Example(("Mary took the milk.", "Mary took the apple."), "What has Mary?", "Milk, apple."),
        Example(("Mary went away.",), "What has Mary?", "nothing at  all"),
    ]
    recipe = small(epochs=150, learning_rate=0.05, validation_share=0, noise="none")
    result = train(pairs * 11, recipe=recipe, restarts=3, seed=1)
    assert result.best.train_error == 0
    said = [result.model.answer(one.story, one.question).answer for one in pairs]
    assert said == ["apple,milk", "Milk, apple.", "nothing at all"]  # as they are spelled


@pytest.mark.parametrize(
    ("settings", "because"),
    [
        ({"restarts": 0}, "restarts: expected an integer from 1 to 1,000,000, got 0"),
        ({"restarts": 1.5}, "restarts: expected an integer from 1 to 1,000,000, got 1.5"),
        ({"restarts": 1000001}, "restarts: expected an integer from 1 to 1,000,000, got 1000001"),
        ({"seed": -1}, "seed: expected an integer from 0, got -1"),
        ({"seed": "x"}, "seed: expected an integer from 0, got 'x'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], because: str) -> None:
    with pytest.raises(MemhopError) as caught:
        train(TRAIN, recipe=small(), **settings)
    assert str(caught.value) == because


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_example_is_an_error(nothing: Sequence[Example]) -> None:
    with pytest.raises(MemhopError, match="at least 1 training example, got none"):
        train(nothing)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nil_and_unknown_rows_stay_zero(form: dict[str, Any]) -> None:
    trainer = Trainer([TRAIN], small(**form), range(2), 0, torch.device("cpu"))
    start = trainer.model.tables.detach().clone()
    for _ in range(3):
        trainer.run_epoch()
        trainer.state.epoch += 1
    tables = trainer.model.tables.detach()
    zero = [0, trainer.model._num_ages + UNKNOWN]
    assert (tables[..., zero, :] == 0).all()
    kept = [row for row in range(tables.shape[-2]) if row not in zero]
    assert (tables[..., kept, :] != start[..., kept, :]).any()


def test_the_linear_start_is_without_the_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    real = Trainer.step

    def step(self: Trainer, draws: Any, rate: float, softmax: bool, number: int) -> Any:
        used.append((self.state.epoch, rate, softmax))
        return real(self, draws, rate, softmax, number)

    monkeypatch.setattr(Trainer, "step", step)
    recipe = small(linear_start_epochs=2, epochs=3, halve_every=2, learning_rate=0.01)
    seen = Watched(TRAIN, recipe=recipe, restarts=1)
    wanted = [
        (0, 0.01, False),
        (1, 0.01, False),
        (2, 0.01, True),
        (3, 0.005, True),
        (4, 0.005, True),
    ]
    assert used == [one for one in wanted for _ in range(4)]
    said = [(m.epoch - 1, m.learning_rate, m.softmax) for m in seen.metrics(0)]
    assert said == wanted


def test_the_loss_that_is_told_is_the_mean_over_the_questions() -> None:
    start = Watched(TRAIN, recipe=small(learning_rate=1e-9, init_std=1e-6), restarts=2)
    rows = start.result.model.num_rows
    for metric in start.metrics(1):
        assert metric.loss == pytest.approx(math.log(rows), rel=1e-3)
        assert 0 <= metric.train_error <= 100
    assert start.result.best.train_loss == pytest.approx(math.log(rows), rel=1e-3)


def test_it_learns_where_people_are() -> None:
    recipe = Recipe.paper(epochs=20, linear_start_epochs=10, halve_every=10, learning_rate=0.01)
    result = train(stories(300), stories(300, seed=2), recipe=recipe, restarts=2)
    assert result.best.test_error is not None
    assert result.best.test_error < 5
    assert score(result.model, result.model.encoder.encode(TEST))[0].item() < 8
    answer = result.model.answer(
        "Mary went to the kitchen. John moved to the office. Mary went to the garden.",
        "Where is Mary?",
    )
    assert answer.answer == "garden"
    assert answer.attention[-1].argmax() == 2
