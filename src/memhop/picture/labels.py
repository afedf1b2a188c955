"""The texts of a picture: escape control characters, measure and truncate by terminal cells."""

import unicodedata
from collections.abc import Sequence


def escaped(text: str) -> str:
    r"""Return a text with its control characters escaped as in Python.

    >>> escaped("red\x1b[31m\n")
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
    """Return an escaped text of at most 4 characters per cell.

    This limits lines of combining characters, which take no cell.

    >>> bounded("na" * 1000, 2, "...")
    'nananana...'
    """
    bound = 4 * width
    return escaped(text[:bound] + cut * (len(text) > bound))


def cells(text: str) -> int:
    """Return the width in terminal cells: 2 for a wide character, 0 for a combining one."""
    from rich.cells import cell_len

    return cell_len(text)


def clipped(text: str, width: int, cut: str) -> str:
    """Return a text of exactly ``width`` cells: padded, or truncated with ``cut`` at the end.

    >>> clipped("garden", 4, "…"), clipped("garden", 8, "…")
    ('gar…', 'garden  ')
    """
    from rich.cells import set_cell_size

    if cells(text) > width:
        cut = cut[:width]
        text = set_cell_size(text, width - len(cut)) + cut
    return set_cell_size(text, width)


def shortened(text: str, width: int, cut: str) -> str:
    """Return an escaped text of at most ``width`` cells.

    >>> shortened("garden", 4, "…"), shortened("garden", 8, "…")
    ('gar…', 'garden')
    """
    text = bounded(text, width, cut)
    return clipped(text, width, cut) if cells(text) > width else text


def fair_widths(lengths: Sequence[int], room: int) -> list[int]:
    """Return the cells for texts that share ``room`` cells: only the longest ones lose some.

    >>> fair_widths([3, 30, 20], 31), fair_widths([3, 5], 31)
    ([3, 14, 14], [3, 5])
    """
    widths = [0] * len(lengths)
    for left, place in enumerate(sorted(range(len(lengths)), key=lambda at: lengths[at])):
        widths[place] = max(1, min(lengths[place], room // (len(lengths) - left)))
        room -= widths[place]
    return widths


def percent(share: float) -> str:
    """Return a share in percent, without decimals.

    >>> percent(0.25), percent(0.001), percent(0.0)
    ('25%', '<1%', '0%')
    """
    return "<1%" if 0 < share <= 0.005 else f"{share:.0%}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return the first names with commas, and how many more there are.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
