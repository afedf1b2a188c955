"""Check examples, and reduce them to the sentences that have a word."""

from collections.abc import Iterable, Sequence
from typing import Any

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.words import split_sentences, split_words

_IN_TRAINING = "training example {}"
_NEARLY_EVERY = 0.9  # share of sentences with a single word


class SplitSentences(dict[str, list[str]]):
    """The words of sentences; each sentence is split once, when it is first looked up.

    >>> SplitSentences()["Mary slept."]
    ['mary', 'slept']
    """

    def __missing__(self, sentence: str) -> list[str]:
        words = self[sentence] = split_words(sentence)
        return words


def readable(
    examples: Iterable[Example], name: str = "example {}", words: SplitSentences | None = None
) -> list[Example]:
    """Return examples as the model reads them.

    A story given as one text is split by `split_sentences`. Statements without a word (blank, or
    punctuation alone) are left out, and the supporting facts are numbered without them.

    Args:
        examples: what a user gave.
        name: an example for messages, with ``{}`` for its index.
        words: the words of sentences that are split already; more are added.

    Raises:
        MemhopError: something else than examples; a story, question, answer or supporting facts
            of another type; a supporting fact out of range.

    >>> readable([Example("Mary slept. ... John left.", "Who left?", "John", (1,))])[0].story
    ('Mary slept.', 'John left.')
    """
    words = SplitSentences() if words is None else words
    if isinstance(examples, str) or not isinstance(examples, Iterable):
        plural = name.replace("{}", "").strip()
        raise MemhopError(f"expected a sequence of {plural}s, got {type(examples).__name__}")
    return [_readable(example, name, index, words) for index, example in enumerate(examples)]


def readable_texts(
    examples: Sequence[Example] | Sequence[Sequence[Example]], words: SplitSentences
) -> list[list[Example]]:
    """Return training examples as the model reads them, text by text: one, or several.

    Raises:
        MemhopError: as `readable`, or examples and texts of examples together.
    """
    if isinstance(examples, str) or not isinstance(examples, Iterable):
        return [readable(examples, _IN_TRAINING, words)]  # which says what is expected
    parts: list[Any] = list(examples)
    if not any(map(_is_text, parts)):
        return [readable(parts, _IN_TRAINING, words)]
    if any(isinstance(part, Example) for part in parts):
        raise MemhopError("training needs examples, or texts of examples, not both together")
    return [
        readable(text, f"{_IN_TRAINING} of text {number}", words)
        for number, text in enumerate(parts)
    ]


def _is_text(part: Any) -> bool:
    """Return whether a value is a sequence of examples, and no example itself."""
    if isinstance(part, Example | str) or not isinstance(part, Sequence):
        return False
    return not part or any(isinstance(one, Example) for one in part)


def single_words(examples: Sequence[Example], words: SplitSentences) -> str:
    """Return what to do if nearly every sentence is a single word; empty if that is not so."""
    sentences = [s for example in examples for s in (*example.story, example.question)]
    single = sum(len(words[sentence]) == 1 for sentence in sentences)
    if single < _NEARLY_EVERY * len(sentences):
        return ""
    return (
        f"{single:,} of {len(sentences):,} sentences are a single word: a script without spaces "
        "needs spaces between its words (docs/training.md shows how)"
    )


def _readable(example: Any, name: str, index: int, words: SplitSentences) -> Example:
    if not isinstance(example, Example):
        wanted, got = "memhop.Example(story, question, answer)", type(example).__name__
        raise MemhopError(f"{name.format(index)}: expected {wanted}, got {got}")
    where = name.format(index)
    story, question, answer, facts = example
    sentences = _sentences(story, where)
    if not isinstance(question, str):
        raise MemhopError(f"{where}: question needs a text, got {_shown(question)}")
    if not isinstance(answer, str):
        raise MemhopError(f"{where}: answer needs a text, got {_shown(answer)}")
    _check_facts(facts, len(sentences), where)
    if all(map(words.__getitem__, sentences)):
        return example if sentences is story else example._replace(story=sentences)
    places = [place for place, sentence in enumerate(sentences) if words[sentence]]
    number = {place: number for number, place in enumerate(places)}
    return example._replace(
        story=tuple(sentences[place] for place in places),
        supporting_facts=tuple(number[fact] for fact in facts if fact in number),
    )


def _sentences(story: Any, where: str) -> tuple[str, ...]:
    if isinstance(story, str):
        return tuple(split_sentences(story))
    if not isinstance(story, Sequence) or not all(isinstance(part, str) for part in story):
        raise MemhopError(f"{where}: story needs a text or a sequence of sentences, "
                          f"got {_shown(story)}")  # fmt: skip
    return story if type(story) is tuple else tuple(story)


def _check_facts(facts: Any, count: int, where: str) -> None:
    whole = isinstance(facts, Sequence) and all(type(fact) is int for fact in facts)
    if not whole:
        raise MemhopError(f"{where}: supporting_facts needs positions, got {_shown(facts)}")
    for fact in facts:
        if not 0 <= fact < count:
            raise MemhopError(f"{where}: supporting fact {fact} of a story of {count} sentences")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
