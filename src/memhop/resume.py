"""Compare the stored identity of a training with that of the one that resumes it."""

from collections.abc import Mapping
from typing import Any

_NAMES = {"valid": "held-out part", "texts": "division into texts",
          "first_restart": "first restart"}  # fmt: skip
_MAX_SHOWN = 3  # differing settings in an error


def differences(stored: object, identity: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the differing parts of two identities in words; empty if there are none.

    Args:
        stored: the identity from a checkpoint, untrusted.
        identity: that of the training which resumes.
        defaults: the default settings of a recipe; a recipe stored by an older version lacks some.

    >>> before, now = {"seed": 1, "recipe": {"epochs": 9}}, {"seed": 2, "recipe": {"epochs": 9}}
    >>> differences(before, now, {})
    'seed (1, now 2)'
    """
    before = dict(stored) if isinstance(stored, dict) else {}
    if isinstance(before.get("recipe"), dict):
        before["recipe"] = {**defaults, **before["recipe"]}
    return " and ".join(
        _NAMES.get(name, name) + _changes(before.get(name), identity.get(name))
        for name in _differing(before, identity)
    )


def _changes(before: Any, now: Any) -> str:
    """Return how a part differs, in parentheses; empty for checksums."""
    if isinstance(before, dict) and isinstance(now, dict):
        settings = [f"{key} {before.get(key)}, now {now.get(key)}"
                    for key in _differing(before, now)]  # fmt: skip
        more = "; ..." if len(settings) > _MAX_SHOWN else ""
        return f" ({'; '.join(settings[:_MAX_SHOWN])}{more})"
    if isinstance(before, int) and isinstance(now, int):
        return f" ({before}, now {now})"
    return ""


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys((*now, *before))
    return [name for name in names if before.get(name) != now.get(name)]
