"""``memhop export``: the files, an answer of the example without memhop, and mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memhop.text.model import MemN2N

from .conftest import Program

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_answers.py"
STORY = "Mary went to the garden. John took the apple. Ólafur said “go”."


def test_mistakes_are_one_line(memhop: Program, trained: str) -> None:
    error = memhop("export", trained, "--onnx", "one.json").error()
    assert error == "export: expected a file name that ends in .onnx, got 'one.json'"
    error = memhop("export", trained, "--onnx", "none/one.onnx").error()
    assert error == "none/one.onnx: cannot be written: none is no folder"
    assert "no run 'two'" in memhop("export", "two", "--onnx", "one.onnx").error()
    assert "--onnx" in memhop("export", trained).error()
    assert not list(Path().glob("*one*"))


@pytest.mark.slow
def test_the_files_answer_without_memhop_and_torch(memhop: Program, trained: str) -> None:
    pytest.importorskip("onnxruntime")
    output = memhop("export", "--onnx", "one.onnx").ok()  # the newest run
    sizes = [f"{name}  {Path(name).stat().st_size:,} bytes" for name in ("one.onnx", "one.json")]
    assert output.out.splitlines() == sizes
    assert output.err == ""
    code = "import runpy, sys\nsys.modules['memhop'] = sys.modules['torch'] = None\n"
    code += "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = [sys.executable, "-W", "error", "-c", code, str(EXAMPLE), "one.onnx"]
    questions = ["Where is Mary?", "Where is John?"]
    lines = "".join(json.dumps({"story": STORY, "question": q, "id": 7}) + "\n" for q in questions)
    piped = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in piped.stdout.splitlines()]
    command += [STORY, questions[0]]
    given = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert given | {"id": 7} == found[0]
    answers = MemN2N.load(trained).answers([(STORY, question) for question in questions])
    for one, answer in zip(found, answers, strict=True):
        assert (one["question"], one["answer"]) == (answer.question, answer.answer)
        assert one["probability"] == pytest.approx(answer.probability, abs=1e-5)
        assert one["attention"] == pytest.approx(answer.attention.numpy(), abs=1e-5)
    wrong = subprocess.run([*command[:-2], "x"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.splitlines()[2][:6]) == (1, "usage:")
