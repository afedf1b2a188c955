"""Training: it learns, repeats its bits, resumes after interrupts, and names its mistakes."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop.errors import DivergedError, MemhopError
from memhop.knowledge import (
    KnowledgeModel,
    KnowledgeRecipe,
    KnowledgeResult,
    Progress,
    Question,
    train,
    training,
)
from memhop.knowledge.generate import ask
from memhop.knowledge.training import Trainer
from memhop.knowledge.training_run import KnowledgeRun, Metric
from memhop.runs import newest_checkpoint, stopped_after

from .worlds import FILM_QUESTIONS, TINY, asked, films, same_bits, world

LEARNS = KnowledgeRecipe(
    word_dim=16, num_hops=2, epochs=14, learning_rate=0.02, dropout=0.05, batch_size=32
)


def trained(**changes: Any) -> KnowledgeResult:
    """Train a tiny model; changes are arguments of `train`."""
    arguments: dict[str, Any] = {"recipe": TINY, "test_questions": asked(20, seed=1)} | changes
    kb = arguments.pop("kb", world())
    return train(kb, arguments.pop("questions", asked()), **arguments)


def stop_at(*epochs: int) -> Callable[[Progress], None]:
    """Return a function that interrupts after these epochs."""

    def stop(progress: Progress) -> None:
        if progress.epoch in epochs:
            raise KeyboardInterrupt

    return stop


def files_of(run: Path) -> dict[str, bytes]:
    """Return the files of the newest checkpoint, without those that have a time."""
    folder = newest_checkpoint(run)
    assert folder is not None
    names = {path.name for path in folder.iterdir()} - {"training.json", "checkpoint.json"}
    return {name: (folder / name).read_bytes() for name in names}


def test_it_learns_two_hops() -> None:
    questions = ask(world(), hops=[2], questions=200, seed=0)
    test = ask(world(), hops=[2], questions=60, seed=1)
    shown: list[Progress] = []
    result = train(world(), questions, test, recipe=LEARNS, on_progress=shown.append)
    assert result.test is not None
    assert result.test.hits > 85
    assert result.valid is not None
    assert [one.epoch for one in shown] == list(range(1, result.epochs + 1))
    best = min((one.metric.valid_error, one.metric.valid_loss) for one in shown)
    assert best == tuple(result.valid)
    kept = shown[result.epoch - 1].metric
    assert (kept.valid_error, kept.valid_loss) == best
    assert shown[-1].metric.loss < 0.5 * shown[0].metric.loss


def test_the_same_seed_gives_the_same_bits() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one = trained()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    two, other = trained(), trained(seed=1)
    assert same_bits(one.model, two.model)
    assert (one.test, one.valid, one.epoch) == (two.test, two.valid, two.epoch)
    assert not same_bits(one.model, other.model)


@pytest.mark.parametrize("held_out", [True, False])
def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path: Path, held_out: bool) -> None:
    recipe = TINY if held_out else dataclasses.replace(TINY, validation_share=0)
    whole = trained(recipe=recipe, run=tmp_path / "whole")
    for epoch in (1, 2, 4):
        run = tmp_path / f"half-{epoch}"
        with pytest.raises(KeyboardInterrupt):
            trained(recipe=recipe, run=run, on_progress=stop_at(epoch))
        assert (newest_checkpoint(run) is None) == (epoch == 1)
        if epoch > 1:
            assert stopped_after(run) == (epoch - 1, 4)
            assert KnowledgeModel.load(run).answer("who?", topics=[world().labels[0]])
        resumed = trained(recipe=recipe, run=run, resume=True)
        assert same_bits(whole.model, resumed.model)
        assert (whole.test, whole.valid, whole.epoch) == (
            resumed.test, resumed.valid, resumed.epoch
        )  # fmt: skip
        assert files_of(run) == files_of(tmp_path / "whole")
        assert stopped_after(run) is None
    assert same_bits(KnowledgeModel.load(tmp_path / "whole"), whole.model)


def test_many_interrupts_in_one_training(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=6)
    whole = trained(recipe=recipe, run=tmp_path / "whole")
    run = tmp_path / "half"
    for epoch in (2, 2, 3, 3, 6):
        with pytest.raises(KeyboardInterrupt):
            trained(recipe=recipe, run=run, resume=True, on_progress=stop_at(epoch))
        assert len([path for path in run.iterdir() if "checkpoint" in path.name]) == 1
    resumed = trained(recipe=recipe, run=run, resume=True)
    assert same_bits(whole.model, resumed.model)
    assert files_of(run) == files_of(tmp_path / "whole")
    assert resumed.seconds > 0


def test_an_interrupt_inside_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(run=tmp_path / "whole")
    step, steps = Trainer.step, 0

    def interrupted(self: Trainer, questions: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 6:  # the third step of the second epoch
            raise KeyboardInterrupt
        return step(self, questions)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(run=tmp_path / "half")
    assert stopped_after(tmp_path / "half") == (1, 4)
    assert same_bits(whole.model, trained(run=tmp_path / "half", resume=True).model)


def test_an_interrupt_in_the_test_keeps_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(run=tmp_path / "whole")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("memhop.knowledge.training.evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(run=tmp_path / "half")
    assert stopped_after(tmp_path / "half") == (4, 4)
    shown: list[Progress] = []
    resumed = trained(run=tmp_path / "half", resume=True, on_progress=shown.append)
    assert shown == []
    assert same_bits(whole.model, resumed.model)
    assert resumed.test == whole.test
    assert files_of(tmp_path / "half") == files_of(tmp_path / "whole")


SCRIPT = """
import sys
from tests.knowledge.test_training import TINY, asked, train, world
import dataclasses
import memhop.knowledge.training as training
training._EVERY_SECONDS = 0.0
recipe = dataclasses.replace(TINY, epochs=12, patience=12)
train(world(), asked(), asked(20, seed=1), recipe=recipe, run=sys.argv[1], resume=True,
      on_progress=lambda progress: print(progress.epoch, flush=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=12, patience=12)
    whole = trained(recipe=recipe, run=tmp_path / "whole")
    run = tmp_path / "killed"
    last = 0
    for epoch in (3, 9):
        line = [sys.executable, "-c", SCRIPT, str(run)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for text in process.stdout:
                first = int(text) if last == 0 else last
                last = int(text)
                assert last >= first
                if last >= epoch:
                    break
            process.kill()
        assert process.returncode == -signal.SIGKILL
    resumed = trained(recipe=recipe, run=run, resume=True)
    assert same_bits(whole.model, resumed.model)
    assert files_of(run) == files_of(tmp_path / "whole")
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Return a training that was stopped after one epoch."""
    with pytest.raises(KeyboardInterrupt):
        trained(run=tmp_path / "half", on_progress=stop_at(2))
    return tmp_path / "half"


def test_other_data_or_settings_cannot_resume(half: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "facts": {"kb": films(), "questions": FILM_QUESTIONS},
        "questions": {"questions": asked(79)},
        "recipe (epochs 4, now 9)": {"recipe": dataclasses.replace(TINY, epochs=9)},
        "seed (0, now 1)": {"seed": 1},
    }
    for words, change in changes.items():
        with pytest.raises(MemhopError) as caught:
            trained(run=half, resume=True, **change)
        message = str(caught.value)
        assert message.startswith(f"{half}: cannot resume: different "), message
        assert words in message
    for change in ({"test_questions": asked(19)}, {"valid_questions": asked(5)}):
        with pytest.raises(MemhopError, match=r"cannot resume: different questions$"):
            trained(run=half, resume=True, **change)
    before = files_of(half)
    with pytest.raises(MemhopError, match="the run exists: resume it, or choose another name"):
        trained(run=half)
    assert files_of(half) == before


def test_a_run_of_stories_cannot_resume(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "run" / "stopped"
    with pytest.raises(MemhopError, match="expected a knowledge model, got a story model"):
        trained(run=golden, resume=True)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(MemhopError, match="expected a folder for the run, got a file"):
        trained(run=file)


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    whole = trained(run=tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    shown: list[Progress] = []
    again = trained(run=tmp_path / "run", resume=True, on_progress=shown.append)
    assert shown == []
    assert same_bits(whole.model, again.model)
    assert dataclasses.replace(again, model=whole.model) == whole
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_it_stops_early_without_a_better_held_out_part() -> None:
    shown: list[Progress] = []
    recipe = dataclasses.replace(TINY, epochs=30, patience=2, learning_rate=1e-9)
    result = trained(recipe=recipe, valid_questions=asked(8, seed=3), on_progress=shown.append)
    assert result.epochs == result.epoch + 2 < 30
    assert shown[-1].epoch == result.epochs
    assert all(one.epochs == 30 for one in shown)


def test_a_stopped_early_training_resumes_at_its_end(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=30, patience=2, learning_rate=1e-9)
    arguments: dict[str, Any] = {"recipe": recipe, "valid_questions": asked(8, seed=3)}
    whole = trained(**arguments)
    with pytest.raises(KeyboardInterrupt):
        trained(**arguments, run=tmp_path / "run", on_progress=stop_at(whole.epochs))
    assert trained(**arguments, run=tmp_path / "run", resume=True).epochs == whole.epochs


def test_without_a_held_out_part_the_last_epoch_is_kept() -> None:
    shown: list[Progress] = []
    recipe = dataclasses.replace(TINY, validation_share=0, patience=1)
    result = trained(recipe=recipe, on_progress=shown.append)
    assert (result.epoch, result.epochs, result.valid) == (4, 4, None)
    assert {one.metric.valid_error for one in shown} == {None}
    assert trained(recipe=recipe, test_questions=()).test is None


def test_questions_with_the_same_text_are_held_out_together() -> None:
    questions = [one for one in FILM_QUESTIONS for _ in range(4)]
    recipe = dataclasses.replace(TINY, validation_share=0.5)
    trainer = Trainer(films(), questions, (), recipe, 0)
    texts = [{one[:2] for one in part} for part in (trainer.train, trainer.held_out)]
    assert (len(trainer.train), len(trainer.held_out)) == (12, 8)
    assert texts[0] & texts[1] == set()


def test_questions_without_a_topic_or_an_answer_are_left_out() -> None:
    recipe = dataclasses.replace(TINY, validation_share=0)
    more = [
        Question("who directed Faust?", ("Murnau",)),
        Question("who directed M?", ("Nobody",)),
        Question("who directed Nosferatu?"),
    ]
    trainer = Trainer(films(), [*FILM_QUESTIONS[:1], *more], (), recipe, 0)
    assert len(trainer.train) == 1
    for questions in (more, []):
        with pytest.raises(MemhopError) as caught:
            train(films(), questions, recipe=recipe)
        expected = "expected a training question with an entity and an answer of the facts"
        assert str(caught.value) == f"{expected}, got none in {len(questions)} questions"


def test_questions_of_one_text_share_their_answers() -> None:
    text = "which films did Fritz Lang direct?"
    questions = [Question(text, ("Metropolis",)), Question(text, ("M",))]
    trainer = Trainer(films(), questions, (), dataclasses.replace(TINY, validation_share=0), 0)
    numbers = [films().find(name)[0] for name in ("Metropolis", "M")]
    assert [sorted(one.answers) for one in trainer.train] == [sorted(numbers)] * 2


@pytest.mark.parametrize("share", [0.1, 0])
def test_a_loss_that_becomes_infinite(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memhop.knowledge.hops.FIRST_SCALE", 1e30)
    recipe = dataclasses.replace(TINY, learning_rate=1e6, validation_share=share)
    expected = r"^the loss became infinite in epoch \d+: try a lower learning_rate$"
    with pytest.raises(DivergedError, match=expected):
        trained(recipe=recipe, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_largest_learning_rate_gives_finite_weights(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, learning_rate=1e6, clip_norm=1e6)
    assert trained(recipe=recipe, run=tmp_path / "run").epochs == 4
    KnowledgeModel.load(tmp_path / "run")


def test_weights_that_the_last_step_spoils(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def spoiled(self: Trainer, questions: Any) -> float:
        loss = step(self, questions)
        with torch.no_grad():
            self.model.network.back.bias[0] = float("nan")
        return loss

    monkeypatch.setattr(Trainer, "step", spoiled)
    recipe = dataclasses.replace(TINY, validation_share=0, batch_size=1000)
    with pytest.raises(DivergedError, match="in epoch 1"):
        trained(recipe=recipe)


@pytest.mark.parametrize("seed", [-1, True, 1.5, "0"])
def test_a_wrong_seed(seed: Any) -> None:
    with pytest.raises(MemhopError, match=r"^seed: expected an integer from 0"):
        trained(seed=seed)


def test_the_row_of_the_padding_stays_zero() -> None:
    result = trained()
    assert not result.model.network.words.weight[0].any()


def test_each_epoch_has_its_own_order_and_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: dict[int, list[Any]] = {}
    step = Trainer.step

    def recorded(self: Trainer, questions: Any) -> float:
        drawn = torch.get_rng_state().tolist()
        epochs.setdefault(self.state.epoch, []).append((questions, drawn))
        return step(self, questions)

    monkeypatch.setattr(Trainer, "step", recorded)
    trained()
    orders = [[one for batch, _ in steps for one in batch] for steps in epochs.values()]
    assert all(order != orders[0] for order in orders[1:])
    assert all(sorted(order) == sorted(orders[0]) for order in orders[1:])
    assert len({tuple(steps[0][1]) for steps in epochs.values()}) == len(epochs) == 4


def test_of_epochs_with_the_same_error_that_with_the_lowest_loss_is_kept() -> None:
    trainer = Trainer(films(), FILM_QUESTIONS, FILM_QUESTIONS, TINY, 0)
    kept = []
    for epoch, (error, loss) in enumerate([(50, 2.0), (50, 1.0), (60, 0.1), (50, 1.0)], 1):
        trainer.keep(Metric(epoch, 1.0, float(error), loss))
        kept.append(trainer.state.best_epoch)
    assert kept == [1, 2, 2, 2]
    assert trainer.state.best == (50.0, 1.0)


def test_an_interrupt_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(run=tmp_path / "whole")
    monkeypatch.setattr(training, "_EVERY_SECONDS", 0.0)
    written = KnowledgeRun.write
    calls = 0

    def interrupted(self: KnowledgeRun, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        written(self, *arguments)

    monkeypatch.setattr(KnowledgeRun, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(run=tmp_path / "half")
    assert stopped_after(tmp_path / "half") == (2, 4)
    assert same_bits(trained(run=tmp_path / "half", resume=True).model, whole.model)


def test_words_of_questions_that_are_left_out_are_unknown() -> None:
    dropped = Question("quux of nobody", ("nothing",))
    recipe = dataclasses.replace(TINY, validation_share=0, epochs=1)
    model = train(world(), [*asked(), dropped], recipe=recipe).model
    assert "quux" not in model.vocabulary


def test_unusable_questions_are_counted() -> None:
    fine = asked()[0]
    wrong = [Question("who?", fine.answers), Question(fine.text, ("nothing",))]
    assert training.unusable(world(), [fine, *wrong]) == (1, 1)
