"""Generated texts for the tests of language models."""

import numpy as np

from memhop.language_model import EncodedText, WordVocabulary

WORDS = WordVocabulary(["a", "b", "c", "d", "<eos>", "<unk>"])


def text_of(count: int, seed: int = 0, unknown: int = 0) -> EncodedText:
    """Return a text whose next word mostly follows from the two words before it."""
    generator = np.random.Generator(np.random.Philox(seed))
    tokens = [0, 1]
    while len(tokens) < count:
        guess = (tokens[-1] + 2 * tokens[-2]) % 5
        tokens.append(int(generator.integers(6)) if generator.random() < 0.1 else guess)
    return EncodedText(np.array(tokens[:count], dtype=np.int32), np.arange(unknown), 0)
