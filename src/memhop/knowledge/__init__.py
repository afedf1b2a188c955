"""Questions over facts (subject, relation, object)."""

from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.names import question_words, split_name
from memhop.knowledge.questions import Question, parse_question, read_questions
from memhop.knowledge.topics import TOPIC, Mention, TopicFinder, Topics

__all__ = [
    "TOPIC",
    "KnowledgeBase",
    "Mention",
    "Question",
    "TopicFinder",
    "Topics",
    "parse_question",
    "question_words",
    "read_facts",
    "read_questions",
    "split_name",
]
