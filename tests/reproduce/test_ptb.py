"""Penn Treebank: the files, the rows, stopping and resuming, scores, and the table."""

from pathlib import Path
from typing import Any

import pytest
import torch

from memhop.errors import MemhopError
from memhop.language_model import LanguageModel, LanguageRecipe, evaluate
from memhop.reproduce import ptb
from memhop.reproduce.generated_sets import NUM_LINES, write_ptb
from memhop.reproduce.ptb import (
    COLUMNS,
    PUBLISHED,
    TINY_LINES,
    Texts,
    Unit,
    check_rows,
    different_counts,
    due,
    merged,
    parse_rows,
    read_texts,
    recipe_of,
    row_of,
    run_of,
    sheet,
    summary_of,
    units_of,
)
from memhop.reproduce.record import as_text, provenance

UNIT = Unit("2x5", "paper", "paper", "float32", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptb")
    write_ptb(folder)
    return folder


@pytest.fixture(scope="module")
def texts(folder: Path) -> Texts:
    return read_texts(folder, tiny=True)


def test_the_texts_share_the_vocabulary_of_the_first(folder: Path) -> None:
    file = ptb.file_of(folder, "valid")
    whole = read_texts(folder, tiny=False)
    assert [text.lines for text in whole[1:]] == [NUM_LINES] * 3
    assert {len(text) for text in whole[1:]} != {len(whole.train)}  # three different texts
    first = file.read_text().split("\n")[0].split()
    words = map(whole.vocabulary.word_of, whole.valid.tokens[: len(first) + 1].tolist())
    assert [*words] == [*first, "<eos>"]
    assert [text.lines for text in read_texts(folder, tiny=True)[1:]] == [TINY_LINES] * 3


def test_counts_that_are_not_those_of_the_treebank_are_named(texts: Texts) -> None:
    lines = list(different_counts(texts))
    assert len(lines) == 4
    assert lines[0] == f"vocabulary: expected 10,000 words, got {len(texts.vocabulary)}"
    assert lines[2] == (
        f"ptb.valid.txt: expected 73,760 words with <eos>, got {len(texts.valid):,}"
    )


def test_a_missing_file_is_an_error_that_says_where_it_comes_from(tmp_path: Path) -> None:
    write_ptb(tmp_path)
    ptb.file_of(tmp_path, "test").unlink()
    with pytest.raises(MemhopError, match=r"ptb\.test\.txt: no such file: expected the preproc"):
        read_texts(tmp_path, tiny=False)


@pytest.mark.parametrize("text", ["6", "6x", "x50", "6x50x2", "", "6x50,", "Best", "6 x 50"])
def test_wrong_rows(text: str) -> None:
    with pytest.raises(MemhopError, match="--rows: expected HOPSxWORDS, such as 6x50, or 'best'"):
        parse_rows(text)


def test_the_settings_of_a_row() -> None:
    [first, second, best] = units_of(["6x50", "7x200", "best"], "paper", None, "bfloat16", 3)
    assert first == Unit("6x50", "paper", "paper", "bfloat16", 3)
    assert recipe_of(first, tiny=False) == LanguageRecipe.paper(
        num_hops=6, num_words=50, output_precision="bfloat16"
    )
    assert (second.row, recipe_of(second, tiny=False).num_words) == ("7x200", 200)
    assert best.recipe == "best"
    given = LanguageRecipe.best()
    assert recipe_of(best, tiny=False) == LanguageRecipe.best(output_precision="bfloat16")
    assert best.protocol == given.protocol
    [changed] = units_of(["2x9"], "best", "paper", None, 0)
    recipe = recipe_of(changed, tiny=True)
    assert (recipe.protocol, recipe.num_hops, recipe.num_words) == ("paper", 2, 9)
    assert recipe.epochs == ptb.TINY["epochs"]
    with pytest.raises(MemhopError, match="num_hops: expected an integer from 1 up to 100, got 0"):
        units_of(["0x50"], "paper", None, None, 0)
    with pytest.raises(MemhopError, match="--recipe: expected paper or best, got 'worst'"):
        units_of(["6x50"], "worst", None, None, 0)


@pytest.mark.parametrize("protocol", ["paper", "contiguous"])
def test_a_row_is_that_of_the_trained_model(texts: Texts, tmp_path: Path, protocol: str) -> None:
    unit = UNIT._replace(protocol=protocol)
    run = run_of(tmp_path, unit, tiny=True)
    row = row_of(unit, texts, run, max_epochs=None, tiny=True)
    assert row is not None
    assert tuple(row) == (*COLUMNS, *provenance())
    model = LanguageModel.load(run)
    for name in ("valid", "test"):
        text = getattr(texts, name)
        found = evaluate(model, text, protocol=model.recipe.protocol)
        assert row[name] == found.perplexity
        assert row[f"{name}_scored"] == len(text) - (5 if protocol == "paper" else 0)
    assert (row["hops"], row["words"], row["epochs"]) == (2, 5, ptb.TINY["epochs"])
    assert row["parameters"] == sum(weight.numel() for weight in model.network.parameters())
    assert row["finished"]
    again = row_of(unit, texts, run, max_epochs=None, tiny=True)  # only reads the run
    assert again == row
    check_rows(None, texts, as_text([row]))
    fewer = texts._replace(test=texts.valid)
    message = rf"of {len(texts.test):,} words of the test text, now {len(texts.valid):,}; give"
    with pytest.raises(MemhopError, match=message):
        check_rows(Path("a.csv"), fewer, as_text([row]))


def test_a_training_stops_after_some_epochs_and_goes_on_to_the_bit(
    texts: Texts, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert row_of(UNIT, texts, one, max_epochs=0, tiny=True) is None
    assert not one.exists()
    seen: list[tuple[int, int]] = []
    first = row_of(
        UNIT, texts, one, max_epochs=1, tiny=True,
        on_progress=lambda progress: seen.append((progress.epoch, progress.epochs)),
    )  # fmt: skip
    assert {*seen} == {(1, 1)}  # the epochs until it stops
    assert first is not None
    assert (first["epoch"], first["epochs"], first["finished"]) == (1, 1, False)
    model = LanguageModel.load(one)
    assert first["test"] == evaluate(model, texts.test, protocol="paper").perplexity
    files = {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    timed = {name: first[name] for name in ("seconds", "cpu_seconds")}
    for max_epochs in (0, 1):  # scored as it is
        same = row_of(UNIT, texts, one, max_epochs=max_epochs, tiny=True)
        assert same == first | timed
        assert {path: path.stat().st_mtime_ns for path in one.rglob("*")} == files
    last = row_of(UNIT, texts, one, max_epochs=2, tiny=True)
    whole = row_of(UNIT, texts, other, max_epochs=None, tiny=True)
    assert last is not None
    assert whole is not None
    ignored = dict.fromkeys(timed)
    assert last | ignored == whole | ignored
    assert last["valid"] < first["valid"]
    weights = [LanguageModel.load(run).network.state_dict() for run in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_interrupted_training_is_scored_only_after_an_epoch(
    texts: Texts, tmp_path: Path
) -> None:
    calls = 0

    def interrupt(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        row_of(UNIT, texts, tmp_path / "run", max_epochs=None, tiny=True, on_progress=interrupt)
    assert row_of(UNIT, texts, tmp_path / "run", max_epochs=0, tiny=True) is None


def test_a_run_of_another_training_is_refused(texts: Texts, tmp_path: Path) -> None:
    row_of(UNIT, texts, tmp_path / "run", max_epochs=1, tiny=True)
    others: list[tuple[Unit, Texts, str]] = [
        (UNIT._replace(row="3x5"), texts, "num_hops 2, now 3"),
        (UNIT._replace(seed=1), texts, r"seed \(0, now 1\)"),
        (UNIT, texts._replace(test=texts.valid), "different text"),
    ]
    for unit, own, message in others:
        for max_epochs in (0, None):
            with pytest.raises(MemhopError, match=message):
                row_of(unit, own, tmp_path / "run", max_epochs=max_epochs, tiny=True)


def row(**changes: Any) -> dict[str, str]:
    own: dict[str, Any] = {
        "row": "6x50", "recipe": "paper", "protocol": "paper", "hops": 6, "words": 50,
        "memory_dim": 150, "parameters": 4_546_500, "seed": 0, "epoch": 40, "epochs": 44,
        "valid": 121.44, "test": 114.26, "valid_scored": 73_710, "test_scored": 82_380,
        "unknown": 0, "precision": "float32", "matmul": "highest", "seconds": 9000.0,
        "cpu_seconds": 8640.0, "finished": True, "tiny": False,
    }  # fmt: skip
    assert tuple(own) == COLUMNS
    [text] = as_text([own | changes])
    return text


def test_what_is_left_to_train() -> None:
    units = [UNIT, UNIT._replace(row="2x6"), UNIT._replace(row="2x7")]
    done = row(row="2x5")
    half = row(row="2x6", finished=False, epochs=3)
    for max_epochs, names in ((None, [1, 2]), (2, [2]), (3, [2]), (4, [1, 2]), (0, [1, 2])):
        assert due(units, [done, half], max_epochs) == [units[place] for place in names]
    assert due([UNIT._replace(precision="bfloat16")], [done], None)


def test_a_new_row_replaces_that_of_its_training() -> None:
    half, done = row(finished=False, epochs=3), row()
    last = row(row="7x200", hops=7, words=200)
    own = row(row="3x9", hops=3, words=9)
    best = row(row="best", recipe="best", hops=2, words=100)
    first = row(row="2x100", hops=2, words=100)
    rows: list[dict[str, str]] = []
    for one in (best, own, last, half, first, done):
        rows = merged(rows, one)
    assert rows == [first, done, last, own, best]


def test_the_table() -> None:
    half = row(row="3x9", hops=3, words=9, protocol="contiguous", finished=False, epochs=2,
               precision="bfloat16", test_scored=82_430)  # fmt: skip
    table = sheet([row(), half])
    assert table.lines == [
        ["6x50", "paper", "paper", "float32", "44", "121.4 (121)", "114.3 (114)", "2.4"],
        ["3x9", "paper", "contiguous", "bfloat16", "2*", "121.4", "114.3", "2.4"],
    ]
    note = " ".join(table.note.split())
    for words in ("73,710 of the validation", "82,380 to 82,430 of the test", "seed 0,", "*: stop"):
        assert words in note
    assert "*" not in sheet([row()]).note
    assert "lets torch round" not in table.note
    assert "lets torch round" in sheet([row(recipe="best", matmul="medium")]).note
    assert [line[0] for line in sheet([row(), row(seed=2)]).lines] == ["6x50, seed 0",
                                                                       "6x50, seed 2"]  # fmt: skip
    assert len(PUBLISHED) == 12


def test_published_values_are_those_of_the_same_text_recipe_and_protocol() -> None:
    paper, contiguous = row(), row(protocol="contiguous", valid=118.0, test=111.0)
    best = row(row="best", recipe="best", protocol="contiguous", valid=110.0, test=103.0)
    own_best = row(recipe="best", valid=109.0, test=102.0)
    table = sheet([paper, contiguous, best, own_best])
    assert [line[5:7] for line in table.lines] == [
        ["121.4 (121)", "114.3 (114)"], ["118.0 (121)", "111.0 (114)"],
        ["110.0", "103.0"], ["109.0", "102.0"],
    ]  # fmt: skip
    assert 'In parentheses: the published one of the protocol "paper", Table 2' in table.note
    assert "In parentheses: the published one, Table 2" in sheet([paper, best]).note
    for alone in (sheet([best, own_best]), sheet([paper, contiguous, best], is_released=False)):
        assert not any("(" in cell for line in alone.lines for cell in line)
        assert "arentheses" not in alone.note
        assert "LSTM" not in alone.note
    other = "test text. The text is not that of the paper, so no published values are shown. One"
    assert other in sheet([paper], is_released=False).note
    assert "not that of the paper" not in table.note


def test_a_summary_counts_the_epochs() -> None:
    begun = row(finished=False, epochs=1)
    assert summary_of(begun) == "6x50 paper paper: 121.4 / 114.3 after 1 epoch (stopped)"
    assert summary_of(row()) == "6x50 paper paper: 121.4 / 114.3 after 44 epochs"
