"""Commands without a run: the newest run, or the model that comes with memhop."""

from pathlib import Path

import pytest

from memhop.runs import RUNS
from memhop.web import server

from .conftest import Program

NOTE = "no run under runs/: using the model 'stories' that comes with memhop\n"
QUESTION = ("--story", "Mary took the milk. Mary went to the garden.", "-q", "Where is the milk?")


def test_ask_uses_the_shipped_model_and_says_so(memhop: Program) -> None:
    output = memhop("ask", *QUESTION).ok()
    assert output.out.startswith("Where is the milk?  garden  ")
    assert output.err == NOTE
    assert not RUNS.exists()
    assert memhop("ask", "stories", *QUESTION).ok() == output._replace(err="")


def test_a_run_is_preferred(memhop: Program, trained: str) -> None:
    output = memhop("ask", *QUESTION).ok()
    assert output == memhop("ask", trained, *QUESTION)
    assert output.err == ""


def test_serve_uses_the_shipped_model(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr(server, "serve", lambda models, **_: served.extend(models))
    output = memhop("serve")
    assert (output.status, output.err) == (0, NOTE)
    assert served == ["stories"]


def test_eval_and_export_use_the_shipped_model(memhop: Program) -> None:
    Path("story.txt").write_text("1 Mary went to the garden.\n2 Where is Mary?\tgarden\t1\n")
    assert memhop("eval", "--test", "story.txt").ok().err == NOTE
    output = memhop("export", "--onnx", "missing/model.onnx")
    assert (output.status, output.err.count("\n")) == (2, 2)
    assert output.err.startswith(NOTE)
