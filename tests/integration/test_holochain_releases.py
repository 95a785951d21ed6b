"""A released conductor is used only whole, with a checksum that was published or confirmed."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hivekeeper.holochain import downloads, releases
from hivekeeper.holochain.releases import Server
from hivekeeper.model.errors import PermanentError, TransientError, UserError

PROGRAM = b"\x7fELF a conductor " + bytes(3_000_000)
DIGEST = hashlib.sha256(PROGRAM).hexdigest()
NAME = releases.asset()
VERSION = releases.version_of("0.6.3")
FILE = f"/files/holochain-0.6.3/{NAME}"
FACTS = "/facts/holochain-0.6.3"


class Web:
    """A server of releases; `answers` maps a path to a status and a body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self.cut_off = False
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                status, body = web.answers.get(self.path, (404, b"no"))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", body.decode())
                self.send_header("Content-Length", str(len(body) + 7 * web.cut_off))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.where = Server(files=f"{self.url}/files", facts=f"{self.url}/facts")

    def publish(self, digest: str | None) -> None:
        self.answers[FILE] = (200, PROGRAM)
        asset = {"name": NAME, "digest": None if digest is None else f"sha256:{digest}", "x": 1}
        facts = {"assets": [{"name": "hc-x86_64-unknown-linux-gnu"}, asset]}
        self.answers[FACTS] = (200, json.dumps(facts).encode())


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield web
    web.server.shutdown()
    thread.join()
    web.server.server_close()


def never(_url: str, _digest: str) -> bool:
    raise AssertionError("nobody is to be asked")


def install(web: Web, cache: Path, **more: Any) -> Path:
    options: dict[str, Any] = {"confirm": never, "progress": lambda *_: None, **more}
    return releases.install(VERSION, cache, server=web.where, **options)


def leftovers(cache: Path) -> list[str]:
    return sorted(str(each.relative_to(cache)) for each in cache.rglob("*") if each.is_file())


def test_a_published_checksum_is_compared_and_nobody_is_asked(web: Web, tmp_path: Path) -> None:
    web.publish(DIGEST)
    said: list[tuple[str, float | None]] = []
    path = install(web, tmp_path, progress=lambda *each: said.append(each))
    assert path == tmp_path / "0.6.3/holochain"
    assert path.read_bytes() == PROGRAM
    assert path.stat().st_mode & 0o777 == 0o755
    assert said[0] == (f"asking for the checksum of {NAME} 0.6.3", None)
    assert said[-1] == (f"downloading {NAME}", 1.0)
    assert leftovers(tmp_path) == ["0.6.3/holochain", "checksums.json"]


def test_what_is_there_already_is_kept_and_nothing_is_fetched(web: Web, tmp_path: Path) -> None:
    web.publish(DIGEST)
    install(web, tmp_path)
    web.asked.clear()
    assert install(web, tmp_path).exists()
    assert web.asked == []


def test_another_file_than_published_is_refused_and_leaves_nothing(
    web: Web, tmp_path: Path
) -> None:
    web.publish("0" * 64)
    with pytest.raises(PermanentError, match=DIGEST):
        install(web, tmp_path)
    assert leftovers(tmp_path) == []


def test_without_a_published_checksum_a_person_is_asked_once_and_the_answer_is_pinned(
    web: Web, tmp_path: Path
) -> None:
    web.publish(None)
    asked: list[tuple[str, str]] = []

    def yes(*each: str) -> bool:
        asked.append(each)  # type: ignore[arg-type]
        return True

    def no(*_: str) -> bool:
        return False

    with pytest.raises(PermanentError, match=DIGEST):
        install(web, tmp_path, confirm=no)
    assert leftovers(tmp_path) == []
    path = install(web, tmp_path, confirm=yes)
    assert asked == [(f"{web.url}{FILE}", DIGEST)]
    path.unlink()
    install(web, tmp_path)  # the same again: nobody is asked
    path.unlink()
    web.answers[FILE] = (200, PROGRAM + b"!")
    with pytest.raises(PermanentError, match="SHA-256"):
        install(web, tmp_path, confirm=yes)
    assert len(asked) == 1


def test_a_download_that_is_cut_off_is_tried_again_later(web: Web, tmp_path: Path) -> None:
    web.publish(DIGEST)
    facts = web.answers[FACTS]
    web.answers[FACTS] = (200, facts[1] + b" " * 7)
    web.cut_off = True
    with pytest.raises(TransientError, match=r"cut off|more expected|IncompleteRead"):
        install(web, tmp_path)
    assert leftovers(tmp_path) == []


def test_what_is_too_large_is_refused(web: Web, tmp_path: Path) -> None:
    web.publish(DIGEST)
    with pytest.raises(PermanentError, match="larger than 1000 bytes"):
        downloads.download(
            f"{web.url}{FILE}",
            tmp_path / "x",
            limit=1_000,
            progress=lambda *_: None,
            accept=lambda _: True,
        )
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "kind"), [(404, PermanentError), (503, TransientError), (403, TransientError)]
)
def test_who_must_act_follows_from_the_servers_answer(
    web: Web, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    web.answers[FACTS] = (status, b"no")
    with pytest.raises(kind, match=str(status)):
        install(web, tmp_path)


def test_a_server_that_is_not_there_is_tried_again_later(tmp_path: Path) -> None:
    nowhere = Server(files="http://127.0.0.1:9", facts="http://127.0.0.1:9")
    with pytest.raises(TransientError, match="cannot fetch"):
        releases.install(
            VERSION, tmp_path, confirm=never, progress=lambda *_: None, server=nowhere
        )


def test_a_release_without_a_file_for_this_machine_says_what_else_to_do(
    web: Web, tmp_path: Path
) -> None:
    web.answers[FACTS] = (200, b'{"assets": []}')
    with pytest.raises(PermanentError, match=NAME) as caught:
        install(web, tmp_path)
    assert "--from-source" in caught.value.hint
    with pytest.raises(PermanentError, match="riscv64"):
        releases.asset("riscv64")


@pytest.mark.parametrize("facts", [b"", b"[]", b'{"assets": [{"name": "x", "digest": "md5:1"}]}'])
def test_facts_that_cannot_be_read_are_refused(web: Web, tmp_path: Path, facts: bytes) -> None:
    web.answers[FACTS] = (200, facts)
    with pytest.raises(PermanentError, match="cannot read the facts"):
        install(web, tmp_path)


def test_damaged_pins_stop_it_rather_than_be_forgotten(web: Web, tmp_path: Path) -> None:
    web.publish(DIGEST)
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(PermanentError, match=r"checksums\.json"):
        install(web, tmp_path)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "file:///etc/passwd", "http://example.com/x"]
)
def test_only_https_is_fetched_from_elsewhere(url: str) -> None:
    with pytest.raises(UserError, match="only https"):
        downloads.fetch(url, 10)


def test_a_redirect_is_followed(web: Web, tmp_path: Path) -> None:
    """Releases are served from another host than the one that is asked."""
    web.publish(DIGEST)
    web.answers[FILE], web.answers["/elsewhere"] = (302, b"/elsewhere"), web.answers[FILE]
    assert install(web, tmp_path).read_bytes() == PROGRAM


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "arm64"])
def test_the_projects_names_of_files(machine: str) -> None:
    arch = "x86_64" if machine == "x86_64" else "aarch64"
    assert releases.asset(machine) == f"holochain-{arch}-unknown-linux-gnu"


def test_a_line_means_the_version_it_was_tried_with() -> None:
    assert str(releases.version_of("0.6")) == "0.6.3"
    assert str(releases.version_of("0.6.1")) == "0.6.1"
    for wanted in ("", "latest", "0.6.x", "0.9"):
        with pytest.raises(UserError, match="no version"):
            releases.version_of(wanted)
