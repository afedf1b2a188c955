"""The exception for what a user can mend: a file, a setting, a run."""


class MemhopError(ValueError):
    """A mistake in what memhop was given.

    Its text is one line that names what came, what was needed and, for a file, where
    (``file:line``). The command line prints that line and ends with status 2.
    Layers and operations raise plain ``ValueError`` for wrong tensors.
    """


class DownloadError(MemhopError):
    """An archive that could not be fetched whole: no connection, an error status, other bytes."""


class DivergedError(MemhopError):
    """A training of which no restart is left: the loss of each became infinite."""


class MemhopWarning(UserWarning):
    """A likely mistake in what memhop was given, such as text without spaces; one line."""
