"""Sample training questions by the error on their text, so that hard texts are drawn more often.

With several texts, a model soon answers most of them and would spend most steps on these. Here a
question of text t has a probability proportional to error_t + 0.1, where error_t, from 0 to 1, is
the share of wrong answers to the first 100 training questions of the text, before the epoch and
without noise. Each restart has errors of its own. The idea is that of learning-progress curricula
(Graves et al., 2017, arXiv 1704.03003), with the error in place of the progress.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from memhop.text.encoding import Encoded
from memhop.text.model import MemN2N
from memhop.training.evaluation import wrong_answers

Floats = NDArray[np.float64]
_QUESTIONS = 100  # of a text, to measure its error
_FLOOR = 0.1


class ErrorSampling:
    """The probabilities of training questions.

    Args:
        encoded: the training questions.
        texts: the number of the text of each.
    """

    def __init__(self, encoded: Encoded, texts: Sequence[int]) -> None:
        _, self._text = np.unique(texts, return_inverse=True)
        count = int(self._text.max(initial=-1)) + 1
        rows = [np.flatnonzero(self._text == text)[:_QUESTIONS] for text in range(count)]
        chosen = np.concatenate(rows)
        self._probe_text = self._text[chosen]
        index = torch.from_numpy(chosen).to(encoded.answers.device)
        self._probe = Encoded(encoded.sentences, *(tensor[index] for tensor in encoded[1:]))

    def probabilities(self, model: MemN2N) -> Floats:
        """Return the probability of each question for each restart, [R, E]."""
        wrong = wrong_answers(model, self._probe).double().numpy()
        return question_probabilities(wrong, self._probe_text, self._text)


def question_probabilities(
    wrong: Floats, probe_text: NDArray[np.int64], text: NDArray[np.int64]
) -> Floats:
    """Return the probabilities [R, E] of questions.

    Args:
        wrong: [R, P] 1 for a wrong answer to a question whose error is measured, else 0.
        probe_text: [P] the texts of these questions, from 0 on.
        text: [E] the text of each question.

    >>> question_probabilities(np.array([[0.0, 0.0, 1.0]]), np.array([0, 0, 1]), np.array([0, 1]))
    array([[0.08333333, 0.91666667]])
    """
    counts = np.bincount(probe_text)
    errors = np.stack([np.bincount(probe_text, row, len(counts)) for row in wrong]) / counts
    weights = (errors + _FLOOR)[:, text]
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
