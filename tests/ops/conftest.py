"""Fixtures for tests of the operations."""

import pytest

from memhop.ops import fused_cuda_plan


@pytest.fixture
def planned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of sharing a problem out that a test names, forced on a small one."""
    monkeypatch.setattr(fused_cuda_plan, "plan_for", request.param)
