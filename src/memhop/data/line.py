"""Regular expressions for single lines of a bAbI file, as people paste them."""

import re

NUMBERED_LINE = re.compile(r"\s*([0-9]{1,6})[ \t]+(?=\S)")
"""The number at the beginning of a line."""

QUESTION_LINE = re.compile(r"(.*?\S)\s*(?:\t|(?<=\?)\s)\s*([^\t?]*?)\s*((?:(?:^|\s)[0-9]+)*)\s*")
"""A question, its answer and the supporting IDs, after the number; a tab that was copied from a
screen is often a run of blanks."""
