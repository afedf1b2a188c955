"""Print answers over facts as text and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from memhop.cli.answers import percentage
from memhop.cli.screen import print_line, stdout
from memhop.knowledge import KnowledgeAnswer
from memhop.picture import escaped

_SHOWN = 8  # answers in a line


def print_answer(answer: KnowledgeAnswer) -> None:
    """Print a question, its answers and the facts that each hop read."""
    line = Text(escaped(answer.question) + "  ", style="bold")
    if answer.reason:
        line.append(escaped(answer.reason), style="dim")
    else:
        line.append(escaped(answer.shown(_SHOWN)), style="bold green")
        line.append(escaped(f"  ({answer.shares()})"), style="dim")
    stdout().print(line, soft_wrap=True)
    for note in answer.notes():
        print_line(note, "red")
    if answer.hops:
        stdout().print(answer.picture())


def answer_json(answer: KnowledgeAnswer, right: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an answer as a JSON object, with the right answers if they are known."""
    content = asdict(answer) | {"no_answer": answer.reason, "dropped": answer.dropped}
    return content | ({"right_answers": list(right)} if right else {})
