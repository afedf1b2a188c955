"""The benchmark of language models: its textbook form, its tokens, its rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import language_model
from benchmarks.language_model import Textbook, compared, gathered, zipf_tokens
from memhop.language_model import LanguageRecipe, WordVocabulary
from memhop.language_model.batches import chunks, single_positions
from memhop.language_model.trainer import Trainer
from memhop.reproduce.record import as_text, provenance, read_rows

from .conftest import Runner

WORDS = WordVocabulary(["<unk>", "<eos>", *"abcdefgh"])


def trainer_of(**settings: Any) -> Trainer:
    tokens = zipf_tokens(300, len(WORDS))
    recipe = LanguageRecipe.paper(memory_dim=6, num_hops=3, num_words=5, init_std=0.4, **settings)
    return Trainer(tokens, tokens, WORDS, recipe, 0)


@pytest.mark.parametrize("start", [0, 3, 40])
def test_the_textbook_form_is_the_same_model(start: int) -> None:
    trainer = trainer_of()
    windows = chunks(trainer.tokens, np.array([start, 90]), 7, 5)
    for batch in (windows, single_positions(trainer.tokens, np.array([5, 9, 250]), 5)):
        difference = compared(trainer, batch)
        assert max(difference) < 1e-5
    rows, ignored, targets = gathered(windows, 5)
    assert (rows.shape, len(targets)) == ((14, 5), 14)
    assert rows[-1].tolist() == trainer.tokens[91:96].tolist()
    assert (ignored is not None) == (start < 5)


def test_a_difference_is_found() -> None:
    trainer = trainer_of(output_precision="bfloat16")
    batch = single_positions(trainer.tokens, np.arange(5, 30), 5)
    assert 1e-4 < compared(trainer, batch).gradient < 0.05
    exact = trainer_of()
    gradients = exact.gradients

    def wrong(batch: Any) -> Any:
        loss, found = gradients(batch)
        return 1.01 * loss, {**found, "output": 2 * found["output"]}

    exact.gradients = wrong  # type: ignore[method-assign]
    difference = compared(exact, batch)
    assert difference.loss == pytest.approx(0.01, rel=1e-3)
    assert difference.gradient > 0.1
    assert difference.weight == pytest.approx(1.0)


@pytest.mark.parametrize("clip_norm", [50.0, 0.1])
def test_a_step_of_both_forms_gives_the_same_weights(clip_norm: float) -> None:
    trainer = trainer_of(clip_norm=clip_norm)
    batch = single_positions(trainer.tokens, np.arange(5, 30), 5)
    textbook = Textbook(trainer.network)
    loss = textbook.train_step(textbook, batch)
    assert loss == pytest.approx(trainer.take_step(batch, trainer.recipe.learning_rate), rel=1e-5)
    for name, weight in trainer.network.named_parameters():
        own = getattr(textbook, language_model.own_name(name))
        torch.testing.assert_close(own, weight, rtol=1e-4, atol=1e-6)


def test_the_tokens_have_zipfs_distribution() -> None:
    tokens = zipf_tokens(100_000, 50)
    counts = np.bincount(tokens)
    assert len(counts) == 50
    expected = 100_000 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum()
    assert np.abs(counts / expected - 1).max() < 0.15
    assert np.array_equal(tokens, zipf_tokens(100_000, 50))


def test_the_rows(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "SIZES", ((2, 5),))
    done = run("language_model", "--tiny", "--to", "rows.csv")
    assert done.status == 0, done
    rows = read_rows(Path("rows.csv"))
    assert [(row["protocol"], row["precision"]) for row in rows] == [
        ("paper", "float32"), ("paper", "bfloat16"),
        ("contiguous", "float32"), ("contiguous", "bfloat16"),
    ]  # fmt: skip
    for row in rows:
        assert [*row][-len(provenance()) :] == [*provenance()]
        parts = sum(float(row[part]) for part in language_model.PARTS)
        assert parts == pytest.approx(float(row["step_ms"]), rel=0.5)
        assert row["compiled_ms"] == ""
        is_exact = row["precision"] == "float32"
        assert (float(row["gradient_difference"]) < 1e-5) == is_exact
    assert "2 x 5       paper  bfloat16" in done.out


def test_other_results_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "CONSTANT", 0.2)
    with pytest.raises(AssertionError, match="other results than the textbook form"):
        next(language_model.measure(tiny=True))


def test_the_table() -> None:
    row: dict[str, Any] = {
        "hops": 6, "words": 50, "protocol": "paper", "precision": "float32", "positions": 128,
        "steps": 30, "draw_ms": 0.1, "hops_ms": 8.0, "output_ms": 20.0, "update_ms": 1.0,
        "step_ms": 29.1, "textbook_ms": 60.0, "compiled_ms": None, "epoch_steps": 7262,
        "loss_difference": 1e-8, "gradient_difference": 2e-7,
        "weight_difference": 3e-6, "tiny": False,
    }  # fmt: skip
    [sheet] = language_model.sheets(as_text([row, row | {"compiled_ms": 50.0}]))
    first = ["6 x 50", "paper", "float32", "0.10", "8.00", "20.00", "1.00", "29.1", "60.0"]
    assert sheet.lines == [[*first, "-", "211 s"], [*first, "50.0", "211 s"]]
    assert "2.0e-07 with float32" in sheet.note
