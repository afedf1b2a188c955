"""Questions and facts of a model, for someone who does not know them."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from memhop.errors import MemhopError
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.generate import ask
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.names import question_words
from memhop.knowledge.wording import RELATIONS as RELATION_NAMES
from memhop.web.fact_schemas import FactsExample, Relation, Relations
from memhop.web.limits import CHARACTERS, RELATIONS

_NUM_EXAMPLES = 6
_HOPS = (1, 2, 3)
_TRIED_IN_ENGLISH, _TRIED = 8, 60  # questions
_MAX_ANSWERS = 5  # of an example
_MAX_FACTS = 20_000  # from which examples are drawn


def example_questions(model: KnowledgeModel, seed: int = 0) -> list[FactsExample]:
    """Return questions that a model answers right, at most 6.

    First come questions of one to three hops in varied English, if the facts have the relations of
    `memhop.knowledge.generate.generate`. The others name a random subject and its relation, as
    ``Jaws: directed by?``, with each relation in turn.
    """
    found: list[FactsExample] = []
    # a few relations of the same name may have another meaning
    is_generated = set(RELATION_NAMES) - set(model.kb.relations) <= {"based_on"}
    for hops in _HOPS if is_generated else ():
        found += islice(_right(model, _asked(model.kb, hops, seed), _TRIED_IN_ENGLISH), 2)
    named = _right(model, _named(model.kb, seed), _TRIED)
    return [*found, *islice(named, _NUM_EXAMPLES - len(found))]


def _right(
    model: KnowledgeModel, examples: Iterable[FactsExample], tried: int
) -> Iterator[FactsExample]:
    """Yield those of the first examples that a model answers right."""
    for example in islice(examples, tried):
        if model.answer(example.question, facts=1).answer in example.answers:
            yield example


def _asked(kb: KnowledgeBase, hops: int, seed: int) -> Iterator[FactsExample]:
    try:
        asked = ask(
            kb, hops=[hops], questions=_TRIED_IN_ENGLISH, seed=seed, max_answers=_MAX_ANSWERS
        )
    except MemhopError:  # too few, or other relations
        return
    for question in asked:
        answers = {kb.labels[number] for name in question.answers for number in kb.find(name)}
        yield FactsExample(question=question.text, answers=sorted(answers))


def _named(kb: KnowledgeBase, seed: int) -> Iterator[FactsExample]:
    for place in _in_turn(kb, np.random.default_rng(seed)):
        subject, relation, _ = kb.facts[place].tolist()
        is_same = (kb.facts[:, 0] == subject) & (kb.facts[:, 1] == relation)
        objects = kb.facts[is_same, 2].tolist()
        question = f"{kb.labels[subject]}: {' '.join(kb.relation_words(relation))}?"
        is_short = len(question) <= CHARACTERS and len(objects) <= _MAX_ANSWERS
        if is_short and question_words(question):
            answers = [kb.labels[number] for number in objects]
            yield FactsExample(question=question, answers=answers)


def _in_turn(kb: KnowledgeBase, rng: np.random.Generator) -> Iterator[int]:
    """Yield random facts by number, each relation in turn."""
    left: dict[int, list[int]] = {}
    for place in rng.permutation(len(kb))[:_MAX_FACTS].tolist():
        left.setdefault(int(kb.facts[place, 1]), []).append(place)
    while left:
        for relation in list(left):
            yield left[relation].pop()
            if not left[relation]:
                del left[relation]


def relations_of(kb: KnowledgeBase) -> Relations:
    """Return the relations with the most facts, each with its first fact."""
    numbers, first, counts = np.unique(kb.facts[:, 1], return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:RELATIONS]
    shown = []
    for relation, place, count in zip(numbers[order], first[order], counts[order], strict=True):
        subject, _, object_ = kb.facts[place].tolist()
        shown.append(
            Relation(
                relation=kb.relation_labels[relation],
                facts=int(count),
                subject=kb.labels[subject],
                object=kb.labels[object_],
            )
        )
    return Relations(relations=shown, total=len(numbers))
