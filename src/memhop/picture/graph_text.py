"""Draw the facts of each hop in the characters of a terminal."""

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from memhop.picture.drawing import Line
from memhop.picture.glyphs import encodable, glyphs_for
from memhop.picture.labels import cells, clipped, fair_widths, shortened

if TYPE_CHECKING:
    from memhop.picture.graph import Edge, GraphPicture

_BAR = 10
_MARGIN = 2  # for the pointer
_GAP = 2  # between a fact, its bar and its number
_GOOD_FACT = 44  # cells; if there is less space for longer facts, bars go below them


class GraphText:
    """A graph drawn with a number of columns and an encoding."""

    def __init__(self, picture: "GraphPicture", width: int, encoding: str) -> None:
        self.picture = picture
        self.width = width
        self.encoding = encoding
        self.glyphs = glyphs_for(encoding)
        edges = [edge for hop in picture.hops for edge in hop.edges]
        numbers = [len(picture.scale.format(edge.weight)) for edge in edges]
        longest = max((cells(self._fact(edge, 4 * width)) for edge in edges), default=0)
        room = width - _MARGIN - _GAP - _BAR - _GAP - max(numbers, default=4)
        self.has_bars_below = room < min(longest, _GOOD_FACT)
        self.room = width - _MARGIN if self.has_bars_below else min(longest, room)
        self.bar = min(_BAR, width - _MARGIN - _GAP - max(numbers, default=4))

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the picture."""
        for place, hop in enumerate(self.picture.hops):
            yield [(f"hop {place + 1}", "bold")]
            for edge in hop.edges:
                yield from self._lines_of(edge, self.picture.is_on_path(place, edge))
            if not hop.num_facts:
                yield [("  no fact was read", "dim")]
            if more := self.picture.describe_more(place):
                line = f"{self.glyphs.fold} {more}"
                yield [(shortened(line, self.width, self.glyphs.cut), "dim")]
        for text in self.picture.legend():
            yield from ([(line, "dim")] for line in wrap(text, self.width))

    def _lines_of(self, edge: "Edge", is_on_path: bool) -> Iterator[Line]:
        """Yield the line of a fact; in a narrow terminal, its bar has a line of its own."""
        pointer = f"{self.glyphs.pointer if is_on_path else ' '} "
        bar = self.glyphs.draw_bar(edge.weight / self.picture.scale.full, self.bar)
        number = self.picture.scale.format(edge.weight)
        shown = number if float(number) else self.glyphs.nothing
        measure = f"{bar}{' ' * _GAP}{shown:>{len(number)}}"
        style, green = ("bold", "bold green") if is_on_path else ("", "green")
        if not self.has_bars_below:
            fact = clipped(self._fact(edge, self.room), self.room, self.glyphs.cut)
            yield [(pointer, green), (fact + " " * _GAP, style), (measure, green)]
            return
        facts = self._wrapped(edge)
        for fact, start in zip(facts, [pointer, "  ", "  "], strict=False):
            yield [(start, green), (fact, style)]
        yield [("  ", ""), (measure, green)]

    def _fact(self, edge: "Edge", room: int) -> str:
        """Return a fact in the direction of reading, each part shortened as necessary."""
        before, after = self._arrow(edge)
        spare = room - len(before) - len(after) - 2
        start, relation, end = self._shortened([edge.start, edge.relation, edge.end], spare)
        return f"{start} {before}{relation}{after} {end}"

    def _wrapped(self, edge: "Edge") -> list[str]:
        """Return the lines of a fact: one if it fits, otherwise at most three."""
        before, after = self._arrow(edge)
        (relation,) = self._shortened([edge.relation], self.room - len(before) - len(after))
        (start,), (end,) = (self._shortened([name], self.room) for name in (edge.start, edge.end))
        lines = [start]
        for piece in (f"{before}{relation}{after}", end):
            if cells(lines[-1]) + 1 + cells(piece) <= self.room:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
        return lines

    def _arrow(self, edge: "Edge") -> tuple[str, str]:
        """Return the characters before and after a relation: the arrow points to the object."""
        glyphs = self.glyphs
        return (glyphs.backward, glyphs.line) if edge.is_inverse else (glyphs.line, glyphs.forward)

    def _shortened(self, names: list[str], room: int) -> list[str]:
        """Return some names in ``room`` cells together; the longest ones are shortened."""
        safe = [encodable(name, self.width, self.encoding) for name in names]
        widths = fair_widths([cells(name) for name in safe], room)
        pairs = zip(safe, widths, strict=True)
        return [shortened(name, width, self.glyphs.cut) for name, width in pairs]
