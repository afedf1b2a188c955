"""``memhop kb demo``: train on questions over generated facts, and show the path of an answer."""

import shlex
from typing import Annotated

import typer

from memhop.atomic_write import check_writable
from memhop.cli.kb.answers import print_answer
from memhop.cli.kb.train import progress
from memhop.cli.screen import Stopped, duration, percent, print_line, program
from memhop.cli.settings import Threads, use
from memhop.knowledge import (
    KnowledgeBase,
    KnowledgeEvaluation,
    KnowledgeRecipe,
    KnowledgeResult,
    Question,
    evaluate,
    train,
)
from memhop.knowledge.generate import ask, generate
from memhop.runs import RUNS, free_name

RECIPE = KnowledgeRecipe(epochs=8, patience=3)
HOPS = (1, 2, 3)
_FACTS, _QUESTIONS, _TEST_QUESTIONS = 2_000, 3_000, 300
_MAX_FACTS_SHOWN = 3
_WIDTH = 80  # columns

app = typer.Typer()


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same demo.")] = 0,
    threads: Threads = 1,
) -> None:
    """Generate facts, train on questions about them, and answer new ones. Takes half a minute."""
    use(threads)
    check_writable(RUNS / free_name("kb-demo"))  # before half a minute of training
    kb = generate(facts=_FACTS, seed=seed)
    questions = ask(kb, hops=HOPS, questions=_QUESTIONS, seed=seed, split="train")
    print_line("memhop kb demo: invented films, people, companies and cities.", "bold")
    print_facts(kb)
    print_line(f"{len(questions):,} training questions, such as")
    lines = [f"  {one.text}  {', '.join(one.answers)}" for one in questions[:100]]
    print_line(next((line for line in lines[1:] if len(line) <= _WIDTH), lines[0]), "dim")
    result = trained(kb, questions, seed)
    print_line(f"Trained in {duration(result.seconds)} from questions and answers, without paths.")
    tests = {hops: test_questions(kb, hops, seed) for hops in HOPS}
    print_line("New questions, about other entities or with other relations:")
    for hops, test in tests.items():
        print_line(
            f"  {hops} fact{'s' if hops > 1 else ''}: {summary(evaluate(result.model, test))}"
        )
    print_line("")
    print_answer(result.model.answer(short_answer(tests[2]).text))
    name = free_name("kb-demo")
    result.model.save(RUNS / name)
    print_next(name, short_answer(tests[3]).text)


def trained(kb: KnowledgeBase, questions: list[Question], seed: int) -> KnowledgeResult:
    """Train on the questions."""
    try:
        with progress("kb demo") as show:
            return train(kb, questions, recipe=RECIPE, seed=seed, on_progress=show)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; start again with: {program()} kb demo") from None


def test_questions(kb: KnowledgeBase, hops: int, seed: int) -> list[Question]:
    """Return questions of a length; none of their topics has the same path in training."""
    return ask(kb, hops=[hops], questions=_TEST_QUESTIONS, seed=seed + 1, split="test")


def print_facts(kb: KnowledgeBase) -> None:
    """Print how many facts there are, and some of them."""
    print_line(f"{len(kb):,} facts, such as")
    for subject, relation, object_ in kb.facts[:_MAX_FACTS_SHOWN].tolist():
        fact = kb.labels[subject], kb.relation_labels[relation], kb.labels[object_]
        print_line(f"  {' | '.join(fact)}", "dim")


def summary(result: KnowledgeEvaluation) -> str:
    """Return the share of wrong answers."""
    return f"{percent(100 - result.hits)} of {result.questions:,} wrong"


def short_answer(questions: list[Question]) -> Question:
    """Return the shortest question with few answers."""
    few = [one for one in questions if len(one.answers) <= 2] or questions
    return min(few, key=lambda one: len(one.text))


def print_next(name: str, question: str) -> None:
    """Print commands to continue with."""
    print_line("")
    print_line("Ask your own questions, in the browser (needs memhop[serve]) or here:")
    print_line(f"  {program()} serve {name}", "bold")
    for part in (f"  {program()} kb ask {name} \\", f"    {shlex.quote(question)}"):
        print_line(part, "bold")
