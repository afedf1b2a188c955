"""Compare generated stories with the released stories of the same task."""

import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memhop.cli.reproduce import ReleasedStories, Seed, Tasks
from memhop.cli.settings import parse_tasks
from memhop.data import Story, find_tasks, generate, read_stories
from memhop.data.stories import TASKS
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.reproduce.trainings import available_tasks
from memhop.tokenizer import split_words

# The words that vary among sentences of one template, from the released files. Any other word stays
# in its template, so a word of our own shows as a template that is not released.
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
    """Return the sentence with a slot for each word that varies, capitalized like the word.

    >>> template("Yesterday Mary went to the park."), template("Why did mary get the milk?")
    ('{Time} {Person} went to the {place}.', 'Why did {person} get the {thing}?')
    """

    def slot(match: re.Match[str]) -> str:
        name = match.lastgroup or ""
        return f"{{{name.capitalize() if match[0][0].isupper() else name}}}"

    return _WORDS.sub(slot, sentence)


class Profile(NamedTuple):
    """The properties of a task's stories that are compared.

    Attributes:
        words: of statements, questions and answers.
        templates: of statements and questions.
        statements: the distinct statements.
        before: mean, minimum and maximum of the statements before a question.
        questions: mean, minimum and maximum of the questions of a story.
        answers: number of questions by answer.
        facts: number of questions by number of supporting facts.
    """

    words: frozenset[str]
    templates: frozenset[str]
    statements: frozenset[str]
    before: Numbers
    questions: Numbers
    answers: Counter[str]
    facts: Counter[int]

    @classmethod
    def of(cls, stories: Iterable[Story]) -> "Profile":
        """Return the profile of stories with at least one question."""
        stories = list(stories)
        questions = [question for story in stories for question in story.questions]
        statements = frozenset(text for story in stories for text in story.statements)
        sentences = statements.union(question.text for question in questions)
        answers = Counter(question.answer for question in questions)
        # the parts of a list: which lists occur is chance
        texts = sentences.union(*(answer.split(",") for answer in answers))
        return cls(
            words=frozenset(word for text in texts for word in split_words(text)),
            templates=frozenset(map(template, sentences)),
            statements=statements,
            before=_numbers([question.after for question in questions]),
            questions=_numbers([len(story.questions) for story in stories]),
            answers=answers,
            facts=Counter(len(question.supporting_facts) for question in questions),
        )


def total_variation(first: Mapping[Any, int], second: Mapping[Any, int]) -> float:
    """Return the total variation distance of two distributions, given as counts.

    >>> total_variation({"yes": 1, "no": 1}, {"yes": 3, "no": 1})
    0.25
    """
    one, other = sum(first.values()), sum(second.values())
    keys = first.keys() | second.keys()
    return sum(abs(first.get(key, 0) / one - second.get(key, 0) / other) for key in keys) / 2


def compare(released: Profile, generated: Profile) -> dict[str, str | int | float]:
    """Return the columns of a row: missing and extra words and templates, and the numbers."""
    row: dict[str, str | int | float] = {}
    for name in ("words", "templates"):
        theirs, ours = getattr(released, name), getattr(generated, name)
        row |= {name: len(theirs), f"{name}_generated": len(ours)}
        for which, items in (("missing", theirs - ours), ("extra", ours - theirs)):
            row |= {f"{name}_{which}": len(items), f"{name}_{which}_are": "; ".join(sorted(items))}
    for name, theirs, ours in (
        ("told", released.before, generated.before),
        ("asked", released.questions, generated.questions),
    ):
        row |= {name: round(theirs[0], 3), f"{name}_generated": round(ours[0], 3)}
        row |= {f"{name}_range": _range(theirs), f"{name}_range_generated": _range(ours)}
    return row | {
        "told_ratio": round(generated.before[0] / released.before[0], 4),
        "answers_variation": round(total_variation(released.answers, generated.answers), 4),
        "facts_variation": round(total_variation(released.facts, generated.facts), 4),
        "distinct_statements": len(released.statements),
        "distinct_statements_generated": len(generated.statements),
    }


def measure(
    data: ReleasedStories, tasks: Tasks = "1-20", seed: Seed = 0
) -> Iterator[list[dict[str, Any]]]:
    """Compare words, templates, lengths with released stories."""
    for row in rows_of(data, None, seed, available_tasks(data, parse_tasks(tasks))):
        yield [row]


def rows_of(
    data: Path, questions: int | None, seed: int, tasks: Collection[int]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each task that is in the folder and that we generate.

    Args:
        data: folder with the released files; training and test files count together.
        questions: number of generated questions; None for as many as are released.
        seed: of the generated stories.
        tasks: the tasks to compare.
    """
    for task, splits in find_tasks(data).items():
        files = [splits[split] for split in ("train", "test") if split in splits]
        if task in tasks and task in TASKS and files:
            released = Profile.of(story for file in files for story in read_stories(file))
            count = released.answers.total()
            generated = Profile.of(generate(task, questions=questions or count, seed=seed))
            yield {
                "task": task,
                "questions": count,
                "questions_generated": generated.answers.total(),
                "seed": seed,
                **compare(released, generated),
                **provenance(),
            }


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
    columns = (
        "task", "words", "words missing", "words extra", "templates", "templates missing",
        "templates extra", "statements", "statements, ours", "range", "range, ours",
        "questions a story", "questions, ours", "answers TV", "facts TV",
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
    questions = [int(row["questions"]) for row in rows]
    least, most = min(questions), max(questions)
    counted = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    note = (
        f"{counted} released questions a task, as many generated ones of seed {rows[0]['seed']}. "
        "Templates are sentences with slots for people, places and things; statements are those "
        "before a question, mean and range. TV is the total variation distance, from 0 (equal) to "
        "1, of the answers and of the number of supporting facts."
    )
    return [Sheet("Released and generated stories", columns, lines, note)]


def _numbers(counts: Sequence[int]) -> Numbers:
    return statistics.fmean(counts), min(counts), max(counts)


def _range(numbers: Numbers) -> str:
    _, least, most = numbers
    return f"{least}-{most}" if least < most else str(least)
