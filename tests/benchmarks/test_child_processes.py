"""The processes of benchmarks find their modules, whatever the working directory."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.child_processes import ROOT, child_command, child_environment


def test_a_process_starts_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = child_command("__main__", "--help")
    run = subprocess.run(
        command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "files" in run.stdout


def test_the_environment_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("COLOUR", "blue")
    found = child_environment(COLOUR="red")
    assert (found["PYTHONPATH"], found["COLOUR"]) == (f"{ROOT}:here", "red")
