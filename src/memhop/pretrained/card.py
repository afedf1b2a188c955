"""The model card: ``README.md`` of a pretrained folder, in the form of the Hugging Face Hub."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from memhop.errors import MemhopError, shown

_LICENSE = re.compile(r"[A-Za-z0-9][\w.+-]{0,59}", re.ASCII)
_LICENSE_LINE = re.compile(r"^license: ([\w.+-]+)$", re.ASCII | re.MULTILINE)
GENERATED = "generated_card"  # in config.json: the SHA-256 of a card that memhop wrote
_MOST_SHOWN = 200  # characters of a setting


class CardText(NamedTuple):
    """What the card of a class of models says.

    Attributes:
        summary: a sentence or two about the class.
        snippet: Python that loads the model by ``NAME`` and uses it.
        pipeline_tag: the task of the Hub, or None.
    """

    summary: str
    snippet: str
    pipeline_tag: str | None = None


def model_card(
    name: str, text: CardText, settings: Mapping[str, Any], weights: int, license: str | None = None
) -> str:
    """Return a card with front matter in YAML, a snippet and a table of settings.

    Args:
        name: from which the snippet loads the model: a folder or a Hub id.
        text: about the class of the model.
        settings: of the model.
        weights: their number.
        license: an identifier of the Hub, such as ``mit``.

    Raises:
        MemhopError: ``license`` is no identifier.
    """
    if license is not None and not _LICENSE.fullmatch(license):
        raise MemhopError(f"license: expected an identifier such as mit, got {shown(license)}")
    tags = ["memory-network", "pytorch"]
    tags += [text.pipeline_tag] if text.pipeline_tag else []
    front = ["library_name: memhop"]
    front += [f"license: {license}"] if license else []
    front += [f"pipeline_tag: {text.pipeline_tag}"] if text.pipeline_tag else []
    front += ["tags:", *(f"- {tag}" for tag in tags)]
    rows = [f"| {key} | {_cell(value)} |" for key, value in settings.items()]
    snippet = text.snippet.replace("NAME", repr(name)).strip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", snippet)), default=0))
    lines = [
        "---", *front, "---", "", f"# {_plain(name)}", "", text.summary, "",
        "Install memhop with `pip install 'memhop[hub]'`.", "",
        f"{fence}python", snippet, fence, "",
        f"The model has {weights:,} weights, and these settings:", "",
        "| setting | value |", "|---|---|", *rows, "",
    ]  # fmt: skip
    return "\n".join(lines)


class Earlier(NamedTuple):
    """What a folder or a model on the Hub holds already.

    Attributes:
        config: the content of ``config.json``, or None.
        card: the content of ``README.md``, or None.
    """

    config: bytes | None = None
    card: bytes | None = None

    def edited_card(self) -> bytes | None:
        """Return the card, or None for one that memhop generated and nobody edited."""
        try:
            generated = json.loads(self.config or b"{}").get(GENERATED)
        except (ValueError, AttributeError, RecursionError):  # of another library
            generated = None
        if self.card is None or hashlib.sha256(self.card).hexdigest() == generated:
            return None
        return self.card

    def license(self) -> str | None:
        """Return the license of a generated card."""
        found = _LICENSE_LINE.search((self.card or b"").decode(errors="replace"))
        return found[1] if found else None


def choose_card(
    make: Callable[[str | None], str], given: str | None, license: str | None, earlier: Earlier
) -> tuple[bytes, bool]:
    """Return the card to write, and whether it is generated.

    Args:
        make: returns a generated card with a license.
        given: a text instead; None keeps an edited card, or generates one.
        license: of a generated card; None is that of an earlier generated one.
        earlier: what is there.

    Raises:
        MemhopError: a license, and a card that is not generated.
    """
    generated, edited = make(license), earlier.edited_card()
    if given is None and edited is None:
        kept = earlier.license() if license is None else None
        return (make(kept) if kept else generated).encode(), True
    if license is not None:
        why = "is edited: write it there, or give the text" if given is None else "is given"
        raise MemhopError(f"license: expected none, as the card {why}; got {shown(license)}")
    return (edited or b"") if given is None else given.encode(), False


def _cell(value: object) -> str:
    """Return a value as a cell of a table."""
    return _plain("none" if value is None else str(value))


def _plain(text: str) -> str:
    """Return a text for Markdown, in one line, without markup."""
    text = " ".join(text.split())[:_MOST_SHOWN]
    return re.sub(r"([\\`*<>\[\]|#&])", r"\\\1", text)
