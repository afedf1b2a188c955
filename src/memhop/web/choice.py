"""Choose the model of a request by its name."""

from collections.abc import Mapping
from typing import TypeVar

from fastapi import HTTPException

from memhop.web.models import Models, Served, ServedFacts

_ServedT = TypeVar("_ServedT", Served, ServedFacts)


def find_model(models: Models, name: str | None) -> Served:
    """Return the model of stories with this name; None is the first one.

    Raises:
        HTTPException: 404, there is none.
    """
    if isinstance(models.get(name or ""), ServedFacts):
        raise HTTPException(404, f"{name} answers questions about facts: use /api/kb/answer")
    own = {key: one for key, one in models.items() if isinstance(one, Served)}
    return _find(own, name, "stories")


def find_facts_model(models: Models, name: str | None) -> ServedFacts:
    """Return the model of facts with this name; None is the first one.

    Raises:
        HTTPException: 404, there is none.
    """
    if isinstance(models.get(name or ""), Served):
        raise HTTPException(404, f"{name} answers questions about stories: use /api/answer")
    own = {key: one for key, one in models.items() if isinstance(one, ServedFacts)}
    return _find(own, name, "facts")


def _find(models: Mapping[str, _ServedT], name: str | None, kind: str) -> _ServedT:
    if not models:
        raise HTTPException(404, f"this server has no model of {kind}")
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise HTTPException(404, f"no model {name!r:.60}; expected one of {', '.join(models)}")
    return models[name]
