"""Pretrained: save a model with its card to a folder or to the Hub, and load it by its name."""

import os
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from memhop.checkpoint import (
    CARD,
    CONFIG,
    KNOWLEDGE,
    LANGUAGE,
    LIBRARY,
    RETRIEVAL,
    STORIES,
    manifest_of,
    read_manifest_and_files,
    to_json,
    write_pretrained,
)
from memhop.errors import MemhopError, shown
from memhop.pretrained import hub
from memhop.pretrained.card import GENERATED, CardText, Earlier, choose_card, model_card
from memhop.pretrained.hub import HubOptions
from memhop.pretrained.names import find_model
from memhop.runs import checkpoint_of

_CLASSES = {STORIES: "MemN2N", KNOWLEDGE: "KnowledgeModel", RETRIEVAL: "RetrievalModel",
            LANGUAGE: "LanguageModel"}  # fmt: skip


class Pretrained:
    """A mixin of models that are files: a folder, or a model on the Hugging Face Hub.

    >>> from tempfile import TemporaryDirectory
    >>> from memhop import MemoryHop
    >>> hop = MemoryHop(input_dim=8, memory_dim=4)
    >>> with TemporaryDirectory() as folder:
    ...     hop.save_pretrained(f"{folder}/hop")
    ...     same = MemoryHop.from_pretrained(f"{folder}/hop")
    >>> torch.equal(same.embed_a.weight, hop.embed_a.weight)
    True
    """

    _kind: ClassVar[str]  # of the manifest; set by each class that can be stored, not by subclasses

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        card: str | None = None,
        license: str | None = None,
    ) -> None:
        """Write the model as a folder: ``config.json``, weights, its other files, ``README.md``.

        `from_pretrained` reads it. The folder is new, empty, or of an earlier model, which is
        replaced as a whole.

        Args:
            folder: the folder; parents are created.
            card: the text of ``README.md``; None keeps a card that you edited, or generates one.
            license: of a generated card, such as ``mit``; None keeps that of an earlier one.

        Raises:
            MemhopError: the folder has other files or cannot be written; the model has a part that
                would be lost, such as hooks, an adapter or a subclass; a license for a card that is
                not generated.
        """
        folder = Path(folder)
        make = self._stored(folder.absolute().name, card, license)
        earlier = Earlier(*(_existing(folder / name) for name in (CONFIG, CARD)))
        files, config, written = make(earlier)
        write_pretrained(folder, files, config, written)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        device: torch.device | str | None = None,
    ) -> Self:
        """Return a model by its name, in evaluation mode. No code of the files is run.

        Args:
            name: the first of these that exists: the path of a folder or run, the name of a run
                under ``runs/``, of a model that comes with memhop, or ``owner/name`` on the Hub,
                where no folder ``owner`` is here.
            revision: of a model on the Hub: a branch, a tag or a commit; None is the main branch.
                An error for a model that is not on the Hub.
            cache_dir: the folder of downloads; None is that of the Hub's client.
            token: of a private model; None is that of ``hf auth login``.
            local_files_only: do not use the network.
            device: of the weights; None is the CPU.

        Raises:
            MemhopError: no such model, one of another class, or corrupt files.
            DownloadError: the Hub does not send it.
        """
        options = HubOptions(revision, cache_dir, token, local_files_only)
        folder = checkpoint_of(find_model(os.fspath(name), hub=options))
        config, files = read_manifest_and_files(folder)
        came = config.get("model_type", _CLASSES.get(str(config.get("kind", STORIES))))
        expected = cls._class().__name__
        if came != expected:
            raise MemhopError(f"{folder}: expected a model of {expected}, got {shown(came)}")
        model = cls.from_files(files, folder)
        if device is not None:
            model._module().to(device)
        return model

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        card: str | None = None,
        license: str | None = None,
    ) -> str:
        """Upload the model to the Hugging Face Hub in one commit; return the commit's address.

        Needs ``memhop[hub]``. The files are those of `save_pretrained`; other files of the model on
        the Hub stay.

        Args:
            repo_id: ``owner/name``; created if it does not exist.
            private: of a new model; None is the owner's default.
            token: None is that of ``hf auth login``.
            revision: a branch, created if it does not exist; None is the main branch.
            commit_message: None is a default.
            card: the text of ``README.md``; None keeps a card that was edited, or generates one.
            license: of a generated card, such as ``mit``; None keeps that of an earlier one.

        Raises:
            MemhopError: no permission or no network; the model has a part that would be lost; a
                license for a card that is not generated.
        """
        make = self._stored(repo_id, card, license)

        def contents(earlier: Earlier) -> dict[str, bytes]:
            files, config, written = make(earlier)
            return {**files, CONFIG: to_json(config), CARD: written}

        return hub.push(
            repo_id, contents, private=private, token=token, revision=revision,
            commit_message=commit_message,
        )  # fmt: skip

    def to_files(self) -> dict[str, bytes]:
        """Return the files of the model, all that `from_files` needs."""
        raise NotImplementedError

    @classmethod
    def from_files(cls, files: dict[str, bytes], folder: Path) -> Self:
        """Return the model in files; ``folder`` is named in errors."""
        raise NotImplementedError

    def _module(self) -> nn.Module:
        """Return the module that has the weights."""
        raise NotImplementedError

    def _check_storable(self) -> None:
        """Raise an error if a part of the model is not in its files."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """Return the settings, as JSON, for people."""
        raise NotImplementedError

    def _card_text(self) -> CardText:
        raise NotImplementedError

    @classmethod
    def _class(cls) -> type:
        """Return the class whose models are stored: this one, or the one that it is based on."""
        return next(base for base in cls.__mro__ if "_kind" in vars(base))

    def _stored(
        self, name: str, card: str | None, license: str | None
    ) -> Callable[[Earlier], tuple[dict[str, bytes], dict[str, Any], bytes]]:
        """Return a function from what is there to the files, the manifest and the card."""
        from memhop import __version__

        stored, own = self._class().__name__, type(self).__name__
        if type(self) is not self._class():
            raise MemhopError(f"{own} cannot be stored: expected a {stored}, got a subclass")
        self._check_storable()
        files, settings = self.to_files(), self._settings()
        about = {"library_name": LIBRARY, "memhop_version": __version__, "model_type": stored}
        config = {**about, "settings": settings, **manifest_of(files, self._kind)}
        weights = sum(one.numel() for one in self._module().parameters())
        make = partial(model_card, name, self._card_text(), settings, weights)
        make(license)  # checks it

        def complete(earlier: Earlier) -> tuple[dict[str, bytes], dict[str, Any], bytes]:
            written, is_generated = choose_card(make, card, license, earlier)
            mark = {GENERATED: sha256(written).hexdigest()} if is_generated else {}
            return files, {**config, **mark}, written

        return complete


def _existing(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is none."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
