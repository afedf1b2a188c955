"""Modules that draw, for tests that are skipped where matplotlib is not installed."""

from typing import Any

import pytest


def drawing(module: str) -> Any:
    """Return a module of ``benchmarks``, or skip the test."""
    name, reason = f"benchmarks.{module}", "needs the extra plot"
    return pytest.importorskip(name, exc_type=ImportError, reason=reason)
