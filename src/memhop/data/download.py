"""Download the released bAbI archive, check it, and unpack it atomically."""

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

from memhop.errors import DownloadError, MemhopError
from memhop.lines import printable

DEFAULT_URL = "https://dl.fbaipublicfiles.com/parlai/babi/babi.tar.gz"
DEFAULT_SHA256 = "f7f0bee187efca0d81c3daac1b162cda4eb7f9505dee5ad6846eabbed3dbf92e"
"""The checksum of the 19,212,062 bytes at DEFAULT_URL."""

MAX_COMPRESSED_BYTES = 128 * 2**20
MAX_UNPACKED_BYTES = 1024 * 2**20
MAX_MEMBERS = 10_000
_TIMEOUT = 30.0  # seconds without data
_CHUNK_BYTES = 1 << 16

Progress = Callable[[int, int | None], None]


def download_babi(
    folder: str | os.PathLike[str],
    *,
    url: str = DEFAULT_URL,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download an archive of bAbI tasks into a new ``folder``; return its folder ``en``.

    The checksum is verified before anything is unpacked. ``folder`` is created by one rename at the
    end, so that an error or an interrupt changes nothing.

    Args:
        folder: the target; it must not exist, or be empty.
        url: the address of a ``.tar.gz`` archive: https, or http to this machine.
        sha256: the checksum of the archive; required for another ``url``.
        progress: called with the bytes received and the total (None if unknown).

    Returns:
        the folder ``en`` of the archive, or ``folder`` if there is none.

    Raises:
        DownloadError: the server did not send the archive.
        MemhopError: any other failure, in one line.

    >>> download_babi("babi", url="http://example.org/a", sha256="0" * 64)
    Traceback (most recent call last):
    memhop.errors.MemhopError: expected an https address, got 'http://example.org/a'
    """
    checksum = _checksum(url, sha256)
    _check_url(url)
    target = Path(folder)
    with _one_line_errors(f"{printable(target)}: cannot be written"):
        target = target.resolve()
        _check_free(target)
        # on the same disk as the target, so that a rename can move it there
        parent = next(parent for parent in target.parents if parent.exists())
        if not parent.is_dir():
            raise MemhopError(f"{printable(parent)}: expected a folder, got a file")
        work = Path(tempfile.mkdtemp(prefix=".memhop-download-", dir=parent))
    try:
        archive, tar, unpacked = work / "archive.tar.gz", work / "archive.tar", work / "unpacked"
        _fetch(url, archive, progress)
        _verify(archive, checksum, url)
        with _one_line_errors(f"{_quoted(url)}: cannot be unpacked", DownloadError):
            _decompress(archive, tar)
            unpacked.mkdir()
            _unpack(tar, unpacked)
        with _one_line_errors(f"{printable(target)}: cannot be written"):
            english = sorted(path for path in unpacked.rglob("en") if path.is_dir())
            _check_free(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            unpacked.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target / english[0].relative_to(unpacked) if english else target


def _checksum(url: str, sha256: str | None) -> str:
    if sha256 is None:
        if url != DEFAULT_URL:
            raise MemhopError(f"{_quoted(url)}: expected the SHA-256 of its archive, got none")
        return DEFAULT_SHA256
    digest = sha256.strip().lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise MemhopError(f"SHA-256: expected 64 hexadecimal digits, got {_quoted(sha256)}")
    return digest


def _check_url(url: str) -> None:
    """Raise MemhopError unless a connection to ``url`` is encrypted or stays on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    is_local = bool(host) and parts.scheme == "http" and _is_loopback(host)
    if not (is_local or (host and parts.scheme == "https")):
        raise MemhopError(f"expected an https address, got {_quoted(url)}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        if not target.is_dir():
            raise MemhopError(f"{printable(target)}: expected a new folder, got a file")
        if any(target.iterdir()):
            raise MemhopError(f"{printable(target)}: expected a new or an empty folder")
        if target == Path.cwd():
            # it is replaced, and the process would remain in the old one
            raise MemhopError(f"{printable(target)}: expected another than the current folder")


class _BadArchive(Exception):
    """An archive has a fault; the text does not name the archive."""


class _CheckedRedirects(HTTPRedirectHandler):
    """Follow redirects to permitted addresses only."""

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
    # http must not leave this machine through a proxy either
    proxies = {scheme: proxy for scheme, proxy in getproxies().items() if scheme == "https"}
    return build_opener(_CheckedRedirects, ProxyHandler(proxies))


def _fetch(url: str, archive: Path, progress: Progress | None) -> None:
    with _one_line_errors(f"{_quoted(url)}: cannot be downloaded", DownloadError):
        request = Request(url, headers={"User-Agent": "memhop"})
        with _opener().open(request, timeout=_TIMEOUT) as response, archive.open("xb") as out:
            total, size = response.length, 0
            limit = f"expected at most {MAX_COMPRESSED_BYTES} bytes"
            if total is not None and total > MAX_COMPRESSED_BYTES:
                raise DownloadError(f"{_quoted(url)}: {limit}, got {total}")
            if progress:
                progress(0, total)
            while chunk := response.read(_CHUNK_BYTES):
                out.write(chunk)
                size += len(chunk)
                if size > MAX_COMPRESSED_BYTES:
                    raise DownloadError(f"{_quoted(url)}: {limit}, got more")
                if progress:
                    progress(size, total)
        if total is not None and size < total:
            raise DownloadError(f"{_quoted(url)}: incomplete: expected {total} bytes, got {size}")


def _verify(archive: Path, checksum: str, url: str) -> None:
    with archive.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != checksum:
        raise DownloadError(f"{_quoted(url)}: expected SHA-256 {checksum}, got {actual}")


def _decompress(archive: Path, tar: Path) -> None:
    """Decompress completely, so that gzip's own checksum is verified before a member is read."""
    with gzip.open(archive) as stream, tar.open("xb") as out:
        size = 0
        for chunk in _chunks(stream):
            size += len(chunk)
            if size > MAX_UNPACKED_BYTES:
                raise _BadArchive(f"expected at most {MAX_UNPACKED_BYTES} bytes, got more")
            out.write(chunk)


def _unpack(tar: Path, folder: Path) -> None:
    """Write files and folders; raise _BadArchive for any other member."""
    size = 0
    with tar.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as members:
        for count, member in enumerate(members, 1):
            path = folder / _inner_path(member)
            size += member.size
            if size > MAX_UNPACKED_BYTES or count > MAX_MEMBERS:
                raise _BadArchive(
                    f"expected at most {MAX_UNPACKED_BYTES} bytes and {MAX_MEMBERS} files, got more"
                )
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            if path.exists():
                raise _BadArchive(f"expected different members, got {_quoted(member.name)} twice")
            path.parent.mkdir(parents=True, exist_ok=True)
            content = members.extractfile(member)
            assert content is not None  # None only for members that _inner_path rejects
            with content, path.open("xb") as out:
                shutil.copyfileobj(content, out, _CHUNK_BYTES)
        # tarfile treats a damaged header as the end; after the real end there are only zeros
        stream.seek(members.offset)
        if any(chunk.strip(b"\0") for chunk in _chunks(stream)):
            raise _BadArchive(f"damaged at byte {members.offset}")


def _inner_path(member: tarfile.TarInfo) -> PurePosixPath:
    """Return the member's path; raise _BadArchive if it could be outside the folder."""
    name = PurePosixPath(member.name)
    if not (member.isfile() or member.isdir()):
        raise _BadArchive(f"expected files, got the link or device {_quoted(member.name)}")
    is_inside = not (name.is_absolute() or ".." in name.parts or set(member.name) & set("\\:"))
    if not (is_inside and member.name.isprintable()):
        raise _BadArchive(f"expected a path inside the folder, got {_quoted(member.name)}")
    return name


def _chunks(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 200 else f"{text[:197]}...")


@contextmanager
def _one_line_errors(prefix: str, kind: type[MemhopError] = MemhopError) -> Iterator[None]:
    """Turn every error of the network, the disk or an archive into one line."""
    try:
        yield
    except MemhopError:
        raise
    except _BadArchive as error:
        raise kind(f"{prefix}: {error}") from None
    except HTTPError as error:
        error.close()
        raise kind(f"{prefix}: HTTP status {error.code}") from None
    except URLError as error:
        raise kind(f"{prefix}: {_reason(error.reason)}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, HTTPException, ValueError) as error:
        is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        raise (MemhopError if is_full else kind)(f"{prefix}: {_reason(error)}") from None


def _reason(reason: object) -> str:
    """Return the text of an error in one line."""
    strerror = getattr(reason, "strerror", None)
    return " ".join(str(strerror or reason or type(reason).__name__).split())
