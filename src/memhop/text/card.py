"""What the model card of a `MemN2N` says."""

from collections.abc import Sequence

from memhop.example import Example
from memhop.pretrained.card import CardText

_SUMMARY = (
    "A `MemN2N` of memhop: an end-to-end memory network (arXiv 1503.08895) that answers questions "
    "about stories with one word of its vocabulary, and shows which sentences each hop read."
)
_EXAMPLE = Example(("Mary went to the garden.",), "Where is Mary?", "garden")


def card_text(examples: Sequence[Example]) -> CardText:
    """Return the text; its snippet asks about the first of the examples.

    >>> print(card_text([]).snippet)
    from memhop import MemN2N
    <BLANKLINE>
    model = MemN2N.from_pretrained(NAME)
    story = [
        'Mary went to the garden.',
    ]
    print(model.answer(story, 'Where is Mary?').answer)
    """
    example = examples[0] if examples else _EXAMPLE
    lines = [
        "from memhop import MemN2N", "", "model = MemN2N.from_pretrained(NAME)",
        "story = [", *(f"    {sentence!a}," for sentence in example.story), "]",
        f"print(model.answer(story, {example.question!a}).answer)",
    ]  # fmt: skip
    return CardText(_SUMMARY, "\n".join(lines), "question-answering")
