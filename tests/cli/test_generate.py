"""``memhop generate``: stories on standard output or in files."""

from pathlib import Path

import pytest

import memhop as package

from .conftest import Program


def test_it_prints_stories_that_can_be_read(memhop: Program) -> None:
    output = memhop("generate", "--task", "2", "--questions", "7", "--statements", "2", "5").ok()
    Path("stories.txt").write_text(output.out)
    examples = package.read_babi("stories.txt")
    assert len(examples) == 7
    assert all(2 <= len(one.story) <= 5 for one in examples)
    again = memhop("generate", "--task", "2", "--questions", "7", "--statements", "2", "5")
    assert again.out == output.out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--task 1 --objects 3", "--objects is not used by task 1; it uses --people, --places"),
        ("--task 1 --hops 2", "--hops is not used by task 1; it uses --people, --places"),
        ("--task 19 --people 4", "--people is not used by task 19; it uses --places, --hops"),
        ("--task 15 --places 6 --to new", "--places is not used by task 15; it uses none"),
        ("--task 0 --hops 6", "task: expected one of 1, 2"),
        ("--split 9 0 9 --questions 9 --to new", "--split sets the number of questions"),
    ],
)
def test_an_unused_option_raises(memhop: Program, line: str, expected: str) -> None:
    assert expected in memhop("generate", *line.split()).error()
    assert not Path("new").exists()


def test_training_and_test_files_differ_and_are_not_overwritten(memhop: Program) -> None:
    memhop("generate", "--questions", "9", "--to", "my data").ok()
    train, test = sorted(Path("my data").iterdir(), reverse=True)
    assert (train.name, test.name) == (
        "qa1_single-supporting-fact_train.txt",
        "qa1_single-supporting-fact_test.txt",
    )
    before = train.read_text()
    assert before != test.read_text()
    error = memhop("generate", "--seed", "1", "--to", "my data").error()
    assert "already exists" in error
    assert train.read_text() == before


def test_the_next_command_is_quoted(memhop: Program) -> None:
    output = memhop("generate", "--questions", "9", "--to", "my data").ok()
    assert output.out.splitlines()[-1] == "try: memhop train --data 'my data' --task 1"


def test_split_writes_a_file_for_each_count(memhop: Program) -> None:
    output = memhop("generate", "--task", "19", "--split", "30", "0", "20", "--to", "paths").ok()
    assert "30 questions" in output.out
    folder = Path("paths")
    assert sorted(path.name for path in folder.iterdir()) == [
        "qa19_path-finding_test.txt", "qa19_path-finding_train.txt"
    ]  # fmt: skip
    assert len(package.read_babi(folder / "qa19_path-finding_test.txt")) == 20
    assert "--to FOLDER" in memhop("generate", "--split", "3", "0", "2").error()
    assert "above 0" in memhop("generate", "--split", "0", "0", "0", "--to", "none").error()


def test_the_options_change_the_stories(memhop: Program) -> None:
    output = memhop(
        "generate", "--task", "19", "--places", "12", "--hops", "4", "--statements", "11", "11",
        "--questions", "1",
    ).ok()  # fmt: skip
    story, asked = output.out.splitlines()[:-1], output.out.splitlines()[-1]
    assert len(story) == 11
    assert len(asked.split("\t")[1].split(",")) == 4
    assert (
        "hops: expected 1 to 5, got 9" in memhop("generate", "--task", "19", "--hops", "9").error()
    )
