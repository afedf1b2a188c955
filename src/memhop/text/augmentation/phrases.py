"""Split sentences into phrases: words that only occur together, such as ``to the left of``."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

Phrase = tuple[str, ...]
PhraseSequence = tuple[Phrase, ...]  # a sentence in phrases


def split_phrases(
    sentences: Mapping[str, Sequence[str]], separate: Collection[str]
) -> dict[str, PhraseSequence]:
    """Return the phrases of each sentence.

    Two neighbours a and b form one phrase if only b follows a, or only a precedes b, in all
    sentences. The most frequent such pair is joined in all sentences, and so on until there is
    none, so that a phrase is the same everywhere.

    Args:
        sentences: the distinct sentences of a text, with their words.
        separate: words that stay phrases of their own, such as answers.

    >>> text = {s: s.split() for s in ("the red cube is", "the red ball is", "a ball is")}
    >>> [" ".join(phrase) for phrase in split_phrases(text, separate=["cube"])["the red cube is"]]
    ['the red', 'cube', 'is']
    """
    phrases: dict[str, list[Phrase]]
    phrases = {sentence: [(word,) for word in words] for sentence, words in sentences.items()}
    fixed: frozenset[Phrase] = frozenset((word,) for word in separate)
    while pair := _most_frequent_pair(phrases.values(), fixed):
        for each in phrases.values():
            _join(each, pair)
    return {sentence: tuple(each) for sentence, each in phrases.items()}


def _most_frequent_pair(
    sentences: Iterable[list[Phrase]], fixed: frozenset[Phrase]
) -> tuple[Phrase, Phrase] | None:
    """Return the neighbours to join next; of equally frequent ones the first in the text."""
    pairs: Counter[tuple[Phrase, Phrase]] = Counter()
    for phrases in sentences:  # () marks both ends of a sentence
        pairs.update(zip([(), *phrases], [*phrases, ()], strict=True))
    num_after: defaultdict[Phrase, int] = defaultdict(int)
    num_before: defaultdict[Phrase, int] = defaultdict(int)
    for before, after in pairs:
        num_after[before] += 1
        num_before[after] += 1
    joinable = [
        pair
        for pair in pairs
        if all(pair)
        and fixed.isdisjoint(pair)
        and (num_after[pair[0]] == 1 or num_before[pair[1]] == 1)
    ]
    return max(joinable, key=pairs.__getitem__, default=None)


def _join(phrases: list[Phrase], pair: tuple[Phrase, Phrase]) -> None:
    index = 0
    while index < len(phrases) - 1:
        if (phrases[index], phrases[index + 1]) == pair:
            phrases[index : index + 2] = [pair[0] + pair[1]]
        index += 1
