"""Models on the Hugging Face Hub, through its own client, which is imported at the call.

Only files that a manifest names are downloaded, into the client's cache. Whether their content is
that of the manifest is checked when they are read (`memhop.checkpoint`).
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from memhop.checkpoint import CARD, CONFIG, LIBRARY, file_names, read_manifest
from memhop.errors import DownloadError, MemhopError, shown
from memhop.pretrained.card import Earlier

_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_HUB_ID = re.compile(f"{_PART}/{_PART}", re.ASCII)
_MOST_SHOWN = 120  # characters of an error of the client


class HubOptions(NamedTuple):
    """How a model is downloaded.

    Attributes:
        revision: a branch, tag or commit; None is the newest of the main branch.
        cache_dir: the folder of downloads; None is that of the Hub's client.
        token: of a private model; None is that of ``hf auth login``.
        local_files_only: read the cache only, without network.
    """

    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | None = None
    local_files_only: bool = False


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a Hub id.

    >>> is_hub_id("owner/name"), is_hub_id("name"), is_hub_id("../name"), is_hub_id("a/b/c")
    (True, False, False, False)
    """
    return _HUB_ID.fullmatch(name) is not None


def download(repo_id: str, options: HubOptions | None = None) -> Path:
    """Return the folder in the cache with the files of a model on the Hub.

    ``config.json`` comes first, so that nothing else of another library's model is downloaded.

    Raises:
        DownloadError: no such model, no permission, no network, or an incomplete download.
        MemhopError: it is no model of memhop, or huggingface_hub is not installed.
    """
    options = options or HubOptions()
    client = _client(repo_id)

    def fetch(name: str, revision: str | None) -> Path:
        with _client_errors(repo_id, options.revision, name):
            return Path(
                client.hf_hub_download(
                    repo_id, name, revision=revision, cache_dir=options.cache_dir,
                    token=options.token, local_files_only=options.local_files_only,
                    library_name=LIBRARY, library_version=_version(),
                )
            )  # fmt: skip

    config = fetch(CONFIG, options.revision)
    folder = config.parent  # its name is the commit, of which the other files are too
    for name in file_names(read_manifest(folder), config):
        fetch(name, folder.name)
    return folder


def push(
    repo_id: str,
    contents: Callable[[Earlier], Mapping[str, bytes]],
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Write files and a card to a model on the Hub in one commit; return the commit's address.

    The model is created if it does not exist; its other files stay.

    Args:
        repo_id: ``owner/name``.
        contents: returns the files and the card, from what is on the Hub.
        private: of a new model; None is the owner's default.
        token: None is that of ``hf auth login``.
        revision: a branch, which is created if it does not exist; None is the main branch.
        commit_message: None is "Upload a model of memhop".

    Raises:
        MemhopError: no permission, no network, or huggingface_hub is not installed.
    """
    if not is_hub_id(repo_id):
        raise MemhopError(f"expected a Hub id owner/name, got {shown(repo_id)}")
    client = _client(repo_id)
    with _client_errors(repo_id, revision, None):
        api = client.HfApi(token=token, library_name=LIBRARY, library_version=_version())
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        found = [
            Path(api.hf_hub_download(repo_id, name, revision=revision)).read_bytes()
            if api.file_exists(repo_id, name, revision=revision) else None
            for name in (CONFIG, CARD)
        ]  # fmt: skip
        earlier = Earlier(*found)
        written = dict(contents(earlier))
        if written[CARD] == earlier.card:
            del written[CARD]
        operations = [client.CommitOperationAdd(*one) for one in written.items()]
        message = commit_message or "Upload a model of memhop"
        commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    return str(commit.commit_url)


def _client(repo_id: str) -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MemhopError(
            f"{repo_id}: a model on the Hub needs {error.name}: pip install 'memhop[hub]'"
        ) from error
    return huggingface_hub


def _version() -> str:
    from memhop import __version__

    return __version__


@contextmanager
def _client_errors(repo_id: str, revision: str | None, name: str | None) -> Iterator[None]:
    """Turn errors of the client into one line; ``name`` is the file of a download.

    Its log is silent: it has a warning of several lines for each of five retries.
    """
    from huggingface_hub import errors

    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    kind = MemhopError if name is None else DownloadError
    log_in = "log in (hf auth login) or give a token"
    try:
        yield
    except errors.GatedRepoError:
        reason = f"its owner restricts access: ask for it on the page of the model, and {log_in}"
    except errors.RepositoryNotFoundError:
        reason = f"no such model on the Hub, or a private one: check the name, or {log_in}"
    except errors.RevisionNotFoundError:
        reason = f"no revision {shown(revision)} on the Hub"
    except errors.LocalEntryNotFoundError:
        reason = (
            f"{name} is not in the cache and cannot be downloaded: check the network and "
            "HF_HUB_OFFLINE, or load a folder"
        )
    except errors.EntryNotFoundError:
        reason = f"no {name} on the Hub: not a model of memhop, or an incomplete one"
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = f"the Hub sent HTTP status {status}"
        reason += f": {log_in}" if status in (401, 403) else ""
    except MemhopError:
        raise
    except Exception as error:  # of the disk, the network and the client's own checks
        text = " ".join(str(error).split())[:_MOST_SHOWN]
        action = "upload" if name is None else f"download {name}"
        reason = f"cannot {action}: {text or type(error).__name__}"
    else:
        return
    finally:
        log.setLevel(level)
    raise kind(f"{repo_id}: {reason}") from None
