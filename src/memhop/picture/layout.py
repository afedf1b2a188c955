"""Where everything of a picture stands, counted in cells: the same for every kind of drawing."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from memhop.picture.labels import cells

if TYPE_CHECKING:
    from memhop.picture import Picture

_WIDEST_BAR = 10
_GOOD_BAR = 6  # labels are cut before a bar gets narrower than this,
_GOOD_LABEL = 12  # down to here; then bars shrink, and at last the hops go to panels


class Layout:
    """What is shown in which columns; a row is an index, a label and for each hop a cell.

    Args:
        picture: what is drawn.
        width: the most cells of a line.
        shown_as: how the drawing writes the text of a slot.

    Attributes:
        lines: a slot or a range of slots folded away, as ``picture.shown()``.
        labels: the text of each slot shown.
        margin: cells for the index of a slot and the gap behind it; 0 without labels.
        label, bar, number: cells for each of them.
        panel: how many hops stand side by side.
    """

    def __init__(self, picture: "Picture", width: int, shown_as: Callable[[str], str]) -> None:
        self.lines = picture.shown()
        slots = [slot for slot in self.lines if isinstance(slot, int)]
        self.labels = {slot: shown_as(picture.label(slot)) for slot in slots}
        self.hops = picture.weights.shape[0]
        weights = picture.weights[:, slots].ravel().tolist()
        self.number = max((len(picture.number(weight)) for weight in weights), default=4)
        self.margin = len(str(slots[-1] + 1)) + 2 if slots and picture.labels else 0
        self.label, self.bar, self.panel = self._fit(width)

    def _fit(self, width: int) -> tuple[int, int, int]:
        """Cells for a label and for a bar, and how many hops stand side by side."""
        longest = max(map(cells, self.labels.values()), default=0)
        for panel in range(self.hops, 0, -1):
            spare = width - self.margin - panel * (self.number + 3)
            label = max(spare - _GOOD_BAR * panel, min(_GOOD_LABEL, spare - panel))
            label = max(1, min(longest, label))
            bar = min(_WIDEST_BAR, (spare - label) // panel)
            if bar >= 1 and label >= min(longest, _GOOD_LABEL):
                break
        return label, max(1, bar), panel

    def panels(self) -> Iterator[range]:
        """The hops of each panel; an empty memory has none."""
        for first in range(0, self.hops if self.lines else 0, self.panel):
            yield range(first, min(first + self.panel, self.hops))

    def name(self, hop: int) -> str:
        """What stands above a hop: its number alone where there is no room for more."""
        name = f"hop {hop + 1}"
        return name if len(name) <= self.bar + 1 + self.number else str(hop + 1)
