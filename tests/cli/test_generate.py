"""``memhop generate``: the released format on standard output, or two files."""

from pathlib import Path

import memhop as package

from .conftest import Program


def test_it_prints_stories_that_can_be_read(memhop: Program) -> None:
    said = memhop("generate", "--task", "2", "--questions", "7", "--statements", "2", "5").fits()
    Path("stories.txt").write_text(said.out)
    examples = package.read_babi("stories.txt")
    assert len(examples) == 7
    assert all(2 <= len(one.story) <= 5 for one in examples)
    again = memhop("generate", "--task", "2", "--questions", "7", "--statements", "2", "5")
    assert again.out == said.out


def test_training_and_test_files_differ_and_are_not_written_over(memhop: Program) -> None:
    memhop("generate", "--questions", "9", "--to", "my data").fits()
    train, test = sorted(Path("my data").iterdir(), reverse=True)
    assert (train.name, test.name) == (
        "qa1_single-supporting-fact_train.txt",
        "qa1_single-supporting-fact_test.txt",
    )
    before = train.read_text()
    assert before != test.read_text()
    complaint = memhop("generate", "--seed", "1", "--to", "my data").complaint()
    assert "is there already" in complaint
    assert train.read_text() == before


def test_the_next_command_is_quoted(memhop: Program) -> None:
    said = memhop("generate", "--questions", "9", "--to", "my data").fits()
    assert said.out.splitlines()[-1] == "try: memhop train --data 'my data' --task 1"
