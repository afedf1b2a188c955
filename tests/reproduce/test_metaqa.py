"""MetaQA: the held-out questions, shared titles, the check without pruning, and the table."""

from pathlib import Path
from typing import Any

import pytest
import torch

from memhop.errors import MemhopError
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.reproduce import metaqa
from memhop.reproduce.generated_sets import NUM_QUESTIONS, write_metaqa
from memhop.reproduce.metaqa import (
    COLUMNS,
    HOPS,
    check_rows,
    compared,
    divide,
    right_relation,
    shared_titles,
    sheet,
)
from memhop.reproduce.record import as_text, provenance

# two films are named "M": only one of their directors is listed for each question
TRIPLES = [
    ("M", "directed_by", "Lang"), ("M", "directed_by", "Losey"), ("M", "genre", "crime"),
    ("Faust", "directed_by", "Murnau"), ("Faust", "genre", "drama"),
]  # fmt: skip
KB = KnowledgeBase.from_triples(TRIPLES)
ASKED = [
    Question("who directed M", ("Lang",), ("M",)),
    Question("who directed Faust", ("Murnau",), ("Faust",)),
    Question("of which genre is M", ("crime",), ("M",)),
]


def small_model() -> KnowledgeModel:
    torch.manual_seed(0)
    return KnowledgeModel.untrained(KB, ASKED, KnowledgeRecipe(word_dim=8, num_hops=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metaqa")
    write_metaqa(folder)
    return folder


def test_a_tenth_of_each_file_is_held_out(folder: Path) -> None:
    parts = divide(folder, seed=1)
    assert {hops: len(own) for hops, own in parts.test.items()} == dict.fromkeys(HOPS, 12)
    assert len(parts.train) == 3 * (NUM_QUESTIONS - 12)
    held_out = {(one.text, one.topics) for own in parts.test.values() for one in own}
    assert not held_out & {(one.text, one.topics) for one in parts.train}
    assert divide(folder, seed=1) == parts != divide(folder, seed=2)
    assert len(divide(folder, 1, most=20).train) == 3 * 18


def test_a_repeated_question_stays_in_one_part(tmp_path: Path) -> None:
    for hops in HOPS:
        lines = [f"who directed [film {n % 20}]\tdirector {n}\n" for n in range(40)]
        (tmp_path / metaqa.questions_file(hops)).write_text("".join(lines))
    for seed in range(5):
        parts = divide(tmp_path, seed)
        assert [len(own) for own in parts.test.values()] == [4, 4, 4]
        held_out = {one.text for one in parts.test[1]}
        assert len(held_out) == 2


def test_a_malformed_line_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "1hop_dev.txt"
    file.write_text("who directed [M]\tLang\nwho directed [Faust]\n")
    with pytest.raises(MemhopError, match=r"1hop_dev\.txt:2: expected an answer after a tab"):
        divide(tmp_path, 0)
    with pytest.raises(MemhopError, match=r"kb\.txt: no such file"):
        metaqa.rows_of(tmp_path, 0, tiny=True)


def test_the_right_relation_and_its_unlisted_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    encoded = [model.encoder.encode(question) for question in ASKED]
    names = [{KB.entities[entity] for entity in right_relation(model, one)} for one in encoded]
    assert names == [{"Lang", "Losey"}, {"Murnau"}, {"crime"}]
    firsts = iter(["Losey", "Faust", "crime"])

    def ranked(*_: object) -> list[object]:
        import numpy as np

        from memhop.knowledge.model import Ranked

        return [Ranked(np.array(KB.find(name)), np.ones(1)) for name in firsts]

    monkeypatch.setattr(metaqa, "_ranked", ranked)
    found = shared_titles(model, ASKED)
    assert found == pytest.approx((100 / 3, 50.0))


def test_the_check_finds_what_pruning_changes() -> None:
    torch.manual_seed(0)
    kb = KnowledgeBase.from_triples([*TRIPLES, ("Faust", "genre", "crime")])
    model = KnowledgeModel.untrained(kb, ASKED, KnowledgeRecipe(word_dim=8, num_hops=3))
    same = compared(model, ASKED)
    assert (same.questions, same.equal) == (3, 100)
    assert same.difference < 1e-6
    model.network.recipe = KnowledgeRecipe(word_dim=8, num_hops=3, max_entities=1)
    assert compared(model, ASKED).difference > 1e-3
    assert model.network.recipe.max_entities == 1


def test_rows_of_a_training(folder: Path) -> None:
    found = metaqa.rows_of(folder, 0, tiny=True)
    assert [row["hops"] for row in found] == [1, 2, 3]
    assert all(tuple(row) == (*COLUMNS, *provenance()) for row in found)
    assert [row["checked"] for row in found] == [12, 12, 12]
    assert found[0]["peak_megabytes"] > 100
    check_rows(None, folder, as_text(found), tiny=True)
    changed = as_text([row | {"train": 5} for row in found])
    with pytest.raises(MemhopError, match="its rows are of 5 training questions, now 324; give"):
        check_rows(Path("a.csv"), folder, changed, tiny=True)


def test_the_table() -> None:
    row: dict[str, Any] = {
        "hops": 1, "seed": 0, "facts": 267_164, "train": 35_225, "test": 200, "hits": 97.0,
        "estimated": 50, "seconds_per_1000": 0.77, "epoch": 1, "epochs": 3,
        "train_cpu_seconds": 120, "peak_megabytes": 650, "checked": 50, "checked_equal": 100.0,
        "checked_difference": 0.015, "unlisted": 5.7, "unlisted_errors": 91.2, "tiny": False,
    }  # fmt: skip
    assert tuple(row) == COLUMNS
    others = [row | {"hops": hops, "unlisted": None, "unlisted_errors": None} for hops in (2, 3)]
    again = row | {"seed": 1, "hits": 98.0, "checked_difference": 0.02, "peak_megabytes": 660}
    table = sheet(as_text([row, *others, again]))
    assert table.lines[0] == [
        "1",
        "96.2",
        "99.1",
        "97.5 (97.0)",
        "25.0",
        "0.77",
        "100.0",
        "2.0e-02",
    ]
    assert [line[:4] for line in table.lines[1:]] == [
        ["2", "82.7", "100.0", "97.0 (97.0)"], ["3", "48.9", "100.0", "97.0 (97.0)"]
    ]  # fmt: skip
    for words in ("mean of 2 seeds", "in 2.0 minutes", "needs 660 MB", "in 5.7% of", "91% of the"):
        assert words in " ".join(table.note.split())
