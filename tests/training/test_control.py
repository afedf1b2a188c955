"""The control of a training: what it decides, that it resumes, that it changes nothing else."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop.data import generate, to_examples
from memhop.errors import MemhopError
from memhop.example import Example, story_numbers
from memhop.recipe import Recipe
from memhop.runs import find_run, newest_checkpoint, trained_in
from memhop.text.augmentation import sampling
from memhop.text.augmentation.sampling import PhraseText
from memhop.text.model import MemN2N
from memhop.training import control as control_module
from memhop.training import epochs
from memhop.training.class_test import ClassTest
from memhop.training.control import control_recipe
from memhop.training.epochs import Progress
from memhop.training.evaluation import evaluate
from memhop.training.loop import TrainingResult, train
from memhop.training.run import ControlResult, load_with_score
from memhop.training.trainer import Trainer

from .test_run import bits, forge, interrupt_at


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Find the classes of a text once, and compute with one thread."""
    monkeypatch.setattr(sampling, "PhraseText", phrase_text)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stories(questions: int, seed: int, task: int = 1) -> list[Example]:
    made = generate(task, questions=questions, seed=seed, statements=(2, 4))
    return list(to_examples(made))


def small(**changes: Any) -> Recipe:
    """Return the recipe ``best``, small: 5 epochs, of the control 2."""
    settings: dict[str, Any] = {"epochs": 4, "linear_start_epochs": 1, "memory_dim": 6}
    settings |= {"hop_units": 3, "min_steps": 1, "control_restarts": 2, "validation_share": 0.3}
    return Recipe.best(**settings | changes)


TRAIN, TEST = stories(150, 1), stories(40, 2)
PHRASE_TEXTS: dict[Any, PhraseText] = {}


def phrase_text(examples: list[Example], words: Any, classes: Any = None) -> PhraseText:
    """Return a `PhraseText`, the same for the same arguments."""
    key = tuple(examples), None if classes is None else tuple(classes)
    if key not in PHRASE_TEXTS:
        PHRASE_TEXTS[key] = PhraseText(examples, words, classes)
    return PHRASE_TEXTS[key]


def trained(**changes: Any) -> TrainingResult:
    settings: dict[str, Any] = {"recipe": small(), "restarts": 2, "seed": 3, **changes}
    return train(settings.pop("examples", TRAIN), TEST, **settings)


def weights(model: MemN2N) -> dict[str, torch.Tensor]:
    return model.state_dict()


def same(one: MemN2N, other: MemN2N) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def rejecting(monkeypatch: pytest.MonkeyPatch, *rejected: int) -> None:
    """Let the test of the classes reject some, by their number."""

    def check(classes: Sequence[Any], *_: Any) -> tuple[ClassTest, ...]:
        return tuple(
            ClassTest(text, str(each), number not in rejected, "", 9, 1.0, 2.0, 0.001)
            for number, (text, each) in enumerate(classes)
        )

    monkeypatch.setattr(control_module, "check_classes", check)


# The recipe of the control.


@pytest.mark.parametrize(
    ("joint", "changes", "epochs"),
    [
        (False, {}, (20, 100, 25)),
        (False, {"epochs": 27, "linear_start_epochs": 3}, (2, 10, 2)),
        (False, {"epochs": 1, "linear_start_epochs": 0}, (0, 1, 1)),
        (True, {}, (13, 27, 7)),
        (True, {"epochs": 18}, (5, 11, 3)),
    ],
)
def test_the_control_has_a_share_of_the_epochs(
    joint: bool, changes: dict[str, Any], epochs: tuple[int, ...]
) -> None:
    recipe = control_recipe(Recipe.best(joint=joint, **changes), joint=joint)
    assert (recipe.linear_start_epochs, recipe.epochs, recipe.halve_every) == epochs
    plain = Recipe.paper(joint=joint, held_out="stories", keep="validation", stop_after=10)
    names = ("linear_start_epochs", "epochs", "halve_every")
    assert replace(recipe, **{name: getattr(plain, name) for name in names}) == plain


def test_the_control_has_the_data_settings_of_the_training() -> None:
    settings: dict[str, Any] = {"memory_slots": 9, "validation_share": 0.2, "noise": "none"}
    settings |= {"stop_after": 3}
    recipe = control_recipe(Recipe.best(num_hops=2, **settings), joint=False)
    assert recipe == Recipe.paper(num_hops=2, held_out="stories", keep="validation", **settings)


# What it decides.


def test_the_training_is_that_without_a_control() -> None:
    result, plain = trained(), trained(recipe=small(control_restarts=0))
    assert plain.control is None
    assert result.control is not None
    assert all(one.is_exchanged for one in result.control.classes)
    assert result.all_restarts is not None
    assert plain.all_restarts is not None
    assert same(result.all_restarts, plain.all_restarts)


def test_the_control_is_the_training_of_its_recipe() -> None:
    result = trained()
    recipe = control_recipe(small(), joint=False)
    alone = trained(recipe=recipe)
    assert result.control is not None
    scores = [replace(one, kept=False) for one in result.control.restarts]
    assert scores == [replace(one, kept=False) for one in alone.restarts]
    assert result.seconds > 0


@pytest.mark.parametrize("restarts", [1, range(1, 3), 3])
def test_restarts_do_not_depend_on_their_number(restarts: int | range) -> None:
    # where a restart starts in memory: MKL's products may depend on it beyond whole cache lines
    recipe = small(memory_dim=16, hop_units=16) if isinstance(restarts, range) else small()
    part, whole = (trained(restarts=each, recipe=recipe) for each in (restarts, 4))
    assert part.control is not None
    assert whole.control is not None
    assert part.control.classes == whole.control.classes
    assert part.control.without_kept() == whole.control.without_kept()
    assert part.all_restarts is not None
    assert whole.all_restarts is not None
    numbers = restarts if isinstance(restarts, range) else range(restarts)
    for index, number in enumerate(numbers):
        assert same(part.all_restarts.pick(index), whole.all_restarts.pick(number))


def test_rejected_classes_are_not_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    active: list[Any] = []
    real = Trainer.sample_epoch

    def sample_epoch(self: Trainer) -> Any:
        if self.recipe.exchange:
            active.append(self.sampler.active)
        return real(self)

    monkeypatch.setattr(Trainer, "sample_epoch", sample_epoch)
    rejecting(monkeypatch, 0)
    result = trained()
    assert result.control is not None
    number = len(result.control.classes)
    assert number > 0
    expected = [index != 0 for index in range(number)]
    assert [one.is_exchanged for one in result.control.classes] == expected
    assert active == [expected] * 5


def test_a_sampler_exchanges_only_active_classes() -> None:
    trainer = Trainer([TRAIN], small(), range(1), 0, torch.device("cpu"))
    sampler, swap = trainer.sampler, trainer.sampler.phrase_swap
    assert swap is not None

    def names_and_places() -> tuple[bool, bool]:
        """Whether a statement of a sample is none of the text, and whether an answer is new."""
        chosen, answers = trainer.sample_epoch()[-2:]
        rows = set(sampler.encoded.slots.flatten().tolist()) | set(
            sampler.encoded.question.tolist()
        )
        ages = len(sampler.encoded.sentences) - sampler.encoded.sentences.num_sentences
        return (
            not rows.issuperset(chosen[..., :-ages].flatten().tolist()),
            bool(answers.float().std() > 0),
        )

    assert names_and_places() == (True, True)
    sampler.active = [False] * len(swap.classes)
    assert names_and_places() == (False, True)


def scoring(monkeypatch: pytest.MonkeyPatch, control: float, training: float) -> None:
    """Set the held-out errors of the control and of the training."""
    real = Trainer.scores

    def scores(self: Trainer, *args: Any) -> Any:
        error = training if self.recipe.control_restarts else control
        return tuple(replace(one, validation_error=error) for one in real(self, *args))

    monkeypatch.setattr(Trainer, "scores", scores)


def test_the_control_is_kept_if_it_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring(monkeypatch, control=4.9, training=5.0)
    result = trained(run=tmp_path)
    assert result.control is not None
    assert result.control.is_kept
    assert result.best is result.control.restarts[result.kept]
    assert [one.kept for one in result.restarts] == [False, False]
    assert [one.kept for one in result.control.restarts].count(True) == 1
    assert result.model.recipe == control_recipe(small(), joint=False)
    assert evaluate(result.model, TEST).error == result.best.test_error
    model, score = load_with_score(tmp_path)
    assert same(model, result.model)
    assert score == result.best
    again = trained(run=tmp_path, resume=True)
    assert same(again.model, result.model)
    assert (again.best, again.kept, again.control) == (result.best, result.kept, result.control)
    assert again.restarts == result.restarts


def test_the_training_is_kept_of_equal_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring(monkeypatch, control=5.0, training=5.0)
    result = trained(run=tmp_path)
    assert result.control is not None
    assert not result.control.is_kept
    assert result.best is result.restarts[result.kept]
    assert result.model.recipe == small()
    assert load_with_score(tmp_path)[1] == result.best


@pytest.mark.parametrize(("stories", "is_kept"), [(4, True), (5, False)])
def test_the_control_is_kept_if_the_stories_are_too_few(
    stories: int, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring(monkeypatch, control=50.0, training=0.0)
    numbers = story_numbers(one.story for one in TEST)
    few = [one for one, number in zip(TEST, numbers, strict=True) if number < stories]
    result = trained(valid_examples=few, run=tmp_path)
    assert result.control is not None
    assert result.control.is_kept is is_kept
    texts = trained(examples=[TRAIN, TRAIN[:50]], valid_examples=[few[:2], few[2:]])
    assert texts.control is not None
    assert texts.control.is_kept is is_kept
    again = trained(valid_examples=few, run=tmp_path, resume=True)
    assert (again.best, again.control) == (result.best, result.control)


def diverging(monkeypatch: pytest.MonkeyPatch, *, in_control: bool) -> None:
    real = Trainer.run_epoch

    def run_epoch(self: Trainer) -> Any:
        if (not self.recipe.control_restarts) == in_control:
            with torch.no_grad():
                self.model.tables.fill_(torch.nan)
        return real(self)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)


def test_the_control_is_kept_if_the_training_diverges(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    diverging(monkeypatch, in_control=False)
    result = trained(run=tmp_path / "run")
    assert result.control is not None
    assert result.control.is_kept
    assert [one.diverged for one in result.restarts] == [1, 1]
    assert trained(run=tmp_path / "run", resume=True).best == result.best


def test_nothing_is_exchanged_if_the_control_diverges(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = trained(recipe=small(exchange=False, control_restarts=0))
    diverging(monkeypatch, in_control=True)
    result = trained(run=tmp_path / "run")
    assert result.control is not None
    assert result.control.restarts == ()
    assert result.control.classes
    assert {one.is_exchanged for one in result.control.classes} == {False}
    assert {one.reason for one in result.control.classes} == {"the control diverged"}
    losses, others = ([one.train_loss for one in each.restarts] for each in (result, plain))
    assert losses == pytest.approx(
        others, rel=1e-5
    )  # the bank has other rows, and rounds otherwise


def test_without_held_out_stories_nothing_is_exchanged_or_compared() -> None:
    said: list[Progress] = []
    result = trained(recipe=small(validation_share=0), on_progress=said.append)
    assert result.control is not None
    assert result.control.restarts == ()
    assert result.control.classes
    assert {one.reason for one in result.control.classes} == {"no held-out stories"}
    assert not any(one.is_exchanged for one in result.control.classes)
    assert {one.phase for one in said} == {"training"}


def test_held_out_examples_belong_to_their_texts() -> None:
    texts, valid = [TRAIN, stories(150, 4, task=6)], [stories(60, 5), stories(60, 6, task=6)]
    recipe = small(epochs=1, control_restarts=1)
    separate = trained(examples=texts, valid_examples=valid, recipe=recipe)
    whole = trained(examples=texts, valid_examples=valid[0] + valid[1], recipe=recipe)
    assert separate.control is not None
    assert whole.control is not None
    assert {one.text for one in separate.control.classes} == {0, 1}
    assert {one.reason for one in separate.control.classes} == {""}
    reasons = {one.reason for one in whole.control.classes}
    assert reasons == {"held-out stories of all texts as one"}
    assert not any(one.is_exchanged for one in whole.control.classes)
    message = "expected held-out examples of each of 2 training texts, or of all as one, got 3"
    with pytest.raises(MemhopError, match=message):
        trained(examples=texts, valid_examples=[*valid, valid[0]], recipe=recipe)


# Progress and checkpoints.


def test_progress_names_the_phase() -> None:
    said: list[Progress] = []
    trained(on_progress=said.append)
    steps = [(one.phase, one.epoch, one.epochs, len(one.metrics)) for one in said]
    control = [("control", epoch, 2, 2) for epoch in (1, 2)]
    assert steps == control + [("training", epoch, 5, 2) for epoch in range(1, 6)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    trained(run=run)
    return run


def both(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bits of a run and of its control."""
    return bits(run), bits(run / "control")


# 105 questions are 3 steps an epoch: 6 of the control, then 15
@pytest.mark.parametrize("steps", [1, 3, 5, 6, 7, 12, 21])
def test_an_interrupt_in_either_phase_and_a_resume_end_the_same(
    steps: int, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "_EVERY_EPOCHS", 2)
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(patched, steps)
        with pytest.raises(KeyboardInterrupt):
            trained(run=run)
    assert (newest_checkpoint(run) is None) == (steps <= 6)
    assert trained_in(run) == ([run] if steps > 6 else [])
    assert newest_checkpoint(run / "control") is not None
    trained(run=run, resume=True)
    assert both(run) == both(whole)


@pytest.mark.parametrize("name", ["check_classes", "ended"])
def test_an_interrupt_between_the_phases_ends_the_same(
    name: str, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(epochs, "_EVERY_EPOCHS", 1)
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(control_module, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            trained(run=run)
    trained(run=run, resume=True)
    assert both(run) == both(whole)


def test_a_control_is_resumed_only_by_its_own_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        with pytest.raises(KeyboardInterrupt):
            trained(run=run)
    with pytest.raises(MemhopError, match="control: the run exists: resume it, or choose another"):
        trained(run=run)
    for changes in (
        {"seed": 4},
        {"recipe": small(exchange=False)},
        {"recipe": small(epochs=9)},
        {"recipe": small(control_restarts=1)},
        {"valid_examples": TEST},
    ):
        with pytest.raises(MemhopError, match="control: cannot resume: different "):
            trained(run=run, resume=True, **changes)
    assert trained(run=run, resume=True, restarts=1).kept == 0


def test_a_finished_run_tells_the_control(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = trained()
    monkeypatch.delattr("memhop.training.loop.Trainer")  # nothing is trained
    again = trained(run=whole, resume=True)
    assert (again.restarts, again.kept, again.best) == (fresh.restarts, fresh.kept, fresh.best)
    assert again.control == fresh.control
    assert isinstance(again.control, ControlResult)
    assert find_run(whole / "control") == whole / "control"
    model, score = load_with_score(whole / "control")
    assert model.recipe == control_recipe(small(), joint=False)
    assert score is not None
    assert score.kept


@pytest.mark.parametrize(
    "content",
    [1, [], {}, {"restarts": [], "classes": [{}]}, {"restarts": [{}], "classes": []},
     {"restarts": [], "classes": [{"text": "0", "phrases": "a", "is_exchanged": True}]}],
)  # fmt: skip
def test_a_forged_control_is_one_line(content: Any, tmp_path: Path) -> None:
    trained(run=tmp_path / "run")
    checkpoint = newest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    state = json.loads((checkpoint / "training.json").read_text())
    forge(checkpoint, training=json.dumps({**state, "control": content}).encode())
    with pytest.raises(MemhopError, match="corrupt scores or state"):
        trained(run=tmp_path / "run", resume=True)
