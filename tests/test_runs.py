"""Finding runs and their checkpoints on disk."""

import os
from pathlib import Path

import pytest

from memhop import runs
from memhop.checkpoint import write_checkpoint
from memhop.errors import MemhopError


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(name: str, *epochs: int, seconds: int = 0) -> Path:
    run = Path("runs", name)
    for epoch in epochs or (10,):
        folder = runs.checkpoint_folder(run, epoch)
        write_checkpoint(folder, {"model.txt": b"x"})
        os.utime(folder, (1000 + seconds, 1000 + seconds))
    return run


def test_the_newest_checkpoint_has_the_most_epochs() -> None:
    run = trained("a", 10, 120, 20, 1_000_000, 999_999)
    assert runs.newest_checkpoint(run) == run / "checkpoint-1000000"
    assert runs.newest_checkpoint(Path("runs/none")) is None


def test_a_checkpoint_alone_is_its_own_newest() -> None:
    write_checkpoint(Path("saved"), {"model.txt": b"x"})
    assert runs.newest_checkpoint(Path("saved")) == Path("saved")
    assert runs.find_checkpoint("saved") == Path("saved")


def test_what_is_half_written_is_not_seen() -> None:
    run = trained("a", 10)
    for name in (".checkpoint-000020-77", "checkpoint-", "checkpoint-x", "checkpoint-20.tmp"):
        (run / name).mkdir()
    (run / "checkpoint-000030").touch()  # a file
    assert runs.newest_checkpoint(run) == run / "checkpoint-000010"


def test_older_checkpoints_and_leftovers_are_dropped_and_nothing_else() -> None:
    run = trained("a", 10, 20, 30)
    for name in (".checkpoint-000020-77", "notes", "checkpoint-x"):
        (run / name).mkdir()
        (run / name / "file").touch()
    (run / "plot.svg").touch()
    runs.drop_older_checkpoints(run)
    left = sorted(path.name for path in run.iterdir())
    assert left == ["checkpoint-000030", "checkpoint-x", "notes", "plot.svg"]


def test_tasks_are_in_natural_order() -> None:
    for task in (10, 9, 1, 20):
        trained(f"all/qa{task}")
    trained("all/²")  # a digit that is no number
    Path("runs/all/empty").mkdir()
    names = [run.name for run in runs.trained_in(Path("runs/all"))]
    assert names == ["qa1", "qa9", "qa10", "qa20", "²"]


def test_a_run_is_found_by_path_or_name_or_age() -> None:
    first, _, last = trained("a"), trained("b", seconds=5), trained("c/qa1", seconds=9)
    assert runs.find_run("a") == runs.find_run("runs/a") == runs.find_run(first.resolve().name)
    assert runs.find_run(first.resolve()) == first.resolve()
    assert runs.find_run() == last.parent
    assert runs.find_checkpoint("a") == first / "checkpoint-000010"
    assert runs.find_checkpoint() == last / "checkpoint-000010"


def test_what_is_not_found_says_what_there_is() -> None:
    with pytest.raises(MemhopError, match=r"no trained run under runs/"):
        runs.find_run()
    trained("b"), trained("a")
    Path("runs/begun").mkdir()
    with pytest.raises(MemhopError, match=r"no run 'z'; under runs/: a, b$"):
        runs.find_run("z")
    with pytest.raises(MemhopError, match=r"^runs/begun: no checkpoint in it"):
        runs.find_run("begun")
    for name in ("x" * 3000, "a\0b", "a\nb", "\ud800"):
        with pytest.raises(MemhopError, match="no run") as caught:
            runs.find_run(name)
        assert "\n" not in str(caught.value)


def test_several_runs_ask_for_a_name() -> None:
    trained("all/qa2"), trained("all/qa1")
    with pytest.raises(
        MemhopError, match=r"expected one run, got 2 \(qa1, qa2\): choose one, as runs/all/qa1"
    ):
        runs.find_checkpoint("all")


def test_a_free_name_is_taken_by_nothing() -> None:
    assert runs.free_name("demo") == "demo"
    trained("demo"), trained("demo-2")
    assert runs.free_name("demo") == "demo-3"
    Path("runs/begun").mkdir()  # a training may be at work there
    assert runs.free_name("begun") == "begun-2"


def test_empty_folders_hold_nothing() -> None:
    assert not runs.holds_anything(Path("runs/new"))
    Path("runs/new/qa1").mkdir(parents=True)
    assert not runs.holds_anything(Path("runs/new"))
    Path("runs/new/file").touch()
    assert runs.holds_anything(Path("runs/new"))
    assert runs.holds_anything(Path("runs/new/file"))


def test_what_a_training_says_of_its_end() -> None:
    training = b'{"finished": false, "epoch": 12}'
    recipe = b'{"recipe": {"epochs": 100, "linear_start_epochs": 20}}'
    for name, content, said in (
        ("stopped", training, (12, 120)),
        ("ended", training.replace(b"false", b"true"), None),
        ("broken", b"[]", None),
        ("odd", b"{}", None),
    ):
        files = {"training.json": content, "recipe.json": recipe}
        write_checkpoint(runs.checkpoint_folder(Path("runs", name), 12), files)
        assert runs.stopped_after(Path("runs", name)) == said
    assert runs.stopped_after(trained("alone")) is None


def test_the_newest_is_one_at_its_end_if_there_is_one() -> None:
    files = {
        "training.json": b'{"finished": false, "epoch": 1}',
        "recipe.json": b'{"recipe": {"epochs": 1, "linear_start_epochs": 1}}',
    }
    write_checkpoint(Path("runs/stopped/qa2/checkpoint-000001"), files)
    assert runs.find_run() == Path("runs/stopped")
    trained("old"), trained("stopped/qa1", seconds=9)
    assert runs.find_run() == Path("runs/old")


@pytest.mark.parametrize("recipe", ['{"recipe": [1]}', '{"recipe": {"epochs": 1e999}}', "[]"])
def test_a_malformed_run_hides_no_other(recipe: str) -> None:
    files = {"training.json": b'{"finished": false, "epoch": 3}', "recipe.json": recipe.encode()}
    write_checkpoint(Path("runs/odd/checkpoint-000003"), files)
    assert runs.stopped_after(Path("runs/odd")) is None
    assert runs.find_run() == Path("runs/odd")
