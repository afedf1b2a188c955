"""Stories with questions, and the lines of the released format."""

# ruff: noqa: RUF001 - the punctuation of many scripts

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.tokenizer import QUESTION_MARKS, QUOTES, answer_word, split_words

# Released questions end in a space, lines of files from Windows in a carriage return. Other white
# space is left to the tokenizer.
PADDING = " \r"

NUMBERED_LINE = re.compile(r"\s*([0-9]{1,6})[ \t]+(?=\S)")
"""The number at the beginning of a line."""

QUESTION_LINE = re.compile(r"(.*?\S)\s*(?:\t|(?<=\?)\s)\s*([^\t?]*?)\s*((?:(?:^|\s)[0-9]+)*)\s*")
"""Question, answer and supporting IDs, after the number. A tab that was copied from a screen is
often a run of spaces."""

_LINE_ID = re.compile(r"\s*([0-9]{1,9})\s")
_ANSWERED_LINE = re.compile(
    rf"^(?:[ \r]*[0-9]+ [^\t\n]+|.*[{re.escape(QUESTION_MARKS)}] *)\t *[^\s]", re.MULTILINE
)
# The text after the last question mark of a line: marks, closing quotation marks, other text.
_AFTER_QUESTION = re.compile(
    rf"[!！‼.…)\]}}）」』】]*+(?P<quotes>[{re.escape(QUOTES)})\]}}]*+)\s*+(?P<rest>.*)", re.DOTALL
)
_FULL_STOP_AT_END = re.compile(rf"[.!…。।॥۔．！][{re.escape(QUOTES)})\]}}]*\Z")
_NUMBERS_AT_END = re.compile(r"\s(?P<numbers>[0-9]+(?:\s+[0-9]+)*)\Z")
_IDS_AFTER_SPACES = re.compile(r" {2,}[0-9]+(?: [0-9]+)*\Z")
_IDS = re.compile(r"[0-9]+(?: +[0-9]+)*")


class Question(NamedTuple):
    """A question inside a story.

    Attributes:
        after: the number of statements before the question.
        text: the question.
        answer: the answer; several answers are one comma-separated list.
        supporting_facts: positions (from 0) of the statements that prove the answer.
    """

    after: int
    text: str
    answer: str
    supporting_facts: tuple[int, ...] = ()


class Story(NamedTuple):
    """Statements and the questions asked between them.

    >>> story = Story(("Mary went home.",), (Question(1, "Where is Mary?", "home", (0,)),))
    >>> list(story.examples())[0].answer
    'home'
    >>> for line in story.lines():
    ...     print(line.replace("\\t", " | "))
    1 Mary went home.
    2 Where is Mary? | home | 1
    """

    statements: tuple[str, ...]
    questions: tuple[Question, ...]

    def examples(self) -> Iterator[Example]:
        """Yield an example for each question, with the statements before it."""
        for question in self.questions:
            story = self.statements[: question.after]
            yield Example(story, question.text, question.answer, question.supporting_facts)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the story in the released format, without line ends.

        Raises:
            MemhopError: the format cannot store the story: a text is empty, has a tab or a line
                end inside or spaces around it, a statement would be read as a question, a question
                or an answer has no word, a question is out of order, or a supporting fact comes
                after its question.
        """
        numbered = NumberedLines()
        for question in self.questions:
            before = len(numbered.ids)
            if not before <= question.after <= len(self.statements):
                raise MemhopError(
                    f"question {quoted(question.text)}: expected {before} to "
                    f"{len(self.statements)} statements before it, got {question.after}"
                )
            yield from map(numbered.statement, self.statements[before : question.after])
            yield numbered.question(question)
        yield from map(numbered.statement, self.statements[len(numbered.ids) :])


class NumberedLines:
    """The lines of one story in the released format, made one by one, without line ends.

    Attributes:
        ids: the ID of each statement so far.

    >>> lines = NumberedLines()
    >>> lines.statement("Mary went home.")
    '1 Mary went home.'
    >>> lines.question(Question(1, "Where is Mary?", "home", (0,))).replace("\\t", " | ")
    '2 Where is Mary? | home | 1'
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._last = 0

    def statement(self, text: str) -> str:
        """Return the line of a statement; errors as for `Story.lines`."""
        line = f"{self._last + 1} {_statement_text(text)}"
        self._last += 1
        self.ids.append(self._last)
        return line

    def has_ids_at_end(self, answer: str) -> bool:
        """Return whether an answer ends in IDs of the statements so far, as in ``office 3``."""
        numbers = numbers_at_end(answer)
        return bool(numbers) and set(numbers) <= set(map(str, self.ids))

    def question(self, question: Question) -> str:
        """Return the line of a question about the statements so far; errors as `Story.lines`."""
        line = f"{self._last + 1} {_question_text(question, self.ids)}"
        self._last += 1
        return line


class MissingTabs:
    """Finds an answer that ends in IDs of statements in a file with supporting IDs.

    A tab is then missing before the IDs. Such an answer may come before the first supporting ID.

    >>> tabs = MissingTabs()
    >>> tabs.add("a.txt:2: missing tab", False)
    >>> tabs.add("", True)
    Traceback (most recent call last):
    memhop.errors.MemhopError: a.txt:2: missing tab
    """

    def __init__(self) -> None:
        self._suspect = ""
        self._has_ids = False

    def add(self, suspect: str, has_ids: bool) -> None:
        """Take note of a question.

        Args:
            suspect: the error for its answer, if it ends in IDs of statements; else empty.
            has_ids: whether it has supporting IDs.

        Raises:
            MemhopError: with the first suspect, if a question has supporting IDs.
        """
        self._suspect = self._suspect or suspect
        self._has_ids = self._has_ids or has_ids
        if self._suspect and self._has_ids:
            raise MemhopError(self._suspect)


def to_examples(stories: Iterable[Story]) -> Iterator[Example]:
    """Yield the examples of all ``stories``, in order.

    >>> story = Story(("Mary went home.",), (Question(1, "Where is Mary?", "home"),))
    >>> [example.question for example in to_examples([story, story])]
    ['Where is Mary?', 'Where is Mary?']
    """
    return chain.from_iterable(story.examples() for story in stories)


def is_babi(content: bytes) -> bool:
    """Return whether a text is meant to be in the released format, even if it has mistakes.

    It is if the number of each line follows that of the line before, or is 1; or if a question is
    followed by a tab and an answer.

    >>> is_babi(b"1 Mary slept.\\n2 Who slept?\\tMary\\n"), is_babi(b"Mary slept. Who slept?")
    (True, False)
    """
    text = content.decode("utf-8-sig", errors="replace")
    return bool(_ANSWERED_LINE.search(text)) or _is_numbered(text)


def _is_numbered(text: str) -> bool:
    matches = [_LINE_ID.match(line) for line in text.splitlines() if line.strip()]
    numbers = [int(match[1]) for match in matches if match]
    follow = (below in (1, above + 1) for above, below in pairwise(numbers))
    return len(numbers) == len(matches) > 1 and all(follow)


def missing_tab(fields: Sequence[str]) -> str:
    """Return where a tab is missing in the fields of a line; an empty text if none is.

    A line of one field is a question without a tab if it ends in a question mark, or in text after
    a question mark that does not end in a full stop. A statement may continue after a quotation
    that ends in a question mark, unless it ends in numbers. In two fields, the second may be an
    answer, two spaces and supporting IDs; or IDs alone, if the first holds question and answer.

    >>> missing_tab(["Where is Mary?office 3"]), missing_tab(["Where is Mary?"])
    ('after the question', 'after the question')
    >>> missing_tab(['John asked "Where is Mary?" and left.'])
    ''
    """
    last = max(map(fields[0].rfind, QUESTION_MARKS))
    match = _AFTER_QUESTION.match(fields[0], last + 1) if last >= 0 else None
    has_answer = match is not None and _is_answer(match)
    if len(fields) == 1 and match and (has_answer or not (match["quotes"] or match["rest"])):
        return "after the question"
    if len(fields) == 2 and has_answer and _IDS.fullmatch(fields[1]):
        return "after the question"
    if len(fields) == 2 and _IDS_AFTER_SPACES.search(fields[1]):
        return "before the supporting IDs"
    return ""


def numbers_at_end(answer: str) -> list[str]:
    """Return the numbers at the end of an answer, which may be supporting IDs.

    >>> numbers_at_end("office 3 1"), numbers_at_end("3")
    (['3', '1'], [])
    """
    match = _NUMBERS_AT_END.search(answer)
    return match["numbers"].split() if match else []


def _is_answer(match: re.Match[str]) -> bool:
    """Return whether the text after a question mark is an answer, not the end of a statement."""
    rest = match["rest"]
    if numbers_at_end(rest):
        return True
    return bool(rest) and not match["quotes"] and not _FULL_STOP_AT_END.search(rest)


def _statement_text(statement: str) -> str:
    if missing_tab([statement]):
        raise MemhopError(f"expected a statement, got a question: {quoted(statement)}")
    return _writable(statement)


def _question_text(question: Question, ids: list[int]) -> str:
    text = f"{_writable(question.text)}\t{_writable(question.answer)}"
    check_question(question.text, question.answer)
    if not question.supporting_facts and (place := missing_tab(question[1:3])):
        raise MemhopError(f"{quoted(text)} would be read as a line without a tab {place}")
    for fact in question.supporting_facts:
        if not 0 <= fact < len(ids):
            raise MemhopError(
                f"question {quoted(question.text)}: expected a supporting fact among the "
                f"{len(ids)} statements before it, got {fact}"
            )
    facts = " ".join(str(ids[fact]) for fact in question.supporting_facts)
    return f"{text}\t{facts}" if facts else text


def check_question(question: str, answer: str) -> None:
    """Raise a MemhopError for a question or an answer without a word."""
    if not split_words(question):
        raise MemhopError(f"expected a question with a word, got {quoted(question)}")
    if not answer_word(answer):
        raise MemhopError(f"expected an answer with a word, got {quoted(answer)}")


def _writable(text: str) -> str:
    is_line = not any(end in text for end in "\t\n\r")
    if not text or text != text.strip(PADDING) or not is_line:
        raise MemhopError(f"expected one line without tabs or outer spaces, got {quoted(text)}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MemhopError(f"expected text that UTF-8 can encode, got {quoted(text)}") from None
    return text


def quoted(text: str) -> str:
    """Return a text for a message: escaped and not long."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
