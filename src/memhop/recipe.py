"""Every setting of a text model and its training, in one frozen value."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args, get_origin

from memhop.errors import MemhopError

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
_LARGEST = {"num_hops": 100, "noise_share": 1, "validation_share": 1}
_LARGEST_OTHERWISE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of `MemN2N` and of `train`: one dial for a researcher to turn.

    The defaults are those of the recipe ``paper`` (Sukhbaatar et al. 2015, section 4, in the
    form of the authors' released code) but for ``mask_empty_slots``: what is no sentence takes
    no attention here. `Recipe.paper` gives the authors' own.

    Attributes:
        memory_dim: width d of the embeddings (20 for one task, 50 for the 20 jointly).
        num_hops: how often the memory is read.
        tying: ``adjacent`` (A of a hop is C of the hop before, B = A_1, W^T = C_K) or
            ``layerwise`` (one A, one C, a matrix H on the query between hops, B and W free).
        position: how words become a sentence. ``bag``: their sum. ``paper``: position encoding
            with l_kj = (1 - j/J) - (k/d)(1 - 2j/J), J words in this sentence. ``code``: the
            authors' w_kj = 1 + 4 (k - (d+1)/2)(j - (J+1)/2)/(dJ), J one more than the longest
            sentence of training. The last reaches the paper's numbers, the paper's own does not.
        temporal: add a learned vector for the age of a sentence (1 = the newest).
        relu: a ReLU on the query after each hop (Table 3, RN*).
        heads: reads a hop, each of memory_dim / heads columns with attention of its own.
        hop_units: units of a network after each hop, u <- u + V ReLU(W u + b); 0 for none.
        memory_slots: at most so many of the last sentences are the memory.
        mask_empty_slots: False lets empty slots take softmax mass exp(0), as the authors' code.
        epochs: epochs with the softmax, after those of the linear start.
        linear_start_epochs: epochs without the softmax of the memory, at the first rate.
        optimizer: ``sgd``, plain, or ``adam``; on a loss summed over the batch.
        learning_rate: of the first epoch.
        schedule: ``halving``, or ``linear``: the rate falls to zero after three tenths.
        halve_every: halve the rate at the start of every so many-th epoch (0: never).
        batch_size: questions a step, drawn with replacement.
        clip_norm: bound on the spectral norm of each matrix's gradient (0: none).
        init_std: standard deviation of the initial weights.
        noise: while training, ``time``: n sentences take n increasing ages drawn from 1..n+b,
            b uniform in 0..ceil(noise_share n), as the authors' code does; ``empty``: the ages left
            free become empty slots, as the paper says; ``none``.
        noise_share: that share.
        exchange: while training, tell every example anew with phrases exchanged that its text
            lets stand for each other (`memhop.text.augmentation.symmetry_test`), answers too.
        validation_share: share of the training questions held out and never trained on.
        held_out: ``last`` in the order given (the authors, one task), ``random`` (the authors,
            joint) or whole ``stories`` at random, of which no question is trained on.
        keep: of several restarts the one with the lowest error in ``training`` (the paper) or
            ``validation`` (in training where nothing is held out).

    Raises:
        MemhopError: a setting of another kind or out of range, named with what it may be.

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
                f"recipe setting heads must divide memory_dim {self.memory_dim}, not {self.heads}"
            )

    @classmethod
    def paper(cls, *, joint: bool = False, **changes: Any) -> Self:
        """The recipe of the authors' released code: position encoding, linear start, time noise.

        ``joint`` gives the settings for one model over many tasks: width 50, 60 epochs after 30
        of linear start, the rate halved every 15, a random tenth held out. ``changes`` replace
        single settings: ``Recipe.paper(linear_start_epochs=0, learning_rate=0.01)`` is the
        paper's column PE without linear start when ``noise="none"`` is given too.
        """
        settings: dict[str, Any] = {"mask_empty_slots": False}
        if joint:
            settings |= {"memory_dim": 50, "epochs": 60, "linear_start_epochs": 30}
            settings |= {"halve_every": 15, "held_out": "random"}
        return cls.from_json(settings | changes)

    @classmethod
    def best(cls, *, joint: bool = False, **changes: Any) -> Self:
        """The recipe that answers best so far; still a memory network, not the paper's any more.

        Its stories are told anew with phrases exchanged, a hop has a network behind it and, for
        many tasks jointly, four heads, and Adam takes the steps; see docs/log.md for what each
        brings. ``joint`` and ``changes`` are those of `Recipe.paper`.
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
        """The settings as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, settings: Any) -> Self:
        """A recipe from a JSON object; settings left out keep their defaults."""
        if not isinstance(settings, dict):
            raise MemhopError(f"a recipe is a JSON object of settings, not {_named(settings)}")
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
        raise MemhopError(f"recipe setting {name} must be {wanted}, not {_named(value)}")


def _is_number(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind is int else (int, float))


def _in_range(name: str, low: int | None, value: float) -> bool:
    high = _LARGEST.get(name, _LARGEST_OTHERWISE)
    below = value < high if name == "validation_share" else value <= high
    return below and (value > 0 if low is None else value >= low)


def _range_text(kind: type, name: str, low: int | None) -> str:
    high = _LARGEST.get(name, _LARGEST_OTHERWISE)
    below = " (1 excluded)" if name == "validation_share" else ""
    number = "a whole number" if kind is int else "a number"
    return f"{number} {'above 0' if low is None else f'from {low}'} up to {high}{below}"


def _named(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
