"""``memhop demo``: a memory network trained and asked, in about half a minute."""

from typing import Annotated

import typer

from memhop.cli.screen import percent, say, say_answer, training_progress
from memhop.cli.settings import Threads, use
from memhop.data import generate, to_examples
from memhop.evaluation import evaluate
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import RUNS, free_name
from memhop.text.memn2n import MemN2N
from memhop.training import train

RECIPE = Recipe(epochs=30, linear_start_epochs=8, halve_every=8, held_out="random")
QUESTIONS = {1: 1000, 2: 3000}  # of each task to train on
_ASKED = 1000  # fresh questions of each task
_STATEMENTS = (2, 10)
_RESTARTS = 2
_FRESH = 2**32  # seeds of the questions asked: no --seed for training reaches them


def demo(
    seed: Annotated[int, typer.Option(min=0, max=_FRESH - 1, help="Same seed, same demo.")] = 0,
    threads: Threads = None,
) -> None:
    """Generate stories, train on them, and answer fresh questions. Takes about half a minute."""
    use(threads)
    say("memhop demo: four people walk between six places, carrying things.", "bold")
    examples = [example for task in QUESTIONS for example in stories(task, QUESTIONS[task], seed)]
    say("To learn from: " + f"{len(examples):,} questions, such as")
    _say_story(examples[-1])
    name = free_name("demo")
    with training_progress("demo") as show:
        result = train(
            examples,
            recipe=RECIPE,
            restarts=_RESTARTS,
            seed=seed,
            run=RUNS / name,
            on_progress=show,
        )
    say(f"Trained {_RESTARTS} models in {result.seconds:.0f} s and kept the better one.")
    for task, kind in ((1, "One fact answers, such as where Mary is"),
                       (2, "Two facts answer, such as where the milk is")):  # fmt: skip
        fresh = stories(task, _ASKED, _FRESH + seed)
        error = percent(evaluate(result.model, fresh).error)
        say(f"{kind}: {error} wrong of {len(fresh):,} fresh questions.")
    for task in QUESTIONS:
        say("")
        _say_one(result.model, stories(task, 40, _FRESH + seed))
    say("")
    say("Now with your own words:")
    say(f"  memhop ask {name} --story 'Mary took the milk. Mary went to the garden. "
        "John went to the office.' -q 'Where is the milk?'", "bold")  # fmt: skip
    say(f"or just: memhop ask {name}")


def stories(task: int, questions: int, seed: int) -> list[Example]:
    """Questions about stories in the shape of the demo."""
    return list(to_examples(generate(task, questions=questions, seed=seed, statements=_STATEMENTS)))


def _say_story(example: Example) -> None:
    for sentence in example.story:
        say(f"  {sentence}", "dim")
    say(f"  {example.question} {example.answer}", "dim")


def _say_one(model: MemN2N, examples: list[Example]) -> None:
    """Ask the first question with a story that fills a screen nicely."""
    example = next((one for one in examples if 6 <= len(one.story) <= 8), examples[0])
    say_answer(model.answer(example.story, example.question))
    say(f"(the right answer: {example.answer})", "dim")
