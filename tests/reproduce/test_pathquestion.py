"""PathQuestion: the released format, the splits, resuming, and the table."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from memhop.errors import MemhopError
from memhop.knowledge.questions import Question
from memhop.reproduce import pathquestion
from memhop.reproduce.generated_sets import NUM_QUESTIONS, write_pathquestion
from memhop.reproduce.pathquestion import (
    COLUMNS,
    KEY_VALUE,
    TRACKING,
    PathQuestion,
    Unit,
    divide,
    parse,
    read_set,
    sheet,
)
from memhop.reproduce.record import as_text, provenance
from tests.seeds import seeds

LINE = (
    "who is ann 's son 's wife ?\tmia_(x)(mia_(x)/eva/)\tann#child#bob#spouse#mia_(x)#<end>#mia_(x)"
)


def question(number: int, topic: str, *paths: str) -> PathQuestion:
    return PathQuestion(
        Question(f"question {number}", ("x",), (topic,)), tuple((path,) for path in paths)
    )


def test_a_line() -> None:
    one = PathQuestion(
        Question("who is ann 's son 's wife ?", ("mia_(x)", "eva"), ("ann",)),
        (("child", "spouse"),),
    )
    assert parse(LINE) == parse(f" {LINE}") == parse(LINE.partition("#<end>")[0]) == one


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("who is ann ?", "expected question<TAB>answers<TAB>path, got 'who is ann ?'"),
        (LINE.replace("\t", " ", 1), "expected question<TAB>answers<TAB>path"),
        (f"{LINE}\tmore", "expected question<TAB>answers<TAB>path"),
        ("who ?\tann(ann/)\tann", "expected a path subject#relation#object, or a longer one"),
        ("who ?\tbob(bob/)\tann#child#bob#wife", "expected a path subject#relation#object"),
        ("who ?\tbob(bob/)\tann##bob", "expected a path subject#relation#object"),
        ("who ?\tbob\tann#child#bob", "expected the end of the path with all answers, 'bob(bob/."),
        ("who ?\teva(bob/)\tann#child#bob", "'bob(bob/...)', got 'eva(bob/)'"),
    ],
)
def test_a_malformed_line_is_an_error_with_file_and_line(
    tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "PQL-3H.txt"
    file.write_text(f"{LINE}\n{line}\n", encoding="utf-8")
    with pytest.raises(MemhopError) as error:
        read_set(tmp_path, "PQL-3H")
    assert str(error.value).startswith(f"{file}:2: ")
    assert message in str(error.value)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(MemhopError, match="no such file"):
        read_set(tmp_path, "PQ-2H")
    (tmp_path / "PQ-2H.txt").write_text("\n")
    with pytest.raises(MemhopError, match="expected at least one question, got none"):
        read_set(tmp_path, "PQ-2H")
    (tmp_path / "PQ-2H.txt").write_text(f"{LINE}\n")
    with pytest.raises(MemhopError, match=r"2H-kb\.txt: no such file"):
        read_set(tmp_path, "PQ-2H")


def test_lines_of_one_question_are_one_question_with_all_answers_and_paths(tmp_path: Path) -> None:
    lines = [
        "who ?\tbob(bob/)\tann#child#bob",
        "who ?\teva(eva/bob/)\tann#sister#eva",
        "who ?\tbob(bob/)\tmia#child#bob",
        "where ?\tbob(bob/)\tann#child#bob",
    ]
    (tmp_path / "PQ-2H.txt").write_text("\n".join(lines))
    (tmp_path / "2H-kb.txt").write_text("ann\tchild\tbob\n")
    kb, questions = read_set(tmp_path, "PQ-2H")
    assert len(kb) == 1
    assert [(one.question.text, one.question.topics) for one in questions] == [
        ("who ?", ("ann",)), ("who ?", ("mia",)), ("where ?", ("ann",))
    ]  # fmt: skip
    assert questions[0].question.answers == ("bob", "eva")
    assert questions[0].paths == (("child",), ("sister",))


def drawn(seed: int) -> list[PathQuestion]:
    """Return 300 questions about 40 topics; a tenth has two paths."""
    draw = random.Random(seed)
    return [
        question(n, f"t{draw.randrange(40)}", *draw.sample("pqrst", 1 + (draw.random() < 0.1)))
        for n in range(300)
    ]


def pairs_of(part: list[Question], questions: list[PathQuestion]) -> set[tuple[object, ...]]:
    by_text = {one.question.text: one for one in questions}
    return {(one.topics, path) for one in part for path in by_text[one.text].paths}


@pytest.mark.parametrize("seed", seeds(5, 100))
def test_no_topic_with_the_same_path_is_in_two_parts(seed: int) -> None:
    questions = drawn(seed)
    parts = divide(questions, "path", seed)
    assert sorted(one.text for part in parts for one in part) == sorted(
        one.question.text for one in questions
    )
    for one, other in itertools.combinations([pairs_of(part, questions) for part in parts], 2):
        assert not one & other
    assert all(
        abs(len(part) - share) < 25 for part, share in zip(parts, (240, 30, 30), strict=True)
    )


def test_the_random_split_puts_topics_with_the_same_path_into_two_parts() -> None:
    questions = drawn(0)
    parts = divide(questions, "random", 0)
    assert [len(part) for part in parts] == [240, 30, 30]
    assert pairs_of(parts[0], questions) & pairs_of(parts[2], questions)
    assert divide(questions, "random", 0) == parts != divide(questions, "random", 1)


def test_questions_with_a_chain_of_common_paths_stay_together() -> None:
    chain = [question(0, "t", "p"), question(1, "t", "q"), question(2, "t", "p", "q")]
    others = [question(n, f"u{n}", "p") for n in range(3, 30)]
    for seed in range(20):
        parts = divide([*chain, *others], "path", seed)
        texts = [{one.text for one in part} for part in parts]
        assert sum(bool(own & {"question 0", "question 1", "question 2"}) for own in texts) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_pathquestion(folder, [*pathquestion.FACTS])
    return folder


@pytest.mark.parametrize("name", pathquestion.FACTS)
def test_generated_sets_have_the_released_form(folder: Path, name: str) -> None:
    kb, questions = read_set(folder, name)
    assert len(questions) == NUM_QUESTIONS
    for one in questions:
        assert {len(path) for path in one.paths} == {int(name[-2])}
        names = (*one.question.answers, *(one.question.topics or ()))
        assert all(map(kb.find, names))


def test_a_row_of_each_model_does_not_depend_on_the_run(folder: Path) -> None:
    for model in (TRACKING, KEY_VALUE):
        unit = Unit(model, "PQ-2H", "path", 1)
        one, other = (pathquestion.row_of(folder, unit, tiny=True) for _ in range(2))
        assert tuple(one) == (*COLUMNS, *provenance())
        assert {**one, "cpu_seconds": 0} == {**other, "cpu_seconds": 0}
        assert one["train"] + one["valid"] + one["test"] == NUM_QUESTIONS
        assert one["epochs"] == pathquestion.TINY_EPOCHS


def rows(**changes: Any) -> list[dict[str, Any]]:
    row = {
        "model": TRACKING, "set": "PQ-2H", "split": "random", "seed": 0, "train": 8, "valid": 1,
        "test": 1, "hits": 99.0, "listed_hits": 94.0, "cpu_seconds": 10.4, "tiny": False,
    }  # fmt: skip
    return [row | changes]


def test_the_table() -> None:
    found = [
        *rows(),
        *rows(seed=1, hits=100.0, listed_hits=95.0, cpu_seconds=12.0),
        *rows(split="path", hits=98.0),
        *rows(model=KEY_VALUE, hits=93.7, cpu_seconds=7),
        *rows(set="PQL-3H", split="path", hits=98.5),
    ]
    assert sheet(as_text(found)).lines == [
        ["PQ-2H", "tracking", "99.1", "99.5 (99.0)", "94.5", "98.0 (98.0)", "94.0", "11"],
        ["PQ-2H", "key-value", "93.7", "93.7 (93.7)", "94.0", "-", "-", "7"],
        ["PQL-3H", "tracking", "97.1", "-", "-", "98.5 (98.5)", "94.0", "10"],
    ]
