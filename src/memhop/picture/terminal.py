"""Draw the picture of a memory in the characters of a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memhop.picture.drawing import Line
from memhop.picture.glyphs import encodable, glyphs_for
from memhop.picture.labels import clipped, shortened
from memhop.picture.layout import Layout

if TYPE_CHECKING:
    from memhop.picture import Picture


class Terminal:
    """A picture drawn with a number of columns and an encoding."""

    def __init__(self, picture: "Picture", width: int, encoding: str) -> None:
        self.picture = picture
        self.width = width
        self.glyphs = glyphs_for(encoding)
        self.layout = Layout(picture, width, lambda text: encodable(text, width, encoding))

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
        bar = self.glyphs.draw_bar(weight / self.picture.full, self.layout.bar)
        return [(f" {pointer}{bar} {number:>{self.layout.number}}", style)]

    def _gap(self, gap: range) -> Line:
        start = f"{self.glyphs.fold:>{max(1, self.layout.margin - 2)}}  "
        return [
            (shortened(start + self.picture.describe_gap(gap), self.width, self.glyphs.cut), "dim")
        ]
