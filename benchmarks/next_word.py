"""Train the model of docs/language-model.md, and show which words each hop of it reads."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.registry import DocumentTable, Plot
from memhop.cli.reproduce import Tiny
from memhop.data import generate
from memhop.language_model import LanguageRecipe, Prediction, count_words, encode_text, train
from memhop.picture import Picture, picture
from memhop.reproduce.record import Rows, Sheet, provenance

TEXT = "1 Mary moved to the bathroom .\n2 John went to the hallway .\n3 Where is John ?"
RECIPE = LanguageRecipe.paper(
    num_hops=3, num_words=30, memory_dim=64, protocol="contiguous", batch_size=256,
    embeddings="shared", init_maps="identity", first_query="newest", optimizer="adam",
    schedule="cosine", learning_rate=0.005, warmup_steps=50, epochs=15,
)  # fmt: skip
QUESTIONS = {"train": 2000, "valid": 300}


def prediction(tiny: bool) -> Prediction:
    """Train, and predict the word after `TEXT`."""
    with TemporaryDirectory() as folder:
        for seed, (part, questions) in enumerate(QUESTIONS.items()):
            stories = generate(1, questions=50 if tiny else questions, seed=seed)
            lines = [f"{line}\n" for story in stories for line in story.lines()]
            text = "".join(lines).replace(".", " .").replace("?", " ?")
            Path(folder, part).write_text(text, encoding="utf-8")
        vocabulary = count_words(Path(folder, "train"))
        texts = [encode_text(Path(folder, part), vocabulary) for part in QUESTIONS]
    recipe = LanguageRecipe.from_json(RECIPE.to_json() | {"epochs": 1}) if tiny else RECIPE
    return train(texts[0], texts[1], None, vocabulary, recipe=recipe).model.predict(TEXT)


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train docs/language-model.md's model; see its reads."""
    found = prediction(tiny)
    (first, share), (second, second_share), *_ = found.candidates
    common = {"first": first, "first_share": share, "second": second, "second_share": second_share}
    yield [
        {"hop": hop, "word": word, "weight": weight, **common, **provenance()}
        for hop, weights in enumerate(found.attention.tolist(), start=1)
        for word, weight in zip(found.words, weights, strict=True)
    ]


def picture_of(rows: Rows) -> Picture:
    """Return the picture of the rows."""
    words = [row["word"] for row in rows if row["hop"] == rows[0]["hop"]]
    weights = torch.tensor([float(row["weight"]) for row in rows]).reshape(-1, len(words))
    return picture(weights, words)


def title_of(rows: Rows) -> str:
    """Return the most probable next words."""
    first = rows[0]
    shares = (f"{first[name]} ({100 * float(first[f'{name}_share']):.0f}%)"
              for name in ("first", "second"))  # fmt: skip
    return f"next word: {', '.join(shares)}"


def svg(rows: Rows) -> str:
    """Return the picture with the next words as SVG."""
    return f"{picture_of(rows).svg(title_of(rows))}\n"


def sheets(rows: Rows) -> list[Sheet]:
    """Return the picture as text."""
    return [Sheet(text=f"{title_of(rows)}\n\n{picture_of(rows).text()}")]


TABLES = {"next_word": DocumentTable("next_word", lambda rows: sheets(rows)[0].markdown())}
PLOTS = {"next_word": Plot("next-word.svg", "next_word", "The words that each hop reads", svg)}
