"""Exceptions and warnings for mistakes that a user can correct: a file, a setting, a run."""


class MemhopError(ValueError):
    """A mistake in the input of memhop.

    The message is one line: what was expected, what came and, for a file, where (``file:line``).
    The command line prints it and exits with status 2. Layers and operations raise ``ValueError``
    for wrong tensors.
    """


class DownloadError(MemhopError):
    """A failed download of an archive: no connection, an error status, a wrong checksum."""


class DivergedError(MemhopError):
    """A training in which the loss of every restart became infinite."""


class MemhopWarning(UserWarning):
    """A likely mistake in the input of memhop, such as text without spaces; one line."""


def check_integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return ``value`` if it is an integer from ``least`` to ``most``, and not a bool.

    Raises:
        MemhopError: for any other value.
    """
    is_bool = isinstance(value, bool)
    if (
        isinstance(value, int)
        and not is_bool
        and least <= value <= (value if most is None else most)
    ):
        return value
    to = "" if most is None else f" to {most:,}"
    raise MemhopError(f"{name}: expected an integer from {least}{to}, got {shown(value)}")


def shown(value: object) -> str:
    """Return the repr of a value for a message: one line of at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no integer of more than some thousand digits
        text = f"{type(value).__name__} with too many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
