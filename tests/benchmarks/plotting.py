"""Modules that draw, for tests that are skipped where matplotlib is not installed."""

from typing import Any

import pytest


def drawing(module: str) -> Any:
    """Return a module of ``memhop.bench``, or skip the test."""
    name, reason = f"memhop.bench.{module}", "needs the extra plot"
    return pytest.importorskip(name, exc_type=ImportError, reason=reason)
