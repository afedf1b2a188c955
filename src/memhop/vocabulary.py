"""Words and their numbers, and how a text becomes sentences and a sentence becomes words."""

# ruff: noqa: RUF001, RUF002, RUF003 - the punctuation of many scripts

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain

from memhop.errors import MemhopError

NIL = 0  # padding: the row of every table that is held at zero
UNKNOWN = 1  # any word that training never showed
MAX_WORDS = 1_000_000

# A word is always lower-case, so no text, whatever it says, can spell one of these.
_NAMES = ("(No word)", "(Unknown word)")

# Removed from a text: characters without a width (Unicode's Default_Ignorable_Code_Point, but for
# letters of Korean): soft hyphen, zero-width space and joiners, direction marks, variation
# selectors, byte order mark.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_REMOVED = re.compile(f"[{_INVISIBLE}]+")
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\uff07"), "'")  # ’ as it is typed and as printed

# Dropped at both ends of a word: punctuation, but for what may be a part of it (-5, #3, 5%, @mary).
_EDGES = "!\"'(),.:;?[]`{}"
_KEPT = frozenset("#%&*-/@\\_§¶‰‱٪＃％＆＊－／＠＼＿﹟﹠﹡﹣﹨﹪﹫")
_ACCENTS_AS_QUOTES = "`´\u1fef\u1ffd"  # the last two are the first two in Unicode's form NFC
_AFTER_WORDS = _EDGES + " \t\n\r"

# Latin, full-width, Arabic, Greek, Armenian, Ethiopic, Vai, Bamum and others.
QUESTION_MARKS = "?？؟\u037e՞፧⁇⁈⁉‽⸮⸘꘏꛷﹖︖"
# These end a sentence before white space: "3.5" and "?!" are not cut.
_ENDS_BEFORE_SPACE = f".!{QUESTION_MARKS}…‼．﹒﹗"
# These end one anywhere: such scripts may write no space there.
_ENDS_ANYWHERE = "。｡！？।॥۔؟܀܁܂።፧፨။།༎។៕᠃᠉։꘎꘏꛳꛷꯫꓿𑁇𑁈"
_CLOSING = f"\"')\\]}}”’»›」』）】》〉］｝〞〟“‘{_INVISIBLE}"
_ENDS = re.escape("".join(dict.fromkeys(_ENDS_BEFORE_SPACE + _ENDS_ANYWHERE)))
_SENTENCE_END = re.compile(
    rf"(?<![{_ENDS}])(?:[{_ENDS}]++(?P<closed>[{_CLOSING}]*+)\s++"
    rf"|[{_ENDS}]*[{re.escape(_ENDS_ANYWHERE)}][{_CLOSING}]*+\s*+)"
)


def split_sentences(text: str) -> list[str]:
    """Split a text into its sentences, as they are written.

    A sentence ends at a line end, after ``.``, ``!``, ``?`` or ``…`` before white space, and after
    the full stop or question mark of another script (``。``, ``？``, ``।``, ``۔``, ``؟``) even
    without white space. Quotation marks and brackets that close there belong to it, unless it goes
    on in lower case (``"Where?" she asked.``). A piece without a word, blank or of punctuation, is
    dropped. An abbreviation in the middle of a line ends a sentence too: put a line break between
    sentences where that matters.

    >>> split_sentences("Mary took the ball.  It cost 3.50!\\n\\nWhere is Mary ?")
    ['Mary took the ball.', 'It cost 3.50!', 'Where is Mary ?']
    """
    pieces = (piece.strip() for line in text.splitlines() for piece in _pieces(line))
    return [piece for piece in pieces if split_words(piece)]


def _pieces(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        if end["closed"] and line[end.end() : end.end() + 1].islower():
            continue
        yield line[start : end.end()]
        start = end.end()
    yield line[start:]


def is_question(sentence: str) -> bool:
    """Return whether a sentence ends in a question mark, of whichever script.

    Other punctuation, closing quotation marks and brackets may follow it.

    >>> is_question("Where is Mary?!"), is_question('"Where is Mary?" asked John.')
    (True, False)
    """
    for character in reversed(sentence):
        if character in QUESTION_MARKS:
            return True
        if not (_is_edge(character) or character.isspace() or _REMOVED.match(character)):
            return False
    return False


def split_words(sentence: str) -> list[str]:
    """Split one sentence into lower-case words.

    The text is brought to Unicode's form NFC, characters without a width are removed, and ``’`` is
    read as ``'``. White space separates words. Punctuation, quotation marks and brackets at
    both ends of a word are dropped, those inside it stay (``don't``, ``3.5``, ``apple,milk``), as
    do the signs that may be a part of it (``-5``, ``5%``, ``#3``). A dash or another sign that
    is alone at an end of the sentence is dropped too. Joined by spaces and split again, the
    words stay as they are.

    >>> split_words("Daniel carries Apple,milk .")
    ['daniel', 'carries', 'apple,milk']
    >>> split_words('"Mary, the cook, didn\u2019t pay 3.50…"')
    ['mary', 'the', 'cook', "didn't", 'pay', '3.50']
    """
    if sentence.isascii():
        words = sentence.lower().rstrip(_AFTER_WORDS).split()
    else:
        words = fold_case(normalize(sentence)).split()
    if "".join(words).isalnum():
        return words
    return _bare_words(words)


def spelled_words(sentence: str) -> list[str]:
    """Return the words of `split_words` in the capitals of the sentence.

    >>> spelled_words("Did Anna go?")
    ['Did', 'Anna', 'go']
    """
    return _bare_words(normalize(sentence).split())


def normalize(text: str) -> str:
    """Return a text in Unicode's form NFC without characters that have no width."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _REMOVED.sub("", text)).translate(_APOSTROPHES)


def fold_case(text: str) -> str:
    """Return a text in lower case, still in Unicode's form NFC."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.lower())


def _bare_words(words: Iterable[str]) -> list[str]:
    """Drop punctuation around words, and what is left without a letter, a digit or a symbol."""
    bare = [word for word in map(_bare, words) if word]
    while bare and not _has_content(bare[-1]):
        bare.pop()
    first = next((place for place, word in enumerate(bare) if _has_content(word)), 0)
    return bare[first:]


def _bare(word: str) -> str:
    start, end = 0, len(word)
    while start < end and _is_edge(word[end - 1]):
        end -= 1
    while start < end and _is_edge(word[start]):
        start += 1
    if word[max(0, start - 2) : start].endswith(".") and word[start : start + 1].isdecimal():
        start -= word[max(0, start - 2) : start] != ".."  # the point of .5
    return word[start:end]


@lru_cache(maxsize=4096)
def _is_edge(character: str) -> bool:
    """Return whether a character is dropped at the ends of a word."""
    if character.isascii():
        return character in _EDGES
    is_mark = unicodedata.category(character)[0] == "P" and character not in _KEPT
    return is_mark or character in _ACCENTS_AS_QUOTES


def word_pattern() -> str:
    """Return a regular expression that finds a match in each text with a word, and in no other.

    It is a class of characters in the syntax that Python, JavaScript and Rust share.

    >>> bool(re.search(word_pattern(), " ?! a")), bool(re.search(word_pattern(), " ?! …"))
    (True, False)
    """
    ranges_of_all = (range(0xD800), range(0xE000, 0x20000), range(0xE0000, 0xE1000))
    candidates = re.findall(r"[\W_\u02bc]", "".join(map(chr, chain(*ranges_of_all))))
    without = {ord(c) for c in candidates if c.isspace() or not _has_content(normalize(c))}
    starts = sorted(code for code in without if code - 1 not in without)
    ends = sorted(code for code in without if code + 1 not in without)
    ranges = (f"{_escaped(a)}-{_escaped(b)}" for a, b in zip(starts, ends, strict=True))
    return f"[^{''.join(ranges)}]"


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else chr(code)


def _has_content(word: str) -> bool:
    return word.isalnum() or any(
        unicodedata.category(c)[0] != "P" and c not in _ACCENTS_AS_QUOTES for c in word
    )


class Vocabulary:
    """The words of some texts, numbered from 2 in order of first appearance.

    Id 0 (``NIL``) is the padding word and id 1 (``UNKNOWN``) stands for every word not in here;
    both count in ``len``, which is the number of rows an embedding table needs. A vocabulary
    does not change once made.

    >>> vocabulary = Vocabulary.from_texts(["Mary took the ball.", "Where is Mary?"])
    >>> vocabulary.ids(["mary", "lost", "the", "ball"])
    [2, 1, 4, 5]
    >>> vocabulary.word(2), vocabulary.word(1), len(vocabulary)
    ('mary', '(Unknown word)', 8)
    """

    def __init__(
        self, words: Iterable[str] = (), spellings: Mapping[str, str] | None = None
    ) -> None:
        """Number ``words`` as they come; a repeated one keeps its first number.

        Args:
            words: lower-case words; an answer may be of several.
            spellings: how to show words that have capitals, such as ``{"mary": "Mary"}``.

        Raises:
            MemhopError: a word is empty, not lower-case or holds other white space than single
                blanks, or there are more than ``MAX_WORDS``; or a spelling is not of its word.
        """
        self._ids: dict[str, int] = {}
        for word in words:
            if word not in self._ids:
                self._check(word)
                self._ids[word] = len(_NAMES) + len(self._ids)
        self._words = (*_NAMES, *self._ids)
        self.spellings = dict(spellings or {})
        for word, spelling in self.spellings.items():
            if word not in self._ids or fold_case(spelling) != word:
                raise MemhopError(f"vocabulary: {spelling!r:.60} is no spelling of {word!r:.60}")

    @classmethod
    def from_texts(cls, sentences: Iterable[str]) -> "Vocabulary":
        """The words of all sentences, each sentence split by `split_words`.

        >>> list(Vocabulary.from_texts(["John went home.", "John slept."]))
        ['john', 'went', 'home', 'slept']
        """
        return cls(word for sentence in sentences for word in split_words(sentence))

    def ids(self, words: Iterable[str]) -> list[int]:
        """One id for each word, ``UNKNOWN`` where it is not in the vocabulary.

        >>> Vocabulary(["ball"]).ids(split_words("The ball?"))
        [1, 2]
        """
        return [self._ids.get(word, UNKNOWN) for word in words]

    def unknown(self, words: Iterable[str]) -> tuple[str, ...]:
        """The words that are not in the vocabulary, each once, in order.

        >>> Vocabulary(["ball"]).unknown(["the", "ball", "the"])
        ('the',)
        """
        return tuple(word for word in dict.fromkeys(words) if word not in self._ids)

    def word(self, id: int) -> str:
        """The word with this id; for 0 and 1 a description that no text can spell.

        >>> Vocabulary(["ball"]).word(2)
        'ball'
        """
        if not 0 <= id < len(self):
            raise IndexError(f"no word has id {id}: ids go from 0 to {len(self) - 1}")
        return self._words[id]

    def spelling(self, id: int) -> str:
        """The word with this id as training texts spell it; see `word`.

        >>> Vocabulary(["mary"], {"mary": "Mary"}).spelling(2)
        'Mary'
        """
        word = self.word(id)
        return self.spellings.get(word, word)

    def to_json(self) -> list[str]:
        """The words from id 2 on, for a JSON file; `from_json` reads them back.

        >>> Vocabulary(["mary", "ball"]).to_json()
        ['mary', 'ball']
        """
        return list(self)

    @classmethod
    def from_json(cls, data: object, spellings: object = None) -> "Vocabulary":
        """Rebuild what `to_json` gave, and `spellings`, from data that is not trusted.

        Raises:
            MemhopError: not a list of distinct lower-case words, more than ``MAX_WORDS`` of them,
                or no spellings of these words.

        >>> Vocabulary.from_json(["mary", "ball"]).ids(["ball"])
        [3]
        """
        if not isinstance(data, list):
            raise MemhopError(f"vocabulary: needs a list of words, got {_kind(data)}")
        for word in data:
            if not isinstance(word, str):
                raise MemhopError(f"vocabulary: needs strings, got {_kind(word)}")
        spellings = {} if spellings is None else spellings
        if not isinstance(spellings, dict):
            raise MemhopError(f"vocabulary: needs an object of spellings, got {_kind(spellings)}")
        for spelling in spellings.values():
            if not isinstance(spelling, str):
                raise MemhopError(f"vocabulary: needs strings as spellings, got {_kind(spelling)}")
        vocabulary = cls(data, spellings)
        if len(vocabulary._ids) != len(data):
            repeats = len(data) - len(vocabulary._ids)
            raise MemhopError(f"vocabulary: needs distinct words, got {repeats} repeated")
        return vocabulary

    def _check(self, word: str) -> None:
        if not word or " ".join(word.lower().split()) != word:
            shown = repr(word if len(word) <= 40 else f"{word[:40]}...")
            raise MemhopError(f"vocabulary: needs lower-case words, single blanks, got {shown}")
        if len(self._ids) == MAX_WORDS:
            raise MemhopError(f"vocabulary: needs at most {MAX_WORDS:,} words, got more")

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self._words, self.spellings) == (other._words, other.spellings)

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self._ids)} words)"


def _kind(value: object) -> str:
    return type(value).__name__
