"""Check examples, and reduce them to the sentences that have a word."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.tokenizer import answer_word, split_sentences, split_words

_IN_TRAINING = "training example {}"
_ENOUGH = 10  # sentences, to say something about the script
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
    if isinstance(examples, str | Example) or not isinstance(examples, Iterable):
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
    if isinstance(examples, str | Example) or not isinstance(examples, Iterable):
        return [readable(examples, _IN_TRAINING, words)]  # which says what is expected
    parts: list[Any] = list(examples)
    if not any(map(_is_text, parts)):
        return [readable(parts, _IN_TRAINING, words)]
    if any(isinstance(part, Example) for part in parts):
        raise MemhopError("training needs examples, or texts of examples, not both together")
    for number, part in enumerate(parts):
        if isinstance(part, str) or not isinstance(part, Sequence):
            raise MemhopError(
                f"training text {number}: expected a sequence of examples, "
                f"got {type(part).__name__}"
            )
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
    if len(sentences) < _ENOUGH or single < _NEARLY_EVERY * len(sentences):
        return ""
    return (
        f"{single:,} of {len(sentences):,} sentences are a single word: a script without spaces "
        "needs spaces between its words (docs/your-data.md shows how)"
    )


def readable_pairs(asked: Sequence[tuple[Any, Any]], words: SplitSentences) -> list[Example]:
    """Return pairs (story, question) as examples without an answer.

    Raises:
        MemhopError: something else than pairs, named by its index, or as `readable_question`.
    """
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        raise MemhopError(
            f"answers: expected a sequence of pairs (story, question), got {type(asked).__name__}"
        )
    examples = []
    for index, pair in enumerate(asked):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise MemhopError(
                f"answers: item {index}: expected a pair (story, question), got {_shown(pair)}"
            )
        examples.append(readable_question(*pair, f"answers: item {index}", words))
    return examples


def readable_question(story: Any, question: Any, where: str, words: SplitSentences) -> Example:
    """Return a story and a question as an example without an answer; ``where`` is for messages.

    Raises:
        MemhopError: a story or question of another type, or a question without a word.
    """
    sentences = _sentences(story, where)
    if not isinstance(question, str) or not words[question]:
        wanted = "expected a question with a word"
        raise MemhopError(f"{where}: {wanted}, got {_shown(question)}")
    return Example(sentences, question, "")


def _readable(example: Any, name: str, index: int, words: SplitSentences) -> Example:
    where = name.format(index)
    if not isinstance(example, Example):
        wanted, got = "memhop.Example(story, question, answer)", type(example).__name__
        raise MemhopError(f"{where}: expected {wanted}, got {got}")
    story, question, answer, facts = example
    sentences = tuple(readable_question(story, question, where, words).story)
    if not isinstance(answer, str) or not answer_word(answer):
        raise MemhopError(f"{where}: expected an answer with a word, got {_shown(answer)}")
    positions = _positions(facts, len(sentences), where)
    if all(map(words.__getitem__, sentences)):
        is_same = sentences is story and positions is facts
        return example if is_same else Example(sentences, question, answer, positions)
    places = [place for place, sentence in enumerate(sentences) if words[sentence]]
    number = {place: number for number, place in enumerate(places)}
    return example._replace(
        story=tuple(sentences[place] for place in places),
        supporting_facts=tuple(number[fact] for fact in positions if fact in number),
    )


def _sentences(story: Any, where: str) -> tuple[str, ...]:
    if isinstance(story, str):
        return tuple(split_sentences(story))
    if not isinstance(story, Sequence) or not all(isinstance(part, str) for part in story):
        wanted = "expected a story as a text or a sequence of sentences"
        raise MemhopError(f"{where}: {wanted}, got {_shown(story)}")
    return story if type(story) is tuple else tuple(story)


def _positions(facts: Any, count: int, where: str) -> tuple[int, ...]:
    """Return supporting facts as integers of Python; those of NumPy are taken too."""
    try:
        if not isinstance(facts, Sequence) or bool in map(type, facts):
            raise TypeError
        indices = tuple(map(operator.index, facts))
    except TypeError:
        wanted = "expected supporting facts as positions in the story"
        raise MemhopError(f"{where}: {wanted}, got {_shown(facts)}") from None
    for fact in indices:
        if not 0 <= fact < count:
            raise MemhopError(f"{where}: supporting fact {fact} of a story of {count} sentences")
    return facts if type(facts) is tuple and set(map(type, facts)) <= {int} else indices


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
