"""The parts of an SVG, for tests."""

from xml.etree.ElementTree import Element, fromstring

from memhop.picture.drawing import Drawing

SVG = "{http://www.w3.org/2000/svg}"


def drawn(shown: Drawing, title: str = "") -> Element:
    return fromstring(shown.svg(title))


def every(root: Element, tag: str, kind: str | None = None) -> list[Element]:
    return [one for one in root.iter(SVG + tag) if kind is None or one.get("class") == kind]


def texts(root: Element, kind: str | None = None) -> list[str]:
    return [one.text or "" for one in every(root, "text", kind)]


def number(element: Element, attribute: str) -> float:
    return float(element.attrib[attribute])


def middle(element: Element) -> float:
    """Return the vertical centre of a text or a box."""
    offset = -0.35 * 14 if element.tag == SVG + "text" else number(element, "height") / 2
    return number(element, "y") + offset


def extent(element: Element) -> tuple[float, float]:
    """Return the left and the right end of a text or a box."""
    length = float(element.get("textLength") or element.get("width") or 0)
    left = number(element, "x")
    left -= length * {"end": 1.0, "middle": 0.5}.get(element.get("text-anchor", ""), 0.0)
    return left, left + length
