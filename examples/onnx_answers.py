"""Answer questions with a model that `memhop export` wrote, by onnxruntime and NumPy alone.

usage: python onnx_answers.py NAME.onnx STORY QUESTION, or NAME.onnx < LINES with a JSON object
{"story": ..., "question": ...} in each. NAME.json has the words and text rules (docs/export.md).
"""

import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Model:
    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.file = json.loads(Path(path).with_suffix(".json").read_text("utf-8"))
        self.rules = self.file["text"]
        self.patterns = {name: re.compile(p) for name, p in self.rules["patterns"].items()}
        sets = self.rules["sets"].items()
        self.sets = {k: {chr(n) for a, b in v for n in range(a, b + 1)} for k, v in sets}

    def sentences(self, text: str) -> Any:
        for line in self.patterns["line_end"].split(text):
            start = 0
            for end in self.patterns["sentence_end"].finditer(line):
                is_quoted = self.sets["quote"] & {*(end[2] or "")}
                is_open = is_quoted and end[1][-1] in self.sets["open_end"]
                if not (is_open and line[end.end() :][:1] in self.sets["lower_case"]):
                    yield line[start : end.end()]
                    start = end.end()
            yield line[start:]

    def words(self, sentence: str) -> list[str]:
        form, apostrophes = self.rules["normalization"], str.maketrans(self.rules["apostrophes"])
        text = unicodedata.normalize(form, self.patterns["removed"].sub("", sentence))
        text = unicodedata.normalize(form, text.translate(apostrophes).lower())
        for name, blank in (("footnote", " "), ("dash", " "), ("apostrophe", "'"), ("space", " ")):
            text = self.patterns[name].sub(blank, text)
        words = list(filter(None, map(self.bare, text.split(" "))))
        full = [n for n, word in enumerate(words) if not self.sets["mark"].issuperset(word)]
        return words[full[0] : full[-1] + 1] if full else []

    def bare(self, word: str) -> str:
        sets, inner = self.sets, word.strip("".join(self.sets["edge"]))
        if {*word} & sets["alphanumeric"] and not {inner[0], inner[-1]} <= sets["alphanumeric"]:
            inner = word.strip("".join(sets["symbol" if {*word} & sets["letter"] else "sign"]))
        before, _, after = word.partition(inner or " ")
        if inner[:1] in sets["decimal"]:  # -5 and .5
            inner = self.patterns["number_sign"].findall(before)[0] + inner
        is_mark = re.fullmatch("[a-z]", inner) and after[:1] in sets["hyphen"]  # A-
        return inner + after[0] if is_mark else inner

    def answer(self, story: str | list[str], question: str) -> dict[str, Any]:
        story = list(self.sentences(story)) if isinstance(story, str) else story
        words = list(filter(None, map(self.words, story)))[-self.file["max_sentences"] :]
        ids = [[self.file["word_ids"].get(w, 1) for w in s] for s in (*words, self.words(question))]
        longest, lengths = max(map(len, ids)), np.array([len(words)], np.int64)
        padded = np.array([row + [0] * (longest - len(row)) for row in ids], np.int64)
        inputs = {"story": padded[None, :-1], "question": padded[-1:], "lengths": lengths}
        probabilities, attention = self.session.run(["probabilities", "attention"], inputs)
        best = probabilities[0].argmax()
        shares = {"probability": float(probabilities[0, best]), "attention": attention[0].tolist()}
        return {"answer": self.file["answers"][best], **shares}


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    model = Model(sys.argv[1])
    given = [{"story": sys.argv[2], "question": sys.argv[3]}] if sys.argv[2:] else None
    for record in given or map(json.loads, sys.stdin):
        if not (isinstance(record, dict) and {"story", "question"} <= record.keys()):
            sys.exit(f"expected a JSON object with story and question, got {record!s:.80}")
        print(json.dumps(record | model.answer(record["story"], record["question"])))
