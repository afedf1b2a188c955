"""The entities that a question names: rules by hand, planted names of any script, given topics."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.names import folded_tokens, question_words
from memhop.knowledge.questions import Question
from memhop.knowledge.topics import _FUNCTION_WORDS, TOPIC, Mention, TopicFinder


def finder(*names: str, relations: str = "related_to", **aliases: str) -> TopicFinder:
    """Return a finder of these entities, numbered from 1, and an entity 0 that no question has."""
    triples = [("Xyzzy", relation, name) for name in names for relation in relations.split()]
    return TopicFinder(
        KnowledgeBase.from_triples(triples, aliases={k: [v] for k, v in aliases.items()})
    )


def found(names: list[str], text: str, relations: str = "related_to") -> tuple[list[str], str]:
    """Return the names that are found, and the words."""
    topics = finder(*names, relations=relations).find(Question(text))
    assert topics.unknown == ()
    return [names[number - 1] for number in topics.entities], " ".join(topics.words)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("brie-comte-robert", "who is brie-comte-robert 's child ?", "who is <topic> 's child"),
        ("Some Mother's Son", "who acted in Some Mother's Son?", "who acted in <topic>"),
        ("Some Mother's Son", "who acted in some mother\u2019s son's films",
         "who acted in <topic> 's films"),
        ("8\u00bd", "who directed 8\u00bd ?", "who directed <topic>"),
        ("8\u00bd", "who directed 8 1/2 ?", "who directed <topic>"),
        ("What Lies Beneath?", "who directed What Lies Beneath?", "who directed <topic>"),
        ("What Lies Beneath?", "what lies beneath's writer", "<topic> 's writer"),
        ("Nell Gwyn's Child", "is Nell Gwyn's Child 's child alive", "is <topic> 's child alive"),
        ("Kenneth_Peach", "the birthPlace of kenneth peach", "the birth place of <topic>"),
        ("Live_From_Las_Vegas", "Live From Las_Vegas: the tracks?", "<topic> the tracks"),
        ("ludwig_ii_of_bavaria", "Ludwig II of Bavaria's spouse", "<topic> 's spouse"),
        ("\ufb01lm", "Film", "<topic>"),
        ("G\u00e9rard Blain", "ge\u0301rard\u00a0blain", "<topic>"),
        ("STRASSE", "in der Stra\u00dfe", "in der <topic>"),
        ("McDonald", "is mcdonald here", "is <topic> here"),
        ("iPhone", "who made the iPhone", "who made the <topic>"),
        ("霸王别姬", "谁导演了霸王别姬?", "谁 导 演 了 <topic>"),
        ("千と千尋の神隠し", "千と千尋の神隠しの監督", "<topic> の 監 督"),
        ("กรุงเทพ", "เมืองหลวงคือกรุงเทพไหม", "เ มื อ ง ห ล ว ง คื อ <topic> ไ ห ม"),
        ("기생충", "기생충을 감독한", "<topic> 을 감 독 한"),
        ("東", "who made 東 ?", "who made <topic>"),
        ("हिन्दी", "who speaks हिन्दी?", "who speaks <topic>"),
        ("Анна Каренина", "кто написал «анна каренина»?", "кто написал <topic>"),
        ("$", "who acted in $", "who acted in <topic>"),
        ("$", "who acted in [$]?", "who acted in <topic>"),
        ("🎬", "what is 🎬 about", "what is <topic> about"),
        (".", "what is the version of . 's version ?", "what is the version of <topic> 's version"),
    ],
)  # fmt: skip
def test_names_are_found_and_replaced(name: str, text: str, words: str) -> None:
    assert found([name], text) == ([name], words)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Faust", "who wrote Faustus"),
        ("Ann", "who is Anna"),
        ("New York Times", "who lives in New York"),
        ("東", "誰が東京を"),
        ("$", "who has $100"),
        ("?", "who is it ?"),
        ("G\u00e9rard", "who is Gerard"),
        ("What?", "what is the language"),
        ("What?", "What is the language"),
        ("Who", "it was written by who"),
        ("a", ""),
    ],
)
def test_other_words_are_no_names(name: str, text: str) -> None:
    assert found([name], text) == ([], " ".join(question_words(text)))


@pytest.mark.parametrize(
    ("names", "text", "topics", "words"),
    [
        # the longest, not overlapping
        (["New York", "New York Times", "York"], "who owns the New York Times",
         ["New York Times"], "who owns the <topic>"),
        (["Ann Lee", "Lee Hunt"], "ann lee hunt", ["Ann Lee"], "<topic> hunt"),
        (["Movie Crazy", "Crazy Heart"], "the movie Crazy Heart", ["Crazy Heart"],
         "the movie <topic>"),
        (["The Dead", "Dead Man"], "who starred in the Dead Man", ["Dead Man"],
         "who starred in the <topic>"),
        (["The Dead", "Dead Man"], "who starred in the dead man", ["Dead Man"],
         "who starred in the <topic>"),
        (["The Dead", "Dead"], "who starred in The Dead", ["The Dead"], "who starred in <topic>"),
        (["Tom", "Jerry"], "did Tom meet Jerry and Tom", ["Tom", "Jerry"],
         "did <topic> meet <topic> and <topic>"),
        # capitals and punctuation
        (["police", "Police"], "which films are like Police", ["Police"],
         "which films are like <topic>"),
        (["police", "Police"], "Which films are like police", ["police"],
         "which films are like <topic>"),
        (["police", "Police"], "which films are like police", ["police", "Police"],
         "which films are like <topic>"),
        (["police", "Police"], "Which films are like POLICE", ["police", "Police"],
         "which films are like <topic>"),
        (["C", "C++", "C#"], "who made C++ and more", ["C++"], "who made <topic> and more"),
        (["C", "C++", "C#"], "who made c# and more", ["C#"], "who made <topic> and more"),
        (["C", "C++", "C#"], "who made C", ["C"], "who made <topic>"),
        (["Spider-Man", "Spider Man"], "where is spider man", ["Spider Man"], "where is <topic>"),
        (["Help", "Help!"], "who wrote Help!", ["Help!"], "who wrote <topic>"),
        (["Help", "Help?"], "who wrote Help?", ["Help", "Help?"], "who wrote <topic>"),
        # strong before weak
        (["film", "What?", "Tom Cullen"], "what film has Tom Cullen", ["Tom Cullen"],
         "what film has <topic>"),
        (["film", "What?", "Tom Cullen"], "what film has tom cullen", ["Tom Cullen"],
         "what film has <topic>"),
        (["film", "Faust"], "which film is like Faust", ["Faust"], "which film is like <topic>"),
        (["film", "Faust"], "which film is like faust", ["film", "Faust"],
         "which <topic> is like <topic>"),
        (["Dracula", "Faust"], "Dracula or Faust", ["Dracula", "Faust"], "<topic> or <topic>"),
        (["$", "film"], "which film is like $", ["$"], "which film is like <topic>"),
        (["Me and You", "&"], "who acted in Me & You", ["&"], "who acted in me <topic> you"),
        (["Me & You", "&"], "who acted in Me & You", ["Me & You"], "who acted in <topic>"),
        # words of relations and function words are a last resort
        (["Genre", "Drama"], "which genre is drama", ["Drama"], "which genre is <topic>"),
        (["Genre"], "which genre is it", ["Genre"], "which <topic> is it"),
        (["Genre", "Drama"], "is a Genre like drama", ["Genre"], "is a <topic> like drama"),
        (["Genre", "Drama"], "Genre of drama", ["Drama"], "genre of <topic>"),
        (["Place_of_Birth", "Rome"], "the place of birth of rome", ["Rome"],
         "the place of birth of <topic>"),
        (["the_who", "who"], "who are the members of the_who", ["the_who"],
         "who are the members of <topic>"),
        (["How to Be"], "what is how to be about", ["How to Be"], "what is <topic> about"),
        (["Up"], "who directed up", ["Up"], "who directed <topic>"),
    ],
)  # fmt: skip
def test_rules(names: list[str], text: str, topics: list[str], words: str) -> None:
    result, result_words = found(names, text, relations="has_genre place_of_birth")
    assert (sorted(result), result_words) == (sorted(topics), words)


SCRIPTS = st.text(
    st.characters(categories=["L", "M", "N"]) | st.sampled_from(" '-_.,!?&:$\u2019"), max_size=12
)
AROUND = {"who", "is", "'s", "child"}


@given(name=SCRIPTS)
def test_a_planted_name_of_any_script_is_found(name: str) -> None:
    tokens = folded_tokens(name)
    assume(
        not set(tokens) & AROUND
        and tokens not in (["xyzzy"], ["related"])
        and set(tokens) - _FUNCTION_WORDS
    )
    kb = KnowledgeBase.from_triples(
        [("Xyzzy", "related_to", name), ("Who Is", "related_to", "Xyzzy")]
    )
    topics = TopicFinder(kb).find(Question(f"who is {name} 's child ?"))
    assert topics.entities == (1,)
    assert topics.words == ("who", "is", TOPIC, "'s", "child")


NAMES = ["p", "q", "P", "p_q", "Q_P", "p_p", "q_p_q", "Pp", "pp", "is_p"]
WORDS = ["p", "q", "P", "Q", "Pp", "PP", "r", "is"]


@given(
    names=st.lists(st.sampled_from(NAMES), unique=True),
    text=st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
)
def test_mentions_do_not_overlap_and_name_their_entities(names: list[str], text: str) -> None:
    kb = KnowledgeBase.from_triples([("x", "relation", name) for name in ["y", *names]])
    words = question_words(text)
    topic_finder = TopicFinder(kb)
    mentions = topic_finder.mentions(text)
    topics = topic_finder.find(Question(text))
    end, expected = 0, []
    for mention in mentions:
        assert end <= mention.start < mention.end <= len(words)
        for number in mention.entities:
            assert question_words(kb.labels[number]) == words[mention.start : mention.end]
        expected += [*words[end : mention.start], TOPIC]
        end = mention.end
    assert topics.words == (*expected, *words[end:])
    assert topics.entities == tuple(dict.fromkeys(n for m in mentions for n in m.entities))
    spans = {tuple(words[i:j]) for i in range(len(words)) for j in range(i, len(words) + 1)}
    assert bool(mentions) == any(tuple(question_words(name)) in spans for name in names)


def test_mentions_have_word_positions() -> None:
    names = finder("Faust", "$", "Tom Cullen")
    assert names.mentions("the birthPlace of Tom Cullen or $ and Faust's") == [
        Mention(4, 6, (3,)), Mention(7, 7, (2,)), Mention(8, 9, (1,))
    ]  # fmt: skip


def test_aliases_and_labels_are_names_and_iris_are_not() -> None:
    kb = KnowledgeBase.from_triples(
        [("Q1", "r", "http://x.org/Faust"), ("http://x.org/y", "r", "_:b0")],
        labels={"Q1": "Nosferatu", "http://x.org/y": "Yon"},
        aliases={"_:b0": ["Vampyr"], "Q1": ["Vampyr", "The Count"]},
    )
    topics = TopicFinder(kb)
    for text, entities in [
        ("who made Nosferatu", (0,)), ("who made Q1", (0,)), ("who made the count", (0,)),
        ("who made Vampyr", (0, 3)), ("who made Faust", (1,)), ("who made Yon", (2,)),
        ("what is y", ()), ("what is b0", ()),
    ]:  # fmt: skip
        assert topics.find(Question(text)).entities == entities


@pytest.mark.parametrize(
    ("text", "given_topics", "entities", "words", "unknown"),
    [
        ("who wrote Faust", ("Faust",), (1,), "who wrote <topic>", ()),
        ("who wrote Faust and $", ("$",), (3,), "who wrote faust and <topic>", ()),
        ("who wrote the play", ("Faust",), (1,), "who wrote the play", ()),
        ("who wrote the film Film", ("Film",), (2,), "who wrote the film <topic>", ()),
        ("who wrote the film", ("Film",), (2,), "who wrote the <topic>", ()),
        ("the film or the film", ("film",), (2,), "the <topic> or the <topic>", ()),
        ("is Faust like faust", ("FAUST",), (1,), "is <topic> like faust", ()),
        ("who wrote Old Faust", ("Faust", "Old Faust"), (1,), "who wrote <topic>", ("Old Faust",)),
        ("is Faust a Film", ("Film", "Faust"), (2, 1), "is <topic> a <topic>", ()),
        ("is Dracula a Film", ("Dracula",), (), "is <topic> a film", ("Dracula",)),
        ("who wrote the Doctor", ("Faust",), (1,), "who wrote <topic>", ()),
        ("who wrote Faust", (), (), "who wrote faust", ()),
    ],
)  # fmt: skip
def test_given_topics(
    text: str, given_topics: tuple[str, ...], entities: tuple[int, ...], words: str,
    unknown: tuple[str, ...],
) -> None:  # fmt: skip
    names = finder("Faust", "Film", "$", Faust="The Doctor")
    topics = names.find(Question(text, topics=given_topics))
    assert (topics.entities, " ".join(topics.words), topics.unknown) == (entities, words, unknown)


def test_many_entities_of_one_name_and_long_names() -> None:
    triples = [(f"Q{number}", "r", "x") for number in range(300)]
    long_name = " ".join(f"w{number}" for number in range(2000))
    triples.append((long_name, long_name, "y"))
    kb = KnowledgeBase.from_triples(triples, labels={f"Q{n}": "Untitled" for n in range(300)})
    topics = TopicFinder(kb)
    found_numbers = topics.find(Question("who made Untitled")).entities
    assert {kb.entities[number] for number in found_numbers} == {f"Q{n}" for n in range(300)}
    assert topics.find(Question(f"what is {long_name} ?")).words == ("what", "is", TOPIC)
