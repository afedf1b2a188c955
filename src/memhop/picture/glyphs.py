"""The characters of a picture in a terminal, and what its encoding can show of a text."""

from typing import NamedTuple

from memhop.picture.labels import bounded


class Glyphs(NamedTuple):
    """The characters of a picture; those of bars go from an empty to a full cell."""

    bar: str
    negative: str
    pointer: str
    nothing: str  # instead of 0.00
    cut: str
    fold: str
    line: str  # of a relation
    forward: str  # the end of the line at the object
    backward: str

    def draw_bar(self, share: float, width: int) -> str:
        """Return a bar of ``width`` cells.

        >>> UNICODE.draw_bar(0.5, 4), ASCII.draw_bar(-0.5, 4)
        ('██  ', '--  ')
        """
        ramp = self.bar if share >= 0 else self.negative
        steps = len(ramp) - 1
        whole, part = divmod(round(min(1.0, abs(share)) * width * steps), steps)
        return (ramp[-1] * whole + ramp[part] * (part > 0)).ljust(width)


UNICODE = Glyphs(" ▏▎▍▌▋▊▉█", " ▒", "▸", "·", "…", "⋮", "─", "→", "←")
ASCII = Glyphs(" .:#", " -", ">", "0", "...", ":", "-", "->", "<-")


def glyphs_for(encoding: str) -> Glyphs:
    """Return the characters for a terminal of this encoding."""
    try:
        "".join(UNICODE).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return UNICODE


def encodable(text: str, width: int, encoding: str) -> str:
    """Return an escaped text for ``width`` cells, with only the characters of an encoding."""
    text = bounded(text, width, glyphs_for(encoding).cut)
    return text.encode(encoding, "replace").decode(encoding)
