"""Every option of the layers and every argument of ``forward``, for the tests of torch's tools.

A new option or argument is one more entry of ``FACTORS``. A ``Case`` makes a choice for each
factor. In ``FEW`` cases every choice occurs, and in those of ``COVERING`` every two choices that
go together occur together.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

import memhop
from memhop import Quantized
from tests.seeds import slow, thorough

# The axes of a tensor as letters: B batch, L queries on each memory, N slots, U and W rows of the
# banks of keys and values, K hops, D query, I memory, V value; 1 is a 1. A call without an axis B
# or L drops the letter.
Axes = str | tuple[str | None, str | None]

MEMORIES: dict[str, dict[str, Axes]] = {
    "own": {"memories": "BNI"},
    "shared": {"memories": "NI"},
    "values": {"memories": "BNI", "values": "BNV"},
    "shared values": {"memories": "BNI", "values": "NV"},
    "bank": {"memories": "UI", "slots": "BN"},
    "bank, slots by query": {"memories": "UI", "slots": "BLN"},
    "own bank, shared slots": {"memories": "BUI", "slots": "N"},
    "bank of values": {"memories": "UI", "values": "UV", "slots": "1N"},
    "pair": {"memories": "UI", "values": "WV", "slots": ("BN", "BLN")},
    "pair, one bank": {"memories": "BUI", "slots": ("BN", "N")},
    "pair of keys": {"memories": "UI", "values": "BNV", "slots": ("BN", None)},
    "pair of values": {"memories": "BNI", "values": "BWV", "slots": (None, "BLN")},
}
QUERIES = {"batch": "BD", "several": "BLD", "one": "D"}
OPTIONS: dict[str, tuple[Any, ...]] = {
    "tying": ("none", "adjacent", "layerwise"),
    "value_dim": (None, "own"),
    "num_heads": (1, 2),
    "dropout": (0.0, 0.5),
    "embed": (True, False, "a", "c"),
    "bias": (True, False),
    "relu": (False, True, 0.5),
    "softmax": (True, False),
    "temporal_slots": (None, 3),
    "slot_order": ("oldest_first", "newest_first"),
}
FACTORS: dict[str, tuple[Any, ...]] = {
    "layer": ("MultiHop", "MemoryHop", "MemoryNetwork"),
    **OPTIONS,
    "query": tuple(QUERIES),
    "memory": tuple(MEMORIES),
    "memory_padding_mask": (None, "BN", "BLN", "1N", "N"),
    "lengths": (None, "B", "BL", "1", ""),
    "score_bias": (None, "BN", "BLN", "N", "BLKN", "11KN"),
    "storage": ("float64", "bfloat16", "int8"),
    "ignored": ("finite", "nan"),
    "weights": ("mean", "of each head", "none"),
}
STORED = ("memories", "values")
SIZES = {"B": 3, "L": 2, "N": 4, "U": 7, "W": 5}
MEMORY_DIM, INPUT_DIM, VALUE_DIM, NUM_HOPS = 6, 5, 3, 2


@dataclass(frozen=True)
class Case:
    """A layer and a call of it: one choice for each factor, those left out are the first."""

    chosen: Mapping[str, Any]

    def __getitem__(self, factor: str) -> Any:
        return self.chosen.get(factor, FACTORS[factor][0])

    def __str__(self) -> str:
        chosen = {name: self[name] for name, choices in FACTORS.items() if self[name] != choices[0]}
        return ", ".join(f"{name}={choice}" for name, choice in chosen.items()) or "defaults"

    @cached_property
    def dims(self) -> dict[str, int]:
        """The sizes that the layer fixes, by letter."""
        embed, own_values = self["embed"], self["value_dim"] is not None
        keys = MEMORY_DIM if embed in (False, "c") else INPUT_DIM
        values = VALUE_DIM if own_values else keys
        if embed == "a":
            values, keys = MEMORY_DIM, keys if own_values else MEMORY_DIM
        query = keys if self["layer"] == "MemoryNetwork" else MEMORY_DIM
        num_hops = 1 if self["layer"] == "MemoryHop" else NUM_HOPS
        return {"D": query, "I": keys, "V": values, "K": num_hops, "1": 1}

    @cached_property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and the query; a memory of few bytes goes with float32."""
        return torch.float64 if self["storage"] == "float64" else torch.float32

    def layer(self) -> Any:
        """Return the layer, with the same weights every time."""
        options = {name: self[name] for name in OPTIONS}
        options["value_dim"] = self.dims["V"] if options["value_dim"] else None
        if self["layer"] == "MemoryHop":
            del options["tying"]
        else:
            options["num_hops"] = NUM_HOPS
        torch.manual_seed(0)
        return getattr(memhop, self["layer"])(
            self.dims["I"], MEMORY_DIM, **options, dtype=self.dtype
        )

    @cached_property
    def axes(self) -> dict[str, Axes]:
        """The axes of each tensor argument, by name; a pair has two."""
        named = {"query": QUERIES[self["query"]], **MEMORIES[self["memory"]]}
        given = ("memory_padding_mask", "lengths", "score_bias")
        named |= {name: self[name] for name in given if self[name] is not None}
        left_out = {"one": "BL1", "batch": "L", "several": ""}[self["query"]]
        dropped = str.maketrans("", "", left_out)
        axes = tree_map(lambda axes: axes and axes.translate(dropped), named)
        if self["query"] == "batch" and "score_bias" in named:
            axes["score_bias"] = axes["score_bias"].replace("11", "1")
        return axes  # type: ignore[no-any-return]

    @cached_property
    def options(self) -> dict[str, bool]:
        """The arguments of ``forward`` that are no tensors."""
        if self["weights"] == "none":
            return {}
        return {"need_weights": True, "average_attn_weights": self["weights"] == "mean"}

    def shape(self, axes: str, sizes: Mapping[str, int]) -> list[int]:
        """Return the sizes of axes."""
        return [self.dims[letter] if letter in self.dims else sizes[letter] for letter in axes]

    def tensors(self, seed: int = 0, **sizes: int) -> dict[str, Any]:
        """Return the tensor arguments, for ``SIZES`` or others.

        The second of the batch has no readable slot if the mask has an axis B. Slots that the mask
        excludes hold NaN if the case has such content.
        """
        make = torch.Generator().manual_seed(seed)
        sizes = SIZES | sizes
        axes: dict[str, Any] = dict(self.axes)

        def normal(axes: str) -> Tensor:
            shape = self.shape(axes, sizes)
            return torch.randn(shape, generator=make, dtype=torch.float64).to(self.dtype)

        def integers(axes: str, high: int) -> Tensor:
            return torch.randint(max(1, high), self.shape(axes, sizes), generator=make)

        found: dict[str, Any] = {name: normal(axes[name]) for name in STORED if name in axes}
        found = {"query": normal(axes["query"]), **found}
        if isinstance(axes.get("slots"), tuple):
            of_keys, of_values = axes["slots"]
            rows = sizes["W" if "values" in axes else "U"]
            found["slots"] = (
                None if of_keys is None else integers(of_keys, sizes["U"]),
                None if of_values is None else integers(of_values, rows),
            )
        elif "slots" in axes:
            found["slots"] = integers(axes["slots"], sizes["U"])
        if "memory_padding_mask" in axes:
            mask = integers(axes["memory_padding_mask"], 5) < 2
            if axes["memory_padding_mask"].startswith("B"):
                mask[1:2] = True
            found["memory_padding_mask"] = mask
            for name in STORED:
                if self["ignored"] == "nan" and axes["memory_padding_mask"] in axes.get(name, ""):
                    found[name] = found[name].masked_fill(mask.unsqueeze(-1), torch.nan)
        if "lengths" in axes:
            found["lengths"] = integers(axes["lengths"], sizes["N"] + 1)
        if "score_bias" in axes:
            found["score_bias"] = normal(axes["score_bias"])
            found["score_bias"][..., 1:2] = -torch.inf
        return found | {name: self.stored(found[name]) for name in STORED if name in found}

    def stored(self, rows: Tensor) -> Tensor | Quantized:
        """Return a memory in the format of the case."""
        if self["storage"] == "int8":
            return Quantized.of(rows)
        return rows.bfloat16() if self["storage"] == "bfloat16" else rows

    def call(self, layer: Callable[..., Any], tensors: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Return what a layer, or what a tool made of it, returns; dropout draws the same."""
        torch.manual_seed(0)
        result = layer(**tensors, **self.options)
        return result if isinstance(result, tuple) else (result,)

    def assert_close(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
        """Compare outputs or gradients; the errors of float32 are a share of the largest number."""
        for tensor, other in zip(found, expected, strict=True):
            assert tensor.dtype == other.dtype
            largest = float(other.detach().abs().max()) if other.numel() else 0.0
            near = {} if self.dtype == torch.float64 else {"rtol": 0, "atol": 1e-4 * (1 + largest)}
            torch.testing.assert_close(tensor, other, **near)  # type: ignore[arg-type]


def go_together(chosen: Mapping[str, Any]) -> bool:
    """Return whether some choices do not exclude each other; a factor may be missing."""

    def has(factor: str, *choices: Any) -> bool:
        return factor in chosen and chosen[factor] in choices

    def lacks(factor: str, *choices: Any) -> bool:
        return factor in chosen and chosen[factor] not in choices

    has_values = [name for name, axes in MEMORIES.items() if "values" in axes]
    return not (
        (has("layer", "MemoryHop") and lacks("tying", "none"))
        or (has("tying", "adjacent") and (has("embed", "a", "c") or lacks("value_dim", None)))
        or (has("value_dim", "own") and (has("embed", False) or lacks("memory", *has_values)))
        or (lacks("memory_padding_mask", None) and lacks("lengths", None))
        or (has("ignored", "nan") and (has("memory_padding_mask", None) or has("storage", "int8")))
        or (has("ignored", "nan") and lacks("memory", "own", "shared", "values"))
        or (has("ignored", "nan") and lacks("lengths", None))
        or (lacks("query", "several") and has("memory_padding_mask", "BLN"))
        or (lacks("query", "several") and (has("lengths", "BL") or has("score_bias", "BLN")))
        or (lacks("query", "several") and has("memory", "bank, slots by query"))
        or (has("query", "one") and has("memory_padding_mask", "1N", "N"))
        or (has("query", "one") and has("lengths", "1", ""))
        or (has("query", "one") and has("score_bias", "N", "11KN"))
        or (has("query", "one") and has("memory", "shared", "shared values"))
        or (has("query", "one") and has("memory", "own bank, shared slots"))
    )


def completed(chosen: Mapping[str, Any], draw: random.Random) -> Case:
    """Return a case with some choices, and random ones for all other factors."""
    for _ in range(1000):
        case = dict(chosen)
        for factor in draw.sample(list(FACTORS), len(FACTORS)):
            if factor in case:
                continue
            choices = [c for c in FACTORS[factor] if go_together({**case, factor: c})]
            if not choices:
                break
            case[factor] = draw.choice(choices)
        else:
            return Case(case)
    raise ValueError(f"go_together allows {dict(chosen)}, but no case has them")


def covering(num_factors: int, candidates: int = 30) -> list[Case]:
    """Return cases in which all choices of any ``num_factors`` factors occur that go together.

    Each case is the one of some random ones that adds the most.
    """

    def combinations(case: Case) -> set[tuple[Any, ...]]:
        chosen = [(name, FACTORS[name].index(case[name])) for name in FACTORS]
        return set(itertools.combinations(chosen, num_factors))

    draw, cases = random.Random(0), [Case({name: FACTORS[name][0] for name in FACTORS})]
    missing = dict.fromkeys(possible(num_factors))
    for each in combinations(cases[0]):
        missing.pop(each, None)
    while missing:
        wanted = {name: FACTORS[name][index] for name, index in next(iter(missing))}
        drawn = [completed(wanted, draw) for _ in range(candidates)]
        best = max(drawn, key=lambda case: sum(each in missing for each in combinations(case)))
        for each in combinations(best):
            missing.pop(each, None)
        cases.append(best)
    return cases


def possible(num_factors: int) -> Iterator[tuple[Any, ...]]:
    """Yield all choices of ``num_factors`` factors that go together."""
    for factors in itertools.combinations(FACTORS, num_factors):
        for indices in itertools.product(*(range(len(FACTORS[name])) for name in factors)):
            pairs = tuple(zip(factors, indices, strict=True))
            if go_together({name: FACTORS[name][index] for name, index in pairs}):
                yield pairs


FEW, COVERING = covering(1), covering(2)


def every_case(condition: Callable[[Case], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Parametrize a test that is fast with the cases that meet a condition.

    By default those of ``FEW`` and a quarter of ``COVERING``; all of it if thorough.
    """
    covering = [case if n % 4 == 0 else thorough(case) for n, case in enumerate(COVERING)]
    chosen = [
        value for case, value in zip(FEW + COVERING, FEW + covering, strict=True) if condition(case)
    ]
    return pytest.mark.parametrize("case", chosen, ids=str)


def some_cases(part: int | None = None) -> pytest.MarkDecorator:
    """Parametrize a test that is slow: ``FEW`` with ``-m slow``, ``COVERING`` if thorough.

    By default half of ``FEW``. Of a ``part`` from 0 to 2, one or two of ``FEW`` by default, as many
    more with ``-m slow``, the others if thorough.
    """

    def marked(number: int, case: Case) -> Any:
        if number % 12 == part or (part is None and number % 2 == 0):
            return case
        return slow(case) if part is None or number % 6 == part else thorough(case)

    few = [marked(number, case) for number, case in enumerate(FEW)]
    return pytest.mark.parametrize("case", [*few, *map(thorough, COVERING)], ids=str)
