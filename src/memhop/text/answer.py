"""Answer: the result of a question, and its texts for terminals and notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from memhop.picture import Picture, escaped, picture
from memhop.picture.labels import listed


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question.

    Attributes:
        question: the question.
        answer: the most probable answer, in its most frequent spelling: a word, several words, or a
            list such as ``apple,milk``.
        probability: of the answer, in the softmax over all rows of the answer table.
        runners_up: the next answers, each with its probability.
        sentences: the sentences of the story, in order.
        attention: float32 [hops, sentences], the attention of each hop to each sentence; 0 for a
            sentence without a word, which takes no slot, and for truncated sentences. The sum of a
            hop is below 1 if the recipe lets empty slots get attention (``paper`` does).
        unknown_words: words of story and question outside the vocabulary, which are ignored.
        truncated: the number of oldest sentences that exceed the memory.
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
        """Return the picture of the attention; print it, or show it in a notebook."""
        return picture(self.attention, self.sentences)

    def title(self) -> str:
        """Return question and answer in a line, the title of a picture."""
        return f"{self.question}  {self.answer} ({_percent(self.probability)})"

    def shares(self) -> str:
        """Return the probabilities of the answer and of the next two, unless these round to 0%."""
        shares = ((word, _percent(share)) for word, share in self.runners_up[:2])
        others = ", ".join(f"{word} {share}" for word, share in shares if share != "0%")
        return _percent(self.probability) + (f"; then {others}" if others else "")

    def never_seen(self) -> str:
        """Return a line on the unknown words; empty if there are none."""
        return never_seen(self.unknown_words)

    def not_read(self) -> str:
        """Return a line on the truncated sentences; empty if there are none."""
        if not self.truncated:
            return ""
        one = self.truncated == 1
        oldest = "oldest sentence is" if one else f"{self.truncated:,} oldest sentences are"
        return f"the memory is full: the {oldest} not read"

    def _repr_html_(self) -> str:
        """Return the answer and its picture as HTML, in the notebook's text colour."""
        question, answer, shares, *notes = (
            escape(escaped(text))
            for text in (self.question, self.answer, f"({self.shares()})", self.never_seen(),
                         self.not_read())
        )  # fmt: skip
        lines = [f"<div><b>{question}</b>&#8195;<b>{answer}</b> {shares}</div>"]
        lines += [f"<div>{note}</div>" for note in notes if note]
        return "\n".join(["<div>", *lines, self.picture()._repr_html_(), "</div>"])


def never_seen(words: Sequence[str]) -> str:
    """Return a line that names unknown words; empty if there are none."""
    return f"never seen in training, ignored: {listed(words)}" if words else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
