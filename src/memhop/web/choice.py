"""Choose the model of a request by its name."""

from typing import TypeVar

from fastapi import HTTPException

from memhop.web.models import AnyServed, Models, Served, ServedFacts, ServedStore

_ServedT = TypeVar("_ServedT", Served, ServedFacts, ServedStore)
_USES: dict[type[AnyServed], str] = {
    Served: "answers questions about stories: use /api/answer",
    ServedFacts: "answers questions about facts: use /api/kb/answer",
    ServedStore: "is a store: use /api/store/search/row",
}


def find_model(models: Models, name: str | None) -> Served:
    """Return the model of stories with this name; None is the first one.

    Raises:
        HTTPException: 404, there is none.
    """
    return _find(models, name, Served, "model of stories")


def find_facts_model(models: Models, name: str | None) -> ServedFacts:
    """Return the model of facts with this name; None is the first one.

    Raises:
        HTTPException: 404, there is none.
    """
    return _find(models, name, ServedFacts, "model of facts")


def find_store(models: Models, name: str | None) -> ServedStore:
    """Return the store with this name; None is the first one.

    Raises:
        HTTPException: 404, there is none.
    """
    return _find(models, name, ServedStore, "store")


def _find(models: Models, name: str | None, kind: type[_ServedT], noun: str) -> _ServedT:
    other = models.get(name or "")
    if other is not None and not isinstance(other, kind):
        raise HTTPException(404, f"{name} {_USES[type(other)]}")
    own = {key: one for key, one in models.items() if isinstance(one, kind)}
    if not own:
        raise HTTPException(404, f"this server has no {noun}")
    if name is None:
        return next(iter(own.values()))
    if name not in own:
        raise HTTPException(404, f"no model {name!r:.60}; expected one of {', '.join(own)}")
    return own[name]
