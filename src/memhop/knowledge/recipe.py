"""KnowledgeRecipe: the settings of a knowledge model and its training."""

from dataclasses import dataclass
from types import MappingProxyType

from memhop.errors import MemhopError
from memhop.settings import Settings


@dataclass(frozen=True, kw_only=True)
class KnowledgeRecipe(Settings):
    """The settings of `KnowledgeModel` and of `train`.

    Attributes:
        word_dim: width d of the embeddings of words and relations; even.
        num_hops: the largest number of facts between a question and its answer.
        inverse: also read facts from object to subject.
        max_entities: entities that a hop starts from, at most; those with the largest weights.
        min_weight: entities with less than this share of the largest weight are dropped too.
        epochs: epochs at most.
        patience: stop after so many epochs without a better held-out part.
        learning_rate: of Adam (arXiv 1412.6980).
        batch_size: questions of a step.
        dropout: the share of the numbers in word embeddings that is zeroed in training.
        clip_norm: bound on the norm of the gradient.
        validation_share: share of the training questions that is held out; it chooses the epoch.

    Raises:
        MemhopError: a setting of another type or out of range.

    >>> KnowledgeRecipe(num_hops=2).num_hops
    2
    """

    word_dim: int = 64
    num_hops: int = 3
    inverse: bool = True
    max_entities: int = 64
    min_weight: float = 1e-4
    epochs: int = 80
    patience: int = 12
    learning_rate: float = 0.005
    batch_size: int = 64
    dropout: float = 0.2
    clip_norm: float = 5.0
    validation_share: float = 0.1

    MAY_BE_ZERO = ("min_weight", "dropout", "validation_share")
    LARGEST = MappingProxyType(
        {"num_hops": 100, "min_weight": 1, "dropout": 1, "validation_share": 1, "word_dim": 4096}
    )
    BELOW = ("min_weight", "dropout", "validation_share")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.word_dim % 2:
            raise MemhopError(
                f"recipe setting word_dim: expected an even number, got {self.word_dim}"
            )
