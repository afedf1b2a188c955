"""Train language models: what they learn, resume to the bit, checkpoints, errors."""

import csv
import dataclasses
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop import MemhopError
from memhop.errors import DivergedError
from memhop.language_model import (
    LanguageModel,
    LanguageRecipe,
    LanguageResult,
    Progress,
    evaluate,
    train,
    training,
)
from memhop.language_model.trainer import Trainer, without_interrupt
from memhop.runs import newest_checkpoint
from tests.language_model.texts import WORDS, text_of

SMALL = {"memory_dim": 12, "num_hops": 2, "num_words": 4, "epochs": 2}
SGD = LanguageRecipe.paper(**SMALL, batch_size=32)
ADAM = LanguageRecipe.paper(
    **SMALL, protocol="contiguous", optimizer="adam", schedule="cosine", learning_rate=0.02,
    chunk=8, batch_size=32, embeddings="shared", first_query="newest", word_dropout=0.1,
    attention_dropout=0.1, output_dropout=0.1, averaging=0.9, warmup_steps=5,
)  # fmt: skip
RECIPES = [SGD, ADAM]
TEXTS = text_of(600), text_of(200, seed=1), text_of(150, seed=2)


def trained(recipe: LanguageRecipe, seed: int = 0, **options: Any) -> LanguageResult:
    return train(*TEXTS, WORDS, recipe=recipe, seed=seed, **options)


def weights_of(result: LanguageResult) -> list[torch.Tensor]:
    return list(result.model.network.parameters())


def same(one: LanguageResult, other: LanguageResult) -> bool:
    equal = all(map(torch.equal, weights_of(one), weights_of(other)))
    return equal and (one.valid, one.test, one.epoch) == (other.valid, other.test, other.epoch)


def test_it_learns_the_rule_of_a_text() -> None:
    result = trained(dataclasses.replace(ADAM, epochs=8))
    assert result.valid.perplexity < 3  # 5.1 without the words before, 1.6 at best
    assert result.valid == evaluate(result.model, TEXTS[1])
    assert result.test == evaluate(result.model, TEXTS[2])
    assert result.epochs == 8
    assert result.cpu_seconds > 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_gradients_are_those_of_autograd(recipe: LanguageRecipe) -> None:
    trainer = Trainer(
        TEXTS[0].tokens, TEXTS[1].tokens, WORDS,
        dataclasses.replace(recipe, word_dropout=0.0, attention_dropout=0.0, output_dropout=0.0), 0,
    )  # fmt: skip
    network = trainer.network
    batch = next(iter(training_batches(trainer)))
    loss, gradients = trainer.gradients(batch)
    u = network(batch.words).flatten(0, -2)
    reduction = "mean" if recipe.optimizer == "adam" else "sum"
    wanted = torch.nn.functional.cross_entropy(
        u @ network.output.T, batch.targets, reduction=reduction
    )
    torch.autograd.backward(wanted)
    scale = len(batch.targets) if reduction == "mean" else 1
    assert loss == pytest.approx(float(wanted.detach()) * scale, rel=1e-5)
    assert gradients.keys() == dict(network.named_parameters()).keys()
    for name, weight in network.named_parameters():
        found = gradients[name]
        if not isinstance(found, torch.Tensor):
            found = torch.zeros_like(weight).index_copy_(0, *found)
        torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-6)


def training_batches(trainer: Trainer) -> Any:
    from memhop.language_model.batches import epoch_batches
    from memhop.rng import generator

    return epoch_batches(trainer.tokens, trainer.recipe, generator(0))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_seed_decides(recipe: LanguageRecipe) -> None:
    first = trained(recipe)
    assert same(first, trained(recipe))
    assert not same(first, trained(recipe, seed=1))


class Interrupt:
    """Raise KeyboardInterrupt after some calls."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 7, 19, 30])
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_training_resumes_to_the_bit(
    recipe: LanguageRecipe, after: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, run=run, on_progress=Interrupt(after))
    with pytest.raises(KeyboardInterrupt):  # twice
        trained(recipe, run=run, resume=True, on_progress=Interrupt(2))
    resumed = trained(recipe, run=run, resume=True)
    assert same(resumed, trained(recipe))
    assert same(trained(recipe, run=run, resume=True), resumed)  # a finished one is only read
    assert len(list(run.iterdir())) == 1
    assert same(resumed, dataclasses.replace(resumed, model=LanguageModel.load(run)))


def test_checkpoints_are_written_within_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_EVERY_SECONDS", 0.0)
    run, seen = tmp_path / "run", []

    def look(progress: Progress) -> None:
        folder = newest_checkpoint(run)
        seen.append(folder and int(folder.name.rpartition("-")[2]))

    trained(SGD, run=run, on_progress=look)
    assert seen[:4] == [None, 1, 2, 3]


def test_the_metrics_have_a_row_for_each_epoch(tmp_path: Path) -> None:
    result = trained(SGD, run=tmp_path / "run")
    [checkpoint] = (tmp_path / "run").iterdir()
    text = (checkpoint / "metrics.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    losses = [float(row["valid_loss"]) for row in rows]
    assert result.valid.loss == pytest.approx(min(losses))


def test_the_rate_falls_where_the_validation_loss_does_not() -> None:
    trainer = Trainer(TEXTS[0].tokens, TEXTS[1].tokens, WORDS, SGD, 0)
    trainer.end_epoch()
    assert trainer.state.rate == SGD.learning_rate
    trainer.end_epoch()  # the same weights, the same loss
    assert trainer.state.rate == pytest.approx(SGD.learning_rate / 1.5)
    assert trainer.state.best_epoch == 1
    trainer.state.rate = 0.9 * SGD.min_learning_rate
    trainer.state.epoch = 1
    assert trainer.is_done()


def test_a_loss_that_becomes_infinite_is_an_error() -> None:
    trainer = Trainer(TEXTS[0].tokens, TEXTS[1].tokens, WORDS, SGD, 0)
    with torch.no_grad():
        trainer.network.output[2] = math.inf
    for call in (lambda: next(trainer.run_steps()), trainer.end_epoch):
        with pytest.raises(DivergedError, match="in epoch 1: try a lower learning_rate"):
            call()


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(MemhopError, match="validation text: expected at least 5 words"):
        train(TEXTS[0], text_of(4), None, WORDS, recipe=SGD)
    with pytest.raises(MemhopError, match="seed"):
        trained(SGD, seed=-1)
    run = tmp_path / "run"
    trained(SGD, run=run)
    with pytest.raises(MemhopError, match="the run exists"):
        trained(SGD, run=run)
    with pytest.raises(MemhopError, match=r"different recipe \(batch_size 32, now 16\)"):
        trained(dataclasses.replace(SGD, batch_size=16), run=run, resume=True)
    with pytest.raises(MemhopError, match="different text"):
        train(text_of(500), *TEXTS[1:], WORDS, recipe=SGD, run=run, resume=True)


@pytest.mark.parametrize(
    ("name", "find", "put"),
    [("training.json", b'"best_epoch": 0', b'"best_epoch": 9'),
     ("training.json", b'"loss"', b'"lost"'), ("metrics.csv", b"epoch,", b"epochs,")],
)  # fmt: skip
def test_corrupt_checkpoints_are_refused(
    name: str, find: bytes, put: bytes, tmp_path: Path
) -> None:
    from memhop.checkpoint import LANGUAGE, read_checkpoint, write_checkpoint

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        trained(SGD, run=run, on_progress=Interrupt(3 if name == "training.json" else 25))
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    files = dict(read_checkpoint(checkpoint))
    assert find in files[name]
    files[name] = files[name].replace(find, put)
    write_checkpoint(run / "checkpoint-999999", files, LANGUAGE)
    with pytest.raises(MemhopError, match="corrupt"):
        trained(SGD, run=run, resume=True)


def test_ctrl_c_waits_for_the_end_of_a_step() -> None:
    steps = []

    def step() -> None:
        with without_interrupt():
            signal.raise_signal(signal.SIGINT)
            steps.append("done")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_missing_test_text_is_allowed() -> None:
    result = train(*TEXTS[:2], None, WORDS, recipe=SGD)
    assert result.test is None
    assert math.isfinite(result.valid.loss)


def test_ctrl_c_while_texts_are_scored_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(SGD, run=tmp_path / "run")
    steps: list[Progress] = []
    resumed = trained(SGD, run=tmp_path / "run", resume=True, on_progress=steps.append)
    assert steps == []
    assert same(resumed, trained(SGD))


def test_the_default_dtype_does_not_matter(tmp_path: Path) -> None:
    expected = trained(SGD)
    torch.set_default_dtype(torch.float64)
    try:
        found = trained(SGD, run=tmp_path / "run")
        loaded = LanguageModel.load(tmp_path / "run")
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(found, expected)
    assert same(dataclasses.replace(found, model=loaded), expected)


def test_there_is_no_copy_for_an_average_without_averaging() -> None:
    trainer = Trainer(TEXTS[0].tokens, TEXTS[1].tokens, WORDS, SGD, 0)
    assert trainer.average is trainer.network
