"""docs/cli.md is the output of --help; ``python tests/cli/test_help.py`` regenerates it."""

import io
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

import typer

from memhop.cli import app, main

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """# The command line

The output of `--help` for every command, at 80 columns. This page is generated
by `python tests/cli/test_help.py`.

`memhop --install-completion` sets up completion with the Tab key for the shell
that runs it (bash, zsh, fish or PowerShell): commands, options, names of runs,
tasks and recipes. Each Tab starts the program, which takes as long as
`memhop --help`. `memhop --show-completion` prints the script.
"""


def commands() -> Iterator[list[str]]:
    """Yield every command and group as a list of words."""
    waiting: list[tuple[list[str], object]] = [([], typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop(0)
        yield words
        below = getattr(command, "commands", {})
        waiting += [([*words, name], one) for name, one in below.items() if not one.hidden]


def help_of(words: list[str]) -> str:
    with (
        patch.dict("os.environ", {"COLUMNS": "80"}),
        redirect_stdout(io.StringIO()) as output,
        suppress(SystemExit),
    ):
        main([*words, "--help"])
    return output.getvalue()


def page() -> str:
    parts = [HEAD]
    for words in sorted(commands()):
        parts.append(f"\n## {' '.join(['memhop', *words])}\n\n```\n{help_of(words)}```\n")
    return "".join(parts)


def test_the_page_is_the_output_of_help() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/cli/test_help.py"


def test_every_command_is_on_the_page() -> None:
    for name in ("demo", "train", "eval", "ask", "generate", "data babi", "reproduce table3"):
        assert f"\n## memhop {name}\n" in page()


def test_lists_of_commands_show_whole_lines() -> None:
    for words in commands():
        _, _, listed = help_of(words).partition("\nCommands:\n")
        assert "..." not in listed, words


def test_help_fits_into_80_columns() -> None:
    assert max(map(len, page().splitlines())) <= 80


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
