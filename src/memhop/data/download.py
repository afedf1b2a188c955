"""Fetches the released bAbI archive, checks it, and unpacks it whole or not at all."""

import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
    getproxies,
)

from memhop.data.babi import shown
from memhop.errors import DownloadError, MemhopError

DEFAULT_URL = "https://dl.fbaipublicfiles.com/parlai/babi/babi.tar.gz"
DEFAULT_SHA256 = "f7f0bee187efca0d81c3daac1b162cda4eb7f9505dee5ad6846eabbed3dbf92e"
"""Of the 19,212,062 bytes at DEFAULT_URL."""

MOST_COMPRESSED = 128 * 2**20
MOST_UNPACKED = 1024 * 2**20
MOST_MEMBERS = 10_000
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 16

Progress = Callable[[int, int | None], None]


def download_babi(
    folder: str | os.PathLike[str],
    *,
    url: str = DEFAULT_URL,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Downloads an archive of bAbI tasks into a new ``folder``; returns its folder ``en``.

    Another ``url`` needs the ``sha256`` of its archive (``.tar.gz``). Only https is used, or http
    to this machine. The checksum is compared before anything is unpacked, and ``folder`` appears
    by one rename when all is well: after an error or a break it is as it was. It must not exist
    yet, or be empty. Without a folder ``en`` in the archive, ``folder`` itself is returned.

    ``progress`` is called with the bytes done and the bytes in all (None if unknown).

    Raises MemhopError for whatever goes wrong, in one line; DownloadError, a kind of it, where
    what came from ``url`` is not the archive.

    >>> download_babi("babi", url="http://example.org/a.tar.gz", sha256="0" * 64)
    Traceback (most recent call last):
    memhop.errors.MemhopError: 'http://example.org/a.tar.gz'; needed https, or http to this machine
    """
    checksum = _checksum(url, sha256)
    _check_url(url)
    target = Path(folder)
    with _one_line(f"{shown(target)}: cannot be written"):
        target = target.resolve()
        _check_free(target)
        # On the same disk as the folder, so that it can be renamed; in its place nothing is seen.
        beside = next(parent for parent in target.parents if parent.exists())
        if not beside.is_dir():
            raise MemhopError(f"{shown(beside)}: is a file; needed a folder")
        work = Path(tempfile.mkdtemp(prefix=".memhop-download-", dir=beside))
    try:
        archive, plain, whole = work / "archive.tar.gz", work / "archive.tar", work / "whole"
        _fetch(url, archive, progress)
        _compare(archive, checksum, url)
        with _one_line(f"{_named(url)}: cannot be unpacked", DownloadError):
            _decompress(archive, plain)
            whole.mkdir()
            _unpack(plain, whole)
        with _one_line(f"{shown(target)}: cannot be written"):
            found = sorted(path for path in whole.rglob("en") if path.is_dir())
            _check_free(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            whole.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target / found[0].relative_to(whole) if found else target


def _checksum(url: str, sha256: str | None) -> str:
    if sha256 is None:
        if url != DEFAULT_URL:
            raise MemhopError(f"{_named(url)}: no checksum; needed the SHA-256 of its archive")
        return DEFAULT_SHA256
    digest = sha256.strip().lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise MemhopError(f"SHA-256 {_named(sha256)}; needed 64 hexadecimal digits")
    return digest


def _check_url(url: str) -> None:
    """Lets https pass, and http where nobody else can listen."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise MemhopError(f"{_named(url)}; needed an https address") from None
    if parts.scheme == "https" and host:
        return
    if not (parts.scheme == "http" and _is_loopback(host)):
        raise MemhopError(f"{_named(url)}; needed https, or http to this machine")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        if not target.is_dir():
            raise MemhopError(f"{shown(target)}: is a file; needed a new folder")
        if any(target.iterdir()):
            raise MemhopError(f"{shown(target)}: not empty; needed a new or an empty folder")
        if target == Path.cwd():
            # It will be replaced, and whoever stands in it would be left in the old one.
            raise MemhopError(f"{shown(target)}: the current folder; needed another one")


class _BadArchive(Exception):
    """What is wrong with an archive; its text wants the archive's address before it."""


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows redirects, each under the rule of the first address."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            _check_url(newurl)
        except MemhopError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    # Plain http must not leave this machine by way of a proxy either.
    proxies = {scheme: proxy for scheme, proxy in getproxies().items() if scheme == "https"}
    return build_opener(_CheckedRedirects, ProxyHandler(proxies))


def _fetch(url: str, archive: Path, progress: Progress | None) -> None:
    with _one_line(f"{_named(url)}: cannot be fetched", DownloadError):
        request = Request(url, headers={"User-Agent": "memhop"})
        with _opener().open(request, timeout=_TIMEOUT) as response, archive.open("xb") as out:
            total, done = response.length, 0
            if total is not None and total > MOST_COMPRESSED:
                raise DownloadError(
                    f"{_named(url)}: {total} bytes; needed at most {MOST_COMPRESSED}"
                )
            if progress:
                progress(0, total)
            while chunk := response.read(_CHUNK):
                out.write(chunk)
                done += len(chunk)
                if done > MOST_COMPRESSED:
                    raise DownloadError(
                        f"{_named(url)}: more than {MOST_COMPRESSED} bytes; needed at most that"
                    )
                if progress:
                    progress(done, total)
        if total is not None and done < total:
            raise DownloadError(f"{_named(url)}: broke off after {done} bytes; needed {total}")


def _compare(archive: Path, checksum: str, url: str) -> None:
    with archive.open("rb") as stream:
        came = hashlib.file_digest(stream, "sha256").hexdigest()
    if came != checksum:
        raise DownloadError(f"{_named(url)}: SHA-256 {came}; needed {checksum}")


def _decompress(archive: Path, plain: Path) -> None:
    """Undoes the gzip first, so that its own check has passed before a member is believed."""
    with gzip.open(archive) as stream, plain.open("xb") as out:
        size = 0
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > MOST_UNPACKED:
                raise _BadArchive(f"more than {MOST_UNPACKED} bytes unpacked; needed at most that")
            out.write(chunk)


def _unpack(plain: Path, whole: Path) -> None:
    """Writes files and folders, and refuses an archive that holds anything else."""
    size = 0
    with plain.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as members:
        for count, member in enumerate(members, 1):
            path = whole / _inner_path(member)
            size += member.size
            if size > MOST_UNPACKED or count > MOST_MEMBERS:
                raise _BadArchive(
                    f"more than {MOST_UNPACKED} bytes or {MOST_MEMBERS} files; needed at most that"
                )
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            if path.exists():
                raise _BadArchive(f"member {_named(member.name)} comes twice; needed it once")
            path.parent.mkdir(parents=True, exist_ok=True)
            content = members.extractfile(member)
            assert content is not None  # It is None only for what _inner_path refuses.
            with content, path.open("xb") as out:
                shutil.copyfileobj(content, out, _CHUNK)
        # tarfile takes a damaged header for the end; behind the true end there is nothing.
        stream.seek(members.offset)
        if any(chunk.strip(b"\0") for chunk in _chunks(stream)):
            raise _BadArchive(f"damaged at byte {members.offset}; needed a whole tar archive")


def _inner_path(member: tarfile.TarInfo) -> PurePosixPath:
    """The member's path, if it can only lie inside the folder."""
    name = PurePosixPath(member.name)
    if not (member.isfile() or member.isdir()):
        raise _BadArchive(f"member {_named(member.name)} is a link or a device; needed a file")
    inside = not (name.is_absolute() or ".." in name.parts or set(member.name) & set("\\:"))
    if not (inside and member.name.isprintable()):
        raise _BadArchive(
            f"member {_named(member.name)}; needed a path inside the archive's folder"
        )
    return name


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _named(text: str) -> str:
    return ascii(text if len(text) <= 200 else f"{text[:197]}...")


@contextmanager
def _one_line(what: str, kind: type[MemhopError] = MemhopError) -> Iterator[None]:
    """Turns every way in which the network, the disk or an archive can fail into one line."""
    try:
        yield
    except MemhopError:
        raise
    except _BadArchive as error:
        raise kind(f"{what}: {error}") from None
    except HTTPError as error:
        error.close()
        raise kind(f"{what}: HTTP status {error.code}") from None
    except URLError as error:
        raise kind(f"{what}: {_said(error.reason)}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, HTTPException, ValueError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        raise (MemhopError if full else kind)(f"{what}: {_said(error)}") from None


def _said(reason: object) -> str:
    """The words of an error, in one line."""
    strerror = getattr(reason, "strerror", None)
    return " ".join(str(strerror or reason or type(reason).__name__).split())
