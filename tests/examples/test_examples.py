"""Run the examples as a user does: each learns more than its baselines, as its docstring says."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.seeds import slow, thorough

EXAMPLES = Path(__file__).parents[2] / "examples"

# Over seeds 0 to 9 (data and weights) the least margins over the best baseline were 0.53, 0.12 and
# 0.44, and the largest differences from the docstring 0.022, 0.051 and 0.039.
MARGINS = {"key_value_memory": 0.5, "bag_classifier": 0.09, "user_history_recommender": 0.4}
TOLERANCES = {"key_value_memory": 0.03, "bag_classifier": 0.08, "user_history_recommender": 0.06}
MARGINS["sharded"], TOLERANCES["sharded"] = 0.35, 0.05  # seeds 0 to 2: 0.42 and 0.011
OTHERS = ("growing_store", "onnx_answers")  # tests/export and tests/cli run the second
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LAUNCHERS = {"sharded": TORCHRUN}

TRAININGS = [
    *(slow(name, 0) for name in MARGINS),  # 5 to 13 s each
    *(thorough(name, seed) for name in MARGINS for seed in range(1, 10)),
]


def accuracies(text: str) -> dict[str, float]:
    """Return the numbers of the line of accuracies in a text by name, the model's first."""
    (line,) = re.findall(r"^held-out accuracy: (.*)$", text, re.MULTILINE)
    return {name: float(share) for name, share in re.findall(r"([a-z ]+) (\d\.\d{3})", line)}


def documented(name: str) -> dict[str, float]:
    """Return the accuracies in the docstring of an example."""
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    return accuracies(ast.get_docstring(ast.parse(source)) or "")


def test_every_example_is_tested() -> None:
    assert MARGINS.keys() == TOLERANCES.keys()
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*MARGINS, *OTHERS}


@pytest.mark.slow
def test_a_killed_store_has_what_was_reported_and_is_searched_in_two_hops(tmp_path: Path) -> None:
    """The example in small: 1,200 passages, of which each is in the sample that it trains on."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "growing_store.py"), "1200"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first, *lines = done.stdout.splitlines()
    match = re.fullmatch(r"killed: ([\d,]+) rows were reported, the store has ([\d,]+)", first)
    assert match
    numbers = [int(number.replace(",", "")) for number in match.groups()]
    assert 600 <= numbers[0] <= numbers[1] <= 1200
    assert lines[-4] == "1200"
    assert all(share > 0.7 for share in accuracies(done.stdout).values())
    assert min(documented("growing_store").values()) > 0.7


@pytest.mark.parametrize("arguments", [["many"], ["399"], ["-5"], ["1", "2", "3"]])
def test_a_wrong_number_of_passages_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["growing_store.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / "growing_store.py"), run_name="__main__")
    usage = "usage: python growing_store.py [PASSAGES]   (at least 400, 200000 by default)"
    assert ended.value.code == usage  # Python prints a text and exits with status 1


@pytest.mark.parametrize("name", [*MARGINS, *OTHERS])
def test_an_example_has_fewer_than_80_lines(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.parametrize(("name", "seed"), TRAININGS)
def test_an_example_learns_more_than_its_baselines(name: str, seed: int, tmp_path: Path) -> None:
    arguments = [str(seed)] if seed else []  # 0 is the default
    launcher = LAUNCHERS.get(name, ["-W", "error"])
    done = subprocess.run(
        [sys.executable, *launcher, str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    printed = accuracies(done.stdout)
    model, *baselines = printed.values()
    assert baselines
    assert model - max(baselines) > MARGINS[name]
    assert printed == pytest.approx(documented(name), abs=TOLERANCES[name])
