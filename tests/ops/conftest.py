"""Fixtures for tests of the operations."""

import pytest

from memhop.ops.cuda import tiling


@pytest.fixture
def planned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of sharing a problem out that a test names, forced on a small one."""
    monkeypatch.setattr(tiling, "plan_for", request.param)
