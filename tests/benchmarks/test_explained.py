"""docs/how-it-works.md shows its own model, and its numbers and pictures are made from the rows."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import explained
from memhop.reproduce.record import read_rows

from .conftest import Runner

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
ROWS = read_rows(PROJECT / "results" / "explained.csv")


def test_the_model_and_the_story_are_those_of_the_page() -> None:
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block
    settings, _, rest = block[1].partition("model = ")
    page: dict[str, Any] = {}
    exec(settings, page)  # all but the training
    exec(rest.partition("\n\n")[2].partition("answer = ")[0], page)
    assert page["recipe"] == explained.RECIPE
    assert page["examples"] == explained.examples()
    assert page["story"] == explained.STORY
    assert f'model.answer(story, "{explained.QUESTION}")' in block[1]


@pytest.mark.parametrize("part", explained.TITLES)
def test_a_picture_of_the_page_is_made_from_the_rows(part: str) -> None:
    picture = (PROJECT / "docs" / f"how-{part}.svg").read_text(encoding="utf-8")
    assert picture == explained.svg(part, ROWS), "run: python -m benchmarks plots docs"
    assert f"](how-{part}.svg)" in PAGE


def test_the_words_of_the_page_are_those_of_the_rows() -> None:
    words = [explained.values_of(ROWS, "word", hop) for hop in (1, 2)]
    weights = [explained.values_of(ROWS, "weight", hop) for hop in (1, 2)]
    assert [max(each, key=each.__getitem__) for each in weights] == [
        explained.STORY[0], explained.STORY[2],
    ]  # fmt: skip
    assert all("the" in sentence.split() for sentence in explained.STORY)
    mary = explained.values_of(ROWS, "mary", 1)
    for text in (
        f'"milk" adds {words[0]["milk"]:.1f}.',
        f"Sentence 1 gets {weights[0][explained.STORY[0]]:.0%} of the attention",
        f'"mary" adds {words[1]["mary"]:.1f} and "john" takes {-words[1]["john"]:.1f} away',
        f"adds {words[1]['to']:.1f};",
        f'Of the {sum(mary.values()):.1f} of "mary" in hop 2, the question itself brings '
        f"{mary['query']:.1f}, and the value that hop 1 read brings {mary['read']:.1f}.",
    ):
        assert text in PAGE.replace("\n  ", " ").replace("\n", " "), text
    assert words[0]["the"] > words[0]["milk"]
    assert words[1]["age 1"] > words[1]["age 2"] > words[1]["age 3"]
    assert abs(words[1]["mary"] - sum(mary.values())) < 1e-5


def test_scores_are_sums_over_words(run: Runner) -> None:
    assert run("explained", "--tiny", "--to", "explained.csv").status == 0
    rows = read_rows(Path("explained.csv"))
    for hop in (1, 2):
        words = explained.values_of(rows, "word", hop)
        scores = explained.values_of(rows, "score", hop)
        for age, sentence in zip((3, 2, 1), explained.STORY, strict=True):
            parts = [words[word] for word in sentence.lower().strip(".").split()]
            assert scores[sentence] == pytest.approx(sum(parts) + words[f"age {age}"], abs=1e-5)
        assert sum(explained.values_of(rows, "weight", hop).values()) == pytest.approx(1)
