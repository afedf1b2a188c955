"""Recipes: what is allowed, what is said of the rest, and that JSON keeps them."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.recipe import Recipe

NAMES = [field.name for field in dataclasses.fields(Recipe)]
WHOLE = [
    "memory_dim", "num_hops", "memory_slots", "epochs", "linear_start_epochs", "halve_every",
    "batch_size", "heads", "hop_units", "control_restarts", "stop_after",
    "min_steps",
]  # fmt: skip
NUMBERS = ["learning_rate", "clip_norm", "init_std", "noise_share", "validation_share"]
MAY_BE_ZERO = [
    "linear_start_epochs", "halve_every", "clip_norm", "noise_share", "validation_share",
    "hop_units", "control_restarts", "stop_after",
]  # fmt: skip
WORDS = ["tying", "position", "noise", "held_out", "optimizer", "schedule", "keep", "sampling"]
SWITCHES = ["exchange", "temporal", "relu", "mask_empty_slots"]

ODD: list[Any] = [
    None, "", "ten", "1", b"1", [], [1], {}, (), math.nan, math.inf, -math.inf, -1, -0.5,
    10**9, 1e300, 10**400, -(10**400), 1j, np.ones((2, 2)), object(), "a\nb" * 99,
]  # fmt: skip


def one(name: str, value: Any) -> Recipe:
    settings: dict[str, Any] = {name: value}
    if name == "heads" and type(value) is int and value > 0:
        settings["memory_dim"] = min(value, 1_000_000)  # which heads must divide
    return Recipe(**settings)


def refused(name: str, value: Any) -> str:
    with pytest.raises(MemhopError) as caught:
        one(name, value)
    message = str(caught.value)
    assert message.startswith(f"recipe setting {name}: expected ")
    assert "\n" not in message
    assert len(message) < 250
    return message


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_setting_is_refused_in_one_line(name: str) -> None:
    for value in ODD:
        refused(name, value)


def test_every_setting_is_of_a_known_kind() -> None:
    assert sorted(NAMES) == sorted(WHOLE + NUMBERS + WORDS + SWITCHES)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    for value in (1.0, 2.5, True, "3"):
        refused(name, value)
    one(name, 100)
    if name in MAY_BE_ZERO:
        one(name, 0)
    else:
        refused(name, 0)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str) -> None:
    refused(name, True)
    for value in (0.5, 1e-300):
        assert getattr(one(name, value), name) == value
    if name in MAY_BE_ZERO:
        one(name, 0)
    else:
        refused(name, 0.0)


@pytest.mark.parametrize("name", SWITCHES)
def test_switches(name: str) -> None:
    for value in (0, 1, "true"):
        refused(name, value)


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str) -> None:
    message = refused(name, "Last\x1b[2J")
    assert "\x1b" not in message


def test_ends_of_ranges() -> None:
    Recipe(noise_share=1, num_hops=100, memory_dim=1_000_000)
    for name, value in (("noise_share", 1.01), ("num_hops", 101), ("memory_dim", 1_000_001)):
        refused(name, value)
    assert "1 excluded" in refused("validation_share", 1)
    Recipe(validation_share=0.999)


def test_the_settings_of_the_authors() -> None:
    paper, joint = Recipe.paper(), Recipe.paper(joint=True)
    for recipe in (paper, joint):
        assert (recipe.num_hops, recipe.tying, recipe.position) == (3, "adjacent", "code")
        assert (recipe.temporal, recipe.relu, recipe.mask_empty_slots) == (True, False, False)
        assert (recipe.memory_slots, recipe.batch_size, recipe.clip_norm) == (50, 32, 40)
        assert (recipe.init_std, recipe.noise, recipe.noise_share) == (0.1, "time", 0.1)
        assert (recipe.learning_rate, recipe.validation_share) == (0.005, 0.1)
    assert (paper.memory_dim, joint.memory_dim) == (20, 50)
    assert (paper.linear_start_epochs, paper.epochs, paper.halve_every) == (20, 100, 25)
    assert (joint.linear_start_epochs, joint.epochs, joint.halve_every) == (30, 60, 15)
    assert (paper.held_out, joint.held_out) == ("last", "random")
    assert Recipe.paper(joint=True, memory_dim=9, mask_empty_slots=True).memory_dim == 9
    assert Recipe(mask_empty_slots=False) == paper


@given(st.fixed_dictionaries({}, optional={
    "memory_dim": st.integers(1, 10**6), "num_hops": st.integers(1, 100),
    "learning_rate": st.floats(1e-9, 1e6), "noise_share": st.floats(0, 1),
    "clip_norm": st.integers(0, 10**6) | st.floats(0, 10**6), "relu": st.booleans(),
    "tying": st.sampled_from(["adjacent", "layerwise"]),
}))  # fmt: skip
def test_json_keeps_every_setting(changes: dict[str, Any]) -> None:
    recipe = Recipe.from_json(changes)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert list(recipe.to_json()) == NAMES


@pytest.mark.parametrize("settings", [None, [], "paper", 3, [["epochs", 3]]])
def test_a_recipe_is_a_json_object(settings: Any) -> None:
    with pytest.raises(MemhopError, match="recipe: expected a JSON object of settings, got"):
        Recipe.from_json(settings)


@pytest.mark.parametrize("name", ["epoch", "Epochs", "", "__class__", "a\nb"])
def test_unknown_settings_are_named(name: str) -> None:
    with pytest.raises(
        MemhopError, match=r"unknown recipe setting .*; known: memory_dim, "
    ) as caught:
        Recipe.from_json({name: 1})
    assert "\n" not in str(caught.value)


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().epochs = 3  # type: ignore[misc]
    assert hash(Recipe()) == hash(Recipe())


def test_heads_divide_the_width() -> None:
    assert Recipe(memory_dim=20, heads=5).heads == 5
    with pytest.raises(MemhopError, match=r"heads: expected a divisor of memory_dim 20, got 3"):
        Recipe(memory_dim=20, heads=3)


@pytest.mark.parametrize("joint", [False, True])
def test_best_differs_from_paper_in_how_it_learns_and_in_its_hops(joint: bool) -> None:
    best, paper = Recipe.best(joint=joint), Recipe.paper(joint=joint)
    assert paper.held_out == ("random" if joint else "last")
    assert (best.held_out, best.keep) == ("stories", "validation")
    assert (best.exchange, best.optimizer) == (True, "adam")
    assert (best.memory_dim, best.stop_after, best.min_steps) == (128, 10, 28)
    assert best.heads == (4 if joint else 2)
    same = ("num_hops", "tying", "position", "temporal", "memory_slots", "noise", "noise_share")
    assert all(getattr(best, name) == getattr(paper, name) for name in same)
    assert Recipe.best(joint=joint, heads=8).heads == 8
