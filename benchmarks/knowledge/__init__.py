"""Measurements of memhop.knowledge."""
