"""Retrieve facts or passages hop by hop, over frozen vectors of any encoder.

`Memory` holds the vectors of facts or passages, `Questions` those of questions, `train` learns one
matrix a hop, and `RetrievalModel.search` returns what each hop reads. See docs/retrieval.md.

>>> from memhop import retrieval
>>> list(retrieval.__all__)
['Encoder', 'HopHits', 'Memory', 'Questions', 'RetrievalModel', 'TrainingResult', 'recall', 'train']
"""

from memhop.retrieval.encoder import Encoder
from memhop.retrieval.evaluation import recall
from memhop.retrieval.memory import Memory
from memhop.retrieval.model import HopHits, RetrievalModel
from memhop.retrieval.questions import Questions
from memhop.retrieval.training import TrainingResult, train

__all__ = [
    "Encoder",
    "HopHits",
    "Memory",
    "Questions",
    "RetrievalModel",
    "TrainingResult",
    "recall",
    "train",
]
