"""Train README's knowledge model, and show which facts each hop reads for README's question."""

from collections.abc import Iterator
from typing import Any

from benchmarks.registry import DocumentTable, Plot
from memhop import knowledge
from memhop.cli.reproduce import Tiny
from memhop.knowledge.generate import ask, generate
from memhop.picture.graph import Edge, GraphPicture, HopEdges, graph_picture
from memhop.reproduce.record import Rows, Sheet, provenance

QUESTION = "who started the company behind The Secret Soldier"
FACTS = 3  # shown of each hop


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train README's model of facts; measure what hops read."""
    kb = generate(facts=400, seed=0)
    questions = ask(kb, hops=[1, 2], questions=800, split="train")
    recipe = knowledge.KnowledgeRecipe(num_hops=2, epochs=1 if tiny else 8)
    answer = knowledge.train(kb, questions, recipe=recipe).model.answer(QUESTION, facts=FACTS)
    common = {"question": QUESTION, "answer": answer.answer, "probability": answer.answers[0][1]}
    yield [
        {"hop": number, "num_facts": hop.num_facts, "dropped": hop.dropped, **fact._asdict(),
         "topic": answer.topics[0], **common, **provenance()}
        for number, hop in enumerate(answer.hops, start=1)
        for fact in hop.facts
    ]  # fmt: skip


def picture_of(rows: Rows) -> GraphPicture:
    """Return the picture of the rows."""
    hops = [
        HopEdges([edge_of(row) for row in own], int(own[0]["num_facts"]), float(own[0]["dropped"]))
        for number in dict.fromkeys(row["hop"] for row in rows)
        if (own := [row for row in rows if row["hop"] == number])
    ]
    first = rows[0]
    return graph_picture(hops, [first["topic"]], [(first["answer"], float(first["probability"]))])


def edge_of(row: Any) -> Edge:
    """Return the fact of a row."""
    names = row["subject"], row["relation"], row["object"]
    is_inverse = str(row["is_inverse"]) == "True"
    return Edge(*names, is_inverse, float(row["weight"]), float(row["support"]))


def svg(rows: Rows) -> str:
    """Return the picture with its question as SVG."""
    first = rows[0]
    title = f"{first['question']}  {first['answer']}"
    return f"{picture_of(rows).svg(title)}\n"


def sheets(rows: Rows) -> list[Sheet]:
    """Return the picture as text."""
    return [Sheet(text=picture_of(rows).text())]


TABLES = {"facts": DocumentTable("facts", lambda rows: sheets(rows)[0].markdown())}
PLOTS = {"facts": Plot("facts.svg", "facts", "The facts that each hop reads", svg)}
