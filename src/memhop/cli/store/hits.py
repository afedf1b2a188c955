"""Print the rows that each hop read most."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from memhop.cli.screen import print_line, stdout
from memhop.cli.store.folder import counted
from memhop.picture import escaped
from memhop.picture.glyphs import Glyphs, glyphs_for
from memhop.picture.labels import cells, clipped, shortened

if TYPE_CHECKING:
    from memhop.storage.search import StoreHits

_BAR = 8  # cells
_MAX_ID = 20  # cells, unless a hit has nothing else to show


def print_hits(
    title: str, hops: Sequence["StoreHits"], *, is_first: bool, is_filtered: bool
) -> None:
    """Print a query and, for each hop, its rows with a bar for the weight; fit the terminal."""
    console = stdout()
    width, glyphs = min(console.width, 100), glyphs_for(console.encoding)
    if not is_first:
        print_line("")
    print_line(shortened(escaped(title), width, glyphs.cut), "bold")
    if not any(hits.ids for hits in hops):
        print_line("no row passes the filter" if is_filtered else "the store has no row", "dim")
        return
    for number, hits in enumerate(hops, 1):
        if not hits.ids:
            print_line(f"hop {number} read no row", "dim")
            continue
        print_line(_head(number, hits))
        labels = [shortened(escaped(str(name)), _MAX_ID, glyphs.cut) for name in hits.ids]
        widest = max(map(cells, labels))
        for place, label in enumerate(labels):
            start = _figure(hits, place, glyphs)
            line = Text(start, style="green")
            line.append(clipped(label, widest, glyphs.cut) + "  ", style="bold")
            line.append(_content(hits, place, width - len(start) - widest - 2, glyphs))
            console.print(line, soft_wrap=True)


def _head(number: int, hits: "StoreHits") -> str:
    num_rows = len(hits.ids)
    if hits.scores is not None:
        return f"{counted(num_rows)} by inner product"
    return f"hop {number}: {counted(num_rows)} with {100 * hits.covered:.1f}% of its attention"


def _figure(hits: "StoreHits", place: int, glyphs: Glyphs) -> str:
    """Return the inner product of a row, or its weight with a bar."""
    if hits.scores is not None:
        return f"  {hits.scores[place]:8.4f}  "
    weight = hits.weights[place]
    return f"  {weight:.4f} {glyphs.draw_bar(weight, _BAR)} "


def _content(hits: "StoreHits", place: int, width: int, glyphs: Glyphs) -> str:
    """Return the text of a row, or else its payload, in one line of a width."""
    text, payload = hits.texts[place], hits.payloads[place]
    if text is None:
        text = "" if payload is None else json.dumps(payload, ensure_ascii=False)
    return shortened(" ".join(text.split()), max(0, width), glyphs.cut)
