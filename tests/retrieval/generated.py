"""A small set of two-hop questions, whose words are not those of the relations."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from memhop.retrieval import Memory, Questions
from tests.retrieval.hashed_encoder import encode

# the name of a relation, and how a question asks for it
PERSON = {"spouse": "partner", "parent": "mother or father", "employer": "boss"}
PLACE = {"born in": "birthplace", "lives in": "home", "works in": "office"}
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo")

Triple = tuple[str, str, str]


class Generated(NamedTuple):
    """Facts with training and test questions; no topic with the same relations is in both."""

    facts: list[Triple]
    train: Questions
    test: Questions
    memory: Memory


def generate(known: str, num_people: int = 40, seed: int = 0) -> Generated:
    """Return "What is the birthplace of the boss of Ann?" of most people and pairs of relations.

    Args:
        known: of the training questions, "gold" or "answers".
        num_people: people who are asked about; each has one fact of each relation.
        seed: of names and facts.
    """
    draw = random.Random(seed)
    names = ["".join(draw.sample(SYLLABLES, 3)) for _ in range(10 * num_people)]
    names = list(dict.fromkeys(names))
    people, places = names[:num_people], names[num_people : 2 * num_people]
    facts = [(one, relation, draw.choice(people)) for one in people for relation in PERSON]
    facts += [(one, relation, draw.choice(places)) for one in people for relation in PLACE]
    objects = {fact[:2]: fact[2] for fact in facts}
    asked = []
    for topic in people:
        for first, first_word in PERSON.items():
            for second, second_word in PLACE.items():
                other = objects[topic, first]
                path = ((topic, first, other), (other, second, objects[other, second]))
                asked.append((f"What is the {second_word} of the {first_word} of {topic}?", path))
    draw.shuffle(asked)
    cut = len(asked) * 8 // 10
    return Generated(
        facts, _questions(asked[:cut], known), _questions(asked[cut:], "gold"),
        Memory.of_facts(facts, encode),
    )  # fmt: skip


def _questions(asked: Sequence[tuple[str, Sequence[Triple]]], known: str) -> Questions:
    return Questions.of_texts(
        [text for text, _ in asked],
        encode,
        topics=[path[0][0] for _, path in asked],
        gold=[path for _, path in asked] if known == "gold" else None,
        answers=[[path[-1][2]] for _, path in asked] if known == "answers" else None,
    )
