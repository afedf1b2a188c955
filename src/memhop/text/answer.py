"""What a model says to one question, and how that is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from memhop.picture import Picture, picture, spelled_out

_UNKNOWN_SHOWN = 8


@dataclass(frozen=True)
class Answer:
    """What a model says to one question.

    Attributes:
        question: the question as it was asked.
        answer: the most probable answer, as training spelled it most often: a word, several words,
            or a list as ``apple,milk``.
        probability: its share of the softmax over all rows of the answer table.
        runners_up: the next answers, each with its probability.
        sentences: the sentences of the story, in order.
        attention: [hops, sentences] float32: how much each hop read of each sentence; 0 for one
            without a word (blank, or punctuation alone), which takes no slot, and for one that is
            older than the memory is long. A hop's sum is below 1 where the recipe lets empty slots
            take attention (``paper`` does).
        unknown_words: words of story and question that training never showed, read as nothing
            in their place.
        truncated: the number of sentences, the oldest ones, for which the memory had no slot.
    """

    question: str
    answer: str
    probability: float
    runners_up: tuple[tuple[str, float], ...]
    sentences: tuple[str, ...]
    attention: Tensor
    unknown_words: tuple[str, ...]
    truncated: int = 0

    def picture(self) -> Picture:
        """The sentences that each hop read; print it."""
        return picture(self.attention, self.sentences)

    def title(self) -> str:
        """Question and answer in a line, as a picture of it is called."""
        return f"{self.question}  {self.answer} ({_percent(self.probability)})"

    def shares(self) -> str:
        """How probable the answer is, and the next two where they are worth saying."""
        shares = ((word, _percent(share)) for word, share in self.runners_up[:2])
        others = ", ".join(f"{word} {share}" for word, share in shares if share != "0%")
        return _percent(self.probability) + (f"; then {others}" if others else "")

    def never_seen(self) -> str:
        """What has to be said of unknown words; nothing where there are none."""
        return never_seen(self.unknown_words)

    def not_read(self) -> str:
        """Return a line on the sentences that the memory could not hold; empty if it held all."""
        if not self.truncated:
            return ""
        one = self.truncated == 1
        oldest = "oldest sentence is" if one else f"{self.truncated:,} oldest sentences are"
        return f"the memory is full: the {oldest} not read"

    def _repr_html_(self) -> str:
        """What a notebook shows: all of it, in the colour of the text around it."""
        question, answer, shares, *notes = (
            escape(spelled_out(text))
            for text in (self.question, self.answer, f"({self.shares()})", self.never_seen(),
                         self.not_read())
        )  # fmt: skip
        lines = [f"<div><b>{question}</b>&#8195;<b>{answer}</b> {shares}</div>"]
        lines += [f"<div>{note}</div>" for note in notes if note]
        return "\n".join(["<div>", *lines, self.picture()._repr_html_(), "</div>"])


def never_seen(words: Sequence[str]) -> str:
    """Return the line that names unknown words; an empty text for none."""
    if not words:
        return ""
    shown = ", ".join(words[:_UNKNOWN_SHOWN])
    more = len(words) - _UNKNOWN_SHOWN
    shown += f" and {more:,} more" if more > 0 else ""
    return f"never seen in training, read as nothing: {shown}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
