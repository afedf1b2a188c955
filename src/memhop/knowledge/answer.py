"""The answer to a question over facts, with the facts that each hop read."""

from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from memhop.picture import escaped
from memhop.picture.graph import Edge, GraphPicture, HopEdges, graph_picture
from memhop.picture.labels import listed, percent

_MAX_SHOWN = 3  # answers in a title


class FactRead(NamedTuple):
    """A fact that a hop read.

    Attributes:
        subject, relation, object: shown names, as in the knowledge base.
        is_inverse: whether it was read from object to subject.
        weight: p, the attention of the hop to the fact.
        support: the share of the answers' weight that came over this fact; the sum over all facts
            of a hop is 1.
    """

    subject: str
    relation: str
    object: str
    is_inverse: bool
    weight: float
    support: float


class HopRead(NamedTuple):
    """What a hop read.

    Attributes:
        facts: the facts with the most support, then with the most weight.
        num_facts: the number of all facts that it read.
        dropped: the share of weight on entities that the hop did not start from, because there
            were too many; above 0 the weights are estimates.
        words: the known words of the question with the attention of the hop, in order.
    """

    facts: tuple[FactRead, ...]
    num_facts: int
    dropped: float
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class KnowledgeAnswer:
    """The answer of a `KnowledgeModel`.

    Attributes:
        question: the question.
        answers: the entities with at least a tenth of the weight of the strongest, at most 50,
            with their probability, strongest first; empty if no path over the facts has weight.
        runners_up: the next ones.
        topics: the entities that the question names.
        hops: the hops up to the one that gave most of the answers.
        unknown_words: words that are not in the vocabulary.
        unknown_entities: given topics that are no entity of the facts.
        dropped: the largest share of weight that a hop dropped, also one after ``hops``; above 0
            the weights are estimates.
        knows_question: whether the model knows a word of the question besides the topics; without
            one there is no answer.
    """

    question: str
    answers: tuple[tuple[str, float], ...]
    runners_up: tuple[tuple[str, float], ...]
    topics: tuple[str, ...]
    hops: tuple[HopRead, ...]
    unknown_words: tuple[str, ...]
    unknown_entities: tuple[str, ...]
    dropped: float = 0.0
    knows_question: bool = True

    @property
    def answer(self) -> str | None:
        """The strongest answer; None if there is none."""
        return self.answers[0][0] if self.answers else None

    @property
    def reason(self) -> str:
        """Why there is no answer; empty if there is one."""
        if self.answers:
            return ""
        if not self.topics:
            return "no answer: no entity of the facts in the question"
        if not self.knows_question:
            return "no answer: the model knows no word of the question besides its entities"
        return "no answer: no path over the facts from " + ", ".join(self.topics)

    def picture(self) -> GraphPicture:
        """Return the picture of the facts that each hop read; print it, or show it in a notebook.

        >>> fact = FactRead("Faust", "directed_by", "F. W. Murnau", False, 1.0, 1.0)
        >>> hop = HopRead((fact,), 1, 0.0, (("who", 0.1), ("directed", 0.9)))
        >>> answers = (("F. W. Murnau", 0.98),)
        >>> print(
        ...     KnowledgeAnswer(
        ...         "who directed Faust", answers, (), ("Faust",), (hop,), (), ()
        ...     ).picture()
        ... )
        hop 1
        ▸ Faust ─directed_by→ F. W. Murnau  ██████████  1.00
        """
        hops = [
            HopEdges([Edge(*fact) for fact in hop.facts], hop.num_facts, hop.dropped)
            for hop in self.hops
        ]
        return graph_picture(hops, self.topics, self.answers)

    def title(self) -> str:
        """Return question and answers in a line, the title of a picture."""
        return f"{self.question}  {self.reason or self.shares(_MAX_SHOWN)}"

    def shares(self, most: int = 10) -> str:
        """Return the first answers with their probabilities; empty without an answer."""
        return listed([f"{name} ({percent(share)})" for name, share in self.answers], most)

    def never_seen(self) -> str:
        """Return a line on the unknown words; empty if there are none."""
        words = listed(self.unknown_words)
        return f"never seen in training, ignored: {words}" if words else ""

    def not_found(self) -> str:
        """Return a line on the unknown entities; empty if there are none."""
        names = listed(self.unknown_entities)
        return f"no entity of the facts: {names}" if names else ""

    def _repr_html_(self) -> str:
        """Return the answer and its picture as HTML, in the notebook's text colour."""
        question, answer, *notes = (
            escape(escaped(text))
            for text in (
                self.question,
                self.reason or self.shares(),
                self.never_seen(),
                self.not_found(),
            )
        )
        lines = [f"<div><b>{question}</b>&#8195;<b>{answer}</b></div>"]
        lines += [f"<div>{note}</div>" for note in notes if note]
        picture = [self.picture()._repr_html_()] if self.hops else []
        return "\n".join(["<div>", *lines, *picture, "</div>"])
