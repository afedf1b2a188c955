"""``memhop train`` and ``eval``: one task, several, jointly, own files; resuming."""

import csv
import errno
import hashlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest

import memhop.cli.train as train_command
from memhop.data import read_babi, write_examples
from memhop.training.loop import Progress

from .conftest import TINY, Program


def next_commands(out: str) -> list[list[str]]:
    """Return the commands of the last lines, as arguments."""
    lines = [line for line in out.splitlines() if line.startswith("  memhop ")]
    return [shlex.split(line)[1:] for line in lines]


def table(out: str, head: str) -> list[list[str]]:
    """Return the rows after the line that starts with ``head``, as words."""
    lines = out.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(head))
    return [line.split() for line in lines[start + 1 :]]


def test_one_model_per_task(memhop: Program, data: str) -> None:
    output = memhop("train", "--data", data, "--name", "many", *TINY).ok()
    assert sorted(path.name for path in Path("runs/many").iterdir()) == ["qa1", "qa2"]
    assert "mean test error of 2 tasks" in output.out
    assert "task 2: epoch 4/4, loss " in output.err  # progress goes to standard error
    ask, evaluate = next_commands(output.out)
    assert ask == ["ask", "many/qa1"]
    assert memhop(*ask, "-q", "Where is Mary?").status == 0
    rows = table(memhop(*evaluate).ok().out, "task ")
    assert [row[:2] for row in rows[:2]] == [["1", "64"], ["2", "64"]]
    scored = table(output.out, "        training error")
    assert [row[2] for row in rows[:2]] == [row[3] for row in scored[:2]]  # each by its own model
    assert rows[2][:2] == ["mean", "error"]
    progress = [f"task {row[0]}: error {row[2]}" for row in rows[:2]]
    assert memhop(*evaluate).err.splitlines() == progress
    only = json.loads(memhop("eval", "many", "--data", data, "--task", "2", "--json").out)
    assert [f"{one['error']:.1f}%" for one in only] == [rows[1][2]]
    assert "no model of task 3" in memhop("eval", "many", "--data", data, "--task=3").error()
    own = str(next(Path(data).glob("qa1_*_test.txt")))
    assert "choose one, as runs/many/qa1" in memhop("eval", "many", "--test", own).error()
    own_rows = memhop("eval", "many/qa1", "--test", own).ok().out.partition("\n\n")[0]
    assert own_rows.count("\n") == 1


def test_a_folder_of_runs_is_not_a_run(memhop: Program, data: str, trained: str) -> None:
    memhop("train", "--data", data, "--joint", "--name", "two", *TINY).ok()
    error = memhop("eval", "runs", "--data", data).error()
    assert error == "runs: expected one run, got 2 (one, two): choose one, as runs/one"


def test_a_joint_model_is_loaded_and_reported_once(
    memhop: Program, data: str, trained: str
) -> None:
    [file] = Path("runs", trained).glob("*/training.json")
    content = json.loads(file.read_text()) | {"finished": False}
    file.write_text(json.dumps(content))
    sums = file.with_name("checkpoint.json")
    manifest = json.loads(sums.read_text())
    manifest["files"]["training.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    sums.write_text(json.dumps(manifest))
    output = memhop("eval", trained, "--data", data)
    assert output.err.count("runs/one: stopped after epoch 4 of 4; resume with --resume\n") == 1
    assert output.err.count("\n") == 3


def test_a_training_that_failed_frees_its_name(memhop: Program, data: str) -> None:
    line = ["train", "--data", data, "--name", "bad", *TINY]
    failing = ["--set", "clip_norm=0", "--set", "learning_rate=1e5"]
    assert memhop(*line, *failing).status == 2
    assert not Path("runs/bad").exists()
    Path("runs/bad/qa1").mkdir(parents=True)  # as after a kill
    memhop(*line).ok()
    assert "the run already exists" in memhop(*line).error()


def test_one_model_for_all(memhop: Program, data: str) -> None:
    output = memhop("train", "--data", data, "--joint", *TINY).ok()
    assert [path.name for path in Path("runs").iterdir()] == ["joint"]
    tasks = [row[:2] for row in table(output.out, "task ")][:2]
    ask, evaluate = next_commands(output.out)
    assert ask == ["ask", "joint"]
    rows = table(memhop(*evaluate).ok().out, "task ")
    assert [[row[0], row[2]] for row in rows[:2]] == tasks
    recipe = json.loads(next(Path("runs/joint").glob("*/recipe.json")).read_text())["recipe"]
    assert (recipe["memory_dim"], recipe["epochs"], recipe["held_out"]) == (50, 3, "random")
    [again] = json.loads(memhop("train", "--data", data, "--joint", *TINY, "--json").out)
    assert [[one["task"], f"{one['test_error']:.1f}%"] for one in again["tasks"]] == tasks


def test_own_files_and_an_own_recipe(memhop: Program, data: str) -> None:
    train, test = (str(next(Path(data).glob(f"qa2_*_{part}.txt"))) for part in ("train", "test"))
    Path("mine.json").write_text('{"epochs": 2, "linear_start_epochs": 0, "num_hops": 1}')
    line = ["train", "--train", train, "--recipe", "mine.json", "--restarts", "3", "--json"]
    [result] = json.loads(memhop(*line, "--test", test).ok().out)
    assert result["run"] == f"runs/{Path(train).stem}"
    assert [one["kept"] for one in result["restarts"]].count(True) == 1
    assert result["restarts"][0]["test_error"] is not None
    [result] = json.loads(memhop(*line, "--set", "num_hops=2").ok().out)
    assert result["run"] == f"runs/{Path(train).stem}-2"
    assert result["restarts"][0]["test_error"] is None
    answers = json.loads(memhop("ask", result["run"], "--json", "-q", "Where?").out)
    assert len(answers[0]["attention"]) == 2
    assert list(Path(result["run"]).rglob("examples.json"))
    [result] = json.loads(memhop(*line, "--no-examples").ok().out)
    assert not list(Path(result["run"]).rglob("examples.json"))


def test_a_training_without_errors_ends_and_says_when(memhop: Program, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    story = "1 Mary went to the {0}.\n2 Where is Mary?\t{0}\t1\n"
    own.write_text("".join(story.format(place) for place in ["garden", "office"] * 20))
    settings = ["stop_after=2", "epochs=90", "linear_start_epochs=0", "validation_share=0.25"]
    sets = [part for one in settings for part in ("--set", one)]
    line = ["train", "--train", str(own), "--restarts", "1", "--name", "own", *sets]
    printed = memhop(*line).ok().out
    found = re.search(r"^ended after epoch (\d+): no error in 2 epochs$", printed, re.M)
    assert found
    [result] = json.loads(memhop(*line, "--resume", "--json").ok().out)
    assert result["epochs"] == int(found[1]) < 90
    [metrics] = Path("runs").rglob("metrics.csv")
    assert metrics.read_text().splitlines()[-1].startswith(f"{found[1]},")


def test_the_epochs_of_the_linear_start_are_counted(memhop: Program, data: str) -> None:
    line = ["train", "--data", data, "--task", "1", "--restarts", "1", "--set", "epochs=1"]
    output = memhop(*line, "--json").ok()
    first = "21 epochs: 20 of linear start (linear_start_epochs), then 1"
    assert output.err.splitlines()[0] == first
    assert json.loads(output.out)[0]["epochs"] == 21
    [metrics] = Path("runs").rglob("metrics.csv")
    assert metrics.read_text().splitlines()[-1].startswith("21,")
    output = memhop(*line, "--set", "linear_start_epochs=0").ok()
    assert output.err.splitlines()[0] == "1 epoch, without a linear start"


def test_the_table_has_the_error_of_the_most_frequent_answer(memhop: Program, trained: str) -> None:
    Path("own.txt").write_text(
        "1 Mary went to mars.\n2 Where is Mary?\tmars\n3 Where is Mary?\tmars\n"
        "4 Where is Zoe?\toffice\n5 Where is Mary?\tvenus\n"
    )
    [result] = json.loads(memhop("eval", trained, "--test", "own.txt", "--json").ok().out)
    assert result["majority_error"] == 50
    assert result["unknown_words"] == ["mars", "zoe"]
    assert result["unknown_answers"] == ["mars", "venus"]
    lines = memhop("eval", trained, "--test", "own.txt").ok().out.splitlines()
    assert lines[0].split()[2:4] == ["error", "majority"]
    assert lines[1].split()[3] == "50.0%"
    assert lines[2] == "own.txt: never seen in training: 2 words, 2 answers"
    assert lines[4].startswith("right / given")


def test_a_validation_file_is_held_out(memhop: Program, data: str) -> None:
    train = next(Path(data).glob("qa1_*_train.txt"))
    test = next(Path(data).glob("qa1_*_test.txt"))
    valid = Path(data, "qa1_valid.txt")
    valid.write_bytes(test.read_bytes())
    expected = "held out: qa1_valid.txt, 64 questions"
    commands = (("--data", data, "--task", "1"), ("--train", str(train), "--test", str(test)))
    for number, source in enumerate(commands):
        name = f"run{number}"
        line = ["train", *source, "--name", name, *TINY]
        output = memhop(*line, "--json").ok()
        assert output.err.count(expected) == 1
        for one in json.loads(output.out)[0]["restarts"]:
            assert one["validation_error"] == one["test_error"]
        assert memhop("train", "--resume", "--name", name).status == 0
    valid.write_text(test.read_text().replace("office", "garden"))
    error = memhop("train", "--resume", "--name", "run1").error()
    assert "qa1_valid.txt: changed since the training" in error
    command = ("train", "--data", data, "--joint", "--name", "joint", *TINY)
    assert (
        memhop(*command)
        .error()
        .endswith(
            "--joint: expected a validation file for each task or for none, got none for task 2"
        )
    )
    other = Path(data, "qa2_valid.txt")
    other.write_bytes(valid.read_bytes())
    joint = memhop(*command).ok()
    assert "2 tasks: held out: qa1_valid.txt, qa2_valid.txt, 128 questions" in joint.err
    valid.unlink()
    other.unlink()
    output = memhop("train", "--data", data, "--task", "1", "--name", "without", *TINY).ok()
    assert "held out: " not in output.err


def test_training_files_of_each_format_train_the_same_model(memhop: Program, data: str) -> None:
    name = "qa1_single-supporting-fact_{}"
    results = []
    for suffix in (".txt", ".jsonl", ".csv"):
        for split in ("train", "test"):
            file = Path(data, name.format(split)).with_suffix(".txt")
            write_examples(f"{split}{suffix}", read_babi(file))
        files = ("--train", f"train{suffix}", "--test", f"test{suffix}")
        memhop("train", *files, *TINY, "--name", suffix[1:]).ok()
        output = memhop("eval", suffix[1:], "--test", f"test{suffix}", "--json").ok()
        results.append([{**one, "task": ""} for one in json.loads(output.out)])
    assert results[0] == results[1] == results[2]
    stored = memhop("train", "--resume", "--name", "csv", "--json").ok()
    assert json.loads(stored.out)[0]["name"] == "train.csv"
    Path("train.csv").write_text("story,question,answer\na,b,c\n")
    message = memhop("train", "--resume", "--name", "csv").error()
    assert message == "train.csv: changed since the training of runs/csv began"
    message = memhop("train", "--train", "bad.jsonl").error()
    assert message == "bad.jsonl: no such file"


def test_a_script_without_spaces_is_reported_in_a_line(memhop: Program) -> None:
    story = "1 玛丽去了厨房。\n2 玛丽在哪里？\t厨房\t1\n"  # noqa: RUF001
    Path("own.txt").write_text(story * 40)
    output = memhop("train", "--train", "own.txt", *TINY).ok()
    shown = [line for line in output.err.splitlines() if "single word" in line]
    assert len(shown) == 1
    assert shown[0].startswith("memhop: 80 of 80 sentences are a single word: ")


def test_a_name_is_used_once(memhop: Program, data: str, trained: str) -> None:
    line = ["train", "--data", data, "--task", "1", "--joint", "--name", trained, *TINY]
    assert "the run already exists" in memhop(*line).error()
    metrics = next(Path("runs").rglob("metrics.csv")).read_bytes()
    again = memhop(*line, "--resume").ok()
    assert "epoch" not in again.err  # it was finished
    assert next(Path("runs").rglob("metrics.csv")).read_bytes() == metrics
    assert "different seed (0, now 1)" in memhop(*line, "--resume", "--seed", "1").error()
    for_tasks = ["train", "--data", data, "--name"]
    assert "with one model already exists" in memhop(*for_tasks, trained, *TINY).error()
    memhop(*for_tasks, "many", "--task", "2", *TINY).ok()
    assert "the run already exists" in memhop(*for_tasks, "many", *TINY).error()
    joint = memhop(*for_tasks, "many", "--joint", "--resume", *TINY)
    assert "a model for each task" in joint.error()


def test_a_folder_that_cannot_be_written_to_is_reported_before_training(
    memhop: Program, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", refuse)
        error = memhop("train", "--data", data, *TINY).error()
    assert error == "runs/babi: cannot be written to: Permission denied"
    assert not Path("runs/babi").exists()


def test_a_file_where_runs_should_be(memhop: Program, data: str) -> None:
    Path("runs").touch()
    error = memhop("train", "--data", data, "--name", "x", *TINY).error()
    assert error.startswith("runs/x: cannot be written to")


def test_a_restart_that_diverges_is_reported(memhop: Program, data: str) -> None:
    line = ["train", "--data", data, "--task", "1", *TINY, "--set", "clip_norm=0"]
    assert "all 2 restarts became infinite" in memhop(*line, "--set", "learning_rate=1e5").err


def test_ctrl_c_prints_the_command_to_resume(
    memhop: Program, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> str:
        if progress.epoch == 3:
            raise KeyboardInterrupt
        return ""

    line = ["train", "--data", data, "--task", "1", *TINY]
    memhop(*line, "--name", "whole").ok()
    with monkeypatch.context() as patch:
        patch.setattr("memhop.cli.screen._figures", stop)
        output = memhop(*line)
    assert (output.status, output.out) == (130, "")
    last = output.err.splitlines()[-1]
    command = last.removeprefix("memhop: stopped; resume with: memhop ")
    assert command == "train --resume --name babi"
    memhop(*shlex.split(command)).ok()
    for name in ("model.safetensors", "metrics.csv"):
        [whole], [resumed] = (list(Path("runs", run).rglob(name)) for run in ("whole", "babi"))
        assert whole.read_bytes() == resumed.read_bytes()
    with resumed.open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [*"11223344"]


@pytest.mark.parametrize(
    ("words", "good"), [("1", [1]), ("1,2,5-7", [1, 2, 5, 6, 7]), (" 3 - 4 ,3", [3, 4])]
)
def test_lists_of_tasks(words: str, good: list[int]) -> None:
    from memhop.cli.settings import parse_tasks

    assert parse_tasks(words) == good


def test_the_default_name_from_a_file_is_valid() -> None:
    assert train_command._name_for(Path("x/.-odd.txt"), False) == "odd"
    assert train_command._name_for(None, True) == "joint"
