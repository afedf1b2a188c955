"""The bounds of one server: past them a request gets a 4xx and a sentence that says why.

Those of the text are part of the description of the service (`schemas`); `Limits` are those of
the traffic.
"""

from dataclasses import dataclass

QUESTIONS = 256  # in one request
SENTENCES = 1000  # in one story
ALL_SENTENCES = 20_000  # in all stories of one request
CHARACTERS = 1000  # in one sentence, or in the question
WORDS = 2000  # of a vocabulary, to be shown


@dataclass(frozen=True)
class Limits:
    """Bounds of the traffic.

    Attributes:
        body_bytes: of one request (else 413).
        seconds: to send a request (else 408), and to wait for its answer (else 429).
        requests: of all clients, at work or waiting; one more gets 429.
        waiting_questions: of all clients; more get 429.
        batch: questions that the model is asked together.
    """

    body_bytes: int = 2**20
    seconds: float = 10.0
    requests: int = 256
    waiting_questions: int = 4096
    batch: int = 512
