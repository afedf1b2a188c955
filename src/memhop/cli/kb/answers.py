"""Print answers over facts as text and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from memhop.cli.screen import print_line, stdout
from memhop.knowledge import KnowledgeAnswer
from memhop.picture import escaped


def print_answer(answer: KnowledgeAnswer) -> None:
    """Print a question, its answers and the facts that each hop read."""
    line = Text(escaped(answer.question) + "  ", style="bold")
    if answer.reason:
        line.append(escaped(answer.reason), style="dim")
    else:
        line.append(escaped(answer.shares()), style="bold green")
    stdout().print(line, soft_wrap=True)
    for note in filter(None, (answer.not_found(), answer.never_seen())):
        print_line(note, "red")
    if answer.hops:
        stdout().print(answer.picture())


def answer_json(answer: KnowledgeAnswer) -> dict[str, Any]:
    """Return an answer as a JSON object."""
    return asdict(answer) | {"no_answer": answer.reason, "dropped": answer.dropped}
