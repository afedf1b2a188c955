"""The real client against a Hub on this machine: upload, download, permissions, faults."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop import MemN2N, MemoryNetwork, __version__
from memhop.checkpoint import CARD, CONFIG
from memhop.errors import DownloadError, MemhopError
from memhop.knowledge import KnowledgeModel
from memhop.pretrained.hub import download
from tests.knowledge.worlds import film_model
from tests.pretrained.conftest import use_endpoint
from tests.pretrained.loopback import OWNER, TOKEN, Files, Hub
from tests.test_checkpoint import QUESTION, STORY, make, same

ID = f"{OWNER}/model"
WEIGHTS = "model.safetensors"


def network() -> MemoryNetwork:
    torch.manual_seed(1)
    return MemoryNetwork.build(input_dim=6, memory_dim=4, num_hops=2, tying="adjacent").eval()


def files_of(model: Any) -> Files:
    """Return the files that a model saves."""
    model.save_pretrained("saved")
    return {path.name: path.read_bytes() for path in Path("saved").iterdir()}


def refused(kind: type[MemhopError] = DownloadError, name: str = ID, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        MemN2N.from_pretrained(name, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    assert TOKEN not in message
    return message


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # of the client itself
@pytest.mark.parametrize("lfs_names", [(), (".safetensors",)], ids=["in the commit", "by LFS"])
def test_what_is_pushed_is_loaded_from_a_fresh_cache(hub: Hub, lfs_names: tuple[str, ...]) -> None:
    hub.lfs_names = lfs_names
    model = make()
    address = model.push_to_hub(ID, token=TOKEN, license="mit", commit_message="First")
    stored = hub.models[ID]
    assert address == f"{hub.address}/{ID}/commit/{stored.branches['main']}"
    assert stored.messages == ["", "First"]
    assert set(stored.lfs.values()) == ({stored.files()[WEIGHTS]} if lfs_names else set())
    names = {CONFIG, CARD, WEIGHTS, "recipe.json", "vocabulary.json", ".gitattributes"}
    assert stored.files().keys() == names
    assert b"\nlicense: mit\n" in stored.files()[CARD]
    assert f"from_pretrained('{ID}')".encode() in stored.files()[CARD]
    agents = {agent for _, path, agent, _ in hub.requests if path.startswith("/api/models/")}
    assert agents
    assert all(agent.startswith(f"memhop/{__version__}") for agent in agents)
    loaded = MemN2N.from_pretrained(ID)
    assert same(loaded, model)
    assert loaded.answer(STORY, QUESTION).probability == model.answer(STORY, QUESTION).probability


def test_only_files_of_the_manifest_are_downloaded_and_once(hub: Hub) -> None:
    hub.model({**files_of(make()), "pytorch_model.bin": b"pickle", "notes.json": b"{}"})
    MemN2N.from_pretrained(ID)
    first = hub.sent()
    assert sorted(first) == [CONFIG, WEIGHTS, "recipe.json", "vocabulary.json"]
    MemN2N.from_pretrained(ID)
    assert hub.sent() == first
    assert all(f"memhop/{__version__}" in agent for _, _, agent, _ in hub.requests)
    assert {token for *_, token in hub.requests} == {""}


def test_a_network_and_facts_come_back(hub: Hub) -> None:
    net, query, memories = network(), torch.randn(3, 6), torch.randn(3, 5, 6)
    net.push_to_hub(f"{OWNER}/net", token=TOKEN)
    again = MemoryNetwork.from_pretrained(f"{OWNER}/net")
    assert torch.equal(again(query, memories), net(query, memories))
    facts = film_model()
    facts.push_to_hub(f"{OWNER}/facts", token=TOKEN)
    answers = [
        one.answer("who directed Metropolis?")
        for one in (facts, KnowledgeModel.from_pretrained(f"{OWNER}/facts"))
    ]
    assert answers[0].answers == answers[1].answers
    with pytest.raises(MemhopError, match="expected a model of MemN2N, got 'MemoryNetwork'"):
        MemN2N.from_pretrained(f"{OWNER}/net")


def test_a_card_on_the_hub_stays_unless_one_is_given(hub: Hub) -> None:
    model, stored = make(), hub.model({CARD: b"edited"})
    model.push_to_hub(ID, token=TOKEN)
    assert stored.files()[CARD] == b"edited"
    model.push_to_hub(ID, token=TOKEN, card="# Mine")
    assert stored.files()[CARD] == b"# Mine"


def test_a_generated_card_on_the_hub_is_of_the_model_that_is_pushed(hub: Hub) -> None:
    make().push_to_hub(ID, token=TOKEN, license="mit")
    make(memory_dim=3).push_to_hub(ID, token=TOKEN)
    card = hub.models[ID].files()[CARD]
    assert b"| memory_dim | 3 |" in card
    assert b"license: mit\n" in card
    make().push_to_hub(ID, token=TOKEN, card="# Mine")
    commits = len(hub.models[ID].commits)
    with pytest.raises(MemhopError, match="license: expected none, as the card is edited"):
        make().push_to_hub(ID, token=TOKEN, license="mit")
    assert len(hub.models[ID].commits) == commits


def test_branches_and_commits(hub: Hub) -> None:
    first, second = make(), make(memory_dim=3)
    first.push_to_hub(ID, token=TOKEN)
    commit = hub.models[ID].branches["main"]
    second.push_to_hub(ID, token=TOKEN, revision="wide")
    assert same(MemN2N.from_pretrained(ID), first)
    assert same(MemN2N.from_pretrained(ID, revision="wide"), second)
    second.push_to_hub(ID, token=TOKEN)
    assert same(MemN2N.from_pretrained(ID), second)
    assert same(MemN2N.from_pretrained(ID, revision=commit), first)
    assert refused(revision="none") == f"{ID}: no revision 'none' on the Hub"


def test_a_private_model_needs_a_token(hub: Hub) -> None:
    make().push_to_hub(ID, token=TOKEN, private=True)
    assert hub.models[ID].private
    assert refused().startswith(f"{ID}: no such model on the Hub, or a private one: check the name")
    assert same(MemN2N.from_pretrained(ID, token=TOKEN, cache_dir="other"), make())
    assert list(Path("other").rglob(WEIGHTS))
    Path("token").write_text(TOKEN)  # of `hf auth login`
    assert same(MemN2N.from_pretrained(ID, cache_dir="third"), make())


def test_permissions(hub: Hub) -> None:
    hub.model(files_of(make())).gated = True
    assert "its owner restricts access: ask for it on the page of the model" in refused()
    for token in (None, "hf_wrongwrongwrong"):
        with pytest.raises(MemhopError, match="log in") as caught:
            make().push_to_hub(f"{OWNER}/new", token=token)
        assert str(caught.value).startswith(f"{OWNER}/new: ")
        assert "hf_wrong" not in str(caught.value)
    assert f"{OWNER}/new" not in hub.models


def test_a_name_without_owner_is_not_pushed(hub: Hub) -> None:
    for name in ("model", "../model", "a/b/c", ""):
        with pytest.raises(MemhopError, match="expected a Hub id owner/name, got"):
            make().push_to_hub(name, token=TOKEN)
    assert hub.requests == []


def test_a_model_of_another_library_costs_one_small_file(hub: Hub) -> None:
    hub.model({CONFIG: b'{"model_type": "bert"}', WEIGHTS: bytes(1000)})
    assert refused(MemhopError).endswith("expected library_name 'memhop', got none")
    assert hub.sent() == [CONFIG]
    hub.model({WEIGHTS: bytes(1000)}, f"{OWNER}/bare")
    assert refused(name=f"{OWNER}/bare") == (
        f"{OWNER}/bare: no config.json on the Hub: not a model of memhop, or an incomplete one"
    )


# Faults of the network.


@pytest.mark.parametrize("fault", ["cut", "short"])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_broken_download_loads_nothing_and_can_be_repeated(
    hub: Hub, name: str, fault: str
) -> None:
    files = files_of(make())
    hub.model(files)
    sizes: dict[str, int] = getattr(hub, fault)
    sizes[name] = len(files[name]) // 2
    assert refused().startswith(f"{ID}: cannot download {name}: ")
    assert not list(Path("cache").rglob(name))
    sizes.clear()
    assert same(MemN2N.from_pretrained(ID), make())


def test_a_file_that_is_missing_or_of_another_upload_is_an_error(hub: Hub) -> None:
    files = files_of(make())
    stored = hub.model(files)
    stored.commit({name: one for name, one in files.items() if name != "recipe.json"})
    assert refused().startswith(f"{ID}: no recipe.json on the Hub: not a model of memhop, or an")
    stored.commit({**files, WEIGHTS: files_of(make(memory_dim=3))[WEIGHTS]})
    assert refused(MemhopError).endswith(
        "model.safetensors: corrupt: its SHA-256 is not that of config.json"
    )


def test_all_files_are_of_one_commit(hub: Hub) -> None:
    stored = hub.model(files_of(make()))
    other = files_of(make(memory_dim=3))
    hub.then[CONFIG] = lambda: stored.commit(other)
    assert same(MemN2N.from_pretrained(ID), make())
    assert same(MemN2N.from_pretrained(ID), make(memory_dim=3))


def test_bytes_that_change_on_the_way_are_found(hub: Hub) -> None:
    files = files_of(make())
    hub.model(files)
    hub.changed[WEIGHTS] = files[WEIGHTS][:-1] + b"\x7f"
    assert "model.safetensors: corrupt: its SHA-256 is not that of config.json" in refused(
        MemhopError
    )


def test_retries_print_nothing(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("huggingface_hub")
    level, handler = log.level, logging.StreamHandler()  # of the stream that is captured
    hub.status["/resolve/"] = 503
    log.addHandler(handler)
    try:
        refused()
    finally:
        log.removeHandler(handler)
    assert len(hub.requests) > 1  # it did retry
    assert capfd.readouterr() == ("", "")
    assert log.level == level


@pytest.mark.parametrize("status", [400, 403, 404, 418, 500, 503])
def test_other_statuses_are_one_line(hub: Hub, status: int) -> None:
    hub.model(files_of(make()))
    hub.status["/resolve/"] = status
    assert refused().startswith(f"{ID}: ")
    hub.status = {"/commit/": status}
    with pytest.raises(MemhopError, match=f"^{ID}: ") as caught:
        make().push_to_hub(ID, token=TOKEN)
    assert str(caught.value).isprintable()
    assert len(hub.models[ID].commits) == 1


def test_without_network_the_cache_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.model(files_of(make()))
    assert "config.json is not in the cache and cannot be downloaded" in refused(
        local_files_only=True
    )
    assert hub.requests == []
    MemN2N.from_pretrained(ID)
    count = len(hub.requests)
    assert same(MemN2N.from_pretrained(ID, local_files_only=True), make())
    assert len(hub.requests) == count
    use_endpoint("http://127.0.0.1:9", monkeypatch)  # nothing listens there
    assert same(MemN2N.from_pretrained(ID), make())
    assert "check the network" in refused(name=f"{OWNER}/other")


def test_a_part_of_a_model_in_the_cache_is_not_loaded(hub: Hub) -> None:
    hub.model(files_of(make()))
    folder = download(ID)
    (folder / WEIGHTS).unlink()
    assert f"{WEIGHTS} is not in the cache" in refused(local_files_only=True)
    assert same(MemN2N.from_pretrained(ID), make())


# Names from the Hub cannot leave the cache.


@pytest.mark.parametrize("name", ["../evil", "/etc/hostname", "a/b", "*", "..", "a\nb", "\x1b[2J"])
def test_a_manifest_from_the_hub_names_plain_files_only(hub: Hub, name: str) -> None:
    files = files_of(make())
    config = json.loads(files[CONFIG])
    config["files"][name] = "0" * 64
    hub.model({**files, CONFIG: json.dumps(config).encode(), name: b"x"})
    assert "expected a file name" in refused(MemhopError)
    assert hub.sent() == [CONFIG]


# Commands.


def test_commands_take_a_hub_id(hub: Hub, memhop: Callable[..., Any]) -> None:
    make().push_to_hub(ID, token=TOKEN)
    said = memhop("ask", ID, "--story", "Mary went to the garden.", "-q", "Where is Mary?").ok()
    assert "garden" in said.out
    assert memhop("kb", "ask", ID, "who?").error() == (
        f"{ID}: expected a knowledge model, got a story model: use memhop ask"
    )
    Path("one.txt").write_text("1 Mary went to the garden.\n2 Where is Mary?\tgarden\t1\n")
    assert "one.txt" in memhop("eval", ID, "--test", "one.txt").ok().out
    error = memhop("ask", f"{OWNER}/none", "-q", "Who?").error()
    assert error.startswith(f"{OWNER}/none: no such model on the Hub")


def test_a_served_model_has_the_name_that_was_given(hub: Hub) -> None:
    models = pytest.importorskip("memhop.web.models")
    hub.model(files_of(make()))
    make().save("runs/one")
    assert list(models.load([ID, "saved", "one", "runs/../saved/"])) == [ID, "saved", "one"]


def test_without_the_extra_the_error_says_what_to_install(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    needs = f"{ID}: a model on the Hub needs huggingface_hub: pip install 'memhop[hub]'"
    assert refused(MemhopError) == needs
    with pytest.raises(MemhopError, match="pip install"):
        make().push_to_hub(ID, token=TOKEN)
