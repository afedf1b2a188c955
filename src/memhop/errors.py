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
