"""Print answers over facts as text and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from memhop.cli.screen import print_wrapped, stdout
from memhop.knowledge import KnowledgeAnswer
from memhop.picture import escaped


def print_answer(answer: KnowledgeAnswer) -> None:
    """Print a question, its answers and the facts that each hop read."""
    line = Text(escaped(answer.question) + "  ", style="bold")
    if answer.reason:
        line.append(escaped(answer.reason), style="dim")
    else:
        line.append(escaped(answer.shares()), style="bold green")
    stdout().print(line)
    for note in filter(None, (answer.not_found(), answer.never_seen())):
        print_wrapped(note, "red")
    if answer.hops:
        stdout().print(answer.picture())


def answer_json(answer: KnowledgeAnswer) -> dict[str, Any]:
    """Return an answer as a JSON object; its hops and facts are objects too."""
    hops = [
        hop._asdict() | {"facts": [fact._asdict() for fact in hop.facts]} for hop in answer.hops
    ]
    return asdict(answer) | {"hops": hops, "no_answer": answer.reason}
