"""Draw a picture in the characters of a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from memhop.picture.labels import bounded, clipped, shortened
from memhop.picture.layout import Layout

if TYPE_CHECKING:
    from memhop.picture import Picture

Line = list[tuple[str, str]]  # the segments of a line: text and rich style

MIN_WIDTH = 20


class _Glyphs(NamedTuple):
    """The characters of a picture; those of bars go from an empty to a full cell."""

    bar: str
    negative: str
    pointer: str
    nothing: str  # instead of 0.00
    cut: str
    fold: str


_UNICODE = _Glyphs(" ▏▎▍▌▋▊▉█", " ▒", "▸", "·", "…", "⋮")
_ASCII = _Glyphs(" .:#", " -", ">", "0", "...", ":")


class Terminal:
    """A picture drawn with a number of columns and an encoding."""

    def __init__(self, picture: "Picture", width: int, encoding: str) -> None:
        self.picture = picture
        self.width = max(MIN_WIDTH, width)
        self.encoding = encoding
        self.glyphs = _UNICODE if _can_encode(encoding, "".join(_UNICODE)) else _ASCII
        self.layout = Layout(picture, self.width, self._safe)

    def _safe(self, text: str) -> str:
        text = bounded(text, self.width, self.glyphs.cut)
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the picture."""
        for hops in self.layout.panels():
            if hops.start:
                yield []
            yield self._header(hops)
            for entry in self.layout.lines:
                yield self._row(entry, hops) if isinstance(entry, int) else self._gap(entry)
        yield from ([(line, "dim")] for line in self.picture.legend())

    def _header(self, hops: range) -> Line:
        cell = self.layout.bar + 1 + self.layout.number
        start = " " * (self.layout.margin + self.layout.label)
        return [(start, ""), *((f"  {self.layout.name(hop):<{cell}}", "bold") for hop in hops)]

    def _row(self, slot: int, hops: range) -> Line:
        strongest = self.picture.strongest[hops.start : hops.stop, slot]
        faint = all(self.picture.is_faint(hop, slot) for hop in hops)
        style = "bold" if strongest.any() else "dim" if faint else ""
        margin, label = self.layout.margin, self.layout.labels[slot]
        index = f"{slot + 1:>{margin - 2}}  " if margin else ""
        line = [(index, "dim"), (clipped(label, self.layout.label, self.glyphs.cut), style)]
        for hop in hops:
            line += self._cell(hop, slot)
        return line

    def _cell(self, hop: int, slot: int) -> Line:
        weight, strongest = (
            float(self.picture.weights[hop, slot]),
            self.picture.strongest[hop, slot],
        )
        style = "red" if weight < 0 else "green"
        style = (
            f"bold {style}" if strongest else "dim" if self.picture.is_faint(hop, slot) else style
        )
        pointer = self.glyphs.pointer if strongest else " "
        number = self.picture.format_weight(weight)
        number = number if float(number) else self.glyphs.nothing
        bar = self._bar(weight / self.picture.full)
        return [(f" {pointer}{bar} {number:>{self.layout.number}}", style)]

    def _bar(self, share: float) -> str:
        ramp = self.glyphs.bar if share >= 0 else self.glyphs.negative
        steps = len(ramp) - 1
        whole, part = divmod(round(min(1.0, abs(share)) * self.layout.bar * steps), steps)
        return (ramp[-1] * whole + ramp[part] * (part > 0)).ljust(self.layout.bar)

    def _gap(self, gap: range) -> Line:
        start = f"{self.glyphs.fold:>{max(1, self.layout.margin - 2)}}  "
        return [
            (shortened(start + self.picture.describe_gap(gap), self.width, self.glyphs.cut), "dim")
        ]


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
