"""``memhop kb eval``: the share of questions whose first answer is right."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.kb.ask import load_model
from memhop.cli.screen import percent, print_json, print_table, print_wrapped
from memhop.cli.settings import Json, KnowledgeRun, Threads, use
from memhop.knowledge import KnowledgeEvaluation, read_questions
from memhop.knowledge import evaluate as evaluate_model

app = typer.Typer()
_MAX_SHOWN = 5


@app.command("eval")
def evaluate(
    run: KnowledgeRun = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="File of questions with answers; repeatedly.")
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Print the share of questions whose first answer is right (hits@1).

    'listed' counts only the first answer of each line. Of several answers of the same weight the
    one that comes first in the facts is given.
    """
    use(threads)
    if not test:
        raise typer.BadParameter("expected a file of questions", param_hint="--test")
    model = load_model(run)
    results = [(path, evaluate_model(model, read_questions(path))) for path in test]
    if json:
        print_json([{"file": str(path), **asdict(result)} for path, result in results])
        return
    columns = ("file", "questions", "hits@1", "listed", "no answer")
    print_table(columns, [row(path.name, result) for path, result in results])
    for path, result in results:
        for note in notes(result):
            print_wrapped(f"{path.name}: {note}")


def row(name: str, result: KnowledgeEvaluation) -> list[str]:
    """Return the cells of a file."""
    hits = percent(result.hits), percent(result.listed_hits)
    return [name, f"{result.questions:,}", *hits, f"{result.unanswered:,}"]


def notes(result: KnowledgeEvaluation) -> list[str]:
    """Return lines on what the model does not know, and on estimates."""
    lines = []
    if result.without_topic:
        lines.append(f"no entity of the facts in {result.without_topic:,} questions")
    for kind, names in (("words", result.unknown_words), ("answers", result.unknown_answers)):
        if names:
            shown = ", ".join(names[:_MAX_SHOWN]) + (", ..." if names[_MAX_SHOWN:] else "")
            lines.append(f"{len(names):,} {kind} unknown: {shown}")
    if result.estimated:
        lines.append(
            f"weights are estimates in {result.estimated:,} questions: a hop did not follow "
            "entities with 0.5% or more of the weight (max_entities, min_weight)"
        )
    return lines
