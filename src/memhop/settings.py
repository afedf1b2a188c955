"""Settings: frozen dataclasses whose fields are checked, and read from and written as JSON."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from memhop.errors import MemhopError, shown

DEFAULT_LARGEST = 1_000_000


class Settings:
    """The base of a frozen dataclass with fields of type int, float, bool and Literal.

    Numbers are from 1 (int) or above 0 (float) up to `DEFAULT_LARGEST`, unless a subclass says:

    Attributes:
        MAY_BE_ZERO: fields that may be zero.
        LARGEST: the largest value of a field.
        BELOW: fields that must be below their largest value.

    Raises:
        MemhopError: a setting of another type or out of range.
    """

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ()
    LARGEST: ClassVar[Mapping[str, float]] = MappingProxyType({})
    BELOW: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, kind in self.kinds().items():
            self._check(name, kind, getattr(self, name))

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """Return the type of each field."""
        return {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        return {name: getattr(self, name) for name in self.kinds()}

    @classmethod
    def from_json(cls, settings: Any) -> Self:
        """Return a recipe from a JSON object; missing settings have their defaults."""
        if not isinstance(settings, dict):
            raise MemhopError(f"recipe: expected a JSON object of settings, got {shown(settings)}")
        known = list(cls.kinds())
        for name in settings:
            if name not in known:
                raise MemhopError(f"unknown recipe setting {name!r}; known: {', '.join(known)}")
        return cls(**settings)

    def _check(self, name: str, kind: Any, value: Any) -> None:
        if get_origin(kind) is Literal:
            wanted = " or ".join(repr(choice) for choice in get_args(kind))
            good = isinstance(value, str) and value in get_args(kind)
        elif kind is bool:
            wanted, good = "true or false", isinstance(value, bool)
        else:
            low = 0 if name in self.MAY_BE_ZERO else 1 if kind is int else None
            wanted = self._range_text(kind, name, low)
            good = _is_number(kind, value) and self._in_range(name, low, value)
        if not good:
            raise MemhopError(f"recipe setting {name}: expected {wanted}, got {shown(value)}")

    def _in_range(self, name: str, low: int | None, value: float) -> bool:
        high = self.LARGEST.get(name, DEFAULT_LARGEST)
        below = value < high if name in self.BELOW else value <= high
        return below and (value > 0 if low is None else value >= low)

    def _range_text(self, kind: type, name: str, low: int | None) -> str:
        high = self.LARGEST.get(name, DEFAULT_LARGEST)
        below = f" ({high} excluded)" if name in self.BELOW else ""
        number = "an integer" if kind is int else "a number"
        return f"{number} {'above 0' if low is None else f'from {low}'} up to {high}{below}"


def _is_number(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind is int else (int, float))
