"""LanguageRecipe: the settings of a language model and its training."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Self

from memhop.errors import MemhopError
from memhop.settings import Settings

Protocol = Literal["paper", "contiguous"]
FirstQuery = Literal["constant", "newest"]
Embeddings = Literal["separate", "shared"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe(Settings):
    """The settings of `LanguageModel` and of `train`.

    The defaults are those of `LanguageRecipe.paper` (arXiv 1503.08895, section 5).

    Attributes:
        memory_dim: width d of the embeddings.
        num_hops: number of hops.
        num_words: N, the number of previous words in memory.
        embeddings: ``separate``: the tables A, C and W of the paper, H, T_A and T_C for all hops.
            ``shared``: one table W, where A x of hop k is A_k W x and C x is C_k W x, and each hop
            has its own A_k, C_k, H, T_A and T_C.
        first_query: ``constant``, the number 0.1 in all units (section 5), or ``newest``, a linear
            map of the embedding of the newest word.
        relu_share: the share of the units with a ReLU after each hop.
        max_words: size of the vocabulary at most, with ``<unk>`` and ``<eos>``.
        protocol: the positions of a step. ``paper``: random ones, with replacement.
            ``contiguous``: chunks of consecutive positions, each once an epoch, a few twice where
            chunks overlap.
        chunk: positions of a chunk.
        batch_size: positions of a step.
        epochs: epochs at most.
        optimizer: ``sgd``, without momentum, on the loss summed over the batch; or ``adam`` (arXiv
            1412.6980), on its mean.
        learning_rate: of the first step.
        schedule: ``plateau``: divided by ``decay`` after each epoch that does not lower the
            validation loss by 0.01%; the training ends below ``min_learning_rate``. ``cosine``:
            from the learning rate to ``min_learning_rate`` along half a cosine, after
            ``warmup_steps``.
        decay, min_learning_rate, warmup_steps: see ``schedule``.
        clip_norm: bound on the norm of the whole gradient.
        init_std: standard deviation of the initial weights.
        init_maps: the initial H and map of the newest word: ``normal`` as all weights, or
            ``identity``, with a tenth of their deviation added.
        word_dropout: the share of units of the word embeddings that is zeroed in training.
        attention_dropout: the share of the attention weights that is zeroed in training.
        output_dropout: the same of the query after the last hop.
        averaging: the decay of an exponential moving average of the weights, which validation and
            the trained model use; 0 for none.
        matmul_precision: of float32 matrix products in training, as in
            ``torch.set_float32_matmul_precision``. ``medium`` lets torch choose faster products,
            which round to bfloat16 on some processors.
        output_precision: of the matrix products of the output layer in training; ``bfloat16`` is
            faster where the processor has instructions for it. Evaluation always uses float32.

    Raises:
        MemhopError: a setting of another type or out of range.

    >>> LanguageRecipe.paper(num_hops=7, num_words=200).num_words
    200
    """

    memory_dim: int = 150
    num_hops: int = 6
    num_words: int = 50
    embeddings: Embeddings = "separate"
    first_query: FirstQuery = "constant"
    relu_share: float = 0.5
    max_words: int = 50_000
    protocol: Protocol = "paper"
    chunk: int = 64
    batch_size: int = 128
    epochs: int = 100
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    schedule: Literal["plateau", "cosine"] = "plateau"
    decay: float = 1.5
    min_learning_rate: float = 1e-5
    warmup_steps: int = 0
    clip_norm: float = 50.0
    init_std: float = 0.05
    init_maps: Literal["normal", "identity"] = "normal"
    word_dropout: float = 0.0
    attention_dropout: float = 0.0
    output_dropout: float = 0.0
    averaging: float = 0.0
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    output_precision: Precision = "float32"

    MAY_BE_ZERO = (
        "relu_share", "min_learning_rate", "warmup_steps", "word_dropout", "attention_dropout",
        "output_dropout", "averaging",
    )  # fmt: skip
    LARGEST = MappingProxyType(
        {"memory_dim": 4096, "num_hops": 100, "num_words": 4096, "relu_share": 1,
         "word_dropout": 1, "attention_dropout": 1, "output_dropout": 1, "averaging": 1,
         "chunk": 65_536, "batch_size": 65_536}
    )  # fmt: skip
    BELOW = ("word_dropout", "attention_dropout", "output_dropout", "averaging")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_words < 2:
            raise MemhopError(
                f"recipe setting max_words: expected at least 2, <unk> and <eos>, got "
                f"{self.max_words}"
            )
        if self.decay <= 1:
            raise MemhopError(f"recipe setting decay: expected a number above 1, got {self.decay}")

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """Return the recipe of the paper, with other settings in ``changes``."""
        return cls.from_json(changes)

    @classmethod
    def best(cls, **changes: Any) -> Self:
        """Return the recipe with the lowest perplexity found at the size of the paper's model.

        One table of words, Adam with a falling rate, dropout, an average of the weights; it reads
        windows.
        """
        settings: dict[str, Any] = {
            "memory_dim": 280, "embeddings": "shared", "first_query": "newest",
            "init_maps": "identity", "protocol": "contiguous", "chunk": 128, "batch_size": 512,
            "epochs": 16, "optimizer": "adam", "learning_rate": 0.002, "schedule": "cosine",
            "warmup_steps": 200, "clip_norm": 1.0, "word_dropout": 0.25, "attention_dropout": 0.1,
            "output_dropout": 0.45, "averaging": 0.999, "matmul_precision": "medium",
        }  # fmt: skip
        return cls.from_json(settings | changes)
