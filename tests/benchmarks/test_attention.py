"""The pictures of README show README's model and story, and are made from the rows."""

import re
from pathlib import Path
from typing import Any

from benchmarks import attention, tables
from memhop.data import to_examples
from memhop.reproduce.record import read_rows

from .conftest import Runner

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_recipe_and_the_story_are_those_of_readme() -> None:
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block
    settings, _, asked = block[1].partition("model = ")
    readme: dict[str, Any] = {}
    exec(settings, readme)  # all but the training
    assert readme["recipe"] == attention.RECIPE
    assert list(to_examples(readme["stories"])) == attention.examples()
    assert f'story = "{attention.STORY}"' in asked
    assert f'model.answer(story, "{attention.QUESTION}")' in asked


def test_the_picture_of_readme_is_made_from_the_rows() -> None:
    rows = read_rows(PROJECT / "results" / "attention.csv")
    picture = (PROJECT / "docs" / "attention.svg").read_text(encoding="utf-8")
    assert picture == attention.svg(rows), "run: python -m benchmarks plots docs"
    assert "](docs/attention.svg)" in README
    # the words of README
    assert attention.answer_of(rows).picture().strongest.argmax(1).tolist() == [0, 0, 2]


def test_a_run_writes_rows_from_which_both_pictures_are_made(run: Runner, tmp_path: Path) -> None:
    done = run("attention", "--tiny", "--to", "attention.csv")
    assert done.status == 0
    rows = read_rows(Path("attention.csv"))
    assert [(row["hop"], row["sentence"][:4]) for row in rows] == [
        (hop, name) for hop in "123" for name in ("Mary", "John", "Mary")
    ]
    for hop in "123":
        weights = [float(row["weight"]) for row in rows if row["hop"] == hop]
        assert 0 < sum(weights) < 1.001
    [sheet] = attention.sheets(rows)
    assert done.out == f"{sheet.text}\n"
    assert attention.answer_of(rows).title() in attention.svg(rows)
    filled = tables.fill("<!-- table: attention -->\n<!-- end of table -->", tmp_path)
    assert f"\n```text\n{sheet.text}\n```\n" in filled


def test_a_plot_of_the_rows(tmp_path: Path) -> None:
    rows = (PROJECT / "results" / "attention.csv").read_text(encoding="utf-8")
    (tmp_path / "attention.csv").write_text(rows, encoding="utf-8")
    assert list(tables.draw(tmp_path, tmp_path)) == [tmp_path / "attention.svg"]
    made = (tmp_path / "attention.svg").read_text(encoding="utf-8")
    assert made == (PROJECT / "docs" / "attention.svg").read_text(encoding="utf-8")
