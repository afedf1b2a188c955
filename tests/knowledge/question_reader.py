"""Answer generated questions from their text and the facts alone, without the generator.

The phrases are repeated here, so that a change of the generator's words fails.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

Triple = tuple[str, str, str]
Path = tuple[str, ...]

TOPIC = "<topic>"
IS, WAS, DO = "(?:is|are)", "(?:was|were)", "(?:does|do)"


def table(lines: str) -> list[tuple[re.Pattern[str], Path]]:
    """Return the patterns of lines ``path: pattern; pattern``; X is a phrase, T only the topic."""
    rows = []
    for line in lines.strip().splitlines():
        steps, _, patterns = line.strip().partition(": ")
        for pattern in patterns.split("; "):
            pattern = re.sub(r"\b(IS|WAS|DO)\b", lambda word: globals()[word[0]], pattern)
            pattern = re.sub(r"\bX\b", "(.+)", pattern)
            pattern = re.sub(r"\bT\b", f"({TOPIC})", pattern)
            rows.append((re.compile(pattern), tuple(steps.split())))
    return rows


NOUNS = table(r"""
directed_by: the directors? of X; the (?:person|people) who directed X; the film-makers? behind X
~directed_by: the films directed by X; the films that T directed; the films T made
starred_actors: the actors in X; the actors who starred in X; the stars of X
~starred_actors: the films starring X; the films that starred X; the films T acted in
~starred_actors: the films in which T appeared
genre: the genres? of X; the kinds? of film that T is
~genre: the films of the genre X; the T films; the films that fall under X
release_year: the release years? of X; the years? in which T was released; the release dates? of X
~release_year: the films released in X; the films that came out in X; the films of X
in_language: the languages? of X; the languages? in which T was made
~in_language: the films in X; the films made in X; the films in the language X
produced_by: the producers? of X; the (?:company|companies) that produced X
produced_by: the (?:company|companies) behind X
~produced_by: the films produced by X; the films that T produced; the productions of X
based_on: the books? behind X; the books? on which T is based; the books? that inspired X
~based_on: the films based on X; the film adaptations of X
~based_on: the films adapted from X
born_in: the birthplaces? of X; the (?:city|cities) where T was born; T's birthplace
born_in: the native (?:city|cities) of X
~born_in: the people born in X; the people who were born in X
~born_in: the natives of X
spouse: the spouses? of X; the (?:person|people) married to X; T's spouse
spouse: the marriage partners? of X
works_for: the employers? of X; the (?:company that employs|companies that employ) X; T's employer
works_for: the (?:company|companies) T works for
~works_for: the employees of X; the people who work for X; the people employed by X
wrote: the books by X; the books written by X; the books that T wrote
~wrote: the authors? of X; the writers? of X; the (?:person|people) who wrote X
located_in: the (?:country|countries) of X; the (?:country|countries) where T lies
located_in: the (?:country|countries) around X
~located_in: the cities in X; the cities of X; the cities located in X
capital_of: the (?:country|countries) with the capital X; the (?:country|countries) governed from X
capital_of: the (?:country|countries) of which T is the capital
~capital_of: the capitals? of X; the capital (?:city|cities) of X; the seats? of government of X
~capital_of: T's capital
official_language: the official languages? of X; the national languages? of X
~official_language: the countries where T is official; the countries with the official language X
~official_language: the countries whose official language is X
founded_by: the founders of X; the people who founded X; the people who started X
~founded_by: the companies founded by X; the companies that T founded; the companies started by X
headquartered_in: the home (?:city|cities) of X; the headquarters (?:city|cities) of X
headquartered_in: the (?:city|cities) where T has its headquarters
~headquartered_in: the companies based in X; the companies headquartered in X
~headquartered_in: the companies with headquarters in X
born_in located_in: the native (?:country|countries) of X; the (?:country|countries) where T was born
~located_in ~born_in: the people born in the cities of X; the natives of the cities in X
headquartered_in located_in: the (?:home|headquarters) (?:country|countries) of X
~starred_actors directed_by: the directors who worked with X; the directors who cast X
~directed_by starred_actors: the actors who worked with the director T; the actors directed by X
wrote ~based_on: the films based on the work of X; the films based on books by X
~starred_actors starred_actors: the co-stars of T; the people who acted together with T
directed_by ~directed_by: the films (?:that share a|with the same) director (?:with|as) T
starred_actors ~starred_actors: the films (?:that share an|with the same) actor (?:with|as) T
genre ~genre: the films (?:that share a|with the same) genre (?:with|as) T
release_year ~release_year: the films (?:that share a|with the same) release year (?:with|as) T
in_language ~in_language: the films (?:that share a|with the same) language (?:with|as) T
produced_by ~produced_by: the films (?:that share a|with the same) producer (?:with|as) T
born_in ~born_in: the people (?:that share a|with the same) birthplace (?:with|as) T
works_for ~works_for: the people (?:that share an|with the same) employer (?:with|as) T
~wrote wrote: the books (?:that share an|with the same) author (?:with|as) T
located_in ~located_in: the cities (?:that share a|with the same) country (?:with|as) T
official_language ~official_language: the countries that share an official language with T
official_language ~official_language: the countries with the same official language as T
founded_by ~founded_by: the companies (?:that share a|with the same) founder (?:with|as) T
headquartered_in ~headquartered_in: the companies (?:that share a|with the same) home city (?:with|as) T
""")  # noqa: E501

QUESTIONS = table(r"""
: (?:who|what) IS (the .+|T's .+); name (the .+|T's .+)
directed_by: who directed X; who WAS X directed by; who made X
~directed_by: which films did X direct; what films were directed by X; which films did X make
starred_actors: who starred in X; who acted in X; which actors appear in X
starred_actors: who plays in X
~starred_actors: which films did X act in; in which films did X star; which films starred X
~starred_actors: what did X play in
genre: what genres? IS X; which genres DO X fall under; what kinds? of film IS X
~genre: which films are T films; which films have the genre X; which films fall under X
release_year: when WAS X released; in which years? did X come out; what years? WAS X released in
~release_year: which films were released in X; which films came out in X; what films appeared in X
in_language: what languages? IS X in; in which languages? WAS X made
in_language: which languages? do people speak in X
~in_language: which films are in X; which films were made in X; in which films do people speak X
produced_by: which (?:company|companies) produced X; who produced X
produced_by: by which (?:company|companies) WAS X produced
~produced_by: which films did X produce; what films were produced by X
~produced_by: which films are productions of X
based_on: which books? IS X based on; which books? inspired X; from which books? WAS X adapted
~based_on: which films are based on X; which films were adapted from X
~based_on: what films did X inspire
born_in: where WAS X born; in which (?:city|cities) WAS X born
born_in: which (?:city|cities) DO X come from
~born_in: who was born in X; which people come from X
~born_in: which people have X as their birthplace
spouse: who IS X married to; who married X; who is married to X
works_for: who DO X work for; which (?:company|companies) DO X work for; who employs X
~works_for: who works for X; which people work for X; who is employed by X
~works_for: which people does T employ
wrote: which books did X write; what did X write; which books were written by X
~wrote: who wrote X; who WAS X written by; which authors? wrote X
located_in: in which (?:country|countries) IS X
located_in: which (?:country|countries) IS X in; in what (?:country|countries) IS X located
~located_in: which cities are in X; which cities lie in X
~located_in: what cities does T have
capital_of: of which (?:country|countries) IS X the capitals?
capital_of: which (?:country is|countries are) governed from X
capital_of: which (?:country has|countries have) the capital X
~capital_of: which (?:city is|cities are) the capitals? of X
~capital_of: from which (?:city|cities) IS X governed; where IS X governed from
official_language: which (?:language is|languages are) official in X; which official languages? DO X have
official_language: which languages? do the authorities of X use
~official_language: which countries have the official language X
~official_language: in which countries IS X official; which countries use X officially
founded_by: who founded X; who started X; who WAS X founded by
~founded_by: which companies did X found; which companies were founded by X; what did X start
headquartered_in: where IS X headquartered; in which (?:city|cities) IS X based
headquartered_in: where DO X have (?:its|their) headquarters
~headquartered_in: which companies are based in X; which companies are headquartered in X
~headquartered_in: which companies have their headquarters in X
born_in located_in: in which (?:country|countries) WAS X born
born_in located_in: which (?:country|countries) DO X come from
~located_in ~born_in: who was born in a city of X; who was born somewhere in X
headquartered_in located_in: in which (?:country|countries) IS X (?:based|headquartered)
~starred_actors directed_by: which directors did X work with; which directors cast X
~directed_by starred_actors: which actors did X direct; which actors were directed by X
wrote ~based_on: which films are based on the work of X; for which films did X write the book
~starred_actors starred_actors: who acted together with T; who starred in a film with T
~starred_actors starred_actors: who appears next to T
directed_by ~directed_by: which films (?:share a|have the same) director (?:with|as) T
directed_by ~directed_by: which other films did the director of T direct
directed_by ~directed_by: what else was made by the director of T
starred_actors ~starred_actors: which films (?:share an|have the same) actor (?:with|as) T
starred_actors ~starred_actors: in which other films do actors of T appear
starred_actors ~starred_actors: which other films feature someone from the cast of T
genre ~genre: which films (?:share a|have the same) genre (?:with|as) T
genre ~genre: which other films are of the same kind as T; which other films have a genre of T
release_year ~release_year: which films (?:share a|have the same) release year (?:with|as) T
release_year ~release_year: which other films came out in the year of T
release_year ~release_year: which films were released at the same time as T
in_language ~in_language: which films (?:share a|have the same) language (?:with|as) T
in_language ~in_language: which other films are in the language of T
produced_by ~produced_by: which films (?:share a|have the same) producer (?:with|as) T
produced_by ~produced_by: which other films did the producer of T make
produced_by ~produced_by: which other films come from the company behind T
born_in ~born_in: which people (?:share a|have the same) birthplace (?:with|as) T
born_in ~born_in: who was born in the same city as T; who else comes from the birthplace of T
works_for ~works_for: which people (?:share an|have the same) employer (?:with|as) T
works_for ~works_for: who are the colleagues of T; who works for the same company as T
~wrote wrote: which books (?:share an|have the same) author (?:with|as) T
~wrote wrote: which other books did the author of T write
~wrote wrote: what else was written by the writer of T
located_in ~located_in: which cities (?:share a|have the same) country (?:with|as) T
located_in ~located_in: which other cities are in the country of T
located_in ~located_in: which cities lie in the same country as T
official_language ~official_language: which countries share an official language with T
official_language ~official_language: which countries have the same official language as T
official_language ~official_language: in which other countries is the official language of T official
founded_by ~founded_by: which companies (?:share a|have the same) founder (?:with|as) T
founded_by ~founded_by: which other companies did a founder of T start
headquartered_in ~headquartered_in: which companies (?:share a|have the same) home city (?:with|as) T
headquartered_in ~headquartered_in: which companies are based in the same city as T
""")  # noqa: E501


def read_path(text: str) -> tuple[Path, set[str]]:
    """Return the path that a question with `TOPIC` in it asks about, and the patterns used.

    Fails unless there is exactly one path.
    """
    used: set[str] = set()
    found = set()
    for pattern, steps in QUESTIONS:
        match = pattern.fullmatch(text)
        if match:
            for before in noun_paths(match[match.lastindex or 0], used):
                found.add(before + steps)
                used.add(pattern.pattern)
    assert len(found) == 1, f"{text!r} asks about {sorted(found) or 'nothing'}"
    return found.pop(), used


def noun_paths(text: str, used: set[str]) -> set[Path]:
    if text == TOPIC:
        return {()}
    found = set()
    for pattern, steps in NOUNS:
        match = pattern.fullmatch(text)
        if match:
            for before in noun_paths(match[match.lastindex or 0], used):
                found.add(before + steps)
                used.add(pattern.pattern)
    return found


class FactReader:
    """Follow paths over triples of names."""

    def __init__(self, triples: Iterable[Triple]) -> None:
        self.connected: dict[tuple[str, str], set[str]] = defaultdict(set)
        for subject, relation, target in triples:
            self.connected[subject, relation].add(target)
            self.connected[target, f"~{relation}"].add(subject)
        ends: dict[str, set[str]] = defaultdict(set)
        for (_, step), reached in self.connected.items():
            ends[step] |= reached
        self.reached = {step: len(reached) for step, reached in ends.items()}

    def answers(self, topics: set[str], path: Path) -> set[str]:
        """Return the ends of all walks along a path that never come back to a topic."""
        found = set()

        def walk(place: str, steps: Path) -> None:
            if not steps:
                found.add(place)
                return
            for following in self.connected.get((place, steps[0]), ()):
                if following not in topics:
                    walk(following, steps[1:])

        for topic in topics:
            walk(topic, path)
        return found
