"""Find the entities that a question names.

Names and questions are split into the same tokens (`memhop.knowledge.names`), so that capitals,
punctuation, underscores and a following ``'s`` do not matter. The rules:

1. Every run of tokens that is the name of an entity (its label, an alias, or an identifier that is
   no IRI) is a match. A name of one character of a script without spaces (Chinese, Japanese, Thai,
   also Korean) must not touch other letters; longer names can be inside a word. A name of symbols
   only (``$``) must have white space or punctuation around it.
2. Of several entities with that name, those that are spelled as in the question stay: with the same
   capitals (if the question has any), then with the same punctuation.
3. A match is strong if it has a capital as in the name, or two words or more, or is a symbol. It is
   a last resort if it has no such capital and is a part of a relation's name (``film`` of
   ``film_genre``), or has only function words (who, in, the), which do not count as words. Other
   single words are weak. A single function word with other capitals than the name, or at the start
   of the question, is no match ("what" is not the entity "What?"); at the start, the capital of a
   word of a relation's name does not count.
4. Matches must not overlap: the one with the most words stays, then one with the capitals of the
   name, then the longer one, then the first.
5. If there is a strong match, the others are dropped; otherwise, if there is a weak one, the last
   resorts are dropped.
"""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import NamedTuple

from memhop.knowledge.facts import Index, KnowledgeBase, add, numbers
from memhop.knowledge.names import (
    folded,
    folded_tokens,
    is_iri,
    is_single_character,
    last_part,
    normalized,
    token_spans,
    token_words,
)
from memhop.knowledge.questions import Question

TOPIC = "<topic>"
"""The word that replaces each mention of a topic; no text has it, as words have no brackets."""

_LISTED = """a an and are as at be been by can could did do does for from had has have how in is me
    of on or s 's that the there these this those to was were what when where which who whom whose
    why will with would"""
_FUNCTION_WORDS = frozenset(_LISTED.split())
_SPACES = re.compile(r"[\s_]+")
_CHUNK = re.compile(r"\S+")
_PUNCTUATION = '.,:;?!…"()[]'
_MAX_PHRASE_WORDS = 8  # of a relation's name: a long name has too many parts
_Spelling = tuple[bool, bool, bool, int]
_Phrase = tuple[str, ...]
_STRONG, _WEAK, _LAST_RESORT = 2, 1, 0


class Mention(NamedTuple):
    """A mention of entities in a question.

    Attributes:
        start: position of its first word in ``question_words(text)``.
        end: position after its last word; ``start`` for a name without a word, such as ``$``.
        entities: numbers of the entities with this name, increasing.
    """

    start: int
    end: int
    entities: tuple[int, ...]


class Topics(NamedTuple):
    """The topics of a question.

    Attributes:
        entities: distinct numbers of entities, in the order of their mentions.
        words: the words of the question, with `TOPIC` in place of each mention.
        unknown: given topics that are no entity.
    """

    entities: tuple[int, ...]
    words: tuple[str, ...]
    unknown: tuple[str, ...]


class TopicFinder:
    """Find the entities that a question names; the rules are those of `memhop.knowledge.topics`.

    Args:
        kb: the knowledge base.

    >>> kb = KnowledgeBase.from_triples(
    ...     [("Nell Gwyn's Child", "has_genre", "film"), ("Child", "has_genre", "drama")]
    ... )
    >>> finder = TopicFinder(kb)
    >>> finder.find(Question("which film is nell gwyn's child's sequel?"))
    Topics(entities=(0,), words=('which', 'film', 'is', '<topic>', "'s", 'sequel'), unknown=())
    """

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb = kb
        self._aliases: dict[int, list[str]] = {}
        self._entities: Index = {}  # by folded tokens, joined by blanks
        self._most_tokens: dict[str, int] = {}  # of the names that begin with a token
        self._symbols: Index = {}
        for alias, having in kb.aliases.items():
            for number in having:
                self._aliases.setdefault(number, []).append(alias)
        for number in range(len(kb.entities)):
            for name in self._names(number):
                self._add(name, number)
        self._relation_phrases = {
            " ".join(words[start:end])
            for words in map(kb.relation_words, range(len(kb.relations)))
            for start in range(len(words))
            for end in range(start + 1, min(start + _MAX_PHRASE_WORDS, len(words)) + 1)
        }

    def find(self, question: Question) -> Topics:
        """Return the topics of a question: those that it gives, or those found in its text.

        Given topics are found with `KnowledgeBase.find`, and replaced in the words where one of
        their names occurs (with the same capitals, if it occurs so); no other name is replaced.

        >>> kb = KnowledgeBase.from_triples([("Faust", "directed_by", "F. W. Murnau")])
        >>> TopicFinder(kb).find(Question("is Dracula like Faust?", topics=("Faust", "Dracula")))
        Topics(entities=(0,), words=('is', '<topic>', 'like', '<topic>'), unknown=('Dracula',))
        """
        text = _Text(question.text)
        if question.topics is None:
            found = self._found(text)
            entities = [number for match in found for number in match.entities]
            return Topics(tuple(dict.fromkeys(entities)), _replaced(text, found), ())
        known = {topic: self._kb.find(topic) for topic in question.topics}
        names = {
            having: {name for number in having for name in self._names(number)}
            for having in set(known.values())
        }
        matches = _occurrences(text, [({topic, *names[h]}, h) for topic, h in known.items()])
        entities = [number for having in known.values() for number in having]
        unknown = tuple(topic for topic, having in known.items() if not having)
        chosen = _without_overlap(sorted(matches, key=_Match.order))
        return Topics(tuple(dict.fromkeys(entities)), _replaced(text, chosen), unknown)

    def mentions(self, text: str) -> list[Mention]:
        """Return the mentions of entities in a text, in their order.

        >>> kb = KnowledgeBase.from_triples([("Faust", "directed_by", "F. W. Murnau")])
        >>> TopicFinder(kb).mentions("which films of F.W. Murnau are like Faust?")
        [Mention(start=3, end=6, entities=(1,)), Mention(start=8, end=9, entities=(0,))]
        """
        tokens = _Text(text)
        before = tokens.words_before
        return [
            Mention(before[match.start], before[match.end], match.entities)
            for match in self._found(tokens)
        ]

    def _names(self, number: int) -> list[str]:
        """Return the names of an entity that a question may have."""
        identifier, label = self._kb.entities[number], self._kb.labels[number]
        names = [last_part(label), *self._aliases.get(number, ())]
        if identifier != label and not is_iri(identifier):
            names.append(identifier)
        return [name for name in names if not name.startswith("_:")]

    def _add(self, name: str, number: int) -> None:
        tokens = folded_tokens(name)
        if not tokens:
            add(self._symbols, normalized(name), number)
            return
        add(self._entities, " ".join(tokens), number)
        if self._most_tokens.get(tokens[0], 0) < len(tokens):
            self._most_tokens[tokens[0]] = len(tokens)

    def _found(self, text: "_Text") -> list["_Match"]:
        """Return the matches that rules 1 to 5 choose, in their order."""
        matches = sorted(self._matches(text), key=_Match.order)
        chosen = _without_overlap([*matches, *self._symbol_matches(text)])
        best = max((match.strength for match in chosen), default=_LAST_RESORT)
        return sorted(match for match in chosen if match.strength == best)

    def _matches(self, text: "_Text") -> Iterator["_Match"]:
        tokens = text.tokens
        for start, token in enumerate(tokens):
            longest = min(self._most_tokens.get(token, 0), len(tokens) - start)
            for end in range(start + 1, start + 1 + longest):
                having = numbers(self._entities, " ".join(tokens[start:end]))
                if having and not (end == start + 1 and text.is_inside_word(start)):
                    yield from self._match(text, start, end, having)

    def _match(
        self, text: "_Text", start: int, end: int, having: tuple[int, ...]
    ) -> Iterator["_Match"]:
        """Yield a match of the entities that are spelled most like the text, or none."""
        known: dict[str, _Spelling] = {}
        spellings = []
        for number in having:
            names = self._names(number)
            for name in names:
                if name not in known:
                    known[name] = _spelling(name, text, start, end)
            spellings.append(max(known[name] for name in names))
        first = 0 if text.has_capitals else 1  # without capitals they say nothing
        best = max(spelling[first:] for spelling in spellings)
        chosen = [pair for pair in zip(having, spellings, strict=True) if pair[1][first:] == best]
        entities = tuple(number for number, _ in chosen)
        num_words = sum(token not in _FUNCTION_WORDS for token in text.tokens[start:end])
        is_phrase = " ".join(text.words(start, end)) in self._relation_phrases
        begins_question = (start, end) == (0, 1) and (is_phrase or not num_words)
        is_exact = any(spelling[0] for _, spelling in chosen) and not begins_question
        if not (num_words or is_exact or end > start + 1):
            return
        if is_exact and any(raw != raw.lower() for raw in text.raw[start:end]):
            strength = _STRONG
        elif not num_words or is_phrase:
            strength = _LAST_RESORT
        else:
            strength = _STRONG if num_words > 1 else _WEAK
        is_spelled = is_exact and text.has_capitals
        yield _Match(start, end, entities, strength, num_words, is_spelled)

    def _symbol_matches(self, text: "_Text") -> Iterator["_Match"]:
        for place, name in text.symbols if self._symbols else ():
            if having := numbers(self._symbols, name):
                strength = _STRONG if name.strip(_PUNCTUATION) else _WEAK
                yield _Match(place, place, having, strength, 0, True)


class _Text:
    """The tokens of a question: as they are spelled, folded, and split into words."""

    def __init__(self, text: str) -> None:
        self.text = normalized(text)
        self.spans = token_spans(self.text)
        self.raw = [self.text[start:end] for start, end in self.spans]
        self.tokens = [folded(token) for token in self.raw]
        self._words = [token_words(token) for token in self.raw]
        self.has_capitals = self.text != self.text.lower()
        self.words_before = [0, *accumulate(map(len, self._words))]
        self.end = len(self.text.rstrip(f"{_PUNCTUATION} "))  # without punctuation at the end

    @cached_property
    def symbols(self) -> list[tuple[int, str]]:
        """Each run of symbols between white space, with the number of tokens before it.

        Punctuation around symbols is removed. Punctuation alone counts, but not at the end.
        """
        starts = [start for start, _ in self.spans]
        chunks = list(_CHUNK.finditer(self.text))
        symbols = []
        for chunk in chunks:
            place = bisect_left(starts, chunk.start())
            if place == bisect_left(starts, chunk.end(), place):
                bare = chunk[0].strip(_PUNCTUATION)
                if bare or chunk is not chunks[-1]:
                    symbols.append((place, bare or chunk[0]))
        return symbols

    def words(self, start: int, end: int) -> list[str]:
        """Return the words of some tokens."""
        return [word for words in self._words[start:end] for word in words]

    def is_inside_word(self, place: int) -> bool:
        """Return whether a token is a character of a script without spaces that has neighbors."""
        start, end = self.spans[place]
        if not is_single_character(self.raw[place]):
            return False
        follows = place > 0 and self.spans[place - 1][1] == start
        return follows or (place + 1 < len(self.spans) and self.spans[place + 1][0] == end)


class _Match(NamedTuple):
    """A name in a question: positions of its tokens, and what rules 3 and 4 compare."""

    start: int
    end: int
    entities: tuple[int, ...]
    strength: int
    num_words: int
    is_spelled: bool

    def order(self) -> tuple[int, bool, int, int]:
        """Return the key of rule 4: the least is chosen first."""
        return -self.num_words, not self.is_spelled, self.start - self.end, self.start


def _spelling(name: str, text: _Text, start: int, end: int) -> _Spelling:
    """Return how much a name is spelled like a text: more is better.

    The parts: the same capitals; the same characters between the words; the same symbols around
    them; how many such symbols, without ``?`` and ``.`` at the end of the question.
    """
    plain = normalized(name)
    spans = token_spans(plain)
    raw = [plain[a:b] for a, b in spans]
    if [folded(token) for token in raw] != text.tokens[start:end]:
        return False, False, False, -1
    first, last = text.spans[start][0], text.spans[end - 1][1]
    has_capitals = raw == text.raw[start:end]
    own, other = (
        folded(_SPACES.sub(" ", part))
        for part in (plain[spans[0][0] : spans[-1][1]], text.text[first:last])
    )
    before, after = plain[: spans[0][0]], plain[spans[-1][1] :]
    is_around = text.text.endswith(before, 0, first) and text.text.startswith(after, last)
    is_end = text.end <= last + len(after)
    around = len(before) + len(after.strip("?.") if is_end else after)
    return has_capitals, own == other, is_around, around if is_around else 0


def _without_overlap(ordered: Collection[_Match]) -> list[_Match]:
    """Return the matches that do not overlap with an earlier one.

    A match without a token overlaps with those that have tokens on both sides of its place.
    """
    # 2 i is the place before token i, and 2 i + 1 is the token: 1 is inside a match with tokens,
    # 2 is a match without one
    taken = bytearray(2 * max((match.end for match in ordered), default=0) + 1)
    chosen = []
    for match in ordered:
        first, last = 2 * match.start, 2 * match.end
        if first == last:
            if taken[first] == 1:
                continue
            taken[first] = 2
        else:
            if any(taken[first + 1 : last]):
                continue
            taken[first + 1 : last] = b"\1" * (last - first - 1)
        chosen.append(match)
    return chosen


def _occurrences(
    text: _Text, topics: Sequence[tuple[Collection[str], tuple[int, ...]]]
) -> list[_Match]:
    """Return where a text has a name of each topic: with the same capitals, if it has it so.

    A topic is its names and its entities. What several topics have in common is returned for the
    first of them only, as the same match for another topic would overlap with it: the number of
    matches does not grow with the number of topics, except for names of symbols.
    """
    split = {name: _split(name) for name in {name for names, _ in topics for name in names}}
    places, exact_places = _phrase_places(text, {tokens for _, tokens, _ in split.values()})
    symbol_places: dict[str, list[int]] = {}
    for place, symbol in text.symbols:
        symbol_places.setdefault(symbol, []).append(place)
    matches = []
    for names, having in topics:
        parts = [split[name] for name in names]
        symbols = [symbol_places.get(plain, ()) for plain, tokens, _ in parts if not tokens]
        for place in chain.from_iterable(symbols):
            matches.append(_Match(place, place, having, _STRONG, 0, True))
        is_exact = any(symbols) or any(raw in exact_places for _, _, raw in parts)
        known = exact_places if is_exact else places
        for phrase in {raw if is_exact else tokens for _, tokens, raw in parts} & known.keys():
            num = len(phrase)
            for start in known[phrase]:
                matches.append(_Match(start, start + num, having, _STRONG, num, is_exact))
            known[phrase] = []  # returned once; the phrase remains a key
    return matches


def _split(name: str) -> tuple[str, _Phrase, _Phrase]:
    """Return a normalized name, its folded tokens, and its tokens as they are spelled."""
    plain = normalized(name)
    raw = tuple(plain[start:end] for start, end in token_spans(plain))
    return plain, tuple(map(folded, raw)), raw


def _phrase_places(
    text: _Text, phrases: Collection[_Phrase]
) -> tuple[dict[_Phrase, list[int]], dict[_Phrase, list[int]]]:
    """Return where a text has each of the phrases: by folded tokens, and as it is spelled."""
    lengths: dict[str, set[int]] = {}
    for phrase in filter(None, phrases):
        lengths.setdefault(phrase[0], set()).add(len(phrase))
    places: dict[_Phrase, list[int]] = {}
    exact: dict[_Phrase, list[int]] = {}
    for start, token in enumerate(text.tokens):
        for length in lengths.get(token, ()):
            phrase = tuple(text.tokens[start : start + length])
            if len(phrase) == length and phrase in phrases:
                places.setdefault(phrase, []).append(start)
                exact.setdefault(tuple(text.raw[start : start + length]), []).append(start)
    return places, exact


def _replaced(text: _Text, matches: Sequence[_Match]) -> tuple[str, ...]:
    """Return the words of a text with `TOPIC` in place of each match."""
    words: list[str] = []
    place = 0
    for match in sorted(matches):
        words += [*text.words(place, match.start), TOPIC]
        place = match.end
    return (*words, *text.words(place, len(text.tokens)))
