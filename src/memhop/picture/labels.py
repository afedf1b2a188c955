"""The texts of a picture: shown, never obeyed, and as many cells wide as they are shown."""

import unicodedata


def spelled_out(text: str) -> str:
    r"""Every character that would act instead of show, as Python spells it.

    >>> spelled_out("red\x1b[31m\n")
    'red\\x1b[31m\\n'
    """
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":  # a space of another width
        return " "
    return character.encode("unicode_escape").decode("ascii")


def bounded(text: str, width: int, cut: str) -> str:
    """The text spelled out, and no longer than ``width`` cells can need.

    Marks that take no cell must not make a line endless.

    >>> bounded("na" * 1000, 2, "...")
    'nananana...'
    """
    bound = 4 * width
    return spelled_out(text[:bound] + cut * (len(text) > bound))


def cells(text: str) -> int:
    """How many columns a terminal gives the text: two for a wide character, none for a mark."""
    from rich.cells import cell_len

    return cell_len(text)


def clipped(text: str, width: int, cut: str) -> str:
    """The text in exactly ``width`` cells: filled up with spaces, or cut and marked as cut.

    >>> clipped("garden", 4, "…"), clipped("garden", 8, "…")
    ('gar…', 'garden  ')
    """
    from rich.cells import set_cell_size

    if cells(text) > width:
        cut = cut[:width]
        text = set_cell_size(text, width - len(cut)) + cut
    return set_cell_size(text, width)


def shortened(text: str, width: int, cut: str) -> str:
    """The text spelled out, in at most ``width`` cells.

    >>> shortened("garden", 4, "…"), shortened("garden", 8, "…")
    ('gar…', 'garden')
    """
    text = bounded(text, width, cut)
    return clipped(text, min(width, cells(text)), cut)
