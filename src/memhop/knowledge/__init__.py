"""Questions over facts (subject, relation, object), answered hop by hop.

Read facts and questions, train on questions with their answers, and ask:

>>> from memhop import knowledge
>>> triples = [("Metropolis", "directed by", "Fritz Lang"), ("M", "directed by", "Fritz Lang")]
>>> kb = knowledge.KnowledgeBase.from_triples(triples)
>>> asked = [knowledge.Question("who directed Metropolis?", ("Fritz Lang",))]
>>> recipe = knowledge.KnowledgeRecipe(num_hops=1, epochs=20)
>>> model = knowledge.train(kb, asked, recipe=recipe).model
>>> model.answer("who directed M?").answer
'Fritz Lang'
"""

from memhop.knowledge.answer import FactRead, HopRead, KnowledgeAnswer
from memhop.knowledge.evaluation import KnowledgeEvaluation, evaluate
from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question, parse_question, read_questions
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.topics import TopicFinder, Topics
from memhop.knowledge.training import KnowledgeResult, Progress, train

__all__ = [
    "FactRead",
    "HopRead",
    "KnowledgeAnswer",
    "KnowledgeBase",
    "KnowledgeEvaluation",
    "KnowledgeModel",
    "KnowledgeRecipe",
    "KnowledgeResult",
    "Progress",
    "Question",
    "TopicFinder",
    "Topics",
    "evaluate",
    "parse_question",
    "read_facts",
    "read_questions",
    "train",
]
