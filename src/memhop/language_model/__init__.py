"""Language models whose memory is the previous words (section 5 of arXiv 1503.08895)."""

from memhop.language_model.evaluation import Perplexity, evaluate
from memhop.language_model.model import LanguageModel, Prediction
from memhop.language_model.recipe import LanguageRecipe
from memhop.language_model.text import (
    EncodedText,
    count_lines,
    count_words,
    encode_text,
    encode_words,
    words_of,
)
from memhop.language_model.training import LanguageResult, Progress, train
from memhop.language_model.vocabulary import WordVocabulary

__all__ = [
    "EncodedText",
    "LanguageModel",
    "LanguageRecipe",
    "LanguageResult",
    "Perplexity",
    "Prediction",
    "Progress",
    "WordVocabulary",
    "count_lines",
    "count_words",
    "encode_text",
    "encode_words",
    "evaluate",
    "train",
    "words_of",
]
