"""What every picture can do: show itself as text, in colours, as SVG and in a notebook."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Line = list[tuple[str, str]]  # the segments of a line: text and rich style

MIN_WIDTH = 20


class Drawing(ABC):
    """A picture: ``str()`` is plain text, a rich console shows colours, a notebook the SVG.

    Attributes:
        width: the maximum number of columns of a line.
    """

    width: int

    @abstractmethod
    def _lines(self, width: int, encoding: str) -> Iterator[Line]:
        """Yield the lines in at most ``width`` columns, with characters of ``encoding``."""

    @abstractmethod
    def _svg(self, title: str, with_style: bool) -> str:
        """Return the ``<svg>`` element, ``with_style`` or in the colours of the page."""

    def text(self, width: int | None = None, encoding: str = "utf-8") -> str:
        """Return the picture as plain text with characters of ``encoding``.

        The minimum width is 20 columns.

        >>> from memhop.picture import picture
        >>> print(picture([[0.25, 0.75]], ["John slept.", "Ärger!"]).text(encoding="ascii"))
                        hop 1
        1  John slept.  ##:        0.25
        2  ?rger!      >#######.   0.75
        """
        lines = self._lines(max(MIN_WIDTH, width or self.width), encoding)
        return "\n".join("".join(piece for piece, _ in line).rstrip() for line in lines)

    def svg(self, title: str = "") -> str:
        """Return the picture as a self-contained SVG file, for light and dark pages.

        Args:
            title: a line above the picture, such as the question and its answer.

        >>> from memhop.picture import picture
        >>> drawn = picture([[0.1, 0.9]], ["John slept.", "Mary left."]).svg("Who left?  Mary")
        >>> drawn[:4], "Who left?  Mary" in drawn, drawn.count('<rect class="bar"')
        ('<svg', True, 2)
        """
        return self._svg(title, with_style=True)

    def _repr_html_(self) -> str:
        """Return the SVG in the text colour of the notebook."""
        return self._svg("", with_style=False)

    def __str__(self) -> str:
        return self.text(encoding=getattr(sys.stdout, "encoding", None) or "utf-8")

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        width = max(MIN_WIDTH, min(self.width, options.max_width))
        for line in self._lines(width, options.encoding):
            text = Text.assemble(*line, no_wrap=True, overflow="crop")
            text.rstrip()
            yield text
