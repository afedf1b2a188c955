"""Split the text of the two fields of the page as a model reads it.

The page has one sentence per line. This module rewrites other text by the rules of
`memhop.tokenizer`, so that the page needs no rules of its own: several sentences on a line, lines
of a bAbI file (``2 Where is Mary?<TAB>garden<TAB>1``), questions in the story.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from memhop.data.story import NUMBERED_LINE, QUESTION_LINE
from memhop.text.vocabulary import Vocabulary
from memhop.tokenizer import answer_word, is_question, split_sentences, split_words
from memhop.web.schemas import FoundQuestion, Page, Reading, ReadLine, Rewritten


class _Line(NamedTuple):
    """A line of a text without its bAbI number (0 if it has none) and answer."""

    text: str
    number: int = 0
    answer: str | None = None
    is_question: bool = False


def read_page(page: Page, vocabulary: Vocabulary) -> Reading:
    """Return how a model with this vocabulary reads the fields, and the rewritten fields."""
    rewritten = None if page.keep_lines else _rewritten(page, vocabulary)
    lines, question = page.story.split("\n"), page.question
    if rewritten:
        lines = rewritten.lines
        question = rewritten.questions[-1].question if rewritten.questions else question
    known, unknown = set[str](), dict[str, None]()
    read = []
    for line in lines:
        sentence = line if page.keep_lines else " ".join(split_sentences(line))
        asks = not page.keep_lines and is_question(sentence)  # only on the line of the caret
        words = [] if asks else split_words(sentence)
        missing = {word: None for word in words if word not in vocabulary}
        known.update(word for word in words if word not in missing)
        unknown |= missing
        read.append(ReadLine(sentence=sentence if words else None, words=_marked(line, missing)))
    question_words = split_words(question)
    missing = {word: None for word in question_words if word not in vocabulary}
    return Reading(
        lines=read,
        question=_marked(question, missing),
        asks=bool(question_words),
        unknown_words=[*(unknown | missing)],
        knows_story=bool(known),
        knows_question=len(missing) < len(set(question_words)),
        rewritten=rewritten,
    )


def _rewritten(page: Page, vocabulary: Vocabulary) -> Rewritten | None:
    """Return the story with one sentence per line and no questions; None if nothing changes."""
    raw = page.story.split("\n")
    lines = list(_without_numbers(raw, page.last_number, vocabulary))
    (start, end), *others = _stories(lines)
    texts: list[str] = []
    questions: list[FoundQuestion] = []
    for number in range(start, end):
        for part in _sentences(lines[number], has_caret=number == page.caret_line):
            if part.is_question:
                questions.append(_question(part, len(texts)))
            else:
                texts.append(part.text)
    (own,) = _without_numbers([page.question], page.last_number or None, vocabulary)
    if own.text != page.question and not questions:
        questions = [_question(own, len(texts))]
    if texts == raw and not questions:
        return None
    last = max((line.number for line in lines[start:end]), default=0)
    return Rewritten(
        lines=texts,
        questions=questions,
        stories=1 + len(others),
        last_number=last or page.last_number,
    )


def _stories(lines: Sequence[_Line]) -> list[tuple[int, int]]:
    """Return the start and end of each story of a text: the number 1 starts one."""
    numbered = [place for place, line in enumerate(lines) if line.number]
    starts = [place for place in numbered[1:] if lines[place].number == 1]
    return list(pairwise([0, *starts, len(lines)]))


def _question(line: _Line, lines: int) -> FoundQuestion:
    answer = None if line.answer is None else answer_word(line.answer)
    return FoundQuestion(question=line.text, answer=answer, lines=lines)


def _without_numbers(
    raw: Sequence[str], last: int | None, vocabulary: Vocabulary
) -> Iterator[_Line]:
    """Remove the numbers and answers of bAbI lines; other lines do not change.

    A line is from a bAbI file if it starts with a number and has a tab; or if the number of a
    neighbouring line comes before or after it; or if it follows the last removed number (``last``,
    0 for none yet, None to skip this rule) and the model does not know it as a word. After such
    lines, a 1 starts the next story.
    """
    matches = [NUMBERED_LINE.match(line) for line in raw]
    numbers = [int(match[1]) if match else 0 for match in matches]
    filled = [place for place, line in enumerate(raw) if line.strip()]
    neighbours: set[int] = set()
    for above, below in pairwise(filled):
        if numbers[above] and numbers[below] == numbers[above] + 1:
            neighbours |= {above, below}
    has_numbers = False
    for place, (line, match, number) in enumerate(zip(raw, matches, numbers, strict=True)):
        follows = last is not None and number == last + 1 and str(number) not in vocabulary
        follows = follows and (last != 0 or place == filled[0])
        follows = follows or (has_numbers and number == 1)
        if match and ("\t" in line.strip() or place in neighbours or follows):
            has_numbers = True
            yield _fields(line[match.end() :], number)
            last = None if last is None else number
        else:
            yield _Line(line)


def _fields(text: str, number: int) -> _Line:
    """Return the question and answer of a bAbI line, or its statement."""
    match = QUESTION_LINE.fullmatch(text)
    if match and ("\t" in text or match[2]):
        return _Line(match[1], number, match[2] or None, True)
    return _Line(text, number)


def _sentences(line: _Line, has_caret: bool) -> Iterator[_Line]:
    """Yield the sentences of a line; the last one on the line of the caret is no question yet."""
    if line.is_question:
        yield line
        return
    pieces = split_sentences(line.text)
    if len(pieces) < 2 and not (pieces and is_question(pieces[0])):
        yield line
        return
    for index, piece in enumerate(pieces):
        is_unfinished = has_caret and index == len(pieces) - 1
        blanks = line.text[len(line.text.rstrip()) :] if is_unfinished else ""  # before a word
        yield _Line(piece + blanks, is_question=is_question(piece) and not is_unfinished)


def _marked(line: str, unknown: dict[str, None]) -> list[str]:
    """Return the pieces of a line, alternately of known and of unknown words.

    >>> _marked("A zebra, a gnu slept.", {"zebra,": None, "gnu": None})
    ['A ', 'zebra,', ' a ', 'gnu', ' slept.']
    """
    if not unknown:
        return [line]
    pieces = [""]
    for text in re.split(r"(\s+)", line):
        words = () if text.isspace() else (*split_words(text), text.lower())
        if any(word in unknown for word in words):
            pieces += [text, ""]
        else:
            pieces[-1] += text
    return pieces
