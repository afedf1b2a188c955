"""What each hop read of a memory, as a picture for the terminal."""

import math
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Line = list[tuple[str, str]]  # the pieces of one line: characters, and their rich style

MIN_WIDTH = 20
_WIDEST_BAR = 10
_GOOD_BAR = 6  # labels are cut before a bar gets narrower than this,
_GOOD_LABEL = 12  # down to here; then bars shrink, and at last the hops go to panels
_FAINT = 0.01  # of a full bar: what is less did not matter


def picture(
    weights: Any, labels: Sequence[str] | None = None, *, width: int = 80, rows: int = 16
) -> "Picture":
    """Show how much each hop read of each slot: one line a slot, one column a hop.

    The strongest slot of each hop is pointed at, and its label stands out where there is
    colour. Of a memory of more than ``rows`` slots the strongest are shown, and every gap says
    how much it left out. Printed it is plain text; a rich console shows it in colour.

    Args:
        weights: ``[hops, slots]``: a tensor, an array or nested lists of finite numbers.
            Negative ones (a memory read without softmax) are drawn in another shade.
        labels: one text a slot. It is printed, never obeyed: control characters and escape
            codes are spelled out, markup stays as it is. Without, a slot shows its ``[index]``.
        width: the most columns that a line may take, at least 20.
        rows: how many slots a long memory shows, at least 1.

    Raises:
        ValueError: one line with what was needed and what came.

    >>> print(picture([[0.1, 0.9], [0.75, 0.25]], ["Mary took the ball.", "Mary went home."]))
                            hop 1            hop 2
    1  Mary took the ball.  █          0.10 ▸███████▌   0.75
    2  Mary went home.     ▸█████████  0.90  ██▌        0.25
    """
    values = _checked(weights)
    slots = values.shape[1]
    if isinstance(labels, str):
        raise ValueError(f"picture: labels needs a list of {slots} texts, got one string")
    if labels is not None and len(labels) != slots:
        raise ValueError(f"picture: labels needs {slots} texts, one a slot, got {len(labels)}")
    if width < MIN_WIDTH or rows < 1:
        least = f"width of at least {MIN_WIDTH} and rows of at least 1"
        raise ValueError(f"picture: needs a {least}, got width={width} and rows={rows}")
    return Picture(values, labels, width, rows)


def _checked(weights: Any) -> NDArray[np.float64]:
    """The weights as float64 [hops, slots]; a tensor is known by its methods: no torch here."""
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().double().numpy()
    try:
        values = np.asarray(weights)
    except ValueError:
        raise ValueError("picture: weights needs rows of one length, got several") from None
    if values.dtype.kind not in "fiub":
        raise ValueError(f"picture: weights needs real numbers, got {values.dtype}")
    if values.ndim != 2 or not values.shape[0]:
        raise ValueError(
            f"picture: weights needs shape [hops, slots], at least 1 hop, got {list(values.shape)}"
        )
    if not np.isfinite(values).all():
        hop, slot = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"picture: weights needs finite numbers, got {values[hop, slot]} at [{hop}, {slot}]"
        )
    return values.astype(np.float64)


class Picture:
    """What `picture` returns: ``str()`` is plain text, a rich console shows it in colour.

    Attributes:
        weights: float64 ``[hops, slots]``.
        full: the weight that fills a bar: 1, or the largest one where that is over 1 or so
            small that every bar would be a sliver.
        unit: numbers are shown as multiples of this: 1 wherever two decimals do.
        strongest: bool ``[hops, slots]``, the slot that each hop read most (all of a tie).
    """

    def __init__(
        self, weights: NDArray[np.float64], labels: Sequence[str] | None, width: int, rows: int
    ) -> None:
        self.weights = weights
        self.labels = labels
        self.width = width
        self.rows = rows
        size = np.abs(weights)
        peak = float(size.max(initial=0.0))
        # a softmax in half precision may sum to a little over 1; all zeros is a picture too
        self.full = 1.0 if 0.25 <= peak <= 1.005 or not peak else peak
        self.unit = 1.0 if 0.1 <= peak < 1000 or not peak else 10.0 ** math.floor(math.log10(peak))
        self.strongest = (size == size.max(axis=1, keepdims=True, initial=0.0)) & (size > 0)
        self._size = size.max(axis=0)

    def shown(self) -> list[int | range]:
        """What the lines stand for, in order: a slot, or a range of slots folded away.

        >>> picture([[0.0] * 50 + [0.9, 0.1] + [0.0] * 50]).shown()
        [range(0, 50), 50, 51, range(52, 102)]
        """
        slots = self._size.size
        if slots <= self.rows:
            return list(range(slots))
        best = np.argsort(-self._size, kind="stable")[: self.rows]
        best = best[self._size[best] >= _FAINT * self.full]
        kept = sorted({*best.tolist(), *np.abs(self.weights).argmax(axis=1).tolist()})
        lines: list[int | range] = []
        for before, slot in zip([-1, *kept], [*kept, slots], strict=True):
            gap = range(before + 1, slot)
            # a lone slot takes no more room than the line that would stand for it
            lines += gap if len(gap) < 2 else [gap]
            lines += [slot] if slot < slots else []
        return lines

    def number(self, weight: float) -> str:
        """A weight as the picture writes it: two decimals, in multiples of ``unit``.

        >>> picture([[0.5, 0.125]]).number(0.125), picture([[0.0005]]).number(0.0005)
        ('0.12', '5.00')
        """
        return f"{weight / self.unit:.2f}"

    def folded(self, gap: range) -> str:
        """What the line of a gap says: how many slots, and a bound that holds for all of them.

        >>> picture([[0.0] * 50 + [0.9, 0.1]]).folded(range(50))
        '50 more, none above 0.00'
        """
        largest = float(self._size[gap.start : gap.stop].max()) / self.unit
        bound = math.ceil(round(largest * 100, 6)) / 100
        either_way = " in size" if (self.weights < 0).any() else ""
        return f"{len(gap):,} more, none above {bound:.2f}{either_way}"

    def text(self, width: int | None = None, encoding: str = "utf-8") -> str:
        """The picture in plain characters, only such as ``encoding`` holds.

        Below 20 columns it is drawn at 20.

        >>> print(picture([[0.25, 0.75]], ["John slept.", "Ärger!"]).text(encoding="ascii"))
                        hop 1
        1  John slept.  ##:        0.25
        2  ?rger!      >#######.   0.75
        """
        lines = _Terminal(self, width or self.width, encoding).lines()
        return "\n".join("".join(piece for piece, _ in line).rstrip() for line in lines)

    def __str__(self) -> str:
        return self.text(encoding=getattr(sys.stdout, "encoding", None) or "utf-8")

    def __repr__(self) -> str:
        hops, slots = self.weights.shape
        return f"<Picture of {hops} hops over {slots} slots: print it>"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        width = min(self.width, options.max_width)
        for line in _Terminal(self, width, options.encoding).lines():
            text = Text.assemble(*line, no_wrap=True, overflow="crop")
            text.rstrip()
            yield text


class _Glyphs(NamedTuple):
    """What a picture is drawn with; bars step through theirs, from empty to a full cell."""

    bar: str
    negative: str
    pointer: str
    nothing: str  # in place of a number that would read 0.00
    cut: str
    fold: str


_UNICODE = _Glyphs(" ▏▎▍▌▋▊▉█", " ▒", "▸", "·", "…", "⋮")
_ASCII = _Glyphs(" .:#", " -", ">", "0", "...", ":")


class _Terminal:
    """One drawing of a picture: so many columns, in the characters of one encoding."""

    def __init__(self, picture: Picture, width: int, encoding: str) -> None:
        self.picture = picture
        self.width = max(MIN_WIDTH, width)
        self.encoding = encoding
        self.glyphs = _UNICODE if _holds(encoding, "".join(_UNICODE)) else _ASCII
        self.shown = picture.shown()
        slots = [slot for slot in self.shown if isinstance(slot, int)]
        self.labels = {slot: self._label(slot) for slot in slots}
        columns = picture.weights[:, slots].ravel().tolist()
        self.number = max((len(picture.number(weight)) for weight in columns), default=4)
        self.margin = len(str(slots[-1] + 1)) + 2 if slots and picture.labels else 0
        self.label, self.bar, self.panel = self._fit(picture.weights.shape[0])

    def _fit(self, hops: int) -> tuple[int, int, int]:
        """Columns for a label and for a bar, and how many hops stand side by side."""
        longest = max(map(_cells, self.labels.values()), default=0)
        for panel in range(hops, 0, -1):
            spare = self.width - self.margin - panel * (self.number + 3)
            label = max(spare - _GOOD_BAR * panel, min(_GOOD_LABEL, spare - panel))
            label = max(1, min(longest, label))
            bar = min(_WIDEST_BAR, (spare - label) // panel)
            if bar >= 1 and label >= min(longest, _GOOD_LABEL):
                break
        return label, max(1, bar), panel

    def lines(self) -> Iterator[Line]:
        hops, slots = self.picture.weights.shape
        if not slots:
            yield [("an empty memory: nothing to read", "dim")]
            return
        for first in range(0, hops, self.panel):
            if first:
                yield []
            columns = range(first, min(first + self.panel, hops))
            yield self._header(columns)
            for entry in self.shown:
                yield self._row(entry, columns) if isinstance(entry, int) else self._gap(entry)
        yield from self._legend()

    def _header(self, hops: Iterable[int]) -> Line:
        cell = self.bar + 1 + self.number
        names = (
            f"hop {hop + 1}" if len(f"hop {hop + 1}") <= cell else str(hop + 1) for hop in hops
        )
        start = " " * (self.margin + self.label)
        return [(start, ""), *((f"  {name:<{cell}}", "bold") for name in names)]

    def _row(self, slot: int, hops: range) -> Line:
        weights = self.picture.weights[hops.start : hops.stop, slot]
        strongest = self.picture.strongest[hops.start : hops.stop, slot]
        faint = (np.abs(weights) < _FAINT * self.picture.full).all()
        style = "bold" if strongest.any() else "dim" if faint else ""
        index = f"{slot + 1:>{self.margin - 2}}  " if self.margin else ""
        line = [(index, "dim"), (self._clipped(self.labels[slot], self.label), style)]
        for weight, first in zip(weights.tolist(), strongest.tolist(), strict=True):
            line += self._cell(weight, first)
        return line

    def _cell(self, weight: float, strongest: bool) -> Line:
        share = weight / self.picture.full
        style = "red" if weight < 0 else "green"
        style = f"bold {style}" if strongest else "dim" if abs(share) < _FAINT else style
        pointer = self.glyphs.pointer if strongest else " "
        number = self.picture.number(weight)
        number = number if float(number) else self.glyphs.nothing
        return [(f" {pointer}{self._bar(share)} {number:>{self.number}}", style)]

    def _bar(self, share: float) -> str:
        ramp = self.glyphs.bar if share >= 0 else self.glyphs.negative
        steps = len(ramp) - 1
        whole, part = divmod(round(min(1.0, abs(share)) * self.bar * steps), steps)
        return (ramp[-1] * whole + ramp[part] * (part > 0)).ljust(self.bar)

    def _gap(self, gap: range) -> Line:
        start = f"{self.glyphs.fold:>{max(1, self.margin - 2)}}  "
        said = self.picture.folded(gap)
        return [(self._clipped(start + said, min(self.width, len(start + said))), "dim")]

    def _legend(self) -> Iterator[Line]:
        if self.picture.full != 1:
            yield [(f"full bar = {self.picture.full:.3g}", "dim")]
        if self.picture.unit != 1:
            yield [(f"numbers x {self.picture.unit:g}", "dim")]

    def _label(self, slot: int) -> str:
        """The text of a slot, safe to print: spelled out, encodable and of bounded length."""
        if self.picture.labels is None:
            return f"[{slot}]"
        text = str(self.picture.labels[slot])
        bound = 4 * self.width  # marks that take no column must not make a line endless
        text = spelled_out(text[:bound] + self.glyphs.cut * (len(text) > bound))
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def _clipped(self, text: str, cells: int) -> str:
        from rich.cells import set_cell_size

        if _cells(text) > cells:
            cut = self.glyphs.cut[:cells]
            text = set_cell_size(text, cells - len(cut)) + cut
        return set_cell_size(text, cells)


def _cells(text: str) -> int:
    """How many columns a terminal gives the text: two for a wide character, none for a mark."""
    from rich.cells import cell_len

    return cell_len(text)


def _holds(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


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
