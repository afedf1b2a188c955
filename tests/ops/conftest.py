"""Fixtures for tests of the operations."""

import pytest

from memhop.ops.cuda import tiling


@pytest.fixture
def planned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the plan of every problem by the one that the test names."""
    monkeypatch.setattr(tiling, "plan_for", request.param)
