"""Texts as people and programs write them: other Unicode forms, marks, scripts and lengths."""

# ruff: noqa: RUF001 - the punctuation of many scripts

import random
import unicodedata
from collections.abc import Callable

CHARACTERS = list("aAbZéßİΣσς159٣.!?…。؟՞;;\"'’”»«()[]{}*_~-－/\\|<>@#%&+=,:` ´‘′—–\t\n\r αΓ")
CHARACTERS += list("ﬁＡ１．，玛丽।𝒜𝟙\u200b\u200e\u202e\u00ad\ufeff\u2028\x1c\x85\xa0\u3000👍🏽→™²½")
CHARACTERS += ["\u0301", "\u0308", "\u0130"]
CHARACTERS += [" "] * 6 + ["[1]", "[23]", "...", "--", "a", "b", 'a?" b', "-5", ".5", "A-", "'s"]


def drawn_text(random: random.Random) -> str:
    """Return a text of characters on which the rules depend, or of any characters."""
    if random.random() < 0.7:
        return "".join(random.choices(CHARACTERS, k=random.randint(0, 24)))
    codes = [random.randrange(0x110000 if random.random() < 0.2 else 0x3100) for _ in range(9)]
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


# A change of the text of a story or of a question.
CHANGES: list[Callable[[str], str]] = [
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: text.replace("a", "a\u200b\u2060").replace("o", "o\ufeff"),
    lambda text: f"\u202e{text}\u200f\u202c",
    lambda text: text.replace(" ", " 🙂 ") + " 👍🏽",
    _full_width,
    lambda text: f"“{text}” ",
    lambda text: text.replace(".", "…").replace(" ", "... ", 1),
    lambda text: text.replace("?", ";").replace(".", "·"),
    lambda text: text.replace(".", "。").replace("?", "？"),
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.upper(),
    lambda text: text.replace(".", "!?\r\n") + "\u2028",
    lambda text: text.replace(" ", " — ", 2) + " (玛丽 在 哪里)",
    lambda text: f"**{text}** [1]",
]
