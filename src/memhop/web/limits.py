"""The limits of a server: a request beyond them gets a 4xx status and a sentence.

The limits of texts are part of the schemas; `Limits` are those of the traffic.
"""

from dataclasses import dataclass

QUESTIONS = 256  # in one request
SENTENCES = 1000  # in one story
ALL_SENTENCES = 20_000  # in all stories of one request
CHARACTERS = 1000  # in one sentence, or in the question
WORDS = 2000  # of a vocabulary, in /api/words
TOPICS = 100  # of a question about facts
FACTS = 100  # of a hop, in its answer
RELATIONS = 200  # in /api/kb/relations
ROWS = 50  # of a store, in /api/store/rows
HITS = 100  # of a hop over a store, in its answer
CONTENT = 10_000  # characters of the text or payload of a row, in an answer


@dataclass(frozen=True)
class Limits:
    """The limits of the traffic.

    Attributes:
        body_bytes: size of a request (otherwise 413).
        seconds: time to send a request (otherwise 408), and to wait for its answer (429).
        requests: concurrent requests of all clients (otherwise 429).
        waiting_questions: of all clients (otherwise 429).
        batch: number of questions in a batch.
    """

    body_bytes: int = 2**20
    seconds: float = 10.0
    requests: int = 256
    waiting_questions: int = 4096
    batch: int = 512
