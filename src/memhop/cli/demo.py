"""``memhop demo``: train a memory network and ask it questions, in about half a minute."""

from typing import Annotated

import typer

from memhop.atomic_write import check_writable
from memhop.cli.answers import say_answer
from memhop.cli.screen import Stopped, duration, percent, program, say, training_progress
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
    say("memhop demo: four people walk between six places, carrying things.", "bold")
    examples = [example for task in QUESTIONS for example in stories(task, QUESTIONS[task], seed)]
    say(f"Training data: {len(examples):,} questions, such as")
    _say_story(examples[-1])
    result = _trained(examples, seed)
    say(f"Trained {_RESTARTS} models in {duration(result.seconds)} and kept the better one.")
    say(f"Test on {_TEST_QUESTIONS:,} new questions of each kind:")
    for task, kind in ((1, "one supporting fact, such as where Mary is"),
                       (2, "two supporting facts, such as where the milk is")):  # fmt: skip
        test = stories(task, _TEST_QUESTIONS, TEST_SEED_OFFSET + seed)
        error = evaluate(result.model, test).error
        say(f"  {kind}: {percent(error)} wrong")
    for task in QUESTIONS:
        say("")
        _say_one(result.model, stories(task, 40, TEST_SEED_OFFSET + seed))
    name = free_name("demo")
    result.model.save(RUNS / name)
    say("")
    say("Ask your own questions, in the browser (needs memhop[serve]) or here:")
    say(f"  {program()} serve {name}", "bold")
    say(f"  {program()} ask {name}", "bold")
    for part in (f"  {program()} ask {name} -q 'Where is the milk?' \\", f"    {_STORY}"):
        say(part, "bold")


def _trained(examples: list[Example], seed: int) -> TrainingResult:
    try:
        with training_progress("demo") as show:
            return train(examples, recipe=RECIPE, restarts=_RESTARTS, seed=seed, on_progress=show)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; start again with: {program()} demo") from None


def stories(task: int, questions: int, seed: int) -> list[Example]:
    """Return generated questions about short stories."""
    return list(to_examples(generate(task, questions=questions, seed=seed, statements=_STATEMENTS)))


def _say_story(example: Example) -> None:
    for sentence in example.story:
        say(f"  {sentence}", "dim")
    say(f"  {example.question} {example.answer}", "dim")


def _say_one(model: MemN2N, examples: list[Example]) -> None:
    """Ask the first question about a story of 6 to 8 sentences."""
    example = next((one for one in examples if 6 <= len(one.story) <= 8), examples[0])
    say_answer(model.answer(example.story, example.question))
    say(f"(the right answer: {example.answer})", "dim")
