"""Features of an example: what the symmetry test counts.

A feature is a kind and its phrases, such as ``("question", kitchen)`` or two phrases in this order
in one statement. A number in place of a phrase is a position in the question.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from memhop.text.augmentation.phrases import Phrase, PhraseSequence

# statements, question, parts of the answer
TokenizedExample = tuple[tuple[PhraseSequence, ...], PhraseSequence, PhraseSequence]
Part = Phrase | int
Feature = tuple[str, *tuple[Part, ...]]  # a kind, and its phrases or positions

_RECENT = 12  # statements


def features_of(example: TokenizedExample) -> Iterator[Feature]:
    """Yield the features that an example shows, some of them repeatedly."""
    statements, question, answer = example
    yield from (("question", phrase) for phrase in question)
    yield from (("answer", part) for part in answer)
    if len(answer) > 1:
        yield from (("answer", part, index) for index, part in enumerate(answer))
    common = _asked_about(statements, question)
    for statement in statements:
        yield from (("story", phrase) for phrase in statement)
        yield from (("order", *pair) for pair in combinations(statement, 2))
        if not set(answer).isdisjoint(statement):
            yield from (("answering", phrase) for phrase in statement)
        if not common.isdisjoint(statement):
            yield from (("asked", phrase) for phrase in statement)
            parts = [question.index(p) if p in common else p for p in statement]
            for first, second in combinations(parts, 2):
                if isinstance(first, int) != isinstance(second, int):
                    yield ("role", first, second)
    if len(statements) > _RECENT:
        yield from (("recent", p) for statement in statements[-_RECENT:] for p in statement)
    for index, asked in enumerate(question):
        if holding := [statement for statement in statements if asked in statement]:
            yield from (("first", index, phrase) for phrase in holding[0])
            yield from (("last", index, phrase) for phrase in holding[-1])


def _asked_about(statements: tuple[PhraseSequence, ...], question: PhraseSequence) -> set[Phrase]:
    """Return the phrases of a question that select statements: those in fewer than half of the
    statements, or in the fewest.
    """
    holding = Counter(phrase for statement in statements for phrase in set(statement))
    shared = {phrase: holding[phrase] for phrase in question if holding[phrase]}
    fewest = min(shared.values(), default=0)
    return {p for p, count in shared.items() if count == fewest or 2 * count < len(statements)}
