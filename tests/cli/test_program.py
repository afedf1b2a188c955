"""All commands: one line for an error of the user, no traceback, any streams."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch

import memhop.cli.generate as generate_command
from memhop import __version__
from memhop.cli.screen import download_progress, program
from memhop.reproduce.record import read_rows

from .conftest import TINY, Program


def test_without_arguments_it_prints_the_help(memhop: Program) -> None:
    output = memhop()
    assert (output.status, output.err) == (0, "")
    assert "memhop demo" in output.out
    assert memhop("--version").out == f"memhop {__version__}\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gen", "No such command 'gen' (see memhop --help)"),
        ("generate --no", "(see memhop generate --help)"),
        ("generate --questions 0", "'--questions'"),
        ("generate --task 21", "task: expected one of 1, 2"),
        ("generate --statements 3 2", "statements"),
        ("generate --to file", "file"),
        ("generate --to file/below", "file/below"),
        ("data babi", "--to"),
        ("data babi --to new --url http://example.com/x", "--sha256"),
        ("train", "either --data DIR or --train FILE"),
        ("train --data x --train y", "either --data DIR or --train FILE"),
        ("train --train file --joint", "--joint"),
        ("train --data x --test y", "--test"),
        ("train --data none", "none"),
        ("train --data file", "file"),
        ("train --train none", "none: no such file"),
        ("train --train .", "--train: expected a file, got the folder .; --data takes a folder"),
        ("train --train stories --test .", "--test: expected a file, got the folder ."),
        ("train --data stories", "--data: expected a folder, got the file stories"),
        ("train --train file", "file:1"),
        ("train --train binary", "binary:1"),
        ("train --train file --name a/b", "--name"),
        ("train --train file --name=", "--name"),
        ("train --train file --name=-x", "--name"),
        ("train --train file --name ..", "--name"),
        ("train --train file --resume", "--name"),
        ("train --train file --device cuda:99", "--device cuda:99"),
        ("train --train file --device meta", "--device"),
        ("lm train --text file --device cuda:99", "--device cuda:99"),
        ("lm train --text file --device meta", "--device"),
        ("train --train file --recipe none", "--recipe"),
        ("train --train file --recipe none.json", "none.json: cannot be read: No such file"),
        ("train --train file --recipe file.json", "file.json: cannot be read as JSON"),
        ("train --train file --recipe list.json", "JSON object"),
        ("train --train file --set epochs", "NAME=VALUE"),
        ("train --train file --set epochs=x", "epochs: expected an integer"),
        ("train --train file --set learning_rate=NaN", "learning_rate"),
        ("train --train file --set none=1", "unknown recipe setting 'none'"),
        ("train --train file --seed -1", "'--seed'"),
        (f"train --train stories --restarts 1{20 * '0'}", "'--restarts'"),
        ("train --train file --name a\0b", "--name"),
        (f"train --train file --set epochs={100_000 * '['}", "epochs: expected an integer"),
        ("ask \0 -q Where?", "no run"),
        ("eval none --data x", "no run 'none'"),
        ("eval file", "either --data DIR or --test FILE"),
        ("eval x --data x --test y", "either --data DIR or --test FILE"),
        ("eval x --test y --task 1", "--task"),
        ("ask none -q Who?", "no run 'none'"),
        ("ask -q ?", "--question: expected a question with a word"),
        ("ask --story Mary.", "--story needs a --question"),
        ("ask --file file -q Who?", "--file"),
        ("ask --file file", "file: no question in the text"),
        ("ask --file binary", "binary:1: expected UTF-8 text"),
        ("ask --file none", "none: cannot be read"),
        ("ask --file .", "--file: expected a file, got the folder ."),
        ("reproduce babi", "--tiny"),
        ("reproduce table3", "reproduce table3: expected --data DIR, or --tiny"),
        ("bench", "'memhop reproduce' trains the paper's tables"),
        ("bench hop --tiny", "'python -m benchmarks' in a checkout"),
        ("bench --help", "'memhop bench' was replaced"),
    ],
)
def test_an_error_of_the_user_is_one_line(memhop: Program, line: str, expected: str) -> None:
    Path("file").write_text("x")
    Path("stories").write_text("1 Mary went home.\n2 Where is Mary?\thome\t1\n")
    Path("file.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("binary").write_bytes(b"\xff\x00")
    assert expected in memhop(*line.split()).error()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [("x", "numbers such as"), ("", "numbers such as"), ("9-1", "lower number"), ("1,3", "task 3")],
)
def test_a_wrong_list_of_tasks(memhop: Program, data: str, tasks: str, expected: str) -> None:
    assert expected in memhop("train", "--data", data, f"--task={tasks}").error()


@pytest.mark.parametrize(
    "line",
    [
        "train --data stories --joint",
        "eval one --data stories",
        "ask one -q Where?",
        "reproduce babi",
    ],
)
def test_the_default_is_one_thread(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr("memhop.cli.settings.available_cores", lambda: 3)
    more = TINY if line.startswith("train") else ["--tiny"] if line.startswith("reproduce") else []
    torch.set_num_threads(2)
    memhop(*line.split(), *more).ok()
    assert torch.get_num_threads() == 1
    memhop(*line.split(), *more, "--threads", "3").ok()
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("line", ["demo", "train", "eval", "ask", "serve", "reproduce babi"])
def test_more_threads_than_cores_raise(memhop: Program, line: str) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    expected = f"--threads: expected 1 to {cores} (the number of cores), got 99999"
    assert memhop(*line.split(), "--threads", "99999").error() == expected
    assert "'--threads'" in memhop(*line.split(), "--threads", "0").error()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_only_allowed_cores_count(memhop: Program) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert "expected 1 to 1 (the number of" in memhop("demo", "--threads", "2").error()
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("command", ["babi", "table1", "table3"])
def test_a_table_of_the_paper_checks_its_file_first(memhop: Program, command: str) -> None:
    Path("file").touch()
    error = memhop("reproduce", command, "--to", "file/rows.csv").error()
    assert "cannot be written to" in error


def test_a_table_of_the_paper_replaces_no_other_file(memhop: Program) -> None:
    for name in ("rows.csv", "table.md", "figure.svg"):
        Path(name).write_text("mine")
    exists = "already exists; give another name"
    line = ["reproduce", "babi", "--tiny", "--to", "rows.csv"]
    for content in ("mine", "date,commit\n", "task,error\n1,2\n"):
        Path("rows.csv").write_text(content)
        assert memhop(*line).error() == f"rows.csv: {exists}"
        assert Path("rows.csv").read_text() == content
    Path("rows.csv").write_text("mine")
    line = ["reproduce", "table1", "--tiny", "--restarts", "1", "--to"]
    assert memhop(*line, "table.csv").error() == f"table.md: {exists}"
    assert memhop(*line, "figure.csv").error() == f"figure.svg: {exists}"
    message = "new.md: expected a CSV file; the table is written to new.md"
    assert memhop(*line, "new.md").error() == message
    assert {path.read_text() for path in Path().iterdir()} == {"mine"}


def test_a_table_of_the_paper_replaces_earlier_rows(memhop: Program) -> None:
    Path("rows.csv").write_text("task,date,commit\n9,2026-11-30,0123456789ab\n")
    memhop("reproduce", "babi", "--tiny", "--restarts", "1", "--to", "rows.csv").ok()
    assert [row["task"] for row in read_rows(Path("rows.csv"))] == ["1", "2"]


def test_control_characters_are_escaped(memhop: Program) -> None:
    assert "'a\\x1b[31mb\\nc'" in memhop("eval", "a\x1b[31mb\nc", "--data", "x").error()


def test_an_error_of_the_system_is_one_line(
    memhop: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generate_command, "generate_stories", full)
    assert memhop("generate").error() == "No space left on device"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
def test_too_little_memory_is_one_line(
    memhop: Program, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def allocate(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(generate_command, "generate_stories", allocate)
    assert "not enough memory" in memhop("generate").error()


def test_a_bug_is_a_traceback(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(generate_command, "generate_stories", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        memhop("generate")


def test_ctrl_c_anywhere_is_one_line(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate_command, "generate_stories", stop)
    assert memhop("generate") == (130, "", "memhop: stopped\n")


def test_hints_start_with_the_command_that_runs_the_program(
    memhop: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program() == "memhop"
    monkeypatch.setattr("shutil.which", lambda _: None)
    for called in ("memhop", "-c", "python/pytest"):  # no file "memhop" here
        monkeypatch.setattr(sys, "argv", [called])
        assert program() == "python -m memhop"
    Path("my bin").mkdir()
    Path("my bin/memhop").touch()
    monkeypatch.setattr(sys, "argv", ["my bin/memhop"])
    assert program() == "'my bin/memhop'"
    line = ["generate", "--questions", "1", "--to", "there"]
    assert "try: python -m memhop train --data there --task 1\n" in memhop(*line).out
    assert "(see python -m memhop generate --help)" in memhop("generate", "--no").error()
    assert "see python -m memhop eval --help" in memhop("eval").error()


def test_a_failed_download_suggests_the_next_command(memhop: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/babi.tar.gz"
    line = ["data", "babi", "--to", "new", "--url", url, "--sha256", "0" * 64]
    assert memhop(*line).error() == (
        f"'{url}': cannot be downloaded: Connection refused; use another address with --url and "
        "--sha256, or generate stories of all 20 tasks without a download: memhop generate --task "
        "1 --to DIR"
    )
    Path("full").mkdir()
    Path("full/file").touch()
    line[3] = "full"  # another address does not help
    assert memhop(*line).error().endswith("expected a new or an empty folder")


def test_a_download_reports_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with download_progress() as show:
        for done in range(0, 20_000_001, 100_000):
            show(done, 20_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[::10] == ["download: 0.0 of 20.0 MB", "download: 20.0 of 20.0 MB"]
    with download_progress() as show:
        for done in range(0, 25_000_000, 100_000):
            show(done, None)
    lines = [f"download: {done}.0 MB" for done in (0, 10, 20)]
    assert capsys.readouterr().err.splitlines() == lines


def test_it_runs_without_streams(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert memhop("generate", "--questions", "1").status == 0
    assert memhop("generate", "--questions", "1", "--to", "there").status == 0
