"""How lines of a bAbI file are recognised, in files and as people paste them."""

import re
from itertools import pairwise

from memhop.tokenizer import QUESTION_MARKS

NUMBERED_LINE = re.compile(r"\s*([0-9]{1,6})[ \t]+(?=\S)")
"""The number at the beginning of a line."""

QUESTION_LINE = re.compile(r"(.*?\S)\s*(?:\t|(?<=\?)\s)\s*([^\t?]*?)\s*((?:(?:^|\s)[0-9]+)*)\s*")
"""A question, its answer and the supporting IDs, after the number; a tab that was copied from a
screen is often a run of blanks."""

_ID = re.compile(r"\s*([0-9]{1,9})\s")
_ANSWERED_LINE = re.compile(
    rf"^(?:[ \r]*[0-9]+ [^\t\n]+|.*[{re.escape(QUESTION_MARKS)}] *)\t *[^\s]", re.MULTILINE
)


def is_babi(content: bytes) -> bool:
    """Return whether a text is meant to be in the released format, even if it has mistakes.

    It is if each line has the number after that of the line above, or 1; or if a question is
    followed by a tab and an answer.

    >>> is_babi(b"1 Mary slept.\\n2 Who slept?\\tMary\\n"), is_babi(b"Mary slept. Who slept?")
    (True, False)
    """
    text = content.decode("utf-8-sig", errors="replace")
    return bool(_ANSWERED_LINE.search(text)) or _is_numbered(text)


def _is_numbered(text: str) -> bool:
    found = [_ID.match(line) for line in text.splitlines() if line.strip()]
    numbers = [int(match[1]) for match in found if match]
    follow = (below in (1, above + 1) for above, below in pairwise(numbers))
    return len(numbers) == len(found) > 1 and all(follow)
