"""The download is atomic: a complete archive is unpacked, any error leaves the disk unchanged."""

import gzip
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from memhop.data import download, read_babi
from memhop.data.download import download_babi
from memhop.errors import MemhopError

STORY = b"1 Mary went home.\n2 Where is Mary?\thome\t1\n"
TOP = "tasks_1-20_v1-2"
MEMBERS = [
    (f"{TOP}/en/qa1_single-supporting-fact_train.txt", STORY),
    (f"{TOP}/en/qa1_single-supporting-fact_test.txt", STORY),
    (f"{TOP}/hn/qa1_single-supporting-fact_test.txt", STORY),
    (f"{TOP}/README.txt", b"Read me."),
]


class Answer(NamedTuple):
    """A response of the server, sent after a pause in seconds."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] | None = None
    pause: float = 0.0


class Server(ThreadingHTTPServer):
    """Serve fixed answers on the loopback address."""

    answers: dict[str, Answer]
    patient: threading.Event
    daemon_threads = False
    block_on_close = True

    def url(self, path: str = "/babi.tar.gz") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answer = self.server.answers[self.path]
        self.server.patient.wait(answer.pause)
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.body))}
        for name, value in {**headers, **(answer.headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(*answers: tuple[str, Answer]) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.answers = dict(answers)
        server.patient = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> bytes:
    """Return the header of a member, without its content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info.tobuf()


def packed(members: list[tuple[str, bytes]], extra: bytes = b"") -> bytes:
    """Return a ``.tar.gz`` of files, with ``extra`` bytes before the end of the archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        end = archive.offset
    return gzip.compress(buffer.getvalue()[:end] + extra + bytes(1024), 1)


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def fetch(folder: Path, body: bytes, answer: Answer | None = None, checksum: str = "") -> Path:
    with serving(("/babi.tar.gz", answer or Answer(body))) as server:
        return download_babi(folder, url=server.url(), sha256=checksum or sha(body))


@pytest.fixture(params=["new", "empty", "deep"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a destination: a new or an empty folder, in a folder with nothing else."""
    place = tmp_path / "place"
    place.mkdir()
    if request.param == "empty":
        (place / "babi").mkdir()
    return place / "a/b/babi" if request.param == "deep" else place / "babi"


def refused(folder: Path, body: bytes, answer: Answer | None = None, checksum: str = "") -> str:
    """Return the one-line error of a download; check that the disk is unchanged."""
    place = next(parent for parent in folder.parents if parent.name == "place")
    before = sorted(place.rglob("*"))
    with pytest.raises(MemhopError) as caught:
        fetch(folder, body, answer, checksum)
    assert sorted(place.rglob("*")) == before
    assert sorted(p.name for p in place.parent.iterdir()) == ["place"]
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_a_complete_archive_is_unpacked(folder: Path) -> None:
    en = fetch(folder, packed(MEMBERS))
    assert en == folder / TOP / "en"
    assert len(read_babi(en, task=1)) == 2
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == sorted(name for name, _ in MEMBERS)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    assert os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def test_the_modes_are_those_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    folder = tmp_path / "babi"
    fetch(folder, packed(MEMBERS))
    assert folder.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_archive_without_en_gives_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "babi"
    assert fetch(folder, packed([("./qa1_train.txt", STORY)])) == folder
    assert len(read_babi(folder, task=1)) == 1


def test_progress_reports_bytes(tmp_path: Path) -> None:
    body = packed([*MEMBERS, ("noise", os.urandom(200_000))])
    calls: list[tuple[int, int | None]] = []
    for name, headers in (("known", None), ("unknown", {"Content-Length": ""})):
        with serving(("/babi.tar.gz", Answer(body, headers=headers))) as server:
            calls.clear()
            download_babi(
                tmp_path / name,
                url=server.url(),
                sha256=sha(body).upper(),
                progress=lambda done, total: calls.append((done, total)),
            )
        assert [done for done, _ in calls] == sorted({done for done, _ in calls})
        assert (calls[0][0], calls[-1][0]) == (0, len(body))
        assert {total for _, total in calls} == {len(body) if name == "known" else None}


def test_incomplete_responses_raise(folder: Path) -> None:
    body = packed(MEMBERS)
    half = Answer(body[: len(body) // 2], headers={"Content-Length": str(len(body))})
    assert "incomplete: expected" in refused(folder, body, half)
    less = Answer(body, headers={"Content-Length": str(len(body) - 10)})
    assert "SHA-256" in refused(folder, body, less)
    more = Answer(body, headers={"Content-Length": str(len(body) + 10)})
    assert refused(folder, body, more).endswith(
        f"incomplete: expected {len(body) + 10} bytes, got {len(body)}"
    )
    chunked = Answer(
        b"5\r\nhello\r\nff\r\nx", headers={"Content-Length": "", "Transfer-Encoding": "chunked"}
    )
    assert "cannot be downloaded: IncompleteRead" in refused(folder, body, chunked)
    assert "HTTP status 404" in refused(folder, body, Answer(b"no", 404))
    huge = Answer(body, headers={"Content-Length": str(10**12)})
    limit = f"expected at most {download.MAX_COMPRESSED_BYTES} bytes, got 1000000000000"
    assert limit in refused(folder, body, huge)


def test_endless_responses_raise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_COMPRESSED_BYTES", 1000)
    body = packed([("noise", os.urandom(200_000))])
    endless = Answer(body, headers={"Content-Length": ""})
    assert "expected at most 1000 bytes, got more" in refused(folder, body, endless)


def test_a_silent_server_times_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 0.2)
    with serving(("/babi.tar.gz", Answer(pause=1.0))) as server:
        with pytest.raises(MemhopError, match="cannot be downloaded: timed out"):
            download_babi(folder, url=server.url(), sha256="0" * 64)
        server.patient.set()
    assert not any(p.name.startswith(".") for p in folder.parents[0].parent.rglob("*"))


def test_a_wrong_checksum_raises_before_unpacking(folder: Path) -> None:
    body = packed([("../evil", b"")])
    message = refused(folder, body, checksum="0" * 64)
    assert message.endswith(f"expected SHA-256 {'0' * 64}, got {sha(body)}")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("../evil"), "expected a path inside the folder, got '../evil'"),
        (member("a/../../evil"), "expected a path inside the folder, got 'a/../../evil'"),
        (member("/etc/evil"), "expected a path inside the folder, got '/etc/evil'"),
        (member("a\\..\\evil"), "expected a path inside the folder, got"),
        (member("C:evil"), "expected a path inside the folder, got 'C:evil'"),
        (member("e\x1bvil"), "expected a path inside the folder, got 'e\\x1bvil'"),
        (member("../evil", tarfile.DIRTYPE), "expected a path inside the folder, got"),
        (
            member("link", tarfile.SYMTYPE, "/etc/passwd"),
            "expected files, got the link or device 'link'",
        ),
        (
            member("link", tarfile.SYMTYPE, "README.txt"),
            "expected files, got the link or device 'link'",
        ),
        (
            member("hard", tarfile.LNKTYPE, MEMBERS[0][0]),
            "expected files, got the link or device 'hard'",
        ),
        (member("pipe", tarfile.FIFOTYPE), "expected files, got the link or device 'pipe'"),
        (member("null", tarfile.CHRTYPE), "expected files, got the link or device 'null'"),
        (member(MEMBERS[0][0]), f"expected different members, got '{MEMBERS[0][0]}' twice"),
        (member(f"{TOP}/en"), f"expected different members, got '{TOP}/en' twice"),
        (member(f"{TOP}/README.txt/x"), "cannot be unpacked: "),
        (member("long", size=10**11), "bytes and 10000 files, got more"),
        (member("long", size=10**6), "cannot be unpacked: "),
        (b"damaged" * 100, "damaged at byte "),
    ],
)
def test_members_other_than_files_inside_the_folder_raise(
    tmp_path: Path, extra: bytes, message: str
) -> None:
    (tmp_path / "place").mkdir()
    body = packed(MEMBERS, extra)
    assert message in refused(tmp_path / "place" / "babi", body)


def test_a_damaged_archive_raises(folder: Path) -> None:
    whole = packed([*MEMBERS, ("noise", os.urandom(5000))])
    for cut in (0, 1, 15, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        assert "cannot be unpacked: " in refused(folder, whole[:cut])
    flipped = bytes([*whole[:200], whole[200] ^ 0xFF, *whole[201:]])
    assert "cannot be unpacked: " in refused(folder, flipped)
    assert "cannot be unpacked: " in refused(folder, b"<html>not found</html>")
    assert "cannot be unpacked: " in refused(folder, gzip.compress(b"not a tar archive" * 99))


def test_archives_that_are_too_large_raise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_UNPACKED_BYTES", 10**6)
    assert "expected at most 1000000 bytes, got more" in refused(
        folder, gzip.compress(bytes(10**7))
    )
    monkeypatch.setattr(download, "MAX_MEMBERS", 3)
    assert "bytes and 3 files, got more" in refused(folder, packed(MEMBERS))


def test_addresses_are_https_or_this_machine(tmp_path: Path) -> None:
    for url in (
        "http://example.org/a.tar.gz",
        "http://127.0.0.1.example.org/a",
        "http://localhost@example.org/a",
        "http://10.0.0.1/a",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "https:///a",
        "//127.0.0.1/a",
        "a\nb",
        "",
        "http://[::1/a",
    ):
        with pytest.raises(MemhopError, match=r"expected an https address, got") as caught:
            download_babi(tmp_path / "babi", url=url, sha256="0" * 64)
        assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_redirects_follow_the_same_rule(tmp_path: Path) -> None:
    body = packed(MEMBERS)
    for target, message in (
        ("http://example.org/a.tar.gz", "expected an https address, got"),
        ("ftp://127.0.0.1/a", "expected an https address, got"),
        ("file:///etc/passwd", "cannot be downloaded: HTTP status 302"),
    ):
        with (
            serving(("/", Answer(b"moved", 302, {"Location": target}))) as server,
            pytest.raises(MemhopError, match=message),
        ):
            download_babi(tmp_path / "babi", url=server.url("/"), sha256=sha(body))
    assert list(tmp_path.iterdir()) == []
    moved = Answer(b"moved", 302, {"Location": "/there"})
    with serving(("/", moved), ("/there", Answer(body))) as server:
        assert download_babi(tmp_path / "babi", url=server.url("/"), sha256=sha(body)).is_dir()
    with (
        serving(("/", Answer(b"round", 302, {"Location": "/"}))) as server,
        pytest.raises(MemhopError, match="cannot be downloaded: HTTP status 302"),
    ):
        download_babi(tmp_path / "other", url=server.url("/"), sha256=sha(body))


def test_plain_http_never_takes_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = packed(MEMBERS)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch(tmp_path / "babi", body).is_dir()


def test_a_missing_server_raises(tmp_path: Path) -> None:
    with serving() as server:
        url = server.url()
    with pytest.raises(MemhopError, match="cannot be downloaded: Connection refused"):
        download_babi(tmp_path / "babi", url=url, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_another_address_needs_its_checksum(tmp_path: Path) -> None:
    for checksum, message in (
        (None, "expected the SHA-256 of its archive, got none"),
        ("abc", "SHA-256: expected 64 hexadecimal digits, got 'abc'"),
        ("g" * 64, "expected 64 hexadecimal digits"),
    ):
        with pytest.raises(MemhopError, match=message):
            download_babi(tmp_path / "babi", url="https://example.org/a", sha256=checksum)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for folder, message in (
        (tmp_path, "expected a new or an empty folder"),
        (tmp_path / "file", "expected a new folder, got a file"),
        (tmp_path / "file" / "below", "file: expected a folder, got a file"),
        (Path(), "expected another than the current folder"),
    ):
        with pytest.raises(MemhopError, match=message):
            download_babi(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]


def test_an_interrupt_leaves_nothing(folder: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    body = packed(MEMBERS)
    with (
        serving(("/babi.tar.gz", Answer(body))) as server,
        pytest.raises(KeyboardInterrupt),
    ):
        download_babi(folder, url=server.url(), sha256=sha(body), progress=stop)
    assert not any(folder.parents[0].parent.rglob(".memhop*"))
    assert not folder.exists() or not any(folder.iterdir())
