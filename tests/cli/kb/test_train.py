"""``memhop kb train``: training, resuming, and the errors of one line."""

import gzip
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from memhop.runs import newest_checkpoint, stopped_after

from ...knowledge.test_training import files_of
from ..conftest import Program
from .conftest import FACTS, LINE, QUESTIONS, SOURCE, TINY, interrupt_after

RESUME = ["kb", "train", "--resume", "--name"]
GOLDEN = Path(__file__).parents[2] / "golden"


def test_train_and_the_next_commands(memhop: Program, data: None) -> None:
    shutil.copy(QUESTIONS, "it's a test.tsv")
    output = memhop(*LINE, "--test", "it's a test.tsv").ok()
    first, *lines = output.err.splitlines()
    assert first == (
        "7 facts on 9 entities and 3 relations, 5 training questions, 5 test questions"
    )
    assert len(lines) == 4
    assert lines[-1].startswith("kb: epoch 4/4, loss ")
    assert ", held out " in lines[-1]
    result, folder, *commands = output.out.splitlines()
    assert result.startswith("kb: test error ")
    assert folder == "in runs/kb; try:"
    ask, evaluate = (shlex.split(line)[1:] for line in commands)
    assert ask == ["kb", "ask", "kb", "who directed Metropolis?"]
    assert memhop(*ask).ok().out.startswith("who directed Metropolis?  ")
    assert evaluate == ["kb", "eval", "kb", "--test", "it's a test.tsv"]
    memhop(*evaluate).ok()
    assert "kb-2: " in memhop(*LINE).ok().out


def test_all_options(memhop: Program, data: None) -> None:
    Path("more.tsv.gz").write_bytes(gzip.compress(Path(FACTS).read_bytes()))
    Path("aliases.tsv").write_text("Fritz Lang\tLang\n")
    Path("valid.jsonl").write_text('{"question": "who directed M?", "answers": ["Lang"]}\n')
    Path("mine.json").write_text('{"word_dim": 4, "num_hops": 1, "epochs": 9}')
    output = memhop(
        "kb", "train", "--facts", "more.tsv.gz", "--questions", QUESTIONS, "--aliases",
        "aliases.tsv", "--valid", "valid.jsonl", "--recipe", "mine.json", "--set", "epochs=2",
        "--seed", "3", "--threads", "1", "--name", "all", "--json",
    )  # fmt: skip
    assert ", 5 training questions, 1 held out\n" in output.err
    result = json.loads(output.ok().out)
    assert (result["run"], result["epochs"], result["test"]) == ("runs/all", 2, None)
    assert result["valid"].keys() == {"error", "loss"}
    folder = newest_checkpoint(Path("runs/all"))
    assert folder is not None
    recipe = json.loads((folder / "knowledge.json").read_text())["recipe"]
    assert (recipe["word_dim"], recipe["num_hops"], recipe["epochs"]) == (4, 1, 2)
    [answer] = json.loads(memhop("kb", "ask", "all", "which films of Lang", "--json").out)
    assert answer["topics"] == ["Fritz Lang"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "kb train needs --facts FILE, see memhop kb train --help"),
        (["--questions", QUESTIONS], "kb train needs --facts FILE, see memhop kb train --help"),
        (["--facts", FACTS], "kb train needs --questions FILE, see memhop kb train --help"),
        ([*SOURCE, "--resume"], "--resume needs the --name of a run"),
        (["--resume", "--name", "no"], "runs/no: no command.json to resume from: repeat the whole "
         "command with --resume"),
        ([*SOURCE, "--name", "a/b"], "--name: expected the name of a folder under runs/, got "
         "'a/b'"),
        ([*SOURCE, "--set", "epochs=0"], "recipe setting epochs: expected an integer from 1 up to "
         "1000000, got 0"),
        ([*SOURCE, "--set", "memory_dim=5"], "unknown recipe setting 'memory_dim'; known: "
         "word_dim, num_hops"),
        ([*SOURCE, "--set", "epochs"], "--set: expected NAME=VALUE, got 'epochs'"),
        ([*SOURCE, "--recipe", "no.json"], "no.json: cannot be read: No such file or directory"),
        (["--facts", "no.tsv", "--questions", QUESTIONS], "no.tsv: no such file"),
        (["--facts", FACTS, "--questions", "no.tsv"], "no.tsv: no such file"),
        ([*SOURCE, "--test", "no.tsv"], "no.tsv: no such file"),
        (["--facts", "facts.doc", "--questions", QUESTIONS], "facts.doc"),
        (["--facts", "bad.tsv", "--questions", QUESTIONS], "bad.tsv:2: expected "),
        (["--facts", FACTS, "--questions", "bad.tsv"], "bad.tsv:2: expected an answer "),
        ([*SOURCE, "--aliases", "bad.tsv"], "bad.tsv:1: expected "),
        (["--facts", ".", "--questions", QUESTIONS], ".: "),
        (["--facts", FACTS, "--questions", "unknown.tsv"], "expected a training question with an "
         "entity and an answer of the facts, got none in 1 questions"),
        ([*SOURCE, "--threads", "4096"], "--threads: expected 1 to "),
        ([*SOURCE, "--threads", "0"], "Invalid value for '--threads': "),
        ([*SOURCE, "--seed", "-1"], "Invalid value for '--seed': "),
        ([*SOURCE, "--wrong"], "No such option: --wrong "),
    ],
)  # fmt: skip
def test_errors_of_one_line(
    memhop: Program, data: None, arguments: list[str], expected: str
) -> None:
    Path("bad.tsv").write_text("a\tb\tc\nd\n")
    Path("unknown.tsv").write_text("who directed Faust?\tMurnau\n")
    output = memhop("kb", "train", *arguments)
    assert (output.status, output.out) == (2, "")
    *progress, error = output.err.splitlines()
    assert len(progress) <= 1
    assert error.removeprefix("memhop: ").startswith(expected), error
    assert not Path("runs").exists() or not list(Path("runs").rglob("*.*"))


def test_a_run_that_exists(memhop: Program, trained: str) -> None:
    before = files_of(Path("runs", trained))
    error = memhop(*LINE, "--name", trained).error()
    assert error == f"runs/{trained}: the run already exists: use --resume, or another --name"
    assert files_of(Path("runs", trained)) == before


def test_ctrl_c_and_then_the_printed_command(
    memhop: Program, data: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    memhop(*LINE, "--name", "whole").ok()
    line = [*LINE, "--name", "it's half"]
    err = interrupt_after(3, monkeypatch, memhop, line)
    last = err.splitlines()[-1]
    assert last == (
        """memhop: stopped; resume with: memhop kb train --resume --name 'it'"'"'s half'"""
    )
    assert stopped_after(Path("runs/it's half")) == (2, 4)
    asked = memhop("kb", "ask", "it's half", "who directed M?")
    assert asked.err == (
        "memhop: runs/it's half: stopped after epoch 2 of 4; resume with --resume\n"
    )
    resumed = memhop(*shlex.split(last.partition(": memhop ")[2])).ok()
    assert "epoch 3/4" in resumed.err
    assert "epoch 2/4" not in resumed.err
    assert files_of(Path("runs/it's half")) == files_of(Path("runs/whole"))
    again = memhop(*RESUME, "it's half").ok()  # finished: nothing is trained
    assert again.err.count("\n") == 1
    err = interrupt_after(2, monkeypatch, memhop, [*LINE, "--name", "json", "--json"])
    assert err.endswith("memhop kb train --resume --name json --json\n")


def test_ctrl_c_in_the_first_epoch(
    memhop: Program, data: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    memhop(*LINE, "--name", "whole").ok()
    interrupt_after(1, monkeypatch, memhop, [*LINE, "--name", "half"])
    assert newest_checkpoint(Path("runs/half")) is None
    memhop(*RESUME, "half").ok()
    assert files_of(Path("runs/half")) == files_of(Path("runs/whole"))


@pytest.mark.parametrize("name", [FACTS, QUESTIONS])
def test_a_file_that_changed(memhop: Program, stopped: str, name: str) -> None:
    file = Path(name).absolute()
    content = file.read_bytes()
    file.write_bytes(content + content.splitlines()[0].replace(b"M", b"W") + b"\n")
    error = memhop(*RESUME, stopped).error()
    assert error == f"{file}: changed since the training of runs/half began"
    output = memhop(*LINE, "--name", stopped, "--resume")
    assert output.status == 2
    kind = name.removesuffix(".tsv")
    assert output.err.splitlines()[-1] == f"memhop: runs/half: cannot resume: different {kind}"
    file.unlink()
    error = memhop(*RESUME, stopped).error()
    assert error.startswith(f"{file}: cannot be read: No such file or directory; runs/half")
    file.write_bytes(content)
    memhop(*RESUME, stopped).ok()


def test_the_whole_command_with_other_settings(memhop: Program, stopped: str) -> None:
    output = memhop(*LINE, "--set", "epochs=9", "--resume", "--name", stopped)
    assert output.status == 2
    error = output.err.splitlines()[-1]
    assert error == "memhop: runs/half: cannot resume: different recipe (epochs 4, now 9)"
    output = memhop(*LINE, "--seed", "5", "--resume", "--name", stopped)
    assert output.err.endswith("cannot resume: different seed (0, now 5)\n")
    memhop(*RESUME, stopped).ok()  # the stored command is as before


@pytest.mark.parametrize(
    "option",
    ["--aliases=x", "--valid=x", "--test=x", "--recipe=x.json", "--set=epochs=9", "--seed=0"],
)
def test_settings_come_from_the_run(memhop: Program, stopped: str, option: str) -> None:
    name = option.partition("=")[0]
    expected = f"--resume takes {name} from the run: leave it out, or repeat the whole command"
    assert memhop(*RESUME, stopped, option).error() == expected


def test_the_threads_can_change(
    memhop: Program, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memhop.cli.settings.available_cores", lambda: 2)
    memhop(*RESUME, stopped, "--threads", "2").ok()
    assert torch.get_num_threads() == 2
    memhop(*RESUME, stopped).ok()
    assert torch.get_num_threads() == 1


def test_a_run_without_a_command_file(memhop: Program, trained: str) -> None:
    Path("runs", trained, "command.json").unlink()
    error = memhop(*RESUME, trained).error()
    assert error.startswith(f"runs/{trained}: no command.json to resume from")


def test_a_corrupt_command_file(memhop: Program, trained: str) -> None:
    path = Path("runs", trained, "command.json")
    good = json.loads(path.read_text())
    facts = good["files"]["facts"]
    changes: list[dict[str, object]] = [
        {"seed": -1}, {"seed": True}, {"threads": "1"}, {"threads": 0}, {"recipe": None},
        {"recipe": {"epochs": 0}}, {"files": []}, {"files": {}}, {"files": {"facts": facts}},
        {"files": good["files"] | {"other": facts}}, {"files": good["files"] | {"facts": 3}},
        {"files": good["files"] | {"facts": {"path": 3, "sha256": "a"}}},
        {"files": good["files"] | {"facts": facts | {"path": "a\0b"}}},
        {"files": good["files"] | {"facts": {"path": "a"}}}, {"schema": 2}, {"schema": None},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps(good | change))
        assert memhop(*RESUME, trained).error(), change
    for content in (b"", b"[]", b"\xff", b"{", b"1" * 9):
        path.write_bytes(content)
        assert "command.json" in memhop(*RESUME, trained).error()


def test_runs_of_stories(memhop: Program, trained: str) -> None:
    shutil.copytree(GOLDEN / "run" / "stopped", "runs/stories")
    expected = "runs/stories: expected a knowledge model, got a story model: use memhop ask"
    assert memhop(*RESUME, "stories").error() == expected
    assert memhop(*LINE, "--resume", "--name", "stories").error() == expected
    expected = f"runs/{trained}: expected a story model, got a knowledge model"
    assert memhop("train", "--resume", "--name", trained).error().startswith(expected)


def test_a_training_that_failed_frees_its_name(
    memhop: Program, data: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*LINE, "--name", "bad"]
    with monkeypatch.context() as patch:
        patch.setattr("memhop.knowledge.hops.FIRST_SCALE", 1e30)
        output = memhop(*line, "--set", "learning_rate=1e6")
    assert output.status == 2
    assert output.err.endswith("try a lower learning_rate\n")
    assert not Path("runs/bad").exists()
    memhop(*line).ok()


def test_an_unwritable_folder_of_runs(memhop: Program, data: None) -> None:
    Path("runs").write_text("")
    output = memhop("kb", "train", *SOURCE, *TINY, "--name", "one")
    assert output.status == 2
    assert output.err.splitlines()[-1].startswith("memhop: runs")
