"""Recipe: the settings of a text model and its training."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Self

from memhop.errors import MemhopError
from memhop.settings import Settings

Tying = Literal["adjacent", "layerwise"]
Position = Literal["bag", "paper", "code"]
Noise = Literal["none", "time", "empty"]
HeldOut = Literal["last", "random", "stories"]
Optimizer = Literal["sgd", "adam"]
Schedule = Literal["halving", "linear"]
Keep = Literal["training", "validation"]
Sampling = Literal["uniform", "error"]


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """The settings of `MemN2N` and of `train`.

    The defaults are those of `Recipe.paper` (arXiv 1503.08895, section 4, as in the authors'
    released code), except for ``mask_empty_slots``: by default empty slots get no attention.

    Attributes:
        memory_dim: width d of the embeddings (20 for one task, 50 for the 20 jointly).
        num_hops: number of hops.
        tying: ``adjacent`` (A of a hop is C of the hop before, B = A_1, W^T = C_K) or
            ``layerwise`` (one A, one C, a matrix H on the query between hops, B and W free).
        position: position encoding, the weights of the words in a sentence. ``bag``: 1.
            ``paper``: l_kj = (1 - j/J) - (k/d)(1 - 2j/J), with J words in the sentence. ``code``:
            the authors' w_kj = 1 + 4 (k - (d+1)/2)(j - (J+1)/2)/(dJ), with J one more than the
            longest training sentence. Only ``code`` reproduces the paper's results.
        temporal: add a learned vector for the age of a sentence (1 = the newest).
        relu: a ReLU on the query after each hop (Table 3, RN*).
        heads: number of attention heads, each of memory_dim / heads columns.
        hop_units: units of an MLP after each hop, u <- u + V ReLU(W u + b); 0 for none.
        memory_slots: the largest number of sentences in memory; of a longer story the last ones.
        mask_empty_slots: False lets empty slots get attention exp(0), as in the authors' code.
        epochs: epochs with the softmax, after those of the linear start.
        stop_after: end the training when a restart has made no error in so many successive
            epochs, neither on the sampled training questions nor on the held-out ones (0: never).
            The other restarts end with it.
        linear_start_epochs: epochs without the softmax of the memory, at the first learning rate.
        optimizer: ``sgd``, without momentum, or ``adam``; the loss is summed over the batch.
        learning_rate: of the first epoch.
        schedule: ``halving``, or ``linear``: constant for 30% of the epochs, then linearly to zero.
        halve_every: halve the learning rate after so many epochs (0: never).
        batch_size: questions of a step, sampled with replacement.
        min_steps: an epoch has as many steps as its batches fill with the training questions, and
            at least so many: a small text is sampled more often.
        sampling: of questions, with several texts: ``uniform``, or by the ``error`` on their text
            (`memhop.training.error_sampling`).
        clip_norm: bound on the spectral norm of each matrix's gradient (0: none).
        init_std: standard deviation of the initial weights.
        noise: of training. ``time``: n sentences get n increasing ages sampled from 1..n+b, b
            uniform in 0..ceil(noise_share n), as in the authors' code; ``empty``: the free ages
            become empty slots, as in the paper; ``none``.
        noise_share: see ``noise``.
        exchange: phrase-swap augmentation: training examples with exchangeable phrases permuted
            (`memhop.text.augmentation.swap_search`), also in the answers.
        control_restarts: restarts of the control, a plainer model that is trained first; it decides
            with the held-out stories which classes of phrases are exchanged, and is kept if its
            error on them is lower (`memhop.training.control`); 0 for no control.
        validation_share: share of the training questions that is held out.
        held_out: the ``last`` questions (the authors, one task), ``random`` ones (the authors,
            joint) or random whole ``stories``.
        keep: which restart is kept, that with the lowest error in ``training`` (the paper) or in
            ``validation`` (in training if no question is held out).

    Raises:
        MemhopError: a setting of another type or out of range.

    >>> Recipe(memory_dim=32).memory_dim
    32
    >>> Recipe.paper().mask_empty_slots
    False
    """

    memory_dim: int = 20
    num_hops: int = 3
    tying: Tying = "adjacent"
    position: Position = "code"
    temporal: bool = True
    relu: bool = False
    heads: int = 1
    hop_units: int = 0
    memory_slots: int = 50
    mask_empty_slots: bool = True
    epochs: int = 100
    stop_after: int = 0
    linear_start_epochs: int = 20
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.005
    schedule: Schedule = "halving"
    halve_every: int = 25
    batch_size: int = 32
    min_steps: int = 1
    sampling: Sampling = "uniform"
    clip_norm: float = 40.0
    init_std: float = 0.1
    noise: Noise = "time"
    noise_share: float = 0.1
    exchange: bool = False
    control_restarts: int = 0
    validation_share: float = 0.1
    held_out: HeldOut = "last"
    keep: Keep = "training"

    MAY_BE_ZERO = (
        "noise_share",
        "validation_share",
        "linear_start_epochs",
        "halve_every",
        "clip_norm",
        "hop_units",
        "control_restarts",
        "stop_after",
    )
    LARGEST = MappingProxyType({"num_hops": 100, "noise_share": 1, "validation_share": 1})
    BELOW = ("validation_share",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_dim % self.heads:
            raise MemhopError(
                f"recipe setting heads: expected a divisor of memory_dim {self.memory_dim}, "
                f"got {self.heads}"
            )

    @classmethod
    def paper(cls, *, joint: bool = False, **changes: Any) -> Self:
        """Return the recipe of the authors' code: position encoding, linear start, time noise.

        Args:
            joint: whether one model learns many tasks: width 50, 60 epochs after 30 of linear
                start, the learning rate halved every 15, a random tenth held out.
            **changes: other settings. ``Recipe.paper(linear_start_epochs=0, learning_rate=0.01,
                noise="none")`` is the paper's column PE without linear start.
        """
        settings: dict[str, Any] = {"mask_empty_slots": False}
        if joint:
            settings |= {"memory_dim": 50, "epochs": 60, "linear_start_epochs": 30}
            settings |= {"halve_every": 15, "held_out": "random"}
        return cls.from_json(settings | changes)

    @classmethod
    def best(cls, *, joint: bool = False, **changes: Any) -> Self:
        """Return the recipe with the lowest errors so far; arguments as in `Recipe.paper`.

        It adds phrase-swap augmentation, heads, an MLP after each hop and Adam to the paper's
        model; docs/log.md shows what each brings. A control guards it: a class
        of phrases that raises the held-out error is not exchanged, and the paper's model is kept
        where it has the lower held-out error.
        """
        settings: dict[str, Any] = {
            "mask_empty_slots": False, "memory_dim": 128, "heads": 2, "hop_units": 256,
            "exchange": True, "optimizer": "adam", "learning_rate": 0.001, "schedule": "linear",
            "clip_norm": 0, "epochs": 270, "linear_start_epochs": 30, "stop_after": 10,
            "min_steps": 28, "sampling": "error", "held_out": "stories", "keep": "validation",
            "control_restarts": 3,
        }  # fmt: skip
        if joint:
            settings |= {"epochs": 54, "linear_start_epochs": 6, "control_restarts": 1, "heads": 4}
        return cls.from_json(settings | changes)
