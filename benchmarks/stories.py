"""How alike are generated stories and the released ones of the same task?"""

import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.hop.tables import Sheet
from memhop.data import Story, find_tasks, generate, read_stories
from memhop.data.stories import TASKS
from memhop.reproduce.record import surroundings
from memhop.tokenizer import split_words

# What varies among sentences of one template, from the released files. A word that is not in here
# stays in its template, so that one of our own shows up as a template that is not released.
CLASSES = {
    "person": "Antoine|Bernhard|Bill|Brian|Daniel|Emily|Fred|Gertrude|Greg|Jason|Jeff|Jessica|"
    "John|Julie|Julius|Lily|Mary|Sandra|Sumit|Winona|Yann",
    "place": "bathroom|bedroom|cinema|garden|hallway|kitchen|office|park|school",
    "thing": "apple|football|milk|pajamas",
    "direction": "east|north|south|west",
    "time": "yesterday|this (?:morning|afternoon|evening)",
    "animal": "cats?|frog|lion|mice|mouse|rhino|sheep|swan|wolf|wolves",
    "shape": "(?:(?:blue|pink|red|yellow) )?(?:rectangle|sphere|square|triangle)",
    "color": "gray|green|white|yellow",
    "container": "box of chocolates|box|chest|chocolate|container|suitcase",
    "mood": "bored|hungry|thirsty|tired",
}
_WORDS = re.compile(
    rf"\b(?:{'|'.join(f'(?P<{name}>{words})' for name, words in CLASSES.items())})\b", re.IGNORECASE
)
Numbers = tuple[float, int, int]


def template(sentence: str) -> str:
    """The sentence with a slot for each word that varies, in capitals where the word is.

    >>> template("Yesterday Mary went to the park."), template("Why did mary get the milk?")
    ('{Time} {Person} went to the {place}.', 'Why did {person} get the {thing}?')
    """

    def slot(match: re.Match[str]) -> str:
        name = match.lastgroup or ""
        return f"{{{name.capitalize() if match[0][0].isupper() else name}}}"

    return _WORDS.sub(slot, sentence)


class Profile(NamedTuple):
    """What is compared of the stories of one task.

    Attributes:
        words: of statements, questions and answers.
        templates: of statements and of questions.
        statements: the texts of all statements, each once.
        told: statements before a question: the mean, the least, the most.
        asked: questions a story: the mean, the least, the most.
        answers: how many questions have each answer.
        facts: how many questions have each number of supporting facts.
    """

    words: frozenset[str]
    templates: frozenset[str]
    statements: frozenset[str]
    told: Numbers
    asked: Numbers
    answers: Counter[str]
    facts: Counter[int]

    @classmethod
    def of(cls, stories: Iterable[Story]) -> "Profile":
        """Read the stories, of which at least one asks a question."""
        told = list(stories)
        questions = [question for story in told for question in story.questions]
        statements = frozenset(text for story in told for text in story.statements)
        sentences = statements.union(question.text for question in questions)
        answers = Counter(question.answer for question in questions)
        # the parts of a list: whether the same lists occur is a matter of chance
        texts = sentences.union(*(answer.split(",") for answer in answers))
        return cls(
            words=frozenset(word for text in texts for word in split_words(text)),
            templates=frozenset(map(template, sentences)),
            statements=statements,
            told=_numbers([question.after for question in questions]),
            asked=_numbers([len(story.questions) for story in told]),
            answers=answers,
            facts=Counter(len(question.supporting_facts) for question in questions),
        )


def total_variation(first: Mapping[Any, int], second: Mapping[Any, int]) -> float:
    """The share of one that would have to change to be distributed as the other.

    >>> total_variation({"yes": 1, "no": 1}, {"yes": 3, "no": 1})
    0.25
    """
    one, other = sum(first.values()), sum(second.values())
    keys = first.keys() | second.keys()
    return sum(abs(first.get(key, 0) / one - second.get(key, 0) / other) for key in keys) / 2


def compare(released: Profile, generated: Profile) -> dict[str, str | int | float]:
    """The columns of a row: what is missing, what is extra, and how the numbers differ."""
    row: dict[str, str | int | float] = {}
    for name in ("words", "templates"):
        theirs, ours = getattr(released, name), getattr(generated, name)
        row |= {name: len(theirs), f"{name}_generated": len(ours)}
        for which, items in (("missing", theirs - ours), ("extra", ours - theirs)):
            row |= {f"{name}_{which}": len(items), f"{name}_{which}_are": "; ".join(sorted(items))}
    for name, theirs, ours in (
        ("told", released.told, generated.told),
        ("asked", released.asked, generated.asked),
    ):
        row |= {name: round(theirs[0], 3), f"{name}_generated": round(ours[0], 3)}
        row |= {f"{name}_range": _range(theirs), f"{name}_range_generated": _range(ours)}
    return row | {
        "told_ratio": round(generated.told[0] / released.told[0], 4),
        "answers_variation": round(total_variation(released.answers, generated.answers), 4),
        "facts_variation": round(total_variation(released.facts, generated.facts), 4),
        "distinct_statements": len(released.statements),
        "distinct_statements_generated": len(generated.statements),
    }


def measure(
    data: Path, questions: int | None, seed: int, tasks: Collection[int]
) -> Iterator[dict[str, Any]]:
    """A row for each of the tasks that is in the folder and that we generate.

    Args:
        data: folder with the released files; training and test files count together.
        questions: how many to generate; None is as many as are released.
        seed: of the generated stories.
        tasks: the tasks to compare.
    """
    for task, splits in find_tasks(data).items():
        files = [splits[split] for split in ("train", "test") if split in splits]
        if task in tasks and task in TASKS and files:
            released = Profile.of(story for file in files for story in read_stories(file))
            there = released.answers.total()
            made = generate(task, questions=questions or there, seed=seed)
            generated = Profile.of(made)
            yield {
                "task": task,
                "questions": there,
                "questions_generated": generated.answers.total(),
                "seed": seed,
                **compare(released, generated),
                **surroundings(),
            }


def sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The rows as a table."""
    columns = (
        "task", "words", "missing", "extra", "templates", "missing", "extra", "statements", "ours",
        "range", "ours", "questions a story", "ours", "answers TV", "facts TV",
    )  # fmt: skip
    counts = [f"{of}{what}" for of in ("words", "templates") for what in ("", "_missing", "_extra")]
    lines = [
        [str(row["task"]), *(str(row[count]) for count in counts),
         *(f"{float(row[name]):.1f}" for name in ("told", "told_generated")),
         str(row["told_range"]), str(row["told_range_generated"]),
         *(f"{float(row[name]):.1f}" for name in ("asked", "asked_generated")),
         *(f"{float(row[name]):.3f}" for name in ("answers_variation", "facts_variation"))]
        for row in rows
    ]  # fmt: skip
    asked = [int(row["questions"]) for row in rows]
    counted = f"{min(asked):,}" if len(set(asked)) < 2 else f"{min(asked):,} to {max(asked):,}"
    note = (
        f"{counted} released questions a task, beside generated ones of seed {rows[0]['seed']}. "
        "Templates are sentences with slots for people, places, things and the like; statements "
        "are those before a question, in the mean and from the fewest to the most. TV is the total "
        "variation distance, from 0 (alike) to 1, of answers and of the number of supporting facts."
    )
    return Sheet("Released and generated stories", columns, lines, note)


def _numbers(counts: Sequence[int]) -> Numbers:
    return statistics.fmean(counts), min(counts), max(counts)


def _range(numbers: Numbers) -> str:
    _, least, most = numbers
    return f"{least}-{most}" if least < most else str(least)
