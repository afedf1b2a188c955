"""Check examples and questions, and drop statements without a word."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from memhop.errors import MemhopError, shown
from memhop.example import Example, check_positions
from memhop.tokenizer import answer_word, split_sentences, split_words

_MIN_SENTENCES = 10  # for a warning about the script
_SINGLE_WORD_SHARE = 0.9  # of the sentences, from which on to warn

Words = Mapping[str, Sequence[str]]  # the words of each sentence


class Question(NamedTuple):
    """A question about a story, without an answer."""

    story: tuple[str, ...]
    question: str


class SplitSentences(dict[str, list[str]]):
    """The words of sentences; each sentence is split at its first lookup.

    >>> SplitSentences()["Mary slept."]
    ['mary', 'slept']
    """

    def __missing__(self, sentence: str) -> list[str]:
        words = self[sentence] = split_words(sentence)
        return words


def readable(
    examples: Iterable[Example], name: str = "example {}", words: SplitSentences | None = None
) -> list[Example]:
    """Return checked examples whose statements all have a word.

    A story given as one text is split by `split_sentences`. Statements without a word (blank, or
    only punctuation) are dropped, and the supporting facts are numbered without them.

    Args:
        examples: a user's examples.
        name: an example in messages, with ``{}`` for its index.
        words: the words of sentences that are already split; gets those of the examples.

    Raises:
        MemhopError: not examples; a story, question, answer or supporting facts of another type; a
            supporting fact out of range.

    >>> readable([Example("Mary slept. ... John left.", "Who left?", "John", (1,))])[0].story
    ('Mary slept.', 'John left.')
    """
    words = SplitSentences() if words is None else words
    if isinstance(examples, str | Example) or not isinstance(examples, Iterable):
        plural = name.replace("{}", "").strip()
        raise MemhopError(f"expected a sequence of {plural}s, got {type(examples).__name__}")
    return [_readable(example, name, index, words) for index, example in enumerate(examples)]


def readable_texts(
    examples: Sequence[Example] | Sequence[Sequence[Example]],
    words: SplitSentences,
    kind: str = "training",
) -> list[list[Example]]:
    """Return checked examples of one text, or of several; see `readable`.

    Args:
        examples: of one text, or a sequence of texts.
        words: as in `readable`.
        kind: of examples, in messages.

    Raises:
        MemhopError: as `readable`, or examples mixed with texts of examples.
    """
    name = kind + " example {}"
    if isinstance(examples, str | Example) or not isinstance(examples, Iterable):
        return [readable(examples, name, words)]  # raises
    parts: list[Any] = list(examples)
    if not any(map(_is_text, parts)):
        return [readable(parts, name, words)]
    if any(isinstance(part, Example) for part in parts):
        raise MemhopError(f"expected {kind} examples, or texts of examples, got both")
    for number, part in enumerate(parts):
        if isinstance(part, str) or not isinstance(part, Sequence):
            raise MemhopError(
                f"{kind} text {number}: expected a sequence of examples, got {type(part).__name__}"
            )
    return [readable(text, f"{name} of text {number}", words) for number, text in enumerate(parts)]


def _is_text(part: Any) -> bool:
    """Return whether a value is a sequence of examples."""
    if isinstance(part, Example | str) or not isinstance(part, Sequence):
        return False
    return not part or any(isinstance(one, Example) for one in part)


def single_words(examples: Sequence[Example], words: Words) -> str:
    """Return a warning if nearly every sentence is a single word, otherwise an empty text."""
    sentences = [s for example in examples for s in (*example.story, example.question)]
    single = sum(len(words[sentence]) == 1 for sentence in sentences)
    if len(sentences) < _MIN_SENTENCES or single < _SINGLE_WORD_SHARE * len(sentences):
        return ""
    return (
        f"{single:,} of {len(sentences):,} sentences are a single word: a script without spaces "
        "needs spaces between its words (docs/your-data.md shows how)"
    )


def readable_pairs(pairs: Sequence[tuple[Any, Any]], words: SplitSentences) -> list[Question]:
    """Return pairs (story, question) as checked questions.

    Raises:
        MemhopError: not a pair, named by its index, or as `readable_question`.
    """
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise MemhopError(
            f"answers: expected a sequence of pairs (story, question), got {type(pairs).__name__}"
        )
    questions = []
    for index, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise MemhopError(
                f"answers: item {index}: expected a pair (story, question), got {shown(pair)}"
            )
        questions.append(readable_question(*pair, f"answers: item {index}", words))
    return questions


def readable_question(story: Any, question: Any, where: str, words: SplitSentences) -> Question:
    """Return a checked question, its story split into sentences; ``where`` is for messages.

    Raises:
        MemhopError: a story or question of another type, or a question without a word.
    """
    sentences = _sentences(story, where, words)
    if not isinstance(question, str) or not words[question]:
        wanted = "expected a question with a word"
        raise MemhopError(f"{where}: {wanted}, got {shown(question)}")
    return Question(sentences, question)


def with_words(asked: Question, words: Words) -> Question:
    """Return a question without the statements that have no word."""
    if all(map(words.__getitem__, asked.story)):
        return asked
    return asked._replace(story=tuple(filter(words.__getitem__, asked.story)))


def _readable(example: Any, name: str, index: int, words: SplitSentences) -> Example:
    where = name.format(index)
    if not isinstance(example, Example):
        wanted, got = "memhop.Example(story, question, answer)", type(example).__name__
        raise MemhopError(f"{where}: expected {wanted}, got {got}")
    story, question, answer, facts = example
    sentences = readable_question(story, question, where, words).story
    if not isinstance(answer, str) or not answer_word(answer):
        raise MemhopError(f"{where}: expected an answer with a word, got {shown(answer)}")
    positions = check_positions(facts, len(sentences), where)
    if all(map(words.__getitem__, sentences)):
        is_same = sentences is story and positions is facts
        return example if is_same else Example(sentences, question, answer, positions)
    places = [place for place, sentence in enumerate(sentences) if words[sentence]]
    number = {place: number for number, place in enumerate(places)}
    return example._replace(
        story=tuple(sentences[place] for place in places),
        supporting_facts=tuple(number[fact] for fact in positions if fact in number),
    )


def _sentences(story: Any, where: str, words: SplitSentences) -> tuple[str, ...]:
    if isinstance(story, str):
        return tuple(split_sentences(story, words.__getitem__))
    if not isinstance(story, Sequence) or not all(isinstance(part, str) for part in story):
        wanted = "expected a story as a text or a sequence of sentences"
        raise MemhopError(f"{where}: {wanted}, got {shown(story)}")
    return story if type(story) is tuple else tuple(story)
