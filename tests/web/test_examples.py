"""Which tasks a model knows, and new examples of them."""

import pytest

import memhop
from memhop.recipe import Recipe
from memhop.text.encoding import Sizes
from memhop.text.model import MemN2N
from memhop.tokenizer import split_words
from memhop.training.evaluation import evaluate
from memhop.web.examples import known_tasks, new_example


def test_a_trained_model_knows_only_its_task(model: MemN2N) -> None:
    (known,) = known_tasks(model)
    assert (known.task, known.title) == (1, "single supporting fact")
    examples = [new_example(1, model) for _ in range(60)]
    assert known.error == pytest.approx(evaluate(model, examples).error, abs=15)


def test_an_untrained_model_knows_no_task(model: MemN2N) -> None:
    untrained = MemN2N(model.vocabulary, Recipe(), model.sizes)
    assert known_tasks(untrained) == []


def test_the_right_answer_has_the_spelling_of_the_model() -> None:
    examples = list(memhop.to_examples(memhop.generate(5, questions=300, seed=0)))
    recipe = Recipe(epochs=1, linear_start_epochs=0)
    model = memhop.train(examples, recipe=recipe, restarts=1).model
    answers = [new_example(5, model).answer for _ in range(30)]
    given = {example.answer for example in examples}
    assert given != {answer.lower() for answer in given}
    assert set(answers) <= given


def test_examples_are_random_and_fit_into_the_memory(model: MemN2N) -> None:
    small = MemN2N(model.vocabulary, model.recipe, Sizes(model.sizes.sentence_words, 4))
    for one, longest in ((model, 10), (small, 4)):
        made = [new_example(1, one) for _ in range(30)]
        assert len({example.story for example in made}) > 20
        assert max(len(example.story) for example in made) <= longest
        words = {word for example in made for word in split_words(example.question)}
        assert words <= set(model.vocabulary)
