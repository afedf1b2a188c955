"""Pretrained folders: written as a whole, found by name, checked before they are believed."""

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import memhop
from memhop import MemN2N, MemoryHop, __version__, checkpoint
from memhop.checkpoint import CARD, CONFIG, read_checkpoint
from memhop.cli.settings import complete_model, complete_run_name
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.knowledge import KnowledgeBase, KnowledgeModel
from memhop.pretrained import names
from memhop.pretrained.card import CardText, model_card
from memhop.retrieval import RetrievalModel
from memhop.text.vocabulary import Vocabulary
from tests.knowledge.worlds import TINY, film_model
from tests.test_checkpoint import NO_OBJECT, NOT_JSON, QUESTION, STORY, make, same

WEIGHTS = "model.safetensors"
GOLDEN = Path(__file__).parents[1] / "golden" / "pretrained"
FILES = (WEIGHTS, "recipe.json", "vocabulary.json")


def forge(folder: Path, name: str, content: bytes) -> None:
    """Change a file and make the checksums fit, as one who means harm would."""
    (folder / name).write_bytes(content)
    config = json.loads((folder / CONFIG).read_text())
    config["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / CONFIG).write_text(json.dumps(config))


def header_of(tensors: Mapping[str, torch.Tensor | None]) -> bytes:
    """Return tensors as safetensors, without those that are None."""
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in kept.items()})


def refused(folder: str | Path, because: str = "") -> str:
    with pytest.raises(MemhopError, match=because or None) as caught:
        MemN2N.from_pretrained(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600 + len(str(folder))
    return message


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def saved() -> Path:
    make().save_pretrained("saved")
    return Path("saved")


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder with a shipped model ``tales``."""
    make(memory_dim=4).save_pretrained(tmp_path / "shipped" / "tales")
    monkeypatch.setattr(names, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


# What is written.


@pytest.mark.parametrize("form", [{}, {"tying": "layerwise"}, {"hop_units": 3}], ids=str)
def test_a_loaded_model_is_the_saved_one(form: dict[str, Any]) -> None:
    model = make(**form)
    model.examples = (Example(("Mary went to the garden.",), "Where is Mary?", "garden"),)
    model.save_pretrained("deep/saved")
    for loaded in (MemN2N.from_pretrained("deep/saved"), MemN2N.load("deep/saved")):
        assert same(loaded, model)
        assert loaded.examples == model.examples
        assert not loaded.training
        first, second = model.answer(STORY, QUESTION), loaded.answer(STORY, QUESTION)
        assert (first.answer, first.probability) == (second.answer, second.probability)


def test_the_config_is_the_manifest_and_says_what_the_model_is(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == sorted([CARD, CONFIG, *FILES])
    config = json.loads((saved / CONFIG).read_text())
    assert config["library_name"] == "memhop"
    assert config["memhop_version"] == __version__
    assert (config["model_type"], config["kind"], config["schema"]) == ("MemN2N", "stories", 1)
    assert config["settings"]["memory_dim"] == 2
    assert config["settings"]["words"] == len(make().vocabulary)
    assert read_checkpoint(saved).keys() == config["files"].keys() == set(FILES)


def test_facts_come_back() -> None:
    model = film_model()
    model.save_pretrained("films")
    loaded = KnowledgeModel.from_pretrained("films")
    first, second = (one.answer("who directed Metropolis?") for one in (model, loaded))
    assert first.answers == second.answers
    assert loaded.to_files() == model.to_files()


def test_a_retrieval_model_comes_back() -> None:
    model = RetrievalModel(4, 2, num_hops=2)
    torch.nn.init.normal_(model.question_maps)
    model.save_pretrained("hops")
    model.save("run")
    for loaded in map(RetrievalModel.from_pretrained, ("hops", "run")):
        assert loaded.to_files() == model.to_files()
        assert not loaded.training
    assert RetrievalModel.load("hops").to_files() == model.to_files()
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(MemhopError, match="RetrievalModel cannot be stored: hooks"):
        model.save_pretrained("hops")


def test_the_same_model_is_the_same_bytes() -> None:
    for folder in ("a/one", "b/one"):
        make().save_pretrained(folder)
    for path in Path("a/one").iterdir():
        assert path.read_bytes() == Path("b/one", path.name).read_bytes()


def test_what_would_be_lost_is_an_error() -> None:
    model = make()
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(MemhopError, match="MemN2N cannot be stored: hooks would be lost"):
        model.save_pretrained("saved")
    with pytest.raises(MemhopError, match=r"expected float32 .* for 'tables', got float16"):
        make().half().save_pretrained("saved")
    several = MemN2N(make().vocabulary, make().recipe, make().sizes, restarts=2)
    with pytest.raises(MemhopError, match=r"expected one model, got 2: pick\(\) one"):
        several.save_pretrained("saved")
    facts = film_model()
    facts.network.register_forward_hook(lambda *_: None)
    with pytest.raises(MemhopError, match="TrackingHops cannot be stored: hooks"):
        facts.save_pretrained("saved")
    assert not Path("saved").exists()


OTHER = Vocabulary(["mary", "garden"])
CHANGES: dict[str, Callable[[Any], None]] = {
    "the attribute 'note'": lambda model: setattr(model, "note", 1),
    "the attribute '_note'": lambda model: setattr(model, "_note", 1),
    "the attribute 'encoder'": lambda model: setattr(model.encoder, "note", 1),
    "the attribute 'table_indices'": lambda model: setattr(model, "table_indices", (0,)),
    "the attribute 'names'": lambda model: setattr(model, "names", None),
    "the attribute 'memory'": lambda model: setattr(model, "memory", None),
}


@pytest.mark.parametrize("lost", CHANGES)
def test_attributes_that_no_file_has_are_errors(lost: str) -> None:
    models: list[Any] = [make(), film_model()]
    for model in models:
        model.save_pretrained("saved")  # also after its use
        known = lost.split("'")[1]
        if known in ("note", "_note") or hasattr(model, known):
            CHANGES[lost](model)
            with pytest.raises(MemhopError, match=f"cannot be stored: {lost} would be lost"):
                model.save_pretrained("saved")


def test_a_used_model_is_storable() -> None:
    story, facts = make(), film_model()
    story.answer(STORY, QUESTION)
    facts.answer("who directed Metropolis?", topics=["Metropolis"])
    story._compiled_call_impl = story._call_impl  # as `compile` sets it
    for model in (story, facts):
        model.save_pretrained("saved")


@pytest.mark.parametrize("changed", ["vocabulary", "sizes", "position_encoding"])
def test_an_encoder_with_other_settings_is_an_error(changed: str) -> None:
    model, other = make(), make(memory_dim=3)
    values = {"vocabulary": OTHER, "sizes": other.sizes._replace(memory_slots=1)}
    values["position_encoding"] = other.encoder.position_encoding
    setattr(model.encoder, changed, values[changed])
    with pytest.raises(MemhopError, match="MemN2N cannot be stored: the attribute 'encoder' would"):
        model.save_pretrained("saved")


def test_tables_in_one_memory_are_an_error() -> None:
    model = make(tying="layerwise")
    assert model.hop_map is not None
    model.hop_map.data = model.tables.data[0, :2]
    with pytest.raises(MemhopError, match="'tables' and 'hop_map' share their memory") as caught:
        model.save_pretrained("saved")
    assert str(caught.value).isprintable()


def test_folders_of_an_earlier_version_load() -> None:
    answer = MemN2N.from_pretrained(GOLDEN / "stories").answer(STORY, QUESTION)
    assert answer.answer == "is"
    assert answer.probability == pytest.approx(0.27480677)
    facts = KnowledgeModel.from_pretrained(GOLDEN / "facts").answer("who directed Metropolis?")
    name, probability = facts.answers[0]
    assert name == "Vienna"
    assert probability == pytest.approx(0.4411664, rel=1e-5)
    network = memhop.MemoryNetwork.from_pretrained(GOLDEN / "network")
    ones, eye = torch.ones(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    assert network(ones, eye).item() == pytest.approx(0.08223166836463447, rel=1e-12)
    hops: Any = network.hops._modules
    assert hops["1"]["embed_a"].weight is hops["0"]["embed_a"].weight


def test_a_folder_needs_neither_the_client_nor_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise AssertionError

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not installed
    monkeypatch.setattr("socket.socket.connect", failing)
    make().save_pretrained("saved")
    assert same(MemN2N.from_pretrained("saved"), make())


# The card.


def snippet(folder: str) -> str:
    found = re.search(r"^(`{3,})python\n(.*?)^\1$", Path(folder, CARD).read_text(), re.S | re.M)
    assert found
    return found[2]


def test_snippets_of_cards_run(capsys: pytest.CaptureFixture[str]) -> None:
    odd = make()
    odd.examples = (Example(("```\n</pre>'\" Zoë left.",), 'Where is "Zoë"?', "garden"),)
    facts = KnowledgeModel.untrained(KnowledgeBase.from_triples([("`'A\"", "```", "B")]), [], TINY)
    models: list[Any] = [make(), odd, film_model(), facts, MemoryHop(4, 3, value_dim=2)]
    models += [memhop.MultiHop(4, 4, embed=False), memhop.MemoryNetwork(5, 3, num_memories=7)]
    models += [memhop.MemoryNetwork(5, dtype=torch.float64), memhop.MemoryHop(2).bfloat16()]
    models += [RetrievalModel(4, 2, 2), RetrievalModel(3, 3, 1)]
    for number, model in enumerate(models):
        folder = f"the `{number}'"
        model.save_pretrained(folder)
        exec(snippet(folder), {})
        assert capsys.readouterr().out


def test_the_front_matter_is_that_of_the_hub() -> None:
    make().save_pretrained("saved", license="mit")
    _, front, text = Path("saved", CARD).read_text().split("---\n", 2)
    assert front == (
        "library_name: memhop\nlicense: mit\npipeline_tag: question-answering\ntags:\n"
        "- memory-network\n- pytorch\n- question-answering\n"
    )
    assert "| memory_dim | 2 |" in text
    assert "The model has 56 weights" in text
    MemoryHop(2).save_pretrained("hop")
    assert "pipeline_tag" not in Path("hop", CARD).read_text()


@pytest.mark.parametrize("license", ["", "mit\ntags: x", "a: b", "x" * 61, "[a]"])
def test_a_license_is_an_identifier(license: str) -> None:
    with pytest.raises(MemhopError, match="license: expected an identifier such as mit, got"):
        make().save_pretrained("saved", license=license)


def test_a_setting_is_no_markup() -> None:
    card = model_card("a", CardText("", ""), {"x": "<img>|`\n#"}, 1)
    assert r"| x | \<img\>\|\` \# |" in card


def test_an_edited_card_stays_unless_one_is_given(saved: Path) -> None:
    (saved / CARD).write_text("edited")
    make(memory_dim=3).save_pretrained(saved)
    assert (saved / CARD).read_text() == "edited"
    assert MemN2N.from_pretrained(saved).recipe.memory_dim == 3
    make().save_pretrained(saved, card="# Mine\n")
    assert (saved / CARD).read_text() == "# Mine\n"


def test_a_card_that_nobody_edited_is_of_the_model_that_is_saved() -> None:
    MemoryHop(8).save_pretrained("hop", license="mit")
    MemoryHop(16).save_pretrained("hop")
    card = Path("hop", CARD).read_text()
    assert "| input_dim | 16 |" in card
    assert "license: mit\n" in card
    MemoryHop(16).save_pretrained("hop", license="apache-2.0")
    assert "license: apache-2.0\n" in Path("hop", CARD).read_text()
    MemoryHop(16).save_pretrained("new", license="apache-2.0")
    assert Path("hop", CARD).read_text() == Path("new", CARD).read_text().replace("new", "hop")


def test_a_license_of_an_edited_or_given_card_is_an_error(saved: Path) -> None:
    with pytest.raises(MemhopError, match="license: expected none, as the card is given; got 'mi"):
        make().save_pretrained(saved, card="# Mine", license="mit")
    make().save_pretrained(saved, card="# Mine")
    with pytest.raises(MemhopError, match="license: expected none, as the card is edited: write"):
        make(memory_dim=3).save_pretrained(saved, license="mit")
    assert MemN2N.from_pretrained(saved).recipe.memory_dim == 2
    for content in (b"[]", b"{", b"\xff"):
        (saved / CONFIG).write_bytes(content)
        with pytest.raises(MemhopError, match=r"config\.json: "):
            make().save_pretrained(saved)


# Where it is written.


def test_an_earlier_model_is_replaced_as_a_whole(saved: Path) -> None:
    film_model().save_pretrained(saved)
    assert "recipe.json" not in {path.name for path in saved.iterdir()}
    KnowledgeModel.from_pretrained(saved)
    assert [path.name for path in Path.cwd().iterdir()] == ["saved"]


def test_files_of_others_are_not_replaced(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    before = read_checkpoint(saved)
    with pytest.raises(MemhopError, match=r"or one of an earlier model, got one with 'notes.txt'"):
        make(memory_dim=3).save_pretrained(saved)
    assert read_checkpoint(saved) == before
    (Path("theirs")).mkdir()
    (Path("theirs") / CONFIG).write_text('{"model_type": "bert"}')
    with pytest.raises(MemhopError, match="expected library_name 'memhop', got none"):
        make().save_pretrained("theirs")
    make().save("run")
    with pytest.raises(MemhopError, match="expected a new or empty folder"):
        make().save_pretrained("run")
    Path("empty").mkdir()
    make().save_pretrained("empty")
    Path("file").touch()
    for folder in ("file", "file/below", "x" * 300):
        with pytest.raises(MemhopError, match=r"cannot (write the model|be read)"):
            make().save_pretrained(folder)
    os.chdir("empty")
    with pytest.raises(MemhopError, match="expected another than the current folder"):
        make().save_pretrained(".")


def test_a_link_to_a_folder_stays_a_link(saved: Path) -> None:
    Path("link").symlink_to(saved)
    make(memory_dim=3).save_pretrained("link")
    assert Path("link").is_symlink()
    assert MemN2N.from_pretrained("saved").recipe.memory_dim == 3


@pytest.mark.parametrize("failing", ["fsync", "mkdir", "rename"])
def test_a_failed_write_changes_nothing(
    saved: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, renames, rename = read_checkpoint(saved), [], Path.rename

    def fail(*arguments: Any, **options: Any) -> Any:
        if failing == "rename":  # the second: the earlier model is out of the way
            renames.append(arguments)
            if len(renames) != 2:
                return rename(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    where: Any = os if failing == "fsync" else Path
    with monkeypatch.context() as patch:
        patch.setattr(where, failing, fail)
        patch.setattr(checkpoint, "_exchange", lambda *_: False)  # as on other systems than Linux
        with pytest.raises(MemhopError, match="cannot write the model: No space left"):
            make(memory_dim=3).save_pretrained(saved)
    assert len(renames) == (3 if failing == "rename" else 0)
    assert read_checkpoint(saved) == before
    assert [path.name for path in Path.cwd().iterdir()] == ["saved"]


def test_a_model_is_never_half_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after any of its files, the earlier model is there."""
    before = read_checkpoint(saved)
    seen: list[bool] = []
    for after in range(5):
        seen.clear()

        def interrupted(descriptor: int, after: int = after) -> None:
            seen.append(read_checkpoint(saved) == before)
            if len(seen) > after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, "fsync", interrupted)  # type: ignore[attr-defined]
            with pytest.raises(KeyboardInterrupt):
                make(memory_dim=3).save_pretrained(saved)
        assert seen == [True] * (after + 1)
        assert read_checkpoint(saved) == before
        assert [path.name for path in Path.cwd().iterdir()] == ["saved"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others rename twice")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child starts no thread
def test_a_killed_process_leaves_the_earlier_or_the_new_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends, without any cleaning, before and after each of its steps on disk."""
    wide = make(memory_dim=3)
    steps: list[tuple[Any, str]] = [
        (os, "fsync"),
        (Path, "mkdir"),
        (Path, "rename"),
        (Path, "unlink"),
        (os, "rmdir"),
    ]
    left = 0  # steps until the end
    steps += [(os, "unlink"), (checkpoint, "_exchange")]

    def counted(usual: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **options: Any) -> Any:
            count()
            result = usual(*given, **options)
            count()
            return result

        return step

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)

    for where, name in steps:
        monkeypatch.setattr(where, name, counted(getattr(where, name)))
    seen = []
    for left in range(100):  # noqa: B007
        if (process := os.fork()) == 0:
            wide.save_pretrained(saved)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        seen.append(MemN2N.load("saved").recipe.memory_dim)
        if status == 0:
            break
        assert status == 9
    assert seen == sorted(seen)
    assert {*seen} == {2, 3}


# Names.


def test_a_name_is_a_path_then_a_run_then_a_shipped_model(shipped: Path) -> None:
    assert MemN2N.from_pretrained("tales").recipe.memory_dim == 4
    make(memory_dim=3).save("runs/tales")
    assert MemN2N.from_pretrained("tales").recipe.memory_dim == 3
    assert MemN2N.from_pretrained(Path("runs/tales")).recipe.memory_dim == 3
    make(memory_dim=2).save_pretrained("tales")
    assert MemN2N.from_pretrained("tales").recipe.memory_dim == 2
    assert MemN2N.from_pretrained(shipped / "tales").recipe.memory_dim == 4


def test_a_folder_of_data_hides_no_shipped_model_but_a_stopped_run_does(shipped: Path) -> None:
    Path("tales").mkdir()
    assert MemN2N.from_pretrained("tales").recipe.memory_dim == 4
    Path("runs/tales").mkdir(parents=True)
    assert refused("tales") == "runs/tales: no checkpoint in it: not a run, or stopped too early"


def test_an_unknown_name_lists_runs_and_shipped_models(shipped: Path) -> None:
    make().save("runs/mine")
    for name in ("z", "x" * 3000, "a\0b", "a\nb", "\ud800", "../tales", "a/b/c", "./a/b"):
        assert refused(name).endswith("; under runs/: mine; with memhop: tales")
    with pytest.raises(MemhopError, match="expected the name or path of a run, got an empty text"):
        MemN2N.from_pretrained("")
    shutil.rmtree(shipped)
    assert refused("z") == "no run 'z'; under runs/: mine"


@pytest.mark.parametrize("name", ["runs/none", "babi/qa9", "data/en", "data/enn"])
def test_names_of_folders_here_are_not_asked_of_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> Path:
        raise AssertionError

    monkeypatch.setattr(names, "download", asked)
    make().save("runs/babi/qa1")
    Path("data/en").mkdir(parents=True)
    message = refused(name, "no run|no checkpoint|no such folder")
    if name == "data/enn":
        assert message == "data/enn: no such folder in data/, and so not asked of the Hub"
    with pytest.raises(AssertionError):
        MemN2N.from_pretrained("owner/name")


def test_a_revision_is_of_the_hub_only(saved: Path) -> None:
    make().save("runs/mine")
    for name in ("stories", "saved", "mine"):
        with pytest.raises(MemhopError, match="revision 'v1': expected a model on the Hub"):
            MemN2N.from_pretrained(name, revision="v1")


def test_a_name_is_resolved_once(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memhop.runs.find_run", None)
    MemN2N.from_pretrained("saved")


def test_a_model_of_another_class_says_so(saved: Path) -> None:
    MemoryHop(2).save_pretrained("hop")
    film_model().save("films")
    for name, came in (("hop", "MemoryHop"), ("films", "KnowledgeModel")):
        assert refused(name) == f"{name}: expected a model of MemN2N, got {came!r}"
    with pytest.raises(MemhopError, match="expected a model of MultiHop, got 'MemN2N'"):
        memhop.MultiHop.from_pretrained("saved")
    with pytest.raises(MemhopError, match="expected a story model, got a layer"):
        MemN2N.load("hop")


def test_a_config_of_another_library_hides_no_run() -> None:
    make().save("runs/mine/checkpoint-000001")
    Path("runs/mine", CONFIG).write_text('{"model_type": "bert"}')
    assert same(MemN2N.from_pretrained("mine"), make())
    Path("runs/bert").mkdir()
    Path("runs/bert", CONFIG).write_text('{"model_type": "bert"}')
    assert refused("bert") == "runs/bert/config.json: expected library_name 'memhop', got none"
    assert names.find_model() == Path("runs/mine")


def test_shells_complete_runs_and_shipped_models(shipped: Path) -> None:
    make().save("runs/tall")
    assert [name for name, _ in complete_model("ta")] == ["tall", "tales"]
    assert [name for name, _ in complete_model("tale")] == ["tales"]
    assert [name for name, _ in complete_run_name("ta")] == ["tall"]


# Hostile files: every checksum fits.


def test_json_of_another_kind(saved: Path) -> None:
    for name in (CONFIG, "recipe.json", "vocabulary.json"):
        original = (saved / name).read_bytes(), (saved / CONFIG).read_bytes()
        for content in (*NOT_JSON, *NO_OBJECT):
            if name == CONFIG:
                (saved / name).write_bytes(content)
            else:
                forge(saved, name, content)
            refused(saved, name)
        (saved / name).write_bytes(original[0])
        (saved / CONFIG).write_bytes(original[1])


def test_configs_of_another_kind(saved: Path) -> None:
    config = json.loads((saved / CONFIG).read_text())
    for change, because in (
        ({"library_name": "transformers"}, "expected library_name 'memhop', got 'transformers'"),
        ({"library_name": ["\n"]}, "expected library_name 'memhop', got"),
        ({"schema": 2}, "expected schema 1, got 2: written by a newer version of memhop"),
        ({"schema": True}, "expected schema 1, got True"),
        ({"model_type": "KnowledgeModel"}, "expected a model of MemN2N, got 'KnowledgeModel'"),
        ({"model_type": {"a": "\n" * 99}}, "expected a model of MemN2N, got"),
        ({"files": None}, "expected the checksums of the files"),
        ({"files": {"a.json": 3}}, "no such file"),
        ({"files": {}}, "expected recipe.json, got no file"),
    ):
        (saved / CONFIG).write_text(json.dumps({**config, **change}))
        assert because in refused(saved)


def test_a_huge_config_is_not_read(saved: Path) -> None:
    with (saved / CONFIG).open("ab") as file:
        file.truncate(2**40)  # sparse
    assert "no checkpoint in it" not in refused(saved, "expected at most 67,108,864 bytes, got")


@pytest.mark.parametrize(
    "name", ["../saved/recipe.json", "/etc/hostname", "..", "", "a/b", "a\0b", "a\nb", "-rf"]
)
def test_a_config_names_only_files_in_its_folder(saved: Path, name: str) -> None:
    config = json.loads((saved / CONFIG).read_text())
    config["files"][name] = config["files"]["recipe.json"]
    (saved / CONFIG).write_text(json.dumps(config))
    refused(saved, "expected a file name")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "nothing", WEIGHTS, "."])
def test_links_lead_to_nothing_else(saved: Path, target: str) -> None:
    (saved / WEIGHTS).unlink()
    (saved / WEIGHTS).symlink_to(target)
    message = refused(saved, WEIGHTS)
    assert "root:" not in message


class _Burglar:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (os.mkdir, ("burgled",))


def test_nothing_is_unpickled(saved: Path) -> None:
    torch.save({"tables": _Burglar()}, "zip")
    for content in (pickle.dumps(_Burglar()), Path("zip").read_bytes()):
        for name in (*FILES, CONFIG):
            shutil.copytree(saved, "copy")
            if name == CONFIG:
                Path("copy", name).write_bytes(content)
            else:
                forge(Path("copy"), name, content)
            refused("copy")
            shutil.rmtree("copy")
    assert not Path("burgled").exists()


def test_other_tensors(saved: Path) -> None:
    tables = make().state_dict()["tables"]
    for tensors, because in (
        ({"tables": tables, "more": tables[0].clone()}, "missing or unexpected tensors: 'more'"),
        ({}, "missing or unexpected tensors: 'tables'"),
        ({"tables": tables.mT}, "expected float32"),
        ({"tables": tables.double()}, "got float64"),
        ({"tables": torch.full_like(tables, torch.nan)}, "expected finite values for 'tables'"),
    ):
        forge(saved, WEIGHTS, header_of(tensors))
        refused(saved, because)
