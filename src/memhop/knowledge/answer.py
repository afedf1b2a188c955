"""The answer to a question over facts, with the facts that each hop read."""

from dataclasses import dataclass
from typing import NamedTuple


class FactRead(NamedTuple):
    """A fact that a hop read.

    Attributes:
        subject, relation, object: shown names, as in the knowledge base.
        is_inverse: whether it was read from object to subject.
        weight: p, the attention of the hop to the fact.
        support: the share of the answer's weight that came over this fact; the sum over all facts
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
        words: the words of the question with the attention of the hop, in order.
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
        answers: the entities with at least a tenth of the weight of the strongest, with their
            probability, strongest first; empty if no path over the facts has weight.
        runners_up: the next ones.
        topics: the entities that the question names.
        hops: the hops up to the one that gave most of the first answer.
        unknown_words: words that are not in the vocabulary.
        unknown_entities: given topics that are no entity of the facts.
    """

    question: str
    answers: tuple[tuple[str, float], ...]
    runners_up: tuple[tuple[str, float], ...]
    topics: tuple[str, ...]
    hops: tuple[HopRead, ...]
    unknown_words: tuple[str, ...]
    unknown_entities: tuple[str, ...]

    @property
    def answer(self) -> str | None:
        """The strongest answer; None if there is none."""
        return self.answers[0][0] if self.answers else None

    @property
    def dropped(self) -> float:
        """The largest share of weight that a hop dropped; above 0 the weights are estimates."""
        return max((hop.dropped for hop in self.hops), default=0.0)

    @property
    def reason(self) -> str:
        """Why there is no answer; empty if there is one."""
        if self.answers:
            return ""
        if not self.topics:
            return "no answer: no entity of the facts in the question"
        return "no answer: no path over the facts from " + ", ".join(self.topics)
