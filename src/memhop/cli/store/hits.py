"""Print the rows that each hop read most."""

import json
from collections.abc import Sequence

from rich.text import Text

from memhop.cli.screen import print_line, stdout
from memhop.picture import escaped
from memhop.picture.glyphs import Glyphs, glyphs_for
from memhop.picture.labels import cells, clipped, shortened
from memhop.storage.search import StoreHits

_BAR = 8  # cells
_MAX_ID = 20  # cells, unless a hit has nothing else to show


def print_hits(title: str, hops: Sequence[StoreHits], *, is_first: bool) -> None:
    """Print a query and, for each hop, its rows with a bar for the weight; fit the terminal."""
    console = stdout()
    width, glyphs = min(console.width, 100), glyphs_for(console.encoding)
    if not is_first:
        print_line("")
    print_line(shortened(escaped(title), width, glyphs.cut), "bold")
    for number, hits in enumerate(hops, 1):
        if not hits.ids:
            print_line(f"hop {number} read no row", "dim")
            continue
        rows = "1 row covers" if len(hits.ids) == 1 else f"{len(hits.ids)} rows cover"
        print_line(f"hop {number}: {rows} {100 * hits.covered:.1f}% of its attention")
        labels = [shortened(escaped(str(name)), _MAX_ID, glyphs.cut) for name in hits.ids]
        widest = max(map(cells, labels))
        for place, label in enumerate(labels):
            start = f"  {hits.weights[place]:.4f} "
            start += glyphs.draw_bar(hits.weights[place], _BAR) + " "
            line = Text(start, style="green")
            line.append(clipped(label, widest, glyphs.cut) + "  ", style="bold")
            line.append(_content(hits, place, width - len(start) - widest - 2, glyphs))
            console.print(line, soft_wrap=True)


def _content(hits: StoreHits, place: int, width: int, glyphs: Glyphs) -> str:
    """Return the text of a row, or else its payload, in one line of a width."""
    text, payload = hits.texts[place], hits.payloads[place]
    if text is None:
        text = "" if payload is None else json.dumps(payload, ensure_ascii=False)
    return shortened(" ".join(text.split()), max(0, width), glyphs.cut)
