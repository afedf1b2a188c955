"""The layout of a picture in terminal cells, for text and SVG."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from memhop.picture.labels import cells

if TYPE_CHECKING:
    from memhop.picture import Picture

_MAX_BAR = 10
_GOOD_BAR = 6  # labels are truncated before a bar gets narrower than this,
_GOOD_LABEL = 12  # down to this; then bars shrink, and finally the hops go to several panels


class Layout:
    """The columns of a picture; a row is an index, a label and a cell for each hop.

    Args:
        picture: the picture.
        width: the maximum number of cells of a line.
        encode: return the printable text of a label.

    Attributes:
        lines: the rows, as ``picture.visible_slots()``.
        labels: the text of each visible slot.
        margin: cells for the index of a slot and the space after it; 0 without labels.
        label, bar, number: cells for each of them.
        panel: number of hops next to each other.
    """

    def __init__(self, picture: "Picture", width: int, encode: Callable[[str], str]) -> None:
        self.lines = picture.visible_slots()
        slots = [slot for slot in self.lines if isinstance(slot, int)]
        self.labels = {slot: encode(picture.label(slot)) for slot in slots}
        self.hops = picture.weights.shape[0]
        weights = picture.weights[:, slots].ravel().tolist()
        self.number = max((len(picture.format_weight(weight)) for weight in weights), default=4)
        self.margin = len(str(slots[-1] + 1)) + 2 if slots and picture.labels else 0
        self.label, self.bar, self.panel = self._fit(width)

    def _fit(self, width: int) -> tuple[int, int, int]:
        """Return the cells of a label and of a bar, and the number of hops of a panel."""
        longest = max(map(cells, self.labels.values()), default=0)
        for panel in range(self.hops, 0, -1):
            spare = width - self.margin - panel * (self.number + 3)
            label = max(spare - _GOOD_BAR * panel, min(_GOOD_LABEL, spare - panel))
            label = max(1, min(longest, label))
            bar = min(_MAX_BAR, (spare - label) // panel)
            if bar >= 1 and label >= min(longest, _GOOD_LABEL):
                break
        return label, max(1, bar), panel

    def panels(self) -> Iterator[range]:
        """Yield the hops of each panel; none for an empty memory."""
        for first in range(0, self.hops if self.lines else 0, self.panel):
            yield range(first, min(first + self.panel, self.hops))

    def name(self, hop: int) -> str:
        """Return the heading of a hop, only its number in a narrow column."""
        name = f"hop {hop + 1}"
        return name if len(name) <= self.bar + 1 + self.number else str(hop + 1)
