"""The public names and signatures stay, and a stored `Quantized` loads.

``tests/golden/signatures.json`` and ``quantized.pt`` come from an earlier version. ``python -m
tests.test_public_api`` writes the signatures again, with the memhop that is imported: look at the
difference, a release only adds to them.
"""

import importlib
import inspect
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop import Quantized

GOLDEN = Path(__file__).parent / "golden"
SIGNATURES, QUANTIZED = GOLDEN / "signatures.json", GOLDEN / "quantized.pt"
MODULES = (
    "memhop", "memhop.nn", "memhop.ops", "memhop.ops.ragged", "memhop.data",
    "memhop.knowledge", "memhop.retrieval", "memhop.language_model",
)  # fmt: skip
DOCUMENTED = {  # the rest trains or stores the model
    "MemN2N": {"load", "save", "answer", "answers"},
    "KnowledgeModel": {"load", "save", "answer"},
    "LanguageModel": {"load", "save", "predict"},
    "KnowledgeBase": {"from_triples", "find", "relation_words", "duplicates"},
}
POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")

# A parameter as JSON: name, kind, and the default in text, or None.
Parameter = list[str | None]


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a function or a class; ``**options`` is not one of them."""
    if inspect.isclass(function) and issubclass(function, BaseException):
        return []
    return [
        [one.name, one.kind.name, None if one.default is one.empty else repr(one.default)]
        for one in inspect.signature(function).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]


def members(kind: Any) -> dict[str, Any]:
    """Return the public attributes that memhop gives to a class; none for a function."""
    if not inspect.isclass(kind):
        return {}
    own = [base for base in inspect.getmro(kind) if base.__module__.startswith("memhop")]
    names = {name for base in own for name in vars(base) if not name.startswith("_")}
    names &= DOCUMENTED.get(kind.__name__, names)
    return {name: getattr(kind, name) for name in sorted(names)}


def public() -> dict[str, list[Parameter] | None]:
    """Return the parameters of each public name; None for what is not called."""
    found: dict[str, list[Parameter] | None] = {}
    seen: set[int] = set()  # what two modules export is described once
    for module in map(importlib.import_module, MODULES):
        for name in sorted(module.__all__):
            value, path = getattr(module, name), f"{module.__name__}.{name}"
            is_called = inspect.isclass(value) or inspect.isroutine(value)  # not a type alias
            is_new = is_called and id(value) not in seen
            seen.add(id(value))
            found[path] = parameters(value) if is_new and name not in DOCUMENTED else None
            for member, one in members(value).items() if is_new else ():
                found[f"{path}.{member}"] = parameters(one) if inspect.isroutine(one) else None
    return found


def broken(before: list[Parameter], now: list[Parameter]) -> list[str]:
    """Return the names of the parameters that calls of an earlier version cannot rely on."""
    kinds = {str(name): (kind, default) for name, kind, default in now}
    wrong = []
    for name, kind, default in before:
        new_kind, new_default = kinds.pop(str(name), (None, None))
        has_kind = new_kind == kind or (kind, new_kind) == ("KEYWORD_ONLY", POSITIONAL[1])
        if not has_kind or (default is not None and new_default != default):
            wrong.append(str(name))
    wrong += [name for name, (kind, default) in kinds.items()
              if default is None and kind != "VAR_POSITIONAL"]  # fmt: skip
    places = [[name for name, kind, _ in each if kind in POSITIONAL] for each in (before, now)]
    moved = [str(one) for one, other in zip(*places, strict=False) if one != other]
    return wrong + [name for name in moved if name not in wrong]


def test_public_names_keep_their_parameters() -> None:
    stored, found = json.loads(SIGNATURES.read_text()), public()
    assert len(stored) > 90
    assert sorted(stored.keys() - found.keys()) == []
    changed = {name: broken(before, found[name] or []) for name, before in stored.items() if before}
    assert {name: wrong for name, wrong in changed.items() if wrong} == {}


@pytest.mark.parametrize(
    ("now", "wrong"),
    [
        ([["a", "POSITIONAL_OR_KEYWORD", None], ["b", "KEYWORD_ONLY", "1"]], []),
        ([["a", "POSITIONAL_OR_KEYWORD", "0"], ["b", "POSITIONAL_OR_KEYWORD", "1"]], []),
        ([["a", "POSITIONAL_OR_KEYWORD", None], ["c", "KEYWORD_ONLY", "2"]], ["b"]),
        ([["a", "KEYWORD_ONLY", None], ["b", "KEYWORD_ONLY", "1"]], ["a"]),
        ([["a", "POSITIONAL_OR_KEYWORD", None], ["b", "KEYWORD_ONLY", "2"]], ["b"]),
        ([["a", "POSITIONAL_OR_KEYWORD", None], ["b", "KEYWORD_ONLY", None]], ["b"]),
        (
            [
                ["c", "POSITIONAL_OR_KEYWORD", "0"],
                ["a", "POSITIONAL_OR_KEYWORD", "0"],
                ["b", "KEYWORD_ONLY", "1"],
            ],
            ["a"],
        ),
        (
            [
                ["a", "POSITIONAL_OR_KEYWORD", None],
                ["b", "KEYWORD_ONLY", "1"],
                ["c", "KEYWORD_ONLY", None],
            ],
            ["c"],
        ),
    ],
)
def test_a_changed_parameter_is_found(now: list[Parameter], wrong: list[str]) -> None:
    before: list[Parameter] = [
        ["a", "POSITIONAL_OR_KEYWORD", None], ["b", "KEYWORD_ONLY", "1"],
    ]  # fmt: skip
    assert broken(before, now) == wrong


def quantized() -> Quantized:
    return Quantized.of(torch.arange(12.0).reshape(3, 4) - 5)


def loaded(content: bytes) -> Quantized:
    memory = torch.load(io.BytesIO(content), weights_only=True)
    assert isinstance(memory, Quantized)
    return memory


def test_a_quantized_memory_without_a_format_loads() -> None:
    memory = loaded(QUANTIZED.read_bytes())
    assert memory.__dict__.keys() == {"data", "scale"}
    assert torch.equal(memory.data, quantized().data)
    assert torch.equal(memory.scale, quantized().scale)


def test_a_quantized_memory_of_a_newer_format_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stored(number: int) -> bytes:
        file = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr("memhop.ops.inputs.QUANTIZED_FORMAT", number)
            torch.save(quantized(), file)
        return file.getvalue()

    assert torch.equal(loaded(stored(1)).data, quantized().data)
    expected = "Quantized expected a file of format 1, got format 2: written by a newer version"
    with pytest.raises(ValueError, match=f"^{expected} of memhop$"):
        loaded(stored(2))


if __name__ == "__main__":
    entries = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in public().items()]
    SIGNATURES.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    if not QUANTIZED.exists():
        torch.save(quantized(), QUANTIZED)
