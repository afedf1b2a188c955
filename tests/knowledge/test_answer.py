"""KnowledgeAnswer: its texts and its picture."""

from xml.etree.ElementTree import fromstring

from memhop.knowledge.answer import FactRead, HopRead, KnowledgeAnswer

DIRECTED = FactRead("Duel", "directed_by", "Spielberg", False, 0.75, 1.0)
OTHER = FactRead("Jaws", "directed_by", "Spielberg", True, 0.25, 0.0)


def answer(
    *answers: tuple[str, float],
    question: str = "who directed Duel",
    topics: tuple[str, ...] = ("Duel",),
    unknown: tuple[str, ...] = (),
) -> KnowledgeAnswer:
    hops = (HopRead((DIRECTED, OTHER), 3, 0.25, (("who", 1.0),)),) if answers else ()
    return KnowledgeAnswer(question, answers, (), topics, hops, unknown, unknown)


def test_a_picture_has_the_facts_topics_and_answers() -> None:
    shown = answer(("Spielberg", 0.75)).picture()
    assert str(shown).splitlines() == [
        "hop 1",
        "▸ Duel ─directed_by→ Spielberg  ███████▌    0.75",
        "  Spielberg ←directed_by─ Jaws  ██▌         0.25",
        "⋮ 1 more fact",
        "the weights are estimates: hop 1 did not follow entities with 25% of the weight",
    ]
    assert (shown.topics, shown.answers) == (["Duel"], [("Spielberg", 0.75)])


def test_a_title_has_the_answers_or_the_reason() -> None:
    many = answer(("a", 0.4), ("b", 0.3), ("c", 0.2), ("d", 0.1))
    assert many.title() == "who directed Duel  a (40%), b (30%), c (20%) and 1 more"
    assert many.shares() == "a (40%), b (30%), c (20%), d (10%)"
    assert answer().title() == "who directed Duel  no answer: no path over the facts from Duel"
    assert answer(topics=()).title().endswith("no answer: no entity of the facts in the question")
    assert answer().shares() == ""


def test_unknown_words_and_entities_are_named() -> None:
    assert (answer().never_seen(), answer().not_found()) == ("", "")
    unknown = answer(unknown=tuple("abcdefghij"))
    words = "a, b, c, d, e, f, g, h and 2 more"
    assert (
        unknown.never_seen() == "never seen in training, ignored: a, b, c, d, e, f, g, h and 2 more"
    )
    assert unknown.not_found() == f"no entity of the facts: {words}"


def test_a_notebook_shows_answer_notes_and_graph_escaped() -> None:
    asked = "<script>alert(1)</script>\x1b & who"
    root = fromstring(answer(("<b>", 1.0), question=asked, unknown=("<i>",))._repr_html_())
    assert [one.tag for one in root] == ["div", "div", "div", "{http://www.w3.org/2000/svg}svg"]
    assert "".join(root[0].itertext()) == "<script>alert(1)</script>\\x1b & who\u2003<b> (100%)"
    assert [one.text for one in root[1:3]] == [
        "never seen in training, ignored: <i>",
        "no entity of the facts: <i>",
    ]
    without = fromstring(answer()._repr_html_())
    assert "".join(without.itertext()).split("\u2003")[1].strip() == (
        "no answer: no path over the facts from Duel"
    )
