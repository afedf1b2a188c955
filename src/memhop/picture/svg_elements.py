"""Elements of a self-contained SVG, for a file and for a notebook.

The sizes of texts are counted in cells of a terminal, so that they fit in any font. The colours are
the text colour of the page and two that are visible on white and on black, so a notebook needs no
style; a file has text colours for light and dark pages. There are no ids, so that two pictures on
one page do not conflict.
"""

from collections.abc import Iterable, Mapping
from html import escape

from memhop.picture.labels import cells

Attributes = Mapping[str, str | float]

FONT = 14
CELL = 0.6 * FONT  # as wide as a character of a monospace font
EDGE = 4  # the margin of a picture

POSITIVE, NEGATIVE = "#2f81d7", "#c97b1f"  # the blue and the orange of the plots
PLAIN: Attributes = {}
BOLD: Attributes = {"font-weight": "bold"}
DIM: Attributes = {"opacity": 0.6}
RIGHT_ALIGNED: Attributes = {"text-anchor": "end"}
CENTRED: Attributes = {"text-anchor": "middle"}

_FAMILY = (
    "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, Liberation Mono, monospace"
)
_COLOURS = (
    ".memhop-picture { color: #1f2328 } "
    "@media (prefers-color-scheme: dark) { .memhop-picture { color: #e6edf3 } }"
)


def document(
    title: str, description: str, body: Iterable[str], size: tuple[float, float], with_style: bool
) -> str:
    """Return an ``<svg>`` element of some width and height in pixels."""
    width, height = map(px, size)
    outer: Attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "memhop-picture",
        "role": "img",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "style": "max-width: 100%; height: auto",
        "fill": "currentColor",
        "font-family": _FAMILY,
        "font-size": FONT,
    }
    style = [element("style", {}, _COLOURS)] if with_style else []
    head = [
        f"<{_tag('svg', outer)}>",
        element("title", {}, title),
        element("desc", {}, description),
    ]
    return "\n".join([*head, *style, *body, "</svg>"])


def line_of_text(x: float, middle: float, text: str, style: Attributes = PLAIN) -> str:
    """Return an escaped text with its vertical centre at ``middle``.

    It starts (or, by its ``text-anchor``, ends or is centred) at ``x``. Its length is fixed, so
    that it fits its cells in any font.
    """
    place: dict[str, str | float] = {"x": px(x), "y": px(middle + 0.35 * FONT)}
    if length := cells(text):  # combining characters alone have no width
        place |= {"textLength": px(length * CELL), "lengthAdjust": "spacingAndGlyphs"}
    if "  " in f" {text} ":
        place["xml:space"] = "preserve"
    return element("text", {**place, **style}, text)


def px(length: float) -> str:
    """Return a length with at most two decimals."""
    return f"{length:.2f}".rstrip("0").rstrip(".")


def element(name: str, attributes: Attributes, text: str = "") -> str:
    """Return an element with an escaped text."""
    tag = _tag(name, attributes)
    return f"<{tag}>{escape(text)}</{name}>" if text else f"<{tag}/>"


def _tag(name: str, attributes: Attributes) -> str:
    pairs = (f'{key}="{escape(str(value))}"' for key, value in attributes.items())
    return " ".join([name, *pairs])
