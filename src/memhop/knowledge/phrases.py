"""English phrases for the relations of generated facts, in both directions.

A step is a relation, or a relation read from object to subject with ``~`` before its name. A phrase
covers one step, or two in an idiom ("the co-stars of X"). Its nouns say which entities it reaches,
its questions ask for them. `wording` puts the noun of the first phrase of a path into that of the
second, and so on.

Marks in a text: ``{x}`` is replaced by the noun before, ``{t}`` only by a topic; ``[one|many]``
agrees with the phrase itself, ``<one|many>`` with ``{x}``.
"""

from typing import NamedTuple


class Phrase(NamedTuple):
    """How English names and asks for what one or two steps reach."""

    steps: tuple[str, ...]
    kinds: tuple[str, str]  # of the entities where it starts and ends
    is_single: bool  # whether it usually reaches one entity from one
    nouns: tuple[str, ...]
    questions: tuple[str, ...]


def _phrase(steps: str, kinds: str, nouns: str, questions: str, single: bool = False) -> Phrase:
    start, end = kinds.split()
    return Phrase(
        tuple(steps.split()),
        (start, end),
        single,
        tuple(nouns.split("; ")),
        tuple(questions.split("; ")),
    )


def _one(steps: str, kinds: str, nouns: str, questions: str) -> Phrase:
    return _phrase(steps, kinds, nouns, questions, single=True)


STEPS: tuple[Phrase, ...] = (
    _one(
        "directed_by", "film person",
        "the director[|s] of {x}; the [person|people] who directed {x}; "
        "the film-maker[|s] behind {x}",
        "who directed {x}; who <was|were> {x} directed by; who made {x}",
    ),
    _phrase(
        "~directed_by", "person film",
        "the films directed by {x}; the films that {t} directed; the films {t} made",
        "which films did {x} direct; what films were directed by {x}; which films did {x} make",
    ),
    _phrase(
        "starred_actors", "film person",
        "the actors in {x}; the actors who starred in {x}; the stars of {x}",
        "who starred in {x}; who acted in {x}; which actors appear in {x}; who plays in {x}",
    ),
    _phrase(
        "~starred_actors", "person film",
        "the films starring {x}; the films that starred {x}; the films {t} acted in; "
        "the films in which {t} appeared",
        "which films did {x} act in; in which films did {x} star; which films starred {x}; "
        "what did {x} play in",
    ),
    _one(
        "genre", "film genre",
        "the genre[|s] of {x}; the kind[|s] of film that {t} is",
        "what genre[|s] <is|are> {x}; which genres <does|do> {x} fall under; "
        "what kind[|s] of film <is|are> {x}",
    ),
    _phrase(
        "~genre", "genre film",
        "the films of the genre {x}; the {t} films; the films that fall under {x}",
        "which films are {t} films; which films have the genre {x}; which films fall under {x}",
    ),
    _one(
        "release_year", "film year",
        "the release year[|s] of {x}; the year[|s] in which {t} was released; "
        "the release date[|s] of {x}",
        "when <was|were> {x} released; in which year[|s] did {x} come out; "
        "what year[|s] <was|were> {x} released in",
    ),
    _phrase(
        "~release_year", "year film",
        "the films released in {x}; the films that came out in {x}; the films of {x}",
        "which films were released in {x}; which films came out in {x}; "
        "what films appeared in {x}",
    ),
    _one(
        "in_language", "film language",
        "the language[|s] of {x}; the language[|s] in which {t} was made",
        "what language[|s] <is|are> {x} in; in which language[|s] <was|were> {x} made; "
        "which language[|s] do people speak in {x}",
    ),
    _phrase(
        "~in_language", "language film",
        "the films in {x}; the films made in {x}; the films in the language {x}",
        "which films are in {x}; which films were made in {x}; in which films do people speak {x}",
    ),
    _one(
        "produced_by", "film company",
        "the producer[|s] of {x}; the [company|companies] that produced {x}; "
        "the [company|companies] behind {x}",
        "which [company|companies] produced {x}; who produced {x}; "
        "by which [company|companies] <was|were> {x} produced",
    ),
    _phrase(
        "~produced_by", "company film",
        "the films produced by {x}; the films that {t} produced; the productions of {x}",
        "which films did {x} produce; what films were produced by {x}; "
        "which films are productions of {x}",
    ),
    _one(
        "based_on", "film book",
        "the book[|s] behind {x}; the book[|s] on which {t} is based; "
        "the book[|s] that inspired {x}",
        "which book[|s] <is|are> {x} based on; which book[|s] inspired {x}; "
        "from which book[|s] <was|were> {x} adapted",
    ),
    _phrase(
        "~based_on", "book film",
        "the films based on {x}; the film adaptations of {x}; the films adapted from {x}",
        "which films are based on {x}; which films were adapted from {x}; "
        "what films did {x} inspire",
    ),
    _one(
        "born_in", "person city",
        "the birthplace[|s] of {x}; the [city|cities] where {t} was born; "
        "the native [city|cities] of {x}; {t}'s birthplace",
        "where <was|were> {x} born; in which [city|cities] <was|were> {x} born; "
        "which [city|cities] <does|do> {x} come from",
    ),
    _phrase(
        "~born_in", "city person",
        "the people born in {x}; the people who were born in {x}; the natives of {x}",
        "who was born in {x}; which people come from {x}; "
        "which people have {x} as their birthplace",
    ),
    _one(
        "spouse", "person person",
        "the spouse[|s] of {x}; the [person|people] married to {x}; "
        "the marriage partner[|s] of {x}; {t}'s spouse",
        "who <is|are> {x} married to; who married {x}; who is married to {x}",
    ),
    _one(
        "works_for", "person company",
        "the employer[|s] of {x}; the [company|companies] that employ[s|] {x}; "
        "the [company|companies] {t} works for; {t}'s employer",
        "who <does|do> {x} work for; which [company|companies] <does|do> {x} work for; "
        "who employs {x}",
    ),
    _phrase(
        "~works_for", "company person",
        "the employees of {x}; the people who work for {x}; the people employed by {x}",
        "who works for {x}; which people work for {x}; who is employed by {x}; "
        "which people does {t} employ",
    ),
    _phrase(
        "wrote", "person book",
        "the books by {x}; the books written by {x}; the books that {t} wrote",
        "which books did {x} write; what did {x} write; which books were written by {x}",
    ),
    _one(
        "~wrote", "book person",
        "the author[|s] of {x}; the writer[|s] of {x}; the [person|people] who wrote {x}",
        "who wrote {x}; who <was|were> {x} written by; which author[|s] wrote {x}",
    ),
    _one(
        "located_in", "city country",
        "the [country|countries] of {x}; the [country|countries] where {t} lies; "
        "the [country|countries] around {x}",
        "in which [country|countries] <is|are> {x}; which [country|countries] <is|are> {x} in; "
        "in what [country|countries] <is|are> {x} located",
    ),
    _phrase(
        "~located_in", "country city",
        "the cities in {x}; the cities of {x}; the cities located in {x}",
        "which cities are in {x}; which cities lie in {x}; what cities does {t} have",
    ),
    _one(
        "capital_of", "city country",
        "the [country|countries] with the capital {x}; the [country|countries] governed from {x}; "
        "the [country|countries] of which {t} is the capital",
        "of which [country|countries] <is|are> {x} the capital[|s]; "
        "which [country is|countries are] governed from {x}; "
        "which [country has|countries have] the capital {x}",
    ),
    _one(
        "~capital_of", "country city",
        "the capital[|s] of {x}; the capital [city|cities] of {x}; "
        "the seat[|s] of government of {x}; {t}'s capital",
        "which [city is|cities are] the capital[|s] of {x}; "
        "from which [city|cities] <is|are> {x} governed; "
        "where <is|are> {x} governed from",
    ),
    _one(
        "official_language", "country language",
        "the official language[|s] of {x}; the national language[|s] of {x}",
        "which [language is|languages are] official in {x}; "
        "which official language[|s] <does|do> {x} have; "
        "which language[|s] do the authorities of {x} use",
    ),
    _phrase(
        "~official_language", "language country",
        "the countries where {t} is official; the countries with the official language {x}; "
        "the countries whose official language is {x}",
        "which countries have the official language {x}; in which countries <is|are> {x} official; "
        "which countries use {x} officially",
    ),
    _phrase(
        "founded_by", "company person",
        "the founders of {x}; the people who founded {x}; the people who started {x}",
        "who founded {x}; who started {x}; who <was|were> {x} founded by",
    ),
    _phrase(
        "~founded_by", "person company",
        "the companies founded by {x}; the companies that {t} founded; "
        "the companies started by {x}",
        "which companies did {x} found; which companies were founded by {x}; what did {x} start",
    ),
    _one(
        "headquartered_in", "company city",
        "the home [city|cities] of {x}; the [city|cities] where {t} has its headquarters; "
        "the headquarters [city|cities] of {x}",
        "where <is|are> {x} headquartered; in which [city|cities] <is|are> {x} based; "
        "where <does|do> {x} have <its|their> headquarters",
    ),
    _phrase(
        "~headquartered_in", "city company",
        "the companies based in {x}; the companies headquartered in {x}; "
        "the companies with headquarters in {x}",
        "which companies are based in {x}; which companies are headquartered in {x}; "
        "which companies have their headquarters in {x}",
    ),
)  # fmt: skip

IDIOMS: tuple[Phrase, ...] = (
    _one(
        "born_in located_in", "person country",
        "the native [country|countries] of {x}; the [country|countries] where {t} was born",
        "in which [country|countries] <was|were> {x} born; "
        "which [country|countries] <does|do> {x} come from",
    ),
    _phrase(
        "~located_in ~born_in", "country person",
        "the people born in the cities of {x}; the natives of the cities in {x}",
        "who was born in a city of {x}; who was born somewhere in {x}",
    ),
    _one(
        "headquartered_in located_in", "company country",
        "the home [country|countries] of {x}; the headquarters [country|countries] of {x}",
        "in which [country|countries] <is|are> {x} based; "
        "in which [country|countries] <is|are> {x} headquartered",
    ),
    _phrase(
        "~starred_actors directed_by", "person person",
        "the directors who worked with {x}; the directors who cast {x}",
        "which directors did {x} work with; which directors cast {x}",
    ),
    _phrase(
        "~directed_by starred_actors", "person person",
        "the actors who worked with the director {t}; the actors directed by {x}",
        "which actors did {x} direct; which actors were directed by {x}",
    ),
    _phrase(
        "wrote ~based_on", "person film",
        "the films based on the work of {x}; the films based on books by {x}",
        "which films are based on the work of {x}; for which films did {x} write the book",
    ),
    _phrase(
        "~starred_actors starred_actors", "person person",
        "the co-stars of {t}; the people who acted together with {t}",
        "who acted together with {t}; who starred in a film with {t}; who appears next to {t}",
    ),
)  # fmt: skip


def _shared(step: str, kind: str, plural: str, word: str, more: str) -> Phrase:
    """Return the phrases for a step and the same step back, which excludes the topic."""
    article = "an" if word[0] in "aeiou" else "a"
    back = step[1:] if step.startswith("~") else f"~{step}"
    return _phrase(
        f"{step} {back}", f"{kind} {kind}",
        f"the {plural} that share {article} {word} with {{t}}; "
        f"the {plural} with the same {word} as {{t}}",
        f"which {plural} share {article} {word} with {{t}}; "
        f"which {plural} have the same {word} as {{t}}; {more}",
    )  # fmt: skip


SHARED: tuple[Phrase, ...] = (
    _shared(
        "directed_by", "film", "films", "director",
        "which other films did the director of {t} direct; "
        "what else was made by the director of {t}",
    ),
    _shared(
        "starred_actors", "film", "films", "actor",
        "in which other films do actors of {t} appear; "
        "which other films feature someone from the cast of {t}",
    ),
    _shared(
        "genre", "film", "films", "genre",
        "which other films are of the same kind as {t}; which other films have a genre of {t}",
    ),
    _shared(
        "release_year", "film", "films", "release year",
        "which other films came out in the year of {t}; "
        "which films were released at the same time as {t}",
    ),
    _shared(
        "in_language", "film", "films", "language",
        "which other films are in the language of {t}",
    ),
    _shared(
        "produced_by", "film", "films", "producer",
        "which other films did the producer of {t} make; "
        "which other films come from the company behind {t}",
    ),
    _shared(
        "born_in", "person", "people", "birthplace",
        "who was born in the same city as {t}; who else comes from the birthplace of {t}",
    ),
    _shared(
        "works_for", "person", "people", "employer",
        "who are the colleagues of {t}; who works for the same company as {t}",
    ),
    _shared(
        "~wrote", "book", "books", "author",
        "which other books did the author of {t} write; what else was written by the writer of {t}",
    ),
    _shared(
        "located_in", "city", "cities", "country",
        "which other cities are in the country of {t}; which cities lie in the same country as {t}",
    ),
    _shared(
        "official_language", "country", "countries", "official language",
        "in which other countries is the official language of {t} official",
    ),
    _shared(
        "founded_by", "company", "companies", "founder",
        "which other companies did a founder of {t} start",
    ),
    _shared(
        "headquartered_in", "company", "companies", "home city",
        "which companies are based in the same city as {t}",
    ),
)  # fmt: skip
