"""Placeholder until the branch symmetry is merged."""

from memhop.example import Example

TASKS = (1, 2, 3, 4, 5, 6, 11, 12, 13, 14)


def inflected(examples: list[Example], task: int) -> list[Example]:
    """Return the examples."""
    return examples
