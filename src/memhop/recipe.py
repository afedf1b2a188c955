"""Recipe: the settings of a text model and its training."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args, get_origin

from memhop.errors import MemhopError, shown

Tying = Literal["adjacent", "layerwise"]
Position = Literal["bag", "paper", "code"]
Noise = Literal["none", "time", "empty"]
HeldOut = Literal["last", "random", "stories"]
Optimizer = Literal["sgd", "adam"]
Schedule = Literal["halving", "linear"]
Keep = Literal["training", "validation"]

_MAY_BE_ZERO = (
    "noise_share",
    "validation_share",
    "linear_start_epochs",
    "halve_every",
    "clip_norm",
    "hop_units",
)
_MAX = {"num_hops": 100, "noise_share": 1, "validation_share": 1}
_DEFAULT_MAX = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
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
        linear_start_epochs: epochs without the softmax of the memory, at the first learning rate.
        optimizer: ``sgd``, without momentum, or ``adam``; the loss is summed over the batch.
        learning_rate: of the first epoch.
        schedule: ``halving``, or ``linear``: constant for 30% of the epochs, then linearly to zero.
        halve_every: halve the learning rate after so many epochs (0: never).
        batch_size: questions of a step, sampled with replacement.
        clip_norm: bound on the spectral norm of each matrix's gradient (0: none).
        init_std: standard deviation of the initial weights.
        noise: of training. ``time``: n sentences get n increasing ages sampled from 1..n+b, b
            uniform in 0..ceil(noise_share n), as in the authors' code; ``empty``: the free ages
            become empty slots, as in the paper; ``none``.
        noise_share: see ``noise``.
        exchange: phrase-swap augmentation: training examples with exchangeable phrases permuted
            (`memhop.text.augmentation.symmetry_test`), also in the answers.
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
    linear_start_epochs: int = 20
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.005
    schedule: Schedule = "halving"
    halve_every: int = 25
    batch_size: int = 32
    clip_norm: float = 40.0
    init_std: float = 0.1
    noise: Noise = "time"
    noise_share: float = 0.1
    exchange: bool = False
    validation_share: float = 0.1
    held_out: HeldOut = "last"
    keep: Keep = "training"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, field.type, getattr(self, field.name))
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

        It adds phrase-swap augmentation, an MLP after each hop, Adam and, with ``joint``, four
        heads to the paper's model; docs/log.md shows what each brings.
        """
        settings: dict[str, Any] = {
            "mask_empty_slots": False, "memory_dim": 64, "hop_units": 128,
            "exchange": True, "optimizer": "adam", "learning_rate": 0.002, "schedule": "linear",
            "clip_norm": 0, "epochs": 270, "linear_start_epochs": 30, "held_out": "stories",
            "keep": "validation",
        }  # fmt: skip
        if joint:
            settings |= {"heads": 4, "epochs": 54, "linear_start_epochs": 6}
        return cls.from_json(settings | changes)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, settings: Any) -> Self:
        """Return a recipe from a JSON object; missing settings have their defaults."""
        if not isinstance(settings, dict):
            raise MemhopError(f"recipe: expected a JSON object of settings, got {shown(settings)}")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise MemhopError(f"unknown recipe setting {name!r}; known: {', '.join(known)}")
        return cls(**settings)


def _check(name: str, kind: Any, value: Any) -> None:
    if get_origin(kind) is Literal:
        wanted = " or ".join(repr(choice) for choice in get_args(kind))
        good = isinstance(value, str) and value in get_args(kind)
    elif kind is bool:
        wanted, good = "true or false", isinstance(value, bool)
    else:
        low = 0 if name in _MAY_BE_ZERO else 1 if kind is int else None
        wanted = _range_text(kind, name, low)
        good = _is_number(kind, value) and _in_range(name, low, value)
    if not good:
        raise MemhopError(f"recipe setting {name}: expected {wanted}, got {shown(value)}")


def _is_number(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind is int else (int, float))


def _in_range(name: str, low: int | None, value: float) -> bool:
    high = _MAX.get(name, _DEFAULT_MAX)
    below = value < high if name == "validation_share" else value <= high
    return below and (value > 0 if low is None else value >= low)


def _range_text(kind: type, name: str, low: int | None) -> str:
    high = _MAX.get(name, _DEFAULT_MAX)
    below = " (1 excluded)" if name == "validation_share" else ""
    number = "an integer" if kind is int else "a number"
    return f"{number} {'above 0' if low is None else f'from {low}'} up to {high}{below}"
