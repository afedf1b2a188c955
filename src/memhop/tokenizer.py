"""Tokenizer: split a text into sentences, a sentence into words, and normalize answers."""

# ruff: noqa: RUF001, RUF002 - the punctuation of many scripts

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

# Removed from a text: zero-width characters (Unicode's Default_Ignorable_Code_Point except Korean
# letters): soft hyphen, zero-width space and joiners, direction marks, variation selectors, byte
# order mark.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_REMOVED = re.compile(f"[{_INVISIBLE}]+")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\uff07"), "'")  # typed and printed forms

# Dropped at both ends of a word: punctuation, except signs that may belong to it (5%, #3, @mary).
_EDGES = "!\"'(),.:;?[]`{}"
_KEPT = frozenset("#%&@§¶‰‱٪＃％＆＠﹟﹠﹪﹫")
_ACCENTS_AS_QUOTES = "`´\u1fef\u1ffd"  # NFC turns the last two into the first two
_AFTER_WORDS = _EDGES + " \t\n\r"
# Dropped at both ends of a word with a letter or a digit, as in **kitchen**, but not in -5 and A-.
_HYPHENS = "-﹣－"
_SIGNS = frozenset(f"*/\\_~|<>＊﹡／＼﹨＿～｜＜＞{_HYPHENS}")
# The first is white space, also inside a word; the second an apostrophe inside a word.
_BREAK = re.compile(r"[—―…]|--+|\.\.+")
_TYPED_APOSTROPHE = re.compile(r"(?<=[^\W_])[`´‘‛′](?=[^\W_])")

# Latin, full-width, Arabic, Greek, Armenian, Ethiopic, Vai, Bamum and others.
QUESTION_MARKS = "?？؟\u037e՞፧⁇⁈⁉‽⸮⸘꘏꛷﹖︖"
# These end a sentence only before white space: "3.5" and "?!" are not split.
_EXCLAMATIONS = "!‼﹗！"
_ENDS_BEFORE_SPACE = f".．﹒…{_EXCLAMATIONS}{QUESTION_MARKS}"
# These end a sentence anywhere, as their scripts may not write a space after them.
_ENDS_ANYWHERE = "。｡！？।॥۔؟܀܁܂።፧፨።།༎។៕᠃᠉։꘎꘏꛳꛷꯫꓿𑁇𑁈"
QUOTES = "\"'”’»›«‹」』｣〞〟“‘"
# A closed quotation that ends in one of these may be in the middle of a sentence.
_OPEN_ENDS = f"…{_EXCLAMATIONS}{QUESTION_MARKS}"
_CLOSING = f"[{QUOTES})\\]}}）】》〉］｝*_~～☀-➿\U0001f000-\U0001faff{_INVISIBLE}]"
_ENDS = re.escape("".join(dict.fromkeys(_ENDS_BEFORE_SPACE + _ENDS_ANYWHERE)))
_ANYWHERE = rf"(?:[{re.escape(_ENDS_ANYWHERE)}]|．(?!\d))"
# In Greek a semicolon is the question mark: NFC turns U+037E into one.
_GREEK = r"[\u0370-\u03ff\u1f00-\u1fff]"
_GREEK_MARK = rf"(?:(?<={_GREEK})|(?<={_GREEK}[\u0300-\u0345]));"
_NOTE = r"\[[0-9]{1,3}\]"  # the number of a footnote, as in "Mary left.[1]"
_SENTENCE_END = re.compile(
    rf"(?<![{_ENDS}])"
    rf"(?:(?P<marks>[{_ENDS}]++|{_GREEK_MARK})(?P<closed>(?:{_CLOSING}|{_NOTE})*+)\s++"
    rf"|[{_ENDS}]*{_ANYWHERE}[{_ENDS}]*+{_CLOSING}*+\s*+)"
)
_FOOTNOTE = re.compile(rf"(?<=[{_ENDS}]){_NOTE}")
_GREEK_QUESTION = re.compile(_GREEK_MARK)
_COMMAS = re.compile("[,،、﹐，､]")  # of several scripts


def split_sentences(text: str, split: Callable[[str], Sequence[str]] | None = None) -> list[str]:
    """Split a text into its sentences, with unchanged spelling.

    A sentence ends at a line end, after ``.``, ``!``, ``?`` or ``…`` before white space, and after
    the full stop or question mark of another script (``。``, ``？``, ``।``, ``۔``, ``؟``) even
    without white space. Closing quotation marks and brackets after it belong to the sentence. A
    quotation that ends in ``?``, ``!`` or ``…`` before a lower-case letter does not end a sentence
    (``"Where?" she asked.``). Pieces without a word are dropped. An abbreviation in the middle of a
    line ends a sentence too: if that matters, put each sentence on a line.

    Args:
        text: any text.
        split: `split_words`, or a function that remembers the words of each sentence.

    >>> split_sentences("Mary took the ball.  It cost 3.50!\\n\\nWhere is Mary ?")
    ['Mary took the ball.', 'It cost 3.50!', 'Where is Mary ?']
    """
    pieces = (piece.strip() for line in text.splitlines() for piece in _pieces(line))
    return [piece for piece in pieces if (split or split_words)(piece)]


def _pieces(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        if end["closed"] and line[end.end() : end.end() + 1].islower() and _ends_quotation(end):
            continue
        yield line[start : end.end()]
        start = end.end()
    yield line[start:]


def _ends_quotation(end: re.Match[str]) -> bool:
    return end["marks"][-1] in _OPEN_ENDS and any(mark in QUOTES for mark in end["closed"])


def is_question(sentence: str) -> bool:
    """Return whether a sentence ends in a question mark of any script.

    Other punctuation, closing quotation marks, brackets, signs such as ``*`` and emoji may follow.
    A semicolon after a Greek letter is a question mark.

    >>> is_question("Where is Mary?!"), is_question('"Where is Mary?" asked John.')
    (True, False)
    """
    for place in range(len(sentence) - 1, -1, -1):
        character = sentence[place]
        if character in QUESTION_MARKS:
            return True
        if character == ";" and _GREEK_QUESTION.match(sentence, place):
            return True
        if not (_is_symbol(character) or character.isspace() or _REMOVED.match(character)):
            return False
    return False


def split_words(sentence: str) -> list[str]:
    """Split one sentence into lower-case words.

    The text is normalized to NFC, zero-width characters are removed, and ``’`` becomes ``'``. White
    space and dashes (``—``, ``--``, ``…``) separate words. Punctuation, quotation marks, brackets,
    emoji and signs (``*``, ``_``, ``~``, ``/``, ``|``) are dropped at both ends of a word and kept
    inside (``don't``, ``3.5``, ``apple,milk``); signs that may belong to a word are kept (``-5``,
    ``5%``, ``#3``, ``A-``). A separate sign at an end of the sentence is dropped. Joining the words
    with spaces and splitting again gives the same words.

    >>> split_words("Daniel carries Apple,milk .")
    ['daniel', 'carries', 'apple,milk']
    >>> split_words('"Mary, the cook, didn\u2019t pay 3.50…"')
    ['mary', 'the', 'cook', "didn't", 'pay', '3.50']
    """
    if sentence.isascii():
        words = sentence.lower().rstrip(_AFTER_WORDS).split()
        if "".join(words).isalnum():
            return words
        return _bare_words(sentence.lower())
    return _bare_words(fold_case(normalize(sentence)))


def spelled_words(sentence: str) -> list[str]:
    """Return the words of `split_words` with the capitals of the sentence.

    >>> spelled_words("Did Anna go?")
    ['Did', 'Anna', 'go']
    """
    return _bare_words(normalize(sentence))


def normalize(text: str) -> str:
    """Return a text in NFC, without zero-width characters and with ASCII apostrophes."""
    return text if text.isascii() else _composed(text).translate(_APOSTROPHES)


def fold_case(text: str) -> str:
    """Return a text in lower case and NFC."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.lower())


@lru_cache(maxsize=4096)
def answer_word(answer: str) -> str:
    """Return the vocabulary entry of an answer: lower-case, a list joined by commas.

    >>> answer_word("Apple, milk")
    'apple,milk'
    """
    return listed(answer_parts(answer))


def answer_parts(answer: str) -> tuple[tuple[str, ...], ...]:
    """Return the words of each answer in a list; none for a text without a word.

    An answer of only signs (``-``, ``*``, ``%``) is a word.

    >>> answer_parts("Apple, milk,")
    (('apple',), ('milk',))
    """
    parts = (tuple(split_words(part) or _signs(part)) for part in _COMMAS.split(answer))
    return tuple(filter(None, parts))


def listed(parts: Iterable[Iterable[str]]) -> str:
    """Return the vocabulary entry of an answer, given the result of `answer_parts`."""
    return ",".join(" ".join(part) for part in parts)


def spelled_answer(answer: str) -> str:
    """Return an answer as it is shown: in NFC, with single blanks.

    >>> spelled_answer(" O\u2019Brien ")
    'O’Brien'
    """
    return " ".join(_composed(answer).split())


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", _REMOVED.sub("", text))


def _signs(text: str) -> list[str]:
    pieces = fold_case(normalize(text)).split()
    return [piece for piece in pieces if not all(map(_is_edge, piece))]


def _bare_words(text: str) -> list[str]:
    """Split at white space and dashes, drop punctuation around words, and signs at the ends."""
    text = _TYPED_APOSTROPHE.sub("'", _BREAK.sub(" ", _FOOTNOTE.sub(" ", text)))
    bare = [word for word in map(_bare, text.split()) if word]
    while bare and not _has_content(bare[-1]):
        bare.pop()
    first = next((place for place, word in enumerate(bare) if _has_content(word)), 0)
    return bare[first:]


def _bare(word: str) -> str:
    if word.isalnum():
        return word
    start, end = _inside(word, 0, len(word), _is_edge)
    if start < end and not (word[start].isalnum() and word[end - 1].isalnum()):
        if any(map(str.isalpha, word)):
            start, end = _inside(word, start, end, _is_symbol)
        elif any(map(str.isalnum, word)):
            start, end = _inside(word, start, end, _is_sign)
    has_number = word[start : start + 1].isdecimal()
    if has_number and word[:start].endswith("."):  # the point of .5
        start -= 1
    if has_number and word[:start].endswith(tuple(_HYPHENS)):  # -5
        start -= 1
    is_letter = end - start == 1 and word[start].isascii() and word[start].isalpha()
    if is_letter and word[end : end + 1] in (*_HYPHENS,):  # the mark A-
        end += 1
    return word[start:end]


def _inside(word: str, start: int, end: int, is_dropped: Callable[[str], bool]) -> tuple[int, int]:
    while start < end and is_dropped(word[end - 1]):
        end -= 1
    while start < end and is_dropped(word[start]):
        start += 1
    return start, end


@lru_cache(maxsize=4096)
def _is_edge(character: str) -> bool:
    """Return whether a character is dropped at the ends of each word."""
    if character.isascii():
        return character in _EDGES
    is_mark = unicodedata.category(character)[0] == "P" and character not in _KEPT | _SIGNS
    return is_mark or character in _ACCENTS_AS_QUOTES


def _is_sign(character: str) -> bool:
    """Return whether a character is dropped at the ends of a word with a letter or a digit."""
    return character in _SIGNS or _is_edge(character)


@lru_cache(maxsize=4096)
def _is_symbol(character: str) -> bool:
    """Return whether a character is dropped at the ends of a word with a letter: emoji, arrows."""
    is_arrow = "\u2190" <= character <= "\u21ff"
    is_symbol = not character.isascii() and unicodedata.category(character) in ("So", "Sk")
    return is_arrow or is_symbol or _is_sign(character)


def word_pattern() -> str:
    """Return a regular expression that matches in each text with a word, and in no other.

    It is a character class in the common syntax of Python, JavaScript and Rust.

    >>> bool(re.search(word_pattern(), " ?! a")), bool(re.search(word_pattern(), " ?! …"))
    (True, False)
    """
    candidates = re.findall(r"[\W_\u02bc]", _unusual_characters())
    return class_without({c for c in candidates if c.isspace() or not _has_content(normalize(c))})


def class_without(characters: Iterable[str]) -> str:
    """Return the character class of all other characters, in the syntax of `word_pattern`.

    >>> class_without("abcz")
    '[^\\\\u0061-\\\\u0063\\\\u007a-\\\\u007a]'
    """
    return _class(characters).replace("[", "[^", 1)


def _class(characters: Iterable[str]) -> str:
    ranges = (f"{_escaped(a)}-{_escaped(b)}" for a, b in _ranges(characters))
    return f"[{''.join(ranges)}]"


def _unusual_characters() -> str:
    """Return all characters but the letters and symbols of planes 2 and 3, and surrogates."""
    ranges_of_all = (range(0xD800), range(0xE000, 0x20000), range(0xE0000, 0xE1000))
    return "".join(map(chr, chain(*ranges_of_all)))


def _ranges(characters: Iterable[str]) -> list[tuple[int, int]]:
    """Return the first and the last code point of each range in a set of characters."""
    codes = set(map(ord, characters))
    starts = sorted(code for code in codes if code - 1 not in codes)
    ends = sorted(code for code in codes if code + 1 not in codes)
    return list(zip(starts, ends, strict=True))


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else chr(code)


def _has_content(word: str) -> bool:
    return word.isalnum() or not all(map(_is_mark, word))


def _is_mark(character: str) -> bool:
    """Return whether a word needs another character than this."""
    is_sign = character in _ACCENTS_AS_QUOTES or character in _SIGNS
    return is_sign or unicodedata.category(character)[0] == "P"


def text_rules() -> dict[str, Any]:
    """Return the rules of `split_sentences` and `split_words` as data for programs without memhop.

    The patterns are regular expressions in the common syntax of Python, JavaScript, Java, .NET and
    PCRE2; a set of characters is a list of pairs, the first and last code point of each range.
    docs/export.md has the steps that use them.

    >>> text_rules()["sets"]["hyphen"]
    [(45, 45), (65123, 65123), (65293, 65293)]
    """
    characters = "".join(map(chr, chain(range(0xD800), range(0xE000, 0x110000))))
    unusual = _unusual_characters()
    sets: dict[str, Iterable[str]] = {
        "letter": filter(str.isalpha, characters),
        "alphanumeric": "".join(filter(str.isalnum, characters)),
        "decimal": "".join(filter(str.isdecimal, unusual)),
        "lower_case": filter(str.islower, characters),
        "edge": filter(_is_edge.__wrapped__, unusual),
        "sign": filter(_is_sign, unusual),
        "symbol": filter(_is_symbol.__wrapped__, unusual),
        "mark": filter(_is_mark, unusual),
        "hyphen": _HYPHENS,
        "quote": QUOTES,
        "open_end": _OPEN_ENDS,
    }
    space = _class("".join(filter(str.isspace, unusual)))
    line_ends = (c for c in unusual if c.isspace() and len(f"{c}.".splitlines()) == 2)
    # possessive quantifiers, names of groups, and classes that depend on the language
    changes = {"++": "+", "*+": "*", "?P<marks>": "", "?P<closed>": "", r"\s": space}
    changes |= {r"\d": _class(sets["decimal"]), r"[^\W_]": _class(sets["alphanumeric"])}
    patterns = {
        "removed": _REMOVED.pattern,
        "line_end": _class(line_ends),
        "sentence_end": _SENTENCE_END.pattern,
        "footnote": _FOOTNOTE.pattern,
        "dash": _BREAK.pattern,
        "apostrophe": _TYPED_APOSTROPHE.pattern,
        "space": space,
        "number_sign": rf"{_class(_HYPHENS)}?\.?$",
    }
    for old, new in changes.items():
        patterns = {name: pattern.replace(old, new) for name, pattern in patterns.items()}
    return {
        "unicode_version": unicodedata.unidata_version,
        "normalization": "NFC",
        "apostrophes": {chr(code): to for code, to in _APOSTROPHES.items()},
        "patterns": patterns,
        "sets": {name: _ranges(members) for name, members in sets.items()},
    }
