"""Checkpoints: whole or not there, checked before they are believed, never run."""

import hashlib
import json
import os
import pickle
import random
import re
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from memhop import checkpoint
from memhop.checkpoint import SCHEMA, from_tensors, read_checkpoint, to_json, write_checkpoint
from memhop.errors import MemhopError, MemhopWarning
from memhop.recipe import Recipe
from memhop.text.encoding import Sizes
from memhop.text.model import MemN2N
from memhop.text.vocabulary import Vocabulary
from tests.work import instructions

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = "checkpoint.json"
FILES = ("model.safetensors", "recipe.json", "vocabulary.json")
STORY, QUESTION = ["Mary went to the garden.", "Zoë left."], "Where is Mary?"


def make(**changes: Any) -> MemN2N:
    torch.manual_seed(7)
    words = ["mary", "went", "to", "the", "garden", "zoë", "where", "is", "apple,milk"]
    settings: dict[str, Any] = {"memory_dim": 2, "num_hops": 1, "init_std": 1.0, **changes}
    return MemN2N(Vocabulary(words), Recipe(**settings), Sizes(5, 3))


def same(first: MemN2N, second: MemN2N) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return (
        (first.recipe, first.vocabulary, first.sizes)
        == (second.recipe, second.vocabulary, second.sizes)
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make().save(tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path, because: str = "") -> str:
    with pytest.raises(MemhopError, match=because or None) as caught:
        MemN2N.load(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600 + len(str(folder))
    return message


def forge(folder: Path, name: str, content: bytes) -> None:
    """Change a file and make the checksums fit, as one who means harm would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("form", [{}, {"tying": "layerwise"}, {"temporal": False}], ids=str)
def test_a_loaded_model_is_the_saved_one(tmp_path: Path, form: dict[str, Any]) -> None:
    model = make(**form)
    model.save(tmp_path / "deep" / "model")
    loaded = MemN2N.load(tmp_path / "deep" / "model")
    assert same(model, loaded)
    assert not loaded.training
    first, second = model.answer(STORY, QUESTION), loaded.answer(STORY, QUESTION)
    assert (first.answer, first.probability) == (second.answer, second.probability)
    assert all(weight.requires_grad for weight in loaded.parameters())


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    make().save(tmp_path / "b")
    assert read_checkpoint(tmp_path / "a") == read_checkpoint(tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted([*FILES, MANIFEST])


def test_a_checkpoint_of_the_first_schema_stays_readable() -> None:
    model = MemN2N.load(GOLDEN)
    answer = model.answer(STORY, QUESTION)
    assert (answer.answer, answer.unknown_words) == ("is", ("left",))
    assert answer.probability == pytest.approx(0.27480671, rel=1e-5)
    assert answer.attention[0].tolist() == pytest.approx([0.06968234, 0.93031764], rel=1e-5)
    assert SCHEMA == 1


def test_any_text_can_be_kept(tmp_path: Path) -> None:
    for index, word in enumerate(["żółw", "\ud800x", "\x1b[2j", "'\"\\"]):
        model = MemN2N(Vocabulary([word]), Recipe(memory_dim=2), Sizes(1, 1))
        model.save(tmp_path / str(index))
        assert list(MemN2N.load(tmp_path / str(index)).vocabulary) == [word]


# Damage.


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_flipped_byte_is_an_error_or_changes_nothing(saved: Path, name: str) -> None:
    whole, wanted = (saved / name).read_bytes(), make()
    draw = random.Random(name)
    for place in range(len(whole)):
        for mask in {0x01, 0x20, 0x80, draw.randrange(1, 256)}:
            if name not in (MANIFEST, FILES[0]) and mask != 0x20:
                continue  # these are only compared with their checksum
            flipped = bytearray(whole)
            flipped[place] ^= mask
            (saved / name).write_bytes(flipped)
            try:
                loaded = MemN2N.load(saved)
            except MemhopError as error:
                assert str(error).isprintable()  # noqa: PT017
            else:
                assert same(loaded, wanted)


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_file_cut_off_is_an_error(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for length in {*range(0, len(whole) - 1, 3), len(whole) - 2}:  # the last is a line end
        (saved / name).write_bytes(whole[:length])
        refused(saved)


@pytest.mark.filterwarnings("ignore:.*split text differently:memhop.errors.MemhopWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_forged_file_cut_off_or_flipped_is_an_error_or_a_model(saved: Path, name: str) -> None:
    """With checksums that fit, what is left of it is checked: one line or a working model."""
    whole, draw = (saved / name).read_bytes(), random.Random(name)
    for trial in range(250):
        changed = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(min(len(changed), 400))] = draw.randrange(256)
        forge(saved, name, bytes(changed if trial % 4 else whole[: draw.randrange(len(whole))]))
        try:
            answer = MemN2N.load(saved).answer(STORY, QUESTION)
        except MemhopError as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            assert answer.attention.shape == (1, 2)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert name in refused(saved, "no such file")
    manifest = json.loads((saved / MANIFEST).read_text())
    del manifest["files"][name]
    (saved / MANIFEST).write_text(json.dumps(manifest))
    assert refused(saved, f"expected {name}, got ")


def test_what_is_no_file_is_not_read(saved: Path) -> None:
    weights = saved / FILES[0]
    weights.unlink()
    weights.mkdir()
    refused(saved, "expected a file, got another kind")
    weights.rmdir()
    os.mkfifo(weights)  # would wait for ever
    refused(saved, "expected a file, got another kind")


# Malice: every checksum fits.

NOT_JSON = [
    b"", b"{", b"nonsense", b"\xff\xfe", b"\0" * 10, b"{} {}", b"[" * 100_000,
    b'{"a":' * 100_000, b'{"schema": NaN}', b'{"schema": Infinity}',
    b'{"schema": ' + b"9" * 5000 + b"}",
    b'\xef\xbb\xbf{}',
]  # fmt: skip
NO_OBJECT = [b"[]", b"[1]", b"null", b"1", b'"text"', b"true", b"1e999"]


@pytest.mark.parametrize("name", [MANIFEST, "recipe.json", "vocabulary.json"])
def test_json_of_another_kind(saved: Path, name: str) -> None:
    for content in (*NOT_JSON, *NO_OBJECT):
        if name == MANIFEST:
            (saved / name).write_bytes(content)
        else:
            forge(saved, name, content)
        refused(saved, name)


@pytest.mark.parametrize("schema", [0, 2, "1", None, [1], 1e400, {"a": "\n" * 999}])
def test_another_schema(saved: Path, schema: Any) -> None:
    for name in ("recipe.json", "vocabulary.json"):
        content = json.loads((saved / name).read_text())
        forge(saved, name, json.dumps({**content, "schema": schema}).encode())
        refused(saved, r"expected schema 1|JSON")
        forge(saved, name, json.dumps(content).encode())
    manifest = json.loads((saved / MANIFEST).read_text())
    (saved / MANIFEST).write_text(json.dumps({**manifest, "schema": schema}))
    refused(saved, r"expected schema 1|JSON")


ODD: list[Any] = [None, [], {}, "x", -1, 0, 1.5, True, 10**9, 1e308, 10**4000, -(10**4000)]


@pytest.mark.parametrize("field", ["memory_dim", "num_hops", "epochs", "learning_rate", "tying"])
def test_a_recipe_of_another_kind(saved: Path, field: str) -> None:
    for value in ODD:
        if (field, value) == ("learning_rate", 1.5):
            continue
        settings = {**make().recipe.to_json(), field: value}
        forge(saved, "recipe.json", json.dumps({"schema": 1, "recipe": settings}).encode())
        refused(saved, f"recipe setting {field}: expected")


@pytest.mark.parametrize("field", ["sentence_words", "memory_slots"])
def test_sizes_of_another_kind(saved: Path, field: str) -> None:
    content = json.loads((saved / "vocabulary.json").read_text())
    for value in ODD:
        forge(saved, "vocabulary.json", json.dumps({**content, field: value}).encode())
        refused(saved, f"{field}: expected an integer")


@pytest.mark.parametrize(
    "words",
    [
        None, "mary", 3, {}, [], [1], [None], ["a", "a"], ["A"], [""], ["a\nb"], [["a"]], ["a"],
        [f"w{n}" for n in range(8)], [f"w{n}" for n in range(10)], ["\x1b[2J"],
    ],
    ids=repr,
)  # fmt: skip
def test_a_vocabulary_of_another_kind_or_size(saved: Path, words: Any) -> None:
    content = json.loads((saved / "vocabulary.json").read_text())
    forge(saved, "vocabulary.json", json.dumps({**content, "words": words}).encode())
    refused(saved)


@pytest.mark.parametrize(
    "name",
    [
        "../model/recipe.json", "/etc/hostname", "..", ".", "", "a/b", "a\0b", "\ud800", "a\nb",
        "x" * 300, "\x1b[2J", "C:\\x", "-rf", " ",
    ],
)  # fmt: skip
def test_a_manifest_names_only_files_beside_it(saved: Path, name: str) -> None:
    manifest = json.loads((saved / MANIFEST).read_text())
    manifest["files"][name] = manifest["files"]["recipe.json"]
    (saved / MANIFEST).write_text(json.dumps(manifest))
    refused(saved, "expected a file name")


@pytest.mark.parametrize("sums", [None, [], "x", 3, {"recipe.json": None}, {"recipe.json": [1]}])
def test_checksums_of_another_kind(saved: Path, sums: Any) -> None:
    (saved / MANIFEST).write_text(json.dumps({"schema": 1, "files": sums}))
    refused(saved)


def tensors_with(**changes: torch.Tensor | None) -> bytes:
    tensors = {**make().state_dict(), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in kept.items()})


def test_weights_of_another_kind(saved: Path) -> None:
    tables = make().state_dict()["tables"]
    broken = tables.clone()
    for tensor, because in (
        (None, "missing or unexpected tensors: 'tables'"),
        (tables[:, 1:], "expected float32"),
        (tables.flatten(), "expected float32"),
        (tables.mT, "expected float32"),
        (tables.double(), r"expected float32 \[2, 14, 2\] for .tables., got float64"),
        (tables.half(), "got float16"),
        (tables.int(), "got int32"),
        (tables[:0], "expected float32"),
    ):
        forge(saved, FILES[0], tensors_with(tables=tensor))
        refused(saved, because)
    for value in (torch.nan, torch.inf, -torch.inf):
        broken[1, 3, 1] = value
        forge(saved, FILES[0], tensors_with(tables=broken))
        refused(saved, "expected finite values")
    extra = safetensors.torch.save({"tables": tables, "\x1b[2J\n": tables.clone()})
    forge(saved, FILES[0], extra)
    refused(saved, "missing or unexpected tensors")


def header(tensors: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def lie(shape: Any, offsets: Any, dtype: Any = "F32", data: bytes = b"\0" * 16) -> bytes:
    return header({"tables": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, data)


SHAPES_THAT_LIE = [
    lie([2**40, 2**20], [0, 16]),
    lie([2**62, 4], [0, 16]),
    lie([2**64, 1], [0, 16]),
    lie([10**30], [0, 16]),
    lie([-4], [0, 16]),
    lie([4], [0, 2**60]),
    lie([4], [16, 0]),
    lie([4], [-16, 0]),
    lie([4], [0]),
    lie("4", [0, 16]),
    lie([4.5], [0, 16]),
    lie([4], [0, 16], "F31"),
    lie([4], [0, 16], None),
    lie([4], [0, 8]),
    lie([0], [0, 0], data=b""),
    lie([], [0, 4], data=b"\0" * 4),
    lie([2, 14, 2], [0, 224], data=b"\0" * 223),
    header({}, b""),
    header([], b""),
    header(b"", b""),
    header(b"{", b""),
    header(b"[" * 100_000, b""),
    header({"tables": 3}),
    header({"__metadata__": {"a": 3}}),
    header({}, b"", 2**63),
    header({}, b"", 2**40),
    header({}, b"x" * 99),
    b"",
    b"\0" * 7,
    b"\0" * 8,
    b"\xff" * 99,
]


@pytest.mark.parametrize("content", SHAPES_THAT_LIE, ids=lambda content: repr(content[:40]))
def test_shapes_that_lie_cost_nothing(saved: Path, content: bytes) -> None:
    forge(saved, FILES[0], content)
    tracemalloc.start()
    work = instructions(lambda: refused(saved))
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert work < 10**6


def test_words_that_no_text_is_split_into_are_warned_of(saved: Path) -> None:
    """A model of an earlier version, which split text differently."""
    content = json.loads((saved / "vocabulary.json").read_text())
    count = len(content["words"])
    others = [f"w{number}" for number in range(count)]

    def load(words: list[str], spellings: dict[str, str]) -> None:
        changed = {**content, "words": [*words, *others][:count], "spellings": spellings}
        forge(saved, "vocabulary.json", json.dumps(changed).encode())
        MemN2N.load(saved)

    load(["apple,milk", "the old town", "-"], {"apple,milk": "Apple, milk."})
    said = r"2 of its words no longer occur \('two,', 'kitchen\*'\)"
    with pytest.warns(MemhopWarning, match=said):
        load(["two,", "kitchen*"], {"kitchen*": "Kitchen*"})


def test_a_huge_recipe_costs_nothing(saved: Path) -> None:
    settings = {"memory_dim": 10**6, "num_hops": 100, "memory_slots": 10**6, "tying": "layerwise"}
    forge(saved, "recipe.json", json.dumps({"schema": 1, "recipe": settings}).encode())
    content = json.loads((saved / "vocabulary.json").read_text())
    sizes = {"sentence_words": 10**6, "memory_slots": 10**6}
    forge(saved, "vocabulary.json", json.dumps({**content, **sizes}).encode())
    tracemalloc.start()
    work = instructions(lambda: refused(saved))
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert work < 10**6


class _Burglar:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (os.mkdir, ("burgled",))


def test_nothing_is_unpickled(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"tables": _Burglar()}, tmp_path / "zip")
    for content in (pickle.dumps(_Burglar()), (tmp_path / "zip").read_bytes()):
        for name in FILES:
            shutil.copytree(saved, "copy")
            forge(Path("copy"), name, content)
            refused(Path("copy"))
            shutil.rmtree("copy")
    assert not Path("burgled").exists()
    with pytest.raises(FileExistsError):  # it would have worked
        [pickle.loads(pickle.dumps(_Burglar())) for _ in range(2)]


def test_half_types_are_refused_by_name() -> None:
    content = safetensors.torch.save({"w": torch.zeros(2, dtype=torch.bfloat16)})
    with pytest.raises(
        MemhopError, match=re.escape("expected float32 [2] for 'w', got bfloat16 [2]")
    ):
        from_tensors(content, {"w": torch.Size([2])}, Path("x"))


# Writing.


def test_a_checkpoint_is_never_written_over(saved: Path) -> None:
    before = read_checkpoint(saved)
    with pytest.raises(MemhopError, match="exists; a checkpoint is never overwritten"):
        make(memory_dim=3).save(saved)
    assert read_checkpoint(saved) == before


@pytest.mark.parametrize("failing", ["fsync", "rename", "mkdir"])
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    where: Any = os if failing == "fsync" else Path
    monkeypatch.setattr(where, failing, fail)
    with pytest.raises(MemhopError, match=r"cannot write the checkpoint: No space left"):
        write_checkpoint(tmp_path / "a", {"b": b"c"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", range(4))
def test_a_half_written_checkpoint_is_never_seen(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after some of its files: nothing stands in its place at any time."""
    seen: list[bool] = []

    def interrupted(descriptor: int) -> None:
        seen.append((tmp_path / "a").exists())
        if len(seen) > after:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "fsync", interrupted)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "a", {"b": b"c", "d": b"e"})
    if after < 3:
        assert list(tmp_path.iterdir()) == []
    else:  # the last to reach the disk is the folder around it, which then holds all of it
        assert read_checkpoint(tmp_path / "a") == {"b": b"c", "d": b"e"}
    assert not any(seen[:3])


def test_leftovers_of_a_killed_process_do_not_stop_the_next(tmp_path: Path) -> None:
    left = tmp_path / f".a-{os.getpid()}"  # in a container every process may have one number
    left.mkdir()
    (left / "half").write_bytes(b"x")
    write_checkpoint(tmp_path / "a", {"b": b"c"})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b", MANIFEST]
    assert not left.exists()


def test_a_place_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "a", tmp_path / ("x" * 300)):
        with pytest.raises(MemhopError, match="cannot write the checkpoint"):
            write_checkpoint(folder, {"b": b"c"})
    with pytest.raises(MemhopError, match="no run"):
        MemN2N.load(tmp_path / ("x" * 300))


def test_json_is_stored_readably() -> None:
    assert to_json({"b": "żółw", "a": 1}) == '{\n "b": "żółw",\n "a": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})
