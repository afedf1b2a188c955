"""Words that always stand together, found in the text itself.

``pink rectangle`` and ``to the left of`` are each one thing to exchange with another, and which
words belong together is plain from where else they stand: nowhere.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from memhop.tokenizer import split_words

Phrase = tuple[str, ...]
PhraseSequence = tuple[Phrase, ...]  # a sentence in phrases


def split_phrases(
    sentences: Iterable[str], apart: Collection[str]
) -> dict[str, tuple[Phrase, ...]]:
    """Split sentences into phrases.

    Two neighbours a and b are one phrase where nothing but b ever follows a, or nothing but a
    ever precedes b. The most frequent such pair is joined, everywhere, and so on until there is
    none: so a phrase is the same in every sentence.

    Args:
        sentences: all of a text; a repeated one counts once.
        apart: words that stay phrases of their own, such as answers.

    >>> text = ["The red cube is here", "The red ball is here", "A ball is here"]
    >>> [" ".join(phrase) for phrase in split_phrases(text, apart=["cube"])[text[0]]]
    ['the red', 'cube', 'is here']
    """
    split: dict[str, list[Phrase]] = {s: [(word,) for word in split_words(s)] for s in sentences}
    alone: frozenset[Phrase] = frozenset((word,) for word in apart)
    while pair := _most_frequent_pair(split.values(), alone):
        for phrases in split.values():
            _join(phrases, pair)
    return {sentence: tuple(phrases) for sentence, phrases in split.items()}


def _most_frequent_pair(
    sentences: Iterable[list[Phrase]], alone: frozenset[Phrase]
) -> tuple[Phrase, Phrase] | None:
    """The neighbours to join next; of equally frequent ones the first in the text."""
    pairs: Counter[tuple[Phrase, Phrase]] = Counter()
    for phrases in sentences:  # () stands before the first and behind the last
        pairs.update(zip([(), *phrases], [*phrases, ()], strict=True))
    follow: defaultdict[Phrase, int] = defaultdict(int)
    precede: defaultdict[Phrase, int] = defaultdict(int)
    for before, after in pairs:
        follow[before] += 1
        precede[after] += 1
    joinable = [
        pair
        for pair in pairs
        if all(pair) and alone.isdisjoint(pair) and (follow[pair[0]] == 1 or precede[pair[1]] == 1)
    ]
    return max(joinable, key=pairs.__getitem__, default=None)


def _join(phrases: list[Phrase], pair: tuple[Phrase, Phrase]) -> None:
    place = 0
    while place < len(phrases) - 1:
        if (phrases[place], phrases[place + 1]) == pair:
            phrases[place : place + 2] = [pair[0] + pair[1]]
        place += 1
