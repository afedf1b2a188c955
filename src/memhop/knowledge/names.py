"""Words of names and questions: relations, entities and questions are split in the same way.

A text is normalized to Unicode NFKC, without zero-width characters and with typed apostrophes. A
token is a run of letters, marks and digits, or the ending ``'s``. In scripts that write no spaces
between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and in Korean, where endings follow a
name without a space, each character is a token.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from urllib.parse import unquote

# Han, kana, Thai, Lao, Burmese, Khmer, Hangul syllables
_ONE_BY_ONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uaa60-\uaa7f\uac00-\ud7a3\uf900-\ufaff\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff"
)
_SINGLE = re.compile(rf"[{_ONE_BY_ONE}]")
_ASCII_TOKEN = re.compile(r"'[sS](?![A-Za-z0-9])|[A-Za-z0-9]+")
_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_VULGAR_FRACTION = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e\u2189])")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u201b\u02bc\u02bb\u2032\u00b4`"), "'")


class _Removal(dict[int, str | None]):
    """A table for `str.translate`: it removes zero-width characters and types apostrophes."""

    def __missing__(self, code: int) -> str | None:
        is_selector = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
        is_removed = is_selector or unicodedata.category(chr(code)) == "Cf"
        self[code] = None if is_removed else chr(code)
        return self[code]


_REMOVAL = _Removal(_APOSTROPHES)


def normalized(text: str) -> str:
    r"""Return a text in NFKC, without zero-width characters, with ``'`` for all apostrophes.

    A fraction after a number becomes a second number.

    >>> normalized("Nell\u2019s 8\u00bd") == "Nell's 8 1\u20442"
    True
    """
    if text.isascii():
        return text.replace("`", "'") if "`" in text else text
    apart = _VULGAR_FRACTION.sub(" ", text.translate(_APOSTROPHES))
    return unicodedata.normalize("NFKC", apart).translate(_REMOVAL)


def token_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and the end of each token of a normalized text.

    >>> token_spans("Nell's child")
    [(0, 4), (4, 6), (7, 12)]
    """
    return [match.span() for match in _pattern(text).finditer(text)]


def folded(token: str) -> str:
    """Return a token of a normalized text without the difference of capitals."""
    return token.lower() if token.isascii() else _folded(token)


def folded_tokens(text: str) -> list[str]:
    """Return the folded tokens of a text that may not be normalized.

    >>> folded_tokens("brie-comte-robert 's McDonald")
    ['brie', 'comte', 'robert', "'s", 'mcdonald']
    """
    plain = normalized(text)
    if plain.isascii():
        return _ASCII_TOKEN.findall(plain.lower())
    return [_folded(token) for token in _pattern(plain).findall(plain)]


def is_single_character(token: str) -> bool:
    r"""Return whether a token is one character of a script whose characters are tokens.

    >>> is_single_character("\u9f98"), is_single_character("x")
    (True, False)
    """
    return not token[0].isascii() and _SINGLE.match(token) is not None


def token_words(token: str) -> list[str]:
    """Return the folded words of a token: it is split where a capital begins a word.

    >>> token_words("birthPlace"), token_words("HTTPServer"), token_words("1990s")
    (['birth', 'place'], ['http', 'server'], ['1990s'])
    """
    if token.islower() or token.isupper() or token.istitle():
        return [folded(token)]
    borders = [place for place in range(1, len(token)) if _begins_word(token, place)]
    ends = [*borders, len(token)]
    return [folded(token[a:b]) for a, b in zip([0, *borders], ends, strict=True)]


def question_words(text: str) -> list[str]:
    """Return the lower-case words of a question, without punctuation; ``'s`` is a word.

    The words of a relation are the same in its name and in a question.

    >>> question_words("What is the notable_types of Kenneth_Peach 's birthPlace?")
    ['what', 'is', 'the', 'notable', 'types', 'of', 'kenneth', 'peach', "'s", 'birth', 'place']
    """
    plain = normalized(text)
    return [word for token in _pattern(plain).findall(plain) for word in token_words(token)]


def split_name(name: str) -> list[str]:
    """Return the lower-case words of the name of a relation or an entity.

    A name is split at every character that is no letter or digit, and where a capital begins a
    word. Of an IRI with ``//`` only the last part counts. A name without a word is one word.

    >>> split_name("__film__cinematographer__film"), split_name("birthPlace")
    (['film', 'cinematographer', 'film'], ['birth', 'place'])
    >>> split_name("http://x.org/ontology#birthPlace"), split_name("20th_century"), split_name("$")
    (['birth', 'place'], ['20th', 'century'], ['$'])
    """
    return question_words(last_part(name)) or [name]


def is_iri(name: str) -> bool:
    """Return whether a name is an IRI with ``//``, such as ``https://example.org/Rome``."""
    return ":" in name and _IRI.fullmatch(name) is not None


def last_part(name: str) -> str:
    """Return what follows the last ``#`` or ``/`` of an IRI, percent-decoded; else the name.

    >>> last_part("http://x.org/Caf%C3%A9"), last_part("http://x.org/a/"), last_part("AC/DC")
    ('Café', 'a', 'AC/DC')
    """
    if not is_iri(name):
        return name
    last = re.split("[#/]", name.rstrip("#/"))[-1]
    try:
        decoded = unquote(last, errors="strict")
    except UnicodeDecodeError:
        return last
    return decoded if decoded.strip() and "\0" not in decoded else last


def lookup_key(name: str) -> str:
    """Return the form under which equal names are found: NFKC, case-folded, single spaces.

    >>> lookup_key("New_York ") == lookup_key("new  york")
    True
    """
    plain = " ".join(normalized(name).replace("_", " ").split())
    return folded(plain) or name


def _folded(token: str) -> str:
    return unicodedata.normalize("NFKC", token.casefold())


def _pattern(text: str) -> re.Pattern[str]:
    return _ASCII_TOKEN if text.isascii() else _unicode_token()


@cache
def _unicode_token() -> re.Pattern[str]:
    """Compile the pattern of a token; `re` has no class of combining marks, which belong to it."""
    codes = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
    marks = _ranges(code for code in codes if unicodedata.category(chr(code))[0] == "M")
    word = rf"(?:[^\W_]|[{marks}])"
    single = rf"(?=[^\W_])[{_ONE_BY_ONE}][{marks}]*"
    return re.compile(rf"'[sS](?!{word})|{single}|(?:(?![{_ONE_BY_ONE}]){word})+")


def _ranges(codes: Iterable[int]) -> str:
    """Return increasing code points as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def _begins_word(token: str, place: int) -> bool:
    """Return whether a capital inside a token begins a word."""
    before, capital, after = token[place - 1], token[place], token[place + 1 : place + 3]
    if not capital.isupper():
        return False
    if before.islower():
        return True
    if not after[:1].islower():
        return False
    if before.isupper():  # the S of HTTPServer, but not the second D of DVDs
        return after[0] != "s" or after[1:].islower()
    return any(map(str.isalpha, token[:place]))  # area51Base, but not 2Pac
