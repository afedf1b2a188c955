"""Stories and the questions asked inside them, and how they are written as lines."""

# ruff: noqa: RUF001 - the punctuation of many scripts

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.tokenizer import QUESTION_MARKS, QUOTES, answer_word, split_words

# What may surround a text without belonging to it: the released questions end in a space, lines
# of files from Windows in a carriage return. Other white space is left to whoever splits words.
PADDING = " \r"
# What follows the last question mark of a line: marks, closing quotation marks, other text.
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
        after: how many statements of the story stand before the question.
        text: the question, as it was written.
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
        """One example for each question, with the statements above it."""
        for question in self.questions:
            story = self.statements[: question.after]
            yield Example(story, question.text, question.answer, question.supporting_facts)

    def lines(self) -> Iterator[str]:
        """The story in the released format, without line ends.

        Raises MemhopError for what the format cannot hold: an empty text, a tab or a line end
        inside one, spaces around one, a statement that reads as a question, a question or an
        answer without a word, a question out of order, a fact of a later sentence.
        """
        ids: list[int] = []
        number = 1
        for question in self.questions:
            if not len(ids) <= question.after <= len(self.statements):
                raise MemhopError(
                    f"question {quoted(question.text)} comes after {question.after} statements; "
                    f"needed {len(ids)} to {len(self.statements)}"
                )
            for statement in self.statements[len(ids) : question.after]:
                yield f"{number} {_statement_text(statement)}"
                ids.append(number)
                number += 1
            yield f"{number} {_question_text(question, ids)}"
            number += 1
        for statement in self.statements[len(ids) :]:
            yield f"{number} {_statement_text(statement)}"
            number += 1


def to_examples(stories: Iterable[Story]) -> Iterator[Example]:
    """The examples of all ``stories``, in order.

    >>> story = Story(("Mary went home.",), (Question(1, "Where is Mary?", "home"),))
    >>> [example.question for example in to_examples([story, story])]
    ['Where is Mary?', 'Where is Mary?']
    """
    return chain.from_iterable(story.examples() for story in stories)


def missing_tab(fields: Sequence[str]) -> str:
    """Return where a tab is missing in the fields of a line; an empty text if nowhere.

    A line of one field is a question without a tab if it ends in a question mark, or if text
    follows the last one that ends in no full stop. A quotation may end in a question mark and go
    on, but for numbers at its end. Of two fields, the second may hold an answer, two spaces and
    supporting IDs; or IDs alone, after a question with its answer.

    >>> missing_tab(["Where is Mary?office 3"]), missing_tab(["Where is Mary?"])
    ('after the question', 'after the question')
    >>> missing_tab(['John asked "Where is Mary?" and left.'])
    ''
    """
    last = max(map(fields[0].rfind, QUESTION_MARKS))
    found = _AFTER_QUESTION.match(fields[0], last + 1) if last >= 0 else None
    has_answer = found is not None and _is_answer(found)
    if len(fields) == 1 and found and (has_answer or not (found["quotes"] or found["rest"])):
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
    found = _NUMBERS_AT_END.search(answer)
    return found["numbers"].split() if found else []


def _is_answer(found: re.Match[str]) -> bool:
    """Return whether the text after a question mark is an answer, not the end of a statement."""
    rest = found["rest"]
    if numbers_at_end(rest):
        return True
    return bool(rest) and not found["quotes"] and not _FULL_STOP_AT_END.search(rest)


def _statement_text(statement: str) -> str:
    if missing_tab([statement]):
        raise MemhopError(f"statement {quoted(statement)} reads as a question; needed an answer")
    return _writable(statement)


def _question_text(question: Question, ids: list[int]) -> str:
    text = f"{_writable(question.text)}\t{_writable(question.answer)}"
    check_question(question.text, question.answer)
    if not question.supporting_facts and (place := missing_tab(question[1:3])):
        raise MemhopError(f"{quoted(text)} reads as a line without a tab {place}; needed another")
    for fact in question.supporting_facts:
        if not 0 <= fact < len(ids):
            raise MemhopError(
                f"supporting fact {fact} of {quoted(question.text)}; "
                f"needed the position of one of its {len(ids)} statements"
            )
    facts = " ".join(str(ids[fact]) for fact in question.supporting_facts)
    return f"{text}\t{facts}" if facts else text


def check_question(question: str, answer: str) -> None:
    """Raise a MemhopError for a question or an answer without a word."""
    if not split_words(question):
        raise MemhopError(f"no word in the question {quoted(question)}; needed one")
    if not answer_word(answer):
        raise MemhopError(f"no word in the answer {quoted(answer)}; needed one")


def _writable(text: str) -> str:
    is_line = not any(end in text for end in "\t\n\r")
    if not text or text != text.strip(PADDING) or not is_line:
        raise MemhopError(f"text {quoted(text)}; needed one line without tabs or outer spaces")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MemhopError(f"text {quoted(text)}; needed text that UTF-8 can hold") from None
    return text


def quoted(text: str) -> str:
    """A text for a message: escaped and not long."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
