"""Print answers as text, as JSON, and next to the right answer."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from rich.text import Text

from memhop.cli.screen import print_line, print_progress, stdout
from memhop.data.records import Record
from memhop.picture import escaped
from memhop.text.answer import Answer
from memhop.tokenizer import answer_word, split_words


def no_answer(answer: Answer) -> str:
    """Return why an answer does not depend on the story; an empty text if it does."""
    unknown = set(answer.unknown_words)
    if not unknown and any(map(split_words, answer.sentences)):
        return ""  # without splitting every sentence again
    story = set(chain.from_iterable(map(split_words, answer.sentences)))
    if not story:
        return "no answer: the story is empty"
    if story <= unknown:
        return "no answer: the model knows no word of the story"
    if unknown.issuperset(split_words(answer.question)):
        return "no answer: the model knows no word of the question"
    return ""


def title(answer: Answer) -> str:
    """Return the line above the picture of an answer."""
    reason = no_answer(answer)
    return f"{answer.question}  {reason}" if reason else answer.title()


def print_answer(answer: Answer) -> None:
    """Print a question, its answer and the sentences that each hop read."""
    line = Text(escaped(answer.question) + "  ", style="bold")
    if reason := no_answer(answer):
        line.append(reason, style="dim")
    else:
        line.append(escaped(answer.answer), style="bold green")
        line.append(escaped(f"  ({answer.shares()})"), style="dim")
    stdout().print(line, soft_wrap=True)
    if answer.unknown_words:
        print_line(answer.never_seen(), "red")
    if any(map(split_words, answer.sentences)):
        stdout().print(answer.picture())


def print_truncated(truncated: Sequence[int]) -> None:
    """Print one line on standard error if some stories do not fit into the memory.

    Args:
        truncated: `Answer.truncated` of each question.
    """
    if counts := [count for count in truncated if count]:
        print_progress(
            f"the memory is full in {len(counts):,} of {len(truncated):,} questions: "
            f"up to {max(counts):,} of the oldest sentences are not read"
        )


def is_correct(answer: Answer, right: str) -> bool:
    """Return whether the printed answer is the right one."""
    return not no_answer(answer) and answer_word(answer.answer) == answer_word(right)


def print_verdict(answer: Answer, right: str) -> None:
    """Print the right answer, and whether the model gave it."""
    verdict, style = ("correct", "dim") if is_correct(answer, right) else ("wrong", "red")
    print_line(f"{verdict} (the right answer: {right})", style)


def place_json(record: Record) -> dict[str, Any]:
    """Return where a question is in its file, and its id if it has one, as a JSON object."""
    return {"line": record.line} | ({} if record.id is None else {"id": record.id})


def answer_json(answer: Answer, right: str | None = None) -> dict[str, Any]:
    """Return an answer, and the right one if it is known, as a JSON object."""
    verdict: dict[str, Any] = {}
    if right is not None:
        verdict = {"right_answer": right, "is_correct": is_correct(answer, right)}
    return {
        "question": answer.question,
        "answer": answer.answer,
        "probability": answer.probability,
        "runners_up": [{"answer": word, "probability": p} for word, p in answer.runners_up],
        "sentences": list(answer.sentences),
        "attention": answer.attention.tolist(),
        "unknown_words": list(answer.unknown_words),
        "truncated": answer.truncated,
        "no_answer": no_answer(answer),
        **verdict,
    }
