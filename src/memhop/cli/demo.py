"""``memhop demo``: train a memory network and ask it questions, in about half a minute."""

from typing import Annotated

import typer

from memhop.atomic_write import check_writable
from memhop.cli.answers import print_answer
from memhop.cli.screen import Stopped, duration, percent, print_line, program, training_progress
from memhop.cli.settings import Threads, use
from memhop.data import generate, to_examples
from memhop.data.stories import TEST_SEED_OFFSET
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import RUNS, free_name
from memhop.text.model import MemN2N
from memhop.training.evaluation import evaluate
from memhop.training.loop import TrainingResult, train

RECIPE = Recipe(epochs=30, linear_start_epochs=8, halve_every=8, held_out="random")
QUESTIONS = {1: 1000, 2: 3000}  # training questions of each task
_TEST_QUESTIONS = 1000  # of each task
_STATEMENTS = (2, 10)
_RESTARTS = 2
_STORY = "--story 'Mary took the milk. Mary went to the garden. John got the apple.'"


app = typer.Typer()


@app.command()
def demo(
    seed: Annotated[
        int, typer.Option(min=0, max=TEST_SEED_OFFSET - 1, help="Same seed, same demo.")
    ] = 0,
    threads: Threads = 1,
) -> None:
    """Generate stories, train on them, and answer new questions. Takes about half a minute."""
    use(threads)
    check_writable(RUNS / free_name("demo"))  # before half a minute of training
    print_line("memhop demo: four people walk between six places, carrying things.", "bold")
    examples = [example for task in QUESTIONS for example in stories(task, QUESTIONS[task], seed)]
    print_line(f"Training data: {len(examples):,} questions, such as")
    _print_story(examples[-1])
    result = _trained(examples, seed)
    print_line(f"Trained {_RESTARTS} models in {duration(result.seconds)} and kept the better one.")
    print_line(f"Test on {_TEST_QUESTIONS:,} new questions of each kind:")
    for task, kind in ((1, "one supporting fact, such as where Mary is"),
                       (2, "two supporting facts, such as where the milk is")):  # fmt: skip
        test = stories(task, _TEST_QUESTIONS, TEST_SEED_OFFSET + seed)
        error = evaluate(result.model, test).error
        print_line(f"  {kind}: {percent(error)} wrong")
    for task in QUESTIONS:
        print_line("")
        _print_one(result.model, stories(task, 40, TEST_SEED_OFFSET + seed))
    name = free_name("demo")
    result.model.save(RUNS / name)
    print_line("")
    print_line("Ask your own questions, in the browser (needs memhop[serve]) or here:")
    print_line(f"  {program()} serve {name}", "bold")
    print_line(f"  {program()} ask {name}", "bold")
    for part in (f"  {program()} ask {name} -q 'Where is the milk?' \\", f"    {_STORY}"):
        print_line(part, "bold")


def _trained(examples: list[Example], seed: int) -> TrainingResult:
    try:
        with training_progress("demo") as show:
            return train(examples, recipe=RECIPE, restarts=_RESTARTS, seed=seed, on_progress=show)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; start again with: {program()} demo") from None


def stories(task: int, questions: int, seed: int) -> list[Example]:
    """Return generated questions about short stories."""
    return list(to_examples(generate(task, questions=questions, seed=seed, statements=_STATEMENTS)))


def _print_story(example: Example) -> None:
    for sentence in example.story:
        print_line(f"  {sentence}", "dim")
    print_line(f"  {example.question} {example.answer}", "dim")


def _print_one(model: MemN2N, examples: list[Example]) -> None:
    """Ask the first question about a story of 6 to 8 sentences."""
    example = next((one for one in examples if 6 <= len(one.story) <= 8), examples[0])
    print_answer(model.answer(example.story, example.question))
    print_line(f"(the right answer: {example.answer})", "dim")
