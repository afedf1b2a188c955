"""Check generated facts, and the answers of generated questions with an independent reader."""

import doctest
import hashlib
import re
from collections import Counter
from types import ModuleType

import pytest

from memhop.errors import MemhopError
from memhop.knowledge import generate as generate_module
from memhop.knowledge import invented_names, wording
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.generate import Split, ask, generate, split_of
from memhop.knowledge.invented_names import capacity, invented_name
from memhop.knowledge.phrases import IDIOMS, SHARED, STEPS
from memhop.knowledge.questions import Question
from memhop.knowledge.wording import RELATIONS, paths, question_text
from memhop.rng import Rng
from tests.seeds import seeds

from .question_reader import NOUNS, QUESTIONS, TOPIC, FactReader, Path, Triple, read_path

SPLITS: tuple[Split, ...] = ("train", "development", "test")


def triples(kb: KnowledgeBase) -> list[Triple]:
    return [
        (kb.entities[subject], kb.relations[relation], kb.entities[target])
        for subject, relation, target in kb.facts.tolist()
    ]


def digest(items: object) -> str:
    return hashlib.sha256(repr(items).encode()).hexdigest()[:16]


def path_of(question: Question) -> tuple[str, Path]:
    """Return the name of the topic and the path of a question that has its topics."""
    assert question.topics is not None
    (topic,) = {name.removesuffix(" (2)") for name in question.topics}
    parts = re.split(rf"(?<!\w){re.escape(topic)}(?!\w)", question.text)
    assert len(parts) == 2, question
    return topic, read_path(TOPIC.join(parts))[0]


@pytest.mark.parametrize("module", [generate_module, wording, invented_names])
def test_examples_run(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module, report=True)
    assert tried
    assert not failed


def test_every_text_of_a_path_asks_about_this_path_only() -> None:
    rng = Rng(0)
    used: set[str] = set()
    for hops, texts in ((1, 60), (2, 20), (3, 4)):
        for path in paths(hops):
            for _ in range(texts):
                read, patterns = read_path(question_text(path, TOPIC, rng))
                assert read == path
                used |= patterns
    assert {pattern.pattern for pattern, _ in (*NOUNS, *QUESTIONS)} == used


def test_verbs_agree_with_their_nouns() -> None:
    rng = Rng(0)
    many = "films|actors|stars|directors|people|books|cities|countries|companies|employees"
    one = "director|person|author|spouse|birthplace|city|country|company|employer|book"
    wrong = re.compile(rf"\b(?:is|was|does) the (?:{many})\b|\b(?:are|were|do) the (?:{one})\b")
    texts = [question_text(path, "X", rng) for hops in (2, 3) for path in paths(hops) * 4]
    assert not [text for text in texts if wrong.search(text)]
    assert sum(" were the " in text or " are the " in text for text in texts) > 50
    assert sum(" was the " in text or " is the " in text for text in texts) > 50


def test_each_relation_and_direction_has_several_phrasings() -> None:
    rng = Rng(0)
    assert len(RELATIONS) == 16
    for path in paths(1):
        assert len({question_text(path, "X", rng) for _ in range(200)}) >= 7, path


@pytest.mark.parametrize("seed", seeds(3, 20))
def test_the_answers_follow_from_the_facts_alone(seed: int) -> None:
    kb = generate(facts=(300, 800, 2_000)[seed % 3], seed=seed)
    reader = FactReader(triples(kb))
    questions = ask(kb, questions=300, seed=seed, topics=True)
    assert len({question.text for question in questions}) == 300
    for number, question in enumerate(questions):
        topic, path = path_of(question)
        assert len(path) == 1 + number % 3
        assert set(question.answers) == reader.answers({topic}, path), question
        assert 1 <= len(question.answers) == len(set(question.answers)) <= 30
        assert 2 * len(question.answers) <= reader.reached[path[-1]], question
        assert not any(f" {answer} " in f" {question.text} " for answer in question.answers)


def test_a_path_never_returns_to_its_topic() -> None:
    kb = KnowledgeBase.from_triples(
        [
            ("One", "directed_by", "Ann"),
            ("Two", "directed_by", "Ann"),
            ("One", "starred_actors", "Ben"),
            ("Two", "starred_actors", "Cid"),
            ("Two", "starred_actors", "Ann"),
        ]
    )
    answers = {
        path_of(question): set(question.answers)
        for question in ask(kb, hops=[2, 3], questions=60, topics=True, max_answers=None)
    }
    assert answers["One", ("directed_by", "~directed_by")] == {"Two"}
    assert answers["One", ("directed_by", "~directed_by", "starred_actors")] == {"Cid", "Ann"}
    assert answers["Ann", ("~directed_by", "starred_actors")] == {"Ben", "Cid"}


def test_facts_and_questions_are_the_same_on_every_machine() -> None:
    kb = generate(facts=600, seed=4)
    assert digest(triples(kb)) == "dd0ac7bb6428fbec"
    assert digest(list(map(tuple, ask(kb, questions=90, seed=4)))) == "5ac2ea0e29df1b91"
    assert digest(list(map(tuple, ask(kb, questions=9, split="test")))) == "500df866e1c0322c"


def test_seeds_give_different_worlds_and_fewer_questions_are_the_first() -> None:
    kb = generate(facts=600, seed=4)
    assert triples(kb) != triples(generate(facts=600, seed=5))
    questions = ask(kb, questions=60, seed=1)
    assert ask(kb, questions=20, seed=1) == questions[:20]
    assert len(set(questions) & set(ask(kb, questions=60, seed=2))) < 10


@pytest.mark.parametrize("seed", seeds(40, 400))
def test_the_number_of_facts_is_exact(seed: int) -> None:
    facts = (200, 201, 999, 2_000)[seed % 4]
    kb = generate(facts=facts, seed=seed)
    assert len(kb.facts) == len(set(triples(kb))) == facts
    rare = {"based_on"} if facts < 500 else set()
    assert set(RELATIONS) - rare <= set(kb.relations) <= set(RELATIONS)


def test_degrees_are_those_of_a_catalogue_of_films() -> None:
    kb = generate()
    facts = triples(kb)
    per = {
        relation: Counter(subject for subject, own, _ in facts if own == relation)
        for relation in RELATIONS
    }
    of = {
        relation: Counter(target for _, own, target in facts if own == relation)
        for relation in RELATIONS
    }
    films, people = len(per["in_language"]), len({*of["starred_actors"], *of["directed_by"]})
    assert 150 < films < 200
    assert 100 < people < 250
    assert 3 < per["starred_actors"].total() / films < 4
    assert per["release_year"].total() < films  # some have none
    assert per["born_in"].keys() != per["born_in"].keys() | of["starred_actors"].keys()
    assert set(per["release_year"].values()) == set(per["born_in"].values()) == {1}
    assert max(of["genre"].values()) > films / 8  # hubs
    assert max(of["in_language"].values()) > films / 8
    assert max(of["located_in"].values()) >= 6
    assert 10 < max(of["starred_actors"].values()) < films / 5
    countries = {subject: target for subject, own, target in facts if own == "located_in"}
    for subject, relation, target in facts:
        if relation == "capital_of":
            assert countries[subject] == target
        if relation == "spouse":
            assert (target, "spouse", subject) in facts


def test_names_are_distinct_and_none_contains_another() -> None:
    kb = generate(facts=4_000, seed=2)
    names = [tuple(label.casefold().split()) for label in kb.labels]
    assert len(set(names)) == len(names)
    known = set(names)
    for name in names:
        for length in range(1, len(name)):
            for start in range(len(name) - length + 1):
                assert name[start : start + length] not in known, name
    texts = " ".join(
        text for one in (*STEPS, *IDIOMS, *SHARED) for text in (*one.nouns, *one.questions)
    )
    assert known.isdisjoint((word,) for word in re.findall(r"\w+", texts))


@pytest.mark.parametrize(
    "kind", ["person", "film", "book", "city", "country", "language", "company"]
)
def test_every_number_of_a_kind_is_another_name(kind: str) -> None:
    # more than a million facts need; all are too many for a test
    numbers = range(min(capacity(kind), 60_000))
    assert len({invented_name(kind, number) for number in numbers}) == len(numbers)
    with pytest.raises(IndexError):
        invented_name(kind, capacity(kind))


def test_no_name_tells_a_fact() -> None:
    facts = triples(generate(facts=4_000, seed=3))
    same_words = 0
    for subject, relation, target in facts:
        same = set(subject.split()) & set(target.split()) - {"My", "The", "and", "of"}
        same_words += bool(same)
        if relation == "official_language":
            assert subject[:3] != target[:3]
    assert same_words < len(facts) / 500  # by chance


def test_parts_of_the_split_share_no_topic_and_path() -> None:
    kb = generate(facts=1_000, seed=6)
    parts = {
        split: {
            path_of(question)
            for seed in range(2)
            for question in ask(kb, questions=count, seed=seed, split=split, topics=True)
        }
        for split, count in zip(SPLITS, (600, 120, 120), strict=True)
    }
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert parts[SPLITS[one]].isdisjoint(parts[SPLITS[other]])
    for split in SPLITS:
        assert {split_of(*key) for key in parts[split]} == {split}
    shares = Counter(split_of(str(topic), ("genre",)) for topic in range(4_000))
    assert shares["train"] == pytest.approx(3_200, rel=0.05)
    assert shares["test"] == pytest.approx(400, rel=0.15)


def test_a_guess_from_the_text_is_rarely_right() -> None:
    kb = generate()
    train = ask(kb, questions=3_000, split="train", topics=True)
    often: dict[Path, Counter[str]] = {}
    for question in train:
        often.setdefault(path_of(question)[1], Counter()).update(question.answers)
    test = ask(kb, questions=600, split="test", topics=True)
    right = [
        often[path].most_common(1)[0][0] in question.answers
        for question in test
        if (path := path_of(question)[1]) in often
    ]
    assert sum(right) < len(right) / 6


def test_films_with_one_title_are_asked_about_together() -> None:
    kb = generate(facts=600, seed=8, shared_titles=0.3)
    assert generate(facts=600, seed=8).labels == generate(facts=600, seed=8).entities
    same = {label for label, count in Counter(kb.labels).items() if count == 2}
    assert len(same) > 5
    label_of = dict(zip(kb.entities, kb.labels, strict=True))
    reader = FactReader(triples(kb))
    questions = ask(kb, questions=600, topics=True, about=sorted(same))
    for question in questions:
        topic, path = path_of(question)
        films = {identifier for identifier, label in label_of.items() if label == topic}
        assert films == set(question.topics or ())
        assert len(films) == 2
        assert set(question.answers) == reader.answers(films, path)


def test_topics_are_given_or_found_in_the_text() -> None:
    kb = generate(facts=400)
    given, found = (ask(kb, questions=50, topics=topics) for topics in (True, False))
    assert [question._replace(topics=None) for question in given] == found
    for question in given:
        assert question.topics is not None
        assert question.topics[0] in question.text
        assert question.topics[0] in kb.entities


def test_about_and_max_answers_choose_questions() -> None:
    kb = generate()
    one = Counter(target for _, own, target in triples(kb) if own == "genre").most_common(1)[0][0]
    questions = ask(kb, hops=[2], questions=40, about=[one], topics=True, max_answers=None)
    assert {question.topics for question in questions} == {(one,)}
    assert max(len(question.answers) for question in questions) > 30
    assert all(len(question.answers) <= 3 for question in ask(kb, questions=90, max_answers=3))


def test_relations_without_words_are_not_asked_about() -> None:
    facts = triples(generate(facts=400))
    some = [fact for fact in facts if fact[1] in {"directed_by", "born_in"}]
    kb = KnowledgeBase.from_triples([*some, *((one, "painted", "blue") for one, _, _ in some)])
    for question in ask(kb, questions=60, topics=True):
        assert {step.strip("~") for step in path_of(question)[1]} <= {"directed_by", "born_in"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("generate(facts=199)", "facts: expected an integer from 200 to 100,000, got 199"),
        ("generate(seed=-1)", "seed: expected an integer from 0, got -1"),
        ("generate(shared_titles=0.6)", "shared_titles: expected 0 to 0.5, got 0.6"),
        ("ask(kb, questions=-1)", "questions: expected an integer from 0, got -1"),
        ("ask(kb, hops=[4])", "hops: expected numbers from 1 to 3, got [4]"),
        ("ask(kb, hops=[])", "hops: expected numbers from 1 to 3, got []"),
        ("ask(kb, max_answers=0)", "max_answers: expected an integer from 1, got 0"),
        (
            "ask(kb, split='dev')",
            "split: expected one of train, development, test, got 'dev'",
        ),
        ("ask(kb, about=['X'])", "about: expected the name of an entity, got 'X'"),
        (
            "ask(kb, hops=[1], about=['drama'], max_answers=None)",
            "questions: expected at most 9, as these facts have no more questions of length 1, "
            "got 1000",
        ),
        (
            "ask(KnowledgeBase.from_triples([('a', 'b', 'c')]))",
            "questions: expected at most 0, as these facts have no more questions of length 1, "
            "got 1000",
        ),
    ],
)
def test_a_mistake_is_an_error_of_one_line(call: str, message: str) -> None:
    names = {"generate": generate, "ask": ask, "KnowledgeBase": KnowledgeBase}
    with pytest.raises(MemhopError, match=rf"^{re.escape(message)}$"):
        eval(call, {**names, "kb": generate(facts=300)})
