"""``memhop lm``: train, resume, predict and eval on a generated text, and errors of one line."""

import csv
import io
import json
import math
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import parse

import numpy as np
import pytest

from memhop.cli.screen import epoch_progress
from memhop.language_model import (
    LanguageModel,
    LanguageRecipe,
    WordVocabulary,
    count_words,
    encode_text,
    evaluate,
)
from memhop.runs import newest_checkpoint, stopped_after

from .conftest import Output, Program

GOLDEN = Path(__file__).parents[1] / "golden"
SETTINGS = ("memory_dim=6", "num_hops=2", "num_words=8", "epochs=3", "batch_size=64", "chunk=16")
TINY = [word for setting in SETTINGS for word in ("--set", setting)]
TEXT, TEST = "text.txt", "test.txt"
LINE = ["lm", "train", "--text", TEXT, *TINY]
RESUME = ["lm", "train", "--resume", "--name"]


@pytest.fixture
def data(memhop: Program) -> None:
    """Write two texts: the generated stories of a task, without the numbers of their lines."""
    memhop("generate", "--task", "1", "--questions", "60", "--to", "stories").ok()
    for split, name in (("train", TEXT), ("test", TEST)):
        [file] = Path("stories").glob(f"*{split}.txt")
        words = [line.split()[1:] for line in file.read_text().splitlines()]
        Path(name).write_text("".join(" ".join(line) + "\n" for line in words))


@pytest.fixture
def trained(memhop: Program, data: None) -> str:
    """Return the name of a trained run."""
    memhop(*LINE, "--name", "stories").ok()
    return "stories"


def stopping_at(epochs: float, stop: BaseException) -> Callable[[str], Callable[..., None]]:
    """Return a display of progress that raises ``stop`` after so many epochs."""

    def lines(name: str, each_epoch: bool = False) -> Callable[..., None]:
        def show(epoch: float, num_epochs: int, figures: str) -> None:
            if epoch >= epochs:
                raise stop

        return show

    return lines


def stopped_run(
    memhop: Program, monkeypatch: pytest.MonkeyPatch, epochs: float, stop: BaseException, *line: str
) -> Output:
    with monkeypatch.context() as patch:
        patch.setattr("memhop.cli.screen._training_lines", stopping_at(epochs, stop))
        return memhop(*line)


def files_of(run: str) -> dict[str, Any]:
    """Return the files of the newest checkpoint of a run, without the times in them."""
    folder = newest_checkpoint(Path("runs", run))
    assert folder is not None
    rows = csv.DictReader(io.StringIO((folder / "metrics.csv").read_text()))
    metrics = [{**row, "cpu_seconds": ""} for row in rows]
    names = ("model.safetensors", "language.json", "vocabulary.json")
    return {"metrics": metrics} | {name: (folder / name).read_bytes() for name in names}


def test_train_and_the_next_commands(memhop: Program, data: None) -> None:
    shutil.copy(TEST, "it's a test.txt")
    output = memhop(*LINE, "--test", "it's a test.txt").ok()
    vocabulary, *sizes, untrained, first, second, third = output.err.splitlines()
    lines = Path(TEXT).read_text().splitlines(keepends=True)
    Path("kept.txt").write_text("".join(lines[:162]))
    Path("held_out.txt").write_text("".join(lines[162:]))
    known = count_words("kept.txt")
    assert vocabulary == f"vocabulary: {len(known)} words, <unk> and <eos> among them"
    expected = []
    for name, file in (
        ("--text", "kept.txt"),
        ("held out, last tenth", "held_out.txt"),
        ("--test", TEST),
    ):
        text = encode_text(file, known)
        share = f"{100 * text.unknown / len(text):.1f}%"
        unknown = f"{text.unknown} unknown ({share})"
        expected.append(f"{name}: {text.lines} lines, {len(text):,} words, {unknown}")
    assert sizes == expected
    assert untrained == "no word of the training text is read as <unk>: try --set max_words=N"
    assert max(map(len, output.err.splitlines())) <= 80
    assert [line.split(", ")[0] for line in (first, second, third)] == [
        f"lm: epoch {epoch}/3" for epoch in (1, 2, 3)
    ]
    assert ", held out perplexity " in third
    result, held_out, test, folder, *commands = output.out.splitlines()
    assert result.startswith("lm: epoch ")
    model = LanguageModel.load("lm")
    assert model.vocabulary == known
    for line, kind, file in ((held_out, "held out", "held_out.txt"), (test, "test", TEST)):
        found = evaluate(model, encode_text(file, known), protocol="paper")
        scored = f"over {found.scored:,} words"
        assert line == f"  {kind} perplexity {found.perplexity:,.1f} {scored}"
    assert folder == "in runs/lm; try:"
    predict, evaluation = (shlex.split(line)[1:] for line in commands)
    assert predict[:3] == ["lm", "predict", "lm"]
    assert predict[3:] == [" ".join(lines[0].split()[:4])]
    assert memhop(*predict).ok().out.startswith("next word")
    assert evaluation == ["lm", "eval", "lm", "--text", "it's a test.txt"]
    memhop(*evaluation).ok()


def test_all_options_and_json(memhop: Program, data: None) -> None:
    Path("mine.json").write_text('{"num_hops": 1, "memory_dim": 4, "num_words": 5, "epochs": 9}')
    line = [
        "lm", "train", "--text", TEXT, "--valid", TEST, "--test", TEST, "--recipe", "mine.json",
        "--set", "epochs=1", "--set", "max_words=9", "--seed", "3", "--threads", "1", "--name",
        "all", "--json",
    ]  # fmt: skip
    output = memhop(*line)
    result = json.loads(output.ok().out)
    assert "held out, last tenth" not in output.err
    assert "read as <unk>" not in output.err  # of max_words=9
    assert "\n--valid: " in output.err
    assert result.keys() == {
        "run", "epoch", "epochs", "valid", "test", "vocabulary", "parameters", "seconds",
        "cpu_seconds",
    }  # fmt: skip
    assert (result["run"], result["epoch"], result["epochs"]) == ("runs/all", 1, 1)
    model = LanguageModel.load("all")
    recipe = model.recipe
    assert (recipe.num_hops, recipe.memory_dim, recipe.epochs) == (1, 4, 1)
    assert (result["vocabulary"], result["parameters"]) == (9, model.num_parameters)
    text = encode_text(TEST, model.vocabulary)
    assert text.unknown > 0
    assert result["valid"] == result["test"]
    assert result["valid"] == {
        "perplexity": pytest.approx(evaluate(model, text, protocol="paper").perplexity, 1e-5),
        "loss": pytest.approx(math.log(result["valid"]["perplexity"])),
        "scored": len(text) - 5, "unscored": 5,
        "unknown": int((text.unknown_places >= 5).sum()), "protocol": "paper",
    }  # fmt: skip


def test_named_recipes(memhop: Program, data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes: list[LanguageRecipe] = []

    def train(*_: object, recipe: LanguageRecipe, **__: object) -> None:
        recipes.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr("memhop.cli.lm.train.train_model", train)
    for more in ([], ["--recipe", "paper"], ["--recipe", "best", "--set", "epochs=2"]):
        assert memhop("lm", "train", "--text", TEXT, *more, "--name", f"{len(recipes)}").status
    best = LanguageRecipe.best().to_json() | {"epochs": 2}
    assert recipes == [LanguageRecipe.paper(), LanguageRecipe.paper(), LanguageRecipe(**best)]


def test_the_same_training_twice_gives_the_same_files(memhop: Program, trained: str) -> None:
    memhop(*LINE, "--name", "second").ok()
    assert files_of("second") == files_of(trained)
    memhop(*LINE, "--name", "third", "--seed", "1").ok()
    assert files_of("third")["model.safetensors"] != files_of(trained)["model.safetensors"]


def test_ctrl_c_and_then_the_printed_command(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*LINE, "--name", "it's half"]
    output = stopped_run(memhop, monkeypatch, 1.5, KeyboardInterrupt(), *line)
    assert output.status == 130
    last = output.err.splitlines()[-1]
    assert last == (
        """memhop: stopped; resume with: memhop lm train --resume --name 'it'"'"'s half'"""
    )
    assert stopped_after(Path("runs/it's half")) == (1, 3)
    [training] = Path("runs/it's half").glob("*/training.json")
    done = json.loads(training.read_text())["step"]
    assert done > 1
    predicted = memhop("lm", "predict", "it's half", "Mary went").ok()
    assert predicted.err == (
        "memhop: runs/it's half: stopped after epoch 1 of 3; resume with --resume\n"
    )
    resumed = memhop(*shlex.split(last.partition(": memhop ")[2])).ok()
    assert "epoch 2/3" in resumed.err
    assert "epoch 1/3" not in resumed.err
    [resumes] = [line for line in resumed.err.splitlines() if line.startswith("resumes ")]
    assert resumes == f"resumes at step {done + 1} of epoch 2"
    assert files_of("it's half") == files_of(trained)
    again = memhop(*RESUME, "it's half").ok()  # finished: nothing is trained
    assert "epoch" not in again.err
    assert again.err.splitlines()[-1] == "runs/it's half: finished before, nothing was trained"
    assert "finished before" not in resumed.err + output.err
    assert again.out.splitlines()[1:] == resumed.out.splitlines()[1:]
    line = [*LINE, "--name", "json", "--json"]
    output = stopped_run(memhop, monkeypatch, 0.2, KeyboardInterrupt(), *line)
    assert output.err.endswith("memhop lm train --resume --name json --json\n")


@pytest.mark.parametrize(("every_seconds", "epochs"), [(-1.0, 1.3), (-1.0, 2.0), (60.0, 1.3)])
def test_a_killed_training_resumes_from_its_last_checkpoint_or_from_the_start(
    memhop: Program,
    trained: str,
    monkeypatch: pytest.MonkeyPatch,
    every_seconds: float,
    epochs: float,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("memhop.language_model.training._EVERY_SECONDS", every_seconds)
        line = [*LINE, "--name", "killed"]
        assert stopped_run(memhop, monkeypatch, epochs, SystemExit(9), *line).status == 9
    assert (newest_checkpoint(Path("runs/killed")) is None) == (every_seconds > 0)
    memhop(*RESUME, "killed").ok()
    assert files_of("killed") == files_of(trained)


def test_a_file_or_a_setting_that_changed(
    memhop: Program, data: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*LINE, "--name", "half"]
    stopped_run(memhop, monkeypatch, 1.5, KeyboardInterrupt(), *line)
    file = Path(TEXT).absolute()
    content = file.read_text()
    file.write_text(content + "Mary left .\n")
    error = memhop(*RESUME, "half").error()
    assert error == f"{file}: changed since the training of runs/half began"
    file.unlink()
    error = memhop(*RESUME, "half").error()
    assert error.startswith(f"{file}: cannot be read: No such file or directory; runs/half")
    file.write_text(content)
    output = memhop(*line, "--set", "epochs=9", "--resume")
    assert output.status == 2
    error = output.err.splitlines()[-1]
    assert error == "memhop: runs/half: cannot resume: different recipe (epochs 3, now 9)"
    for option in ("--valid=x", "--test=x", "--recipe=best", "--set=epochs=9", "--seed=0"):
        name = option.partition("=")[0]
        expected = f"--resume takes {name} from the run: leave it out, or repeat the whole command"
        assert memhop(*RESUME, "half", option).error() == expected
    command = Path("runs/half/command.json")
    good = json.loads(command.read_text())
    more = good["files"] | {"facts": good["files"]["text"]}
    changes: list[dict[str, Any]] = [
        {"files": {}}, {"files": more}, {"recipe": {"word_dim": 4}}, {"seed": -1},
    ]  # fmt: skip
    for change in changes:
        command.write_text(json.dumps(good | change))
        assert memhop(*RESUME, "half").error() == f"{command}: corrupt file"
    command.write_text(json.dumps(good))
    memhop(*RESUME, "half").ok()


def test_lines_of_progress_come_after_whole_epochs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    with epoch_progress("lm") as show:
        for seconds, epoch in ((5.0, 2.5), (20.0, 3.0), (25.0, 3.2), (60.0, 4.0)):  # after two
            clock[0] = seconds
            show(epoch, 5, f"loss {epoch}")
    assert capsys.readouterr().err.splitlines() == [
        "lm: epoch 3/5, loss 3.0, 40 s left",
        "lm: epoch 4/5, loss 4.0, 40 s left",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "lm train needs --text FILE, see memhop lm train --help"),
        (["--text", TEXT, "--resume"], "--resume needs the --name of a run"),
        (["--resume", "--name", "no"], "runs/no: no command.json to resume from: repeat the whole "
         "command with --resume"),
        (["--text", TEXT, "--name", "a/b"], "--name: expected the name of a folder under runs/"),
        (["--text", TEXT, "--set", "epochs=0"], "recipe setting epochs: expected an integer "),
        (["--text", TEXT, "--set", "word_dim=5"], "unknown recipe setting 'word_dim'; known: "),
        (["--text", TEXT, "--recipe", "worst"], "--recipe: expected 'paper', 'best' or a .json "
         "file, got 'worst'"),
        (["--text", "no.txt"], "no.txt: no such file"),
        (["--text", "."], ".: cannot be read: Is a directory"),
        (["--text", "latin.txt"], "latin.txt:2: expected UTF-8 text, got byte 0xe9"),
        (["--text", "blank.txt"], "blank.txt: expected at least one word in lines 1 to 18, got"),
        (["--text", "short.txt"], "short.txt: expected at least 10 lines, the last tenth of which "
         "is held out, got 2: give a --valid text"),
        (["--text", TEXT, "--valid", "no.txt"], "no.txt: no such file"),
        (["--text", TEXT, "--valid", "short.txt"], "validation text: expected at least "),
        (["--text", TEXT, "--test", "latin.txt"], "latin.txt:2: expected UTF-8 text"),
        (["--text", TEXT, "--threads", "4096"], "--threads: expected 1 to "),
        (["--text", TEXT, "--seed", "-1"], "Invalid value for '--seed': "),
        (["--text", TEXT, "--wrong"], "No such option: --wrong "),
    ],
)  # fmt: skip
def test_errors_of_one_line(
    memhop: Program, data: None, arguments: list[str], expected: str
) -> None:
    Path("latin.txt").write_bytes("a\nf\xe9e\n".encode("latin-1") * 10)
    Path("blank.txt").write_text("\n" * 20)
    Path("short.txt").write_text("a b\nc")
    output = memhop("lm", "train", *arguments)
    assert (output.status, output.out) == (2, "")
    *progress, error = output.err.splitlines()
    assert all(" word" in line for line in progress)
    assert error.removeprefix("memhop: ").startswith(expected), error
    assert not Path("runs").exists() or not list(Path("runs").rglob("*.*"))


def test_runs_of_other_kinds(memhop: Program, trained: str) -> None:
    shutil.copytree(GOLDEN / "run" / "stopped", "runs/other")
    expected = "runs/other: expected a language model, got a story model: use memhop ask"
    assert memhop("lm", "predict", "other", "Mary").error() == expected
    assert memhop("lm", "eval", "other", "--text", TEXT).error() == expected
    assert memhop(*RESUME, "other").error() == expected
    expected = "got a language model: use memhop lm predict"
    ask = ["ask", trained, "--story", "Mary left.", "-q", "Where is Mary?"]
    for line in (ask, ["kb", "ask", trained, "who?"], ["train", "--resume", "--name", trained]):
        assert memhop(*line).error().endswith(expected)
    error = memhop(*LINE, "--name", trained).error()
    assert error == f"runs/{trained}: the run already exists: use --resume, or another --name"
    shutil.rmtree("runs/stories")
    error = memhop("lm", "predict", "Mary").error()
    assert (
        error == "no trained run of a language model under runs/: train one first, or give its path"
    )


def test_the_next_words_and_the_picture(memhop: Program, trained: str) -> None:
    model = LanguageModel.load(trained)
    text = "John went to the garden.\nMary journeyed to"
    prediction = model.predict(text, 3)
    output = memhop("lm", "predict", trained, text, "--count", "3", "--svg", "read.svg").ok()
    table, _, picture = output.out.partition("\n\n")
    *table_lines, in_memory = table.splitlines()
    assert in_memory == "the last 8 of 9 words are in memory"
    head, *rows = (line.split() for line in table_lines)
    assert head == ["next", "word", "probability"]
    assert rows == [[word, f"{100 * share:.1f}%"] for word, share in prediction.candidates]
    words = [line.split()[1] for line in picture.splitlines() if line[:1].isdigit()]
    assert words == list(prediction.words) == text.replace("\n", " <eos> ").split()[-8:]
    drawn = [*parse("read.svg").getroot().itertext()]
    assert f"next word: {', '.join(f'{word} ({share})' for word, share in rows)}" in drawn
    assert set(prediction.words) <= set(drawn)
    newest = memhop("lm", "predict", text, "--json").ok()
    assert newest.err == f"the newest run: {trained}\n"
    found = json.loads(newest.out)
    assert found.keys() == {"candidates", "words", "attention", "unknown_words", "truncated"}
    assert found["truncated"] == 1
    np.testing.assert_allclose(found["attention"], prediction.attention, rtol=1e-5)
    assert [one["word"] for one in found["candidates"]][:3] == [row[0] for row in rows]
    every = json.loads(memhop("lm", "predict", text, "--json", "--count", "1000").out)
    assert len(every["candidates"]) == len(model.vocabulary)
    assert sum(one["probability"] for one in every["candidates"]) == pytest.approx(1)


def test_a_long_memory_shows_the_words_with_the_largest_shares(memhop: Program) -> None:
    vocabulary = WordVocabulary(["<unk>", "<eos>", *(f"w{n}" for n in range(60))])
    recipe = LanguageRecipe(num_words=200, num_hops=5, memory_dim=6)
    LanguageModel(vocabulary, recipe).save("runs/long")
    text = " ".join(f"w{n * n % 60}" for n in range(250))
    out = memhop("lm", "predict", "long", text).ok().out
    *_, last = out.splitlines()
    shown = {line.split()[0] for line in out.splitlines() if line.strip()[:1].isdigit()}
    assert last == f"the {len(shown)} words with the largest shares, of 200"
    assert 16 <= len(shown) <= 32
    assert "more, none above" in out


def test_words_are_printed_and_not_obeyed(memhop: Program) -> None:
    words = ["<unk>", "<eos>", "[red]a[/red]", "\x1b[31mb", ":smile:", "x" * 100]
    LanguageModel(WordVocabulary(words), LanguageRecipe(num_words=4, memory_dim=6)).save("runs/odd")
    text = "[red]a[/red] \x1b[31mb \x1b[2J [b] :smile:"
    out = memhop("lm", "predict", "odd", text, "--count", "6").ok().out  # all words
    assert "\x1b" not in out
    assert "[red]a[/red] " in out
    assert "\\x1b[31mb" in out
    assert "never seen in training, read as <unk>: \\x1b[2J, [b]" in out
    assert ":smile:" in out
    cases: list[tuple[list[str], str]] = [
        (["odd", ""], "expected at least one word, got ''"),
        (["odd", " \n"[:1]], "expected at least one word, got ' '"),
        (["odd", "a", "b"], "Got unexpected extra argument"),
        (["odd", "a", "--count", "0"], "Invalid value for '--count': "),
        (["no", "a"], "no run 'no'; under runs/: odd"),
        ([], "lm predict needs a text, see memhop lm predict --help"),
        (["odd"], "lm predict needs a text after the run 'odd', see memhop lm predict --help"),
    ]
    for line, expected in cases:
        error = memhop("lm", "predict", *line).error()
        assert error.startswith(expected)
        assert "with memhop: stories" not in error
    Path("mine.txt").write_text("mine")
    error = memhop("lm", "predict", "odd", "a", "--svg", "mine.txt").error()
    assert error == "mine.txt: already exists; give another name"


def test_perplexities_as_a_table_and_as_json(memhop: Program, trained: str) -> None:
    Path("odd.txt").write_text("Mary went to Mars and Venus\n\nJohn went to the garden.\n")
    out = memhop("lm", "eval", trained, "--text", TEST, "--text", "odd.txt").ok().out
    model = LanguageModel.load(trained)
    head, *rows = out.splitlines()
    assert head.split() == ["file", "words", "scored", "unknown", "protocol", "perplexity"]
    for name, line in zip((TEST, "odd.txt"), rows, strict=True):
        text = encode_text(name, model.vocabulary)
        found = evaluate(model, text)
        share = f"({100 * found.unknown / found.scored:.1f}%)"
        numbers = [f"{found.scored:,}", f"{found.unknown}", share]
        numbers += ["contiguous", f"{found.perplexity:,.1f}"]
        assert line.split() == [name, *numbers]
        assert found.scored == len(text)
    assert rows[1].split()[1:3] == ["14", "3"]  # of Mars, and, Venus
    assert memhop("lm", "eval", "--text", TEST).ok().err == f"the newest run: {trained}\n"
    paper = memhop("lm", "eval", trained, "--text", "odd.txt", "--protocol", "paper").ok().out
    assert paper.splitlines()[1].split()[1] == "6"
    assert paper.endswith("the first 8 words of each text fill the memory: not scored\n")
    command = ["lm", "eval", trained, "--text", "odd.txt", "--json", "--protocol"]
    for protocol, unscored in (("contiguous", 0), ("paper", 8)):
        [found_json] = json.loads(memhop(*command, protocol).ok().out)
        assert found_json["file"] == "odd.txt"
        assert found_json["protocol"] == protocol
        assert (found_json["scored"], found_json["unscored"]) == (14 - unscored, unscored)
        assert found_json["perplexity"] == pytest.approx(math.exp(found_json["loss"]))
    Path("short.txt").write_text("a b\n")
    cases: list[tuple[list[str], str]] = [
        ([], "Invalid value for --text: expected a text "),
        (["--text", "no.txt"], "no.txt: no such file"),
        (
            ["--text", "short.txt", "--protocol", "paper"],
            "short.txt: expected more than 8 words, "
            "got 3: the protocol 'contiguous' scores every word",
        ),
        (["--text", TEXT, "--protocol", "both"], "Invalid value for '--protocol': "),
    ]
    for arguments, expected in cases:
        assert memhop("lm", "eval", trained, *arguments).error().startswith(expected)
