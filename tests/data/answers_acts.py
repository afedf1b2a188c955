"""Answers of the tasks in which people move and handle things: 1 to 3 and 5 to 14."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from .answers_task import Task, form_of

GO = r"(?:went to|went back to|moved to|journeyed to|travelled to) the (?P<what>\w+)"
TAKE = r"(?:took|got|grabbed|picked up) the (?P<what>\w+)"
PUT = r"(?:dropped|discarded|left|put down) the (?P<what>\w+)"
NEXT = "(?:Then|Afterwards|After that|Following that)"
TIMES = ("yesterday", "this morning", "this afternoon", "this evening")
TIME = f"(?P<more>{'|'.join(TIMES)})"
TIME_FIRST = f"(?P<more>{'|'.join(time.capitalize() for time in TIMES)})"
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

FORMS = {
    "go": rf"(?P<who>\w+) {GO}\.",
    "go together": rf"(?P<who>\w+ and \w+) {GO}\.",
    "go on": rf"{NEXT} (?P<who>he|she) {GO}\.",
    "go on together": rf"{NEXT} (?P<who>they) {GO}\.",
    "go then": rf"(?P<who>\w+) {GO} {TIME}\.",
    "then go": rf"{TIME_FIRST} (?P<who>\w+) {GO}\.",
    "take": rf"(?P<who>\w+) {TAKE}\.",
    "take there": rf"(?P<who>\w+) {TAKE} there\.",
    "put": rf"(?P<who>\w+) {PUT}\.",
    "put there": rf"(?P<who>\w+) {PUT} there\.",
    "give": r"(?P<who>\w+) (?:gave|handed|passed) the (?P<what>\w+) to (?P<more>\w+)\.",
    "is": r"(?P<who>\w+) is in the (?P<what>\w+)\.",
    "not": r"(?P<who>\w+) is (?:not|no longer) in the (?P<what>\w+)\.",
    "either": r"(?P<who>\w+) is either in the (?P<what>\w+) or the (?P<more>\w+)\.",
}


class Act(NamedTuple):
    """A statement: who did what with which thing or at which place, and with whom or when."""

    action: str
    who: tuple[str, ...]
    what: str
    more: str


Acts = Sequence[Act]


def read(forms: Sequence[str], story: Sequence[str]) -> list[Act]:
    """Return the acts of a story, with names in place of he, she and they."""
    acts: list[Act] = []
    called: dict[tuple[str, ...], str] = {}
    for text in story:
        form, match = form_of({form: FORMS[form] for form in forms}, text)
        who = tuple(match["who"].split(" and "))
        if form.startswith("go on"):
            who = acts[-1].who if acts else ()
            same = called.setdefault(who, match["who"]) == match["who"]
            assert same, f"{who} is called he and she"
        assert len(set(who)) == (2 if "together" in form else 1), f"who is it in {text!r}"
        more = match.groupdict().get("more") or ""
        action = "go" if "go" in form else form.removesuffix(" there")
        acts.append(Act(action, who, match["what"], more.lower() if action == "go" else more))
    return acts


def place_of_person(acts: Acts, who: str) -> str:
    """Return the last place of a person (tasks 1, 11, 12, 13)."""
    return _last(acts, lambda act: who in act.who).what


def place_of_thing(acts: Acts, thing: str) -> str:
    """Return the last place of a thing (task 2)."""
    stops = _stops(acts, thing)
    assert stops, f"no place of the {thing} is known"
    return stops[-1]


def place_before(acts: Acts, thing: str, place: str) -> str:
    """Return the place of a thing before its last visit to a place (task 3)."""
    return _before(_stops(acts, thing), place)


def who_received_from(acts: Acts, giver: str, thing: str) -> str:
    """Return the receiver of the last gift of a thing (task 5)."""
    return _last(acts, lambda act: act[:3] == ("give", (giver,), thing)).more


def what_was_given(acts: Acts, giver: str, taker: str) -> str:
    """Return the thing of the last gift to a person (task 5)."""
    return _last(acts, lambda act: act[:2] == ("give", (giver,)) and act.more == taker).what


def who_gave_to(acts: Acts, thing: str, taker: str) -> str:
    """Return the giver of the last gift of a thing to a person (task 5)."""
    act = _last(acts, lambda act: (act.action, act.what, act.more) == ("give", thing, taker))
    return act.who[0]


def who_gave(acts: Acts, thing: str) -> str:
    """Return the giver of the last gift of a thing (task 5)."""
    return _last(acts, lambda act: (act.action, act.what) == ("give", thing)).who[0]


def who_received(acts: Acts, thing: str) -> str:
    """Return the receiver of the last gift of a thing (task 5)."""
    return _last(acts, lambda act: (act.action, act.what) == ("give", thing)).more


def is_there(acts: Acts, who: str, place: str) -> str:
    """Return whether a person is in a place, by the last statement on that (tasks 6, 9, 10)."""
    act = _last(acts, lambda act: who in act.who and act.action in ("go", "is", "not", "either"))
    if act.action == "not":
        assert act.what == place, f"{who} is only known not to be elsewhere"
        return "no"
    if act.action == "either":
        assert act.what != act.more, f"one place for two: {act}"
        return "maybe" if place in (act.what, act.more) else "no"
    return "yes" if act.what == place else "no"


def how_many(acts: Acts, who: str) -> str:
    """Return the number of things in hand (task 7)."""
    return NUMBERS[len(_in_hand(acts, who))]


def which(acts: Acts, who: str) -> str:
    """Return the things in hand, in the order of the first taking (task 8)."""
    return ",".join(_in_hand(acts, who)) or "nothing"


def place_before_time(acts: Acts, who: str, place: str) -> str:
    """Return the stop before the last visit to a place, in the order of times (task 14)."""
    at = [{act.what for act in acts if act.more == time and who in act.who} for time in TIMES]
    assert all(len(places) < 2 for places in at), f"{who} went to two places at one time"
    return _before([place for places in at for place in places], place)


def _last(acts: Acts, fits: Callable[[Act], bool]) -> Act:
    act = next((act for act in reversed(acts) if fits(act)), None)
    assert act, "no statement about it"
    return act


def _before(stops: Sequence[str], place: str) -> str:
    befores = [before for before, stop in pairwise(stops) if stop == place]
    assert befores, f"no stop is known before the {place}"
    return befores[-1]


def _stops(acts: Acts, thing: str) -> list[str]:
    """Return the known places of a thing."""
    at: dict[str, str] = {}
    stops: list[str] = []
    holder = ""
    for action, (who, *_), what, _ in acts:
        if action == "go":
            at[who] = what
        elif what == thing:
            has = ("", who) if action == "put" else ("",)  # "" if no statement says who took it
            assert holder in has, f"{holder} has the {thing}"
            known = {*stops[-1:], at.get(who)} - {None}
            assert holder or len(known) < 2, f"the {thing} is not where {who} is"
            holder = who  # also if it is put down: just before that
        place = at.get(holder)
        if place and stops[-1:] != [place]:
            stops.append(place)
        if action == "put" and what == thing:
            holder = ""
    return stops


def _in_hand(acts: Acts, who: str) -> list[str]:
    """Return the things that a person holds after all statements."""
    held: dict[str, bool] = {}  # in the order of the first taking, as released
    for action, people, thing, to in acts:
        if (action, people) == ("take", (who,)) or (action, to) == ("give", who):
            assert not held.get(thing), f"{who} has the {thing} already"
            held[thing] = True
        elif action in ("put", "give") and people == (who,):
            assert held.get(thing), f"{who} does not have the {thing}"
            held[thing] = False
    assert held, f"no statement about the hands of {who}"
    return [thing for thing, has in held.items() if has]


def _task(forms: Sequence[str], questions: dict[str, Callable[..., str]]) -> Task:
    return Task(partial(read, forms), questions)


WHERE_IS: dict[str, Callable[..., str]] = {r"Where is (\w+)\?": place_of_person}
IS_IN: dict[str, Callable[..., str]] = {r"Is (\w+) in the (\w+)\?": is_there}
PUTS = ("put", "put there")
ACT_TASKS = {
    1: _task(("go",), WHERE_IS),
    2: _task(("go", "take there", *PUTS), {r"Where is the (\w+)\?": place_of_thing}),
    3: _task(
        ("go", "take", "take there", *PUTS),
        {r"Where was the (\w+) before the (\w+)\?": place_before},
    ),
    5: _task(
        ("go", "take there", *PUTS, "give"),
        {
            r"Who did (\w+) give the (\w+) to\?": who_received_from,
            r"What did (\w+) give to (\w+)\?": what_was_given,
            r"Who gave the (\w+) to (\w+)\?": who_gave_to,
            r"Who gave the (\w+)\?": who_gave,
            r"Who received the (\w+)\?": who_received,
        },
    ),
    6: _task(("go", "take there", *PUTS), IS_IN),
    7: _task(
        ("go", "take there", *PUTS, "give"), {r"How many objects is (\w+) carrying\?": how_many}
    ),
    8: _task(("go", "take there", *PUTS), {r"What is (\w+) carrying\?": which}),
    9: _task(("go", "is", "not"), IS_IN),
    10: _task(("go", "is", "either"), IS_IN),
    11: _task(("go", "go on"), WHERE_IS),
    12: _task(("go together",), WHERE_IS),
    13: _task(("go together", "go on together"), WHERE_IS),
    14: _task(("go then", "then go"), {r"Where was (\w+) before the (\w+)\?": place_before_time}),
}
