"""A local HTTP server whose manners a test chooses: it cuts, lies, redirects, dawdles, or serves what it should."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from residual.data import download, published
from residual.data.cifar import CIFAR10
from residual.data.cifar100 import CIFAR100
from residual.data.published import Form
from residual.errors import DataError
from tests.data.official_layout import in_small

SMALL = {"cifar-10": in_small(CIFAR10, 50, 20), "cifar-100": in_small(CIFAR100, 200, 100)}
ARCHIVES = {
    form.archive: (form, official.archives[form.kind]) for official in SMALL.values() for form in official.family.forms
}
FORM, DATA = ARCHIVES["cifar-10-binary.tar.gz"]
Answer = Callable[["Request"], None]


class Request(http.server.BaseHTTPRequestHandler):
    """One request; an answer writes to it what it likes."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        with contextlib.suppress(OSError):  # the reader may go away
            self.server.answers[self.path.split("/")[1]](self)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed."""

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def drip(self, data: bytes, seconds: float) -> None:
        """A byte now and then, until the server ends."""
        for place in range(len(data)):
            self.wfile.write(data[place : place + 1])
            self.wfile.flush()
            if self.server.over.wait(seconds):
                return


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers, self.asked, self.over = answers, list[str](), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that goes away is no error here."""

    def address(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}"


@contextlib.contextmanager
def serving(**answers: Answer) -> Iterator[Server]:
    with Server(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@dataclass
class Cut:
    """Ends after a share of the data, however its length was announced."""

    data: bytes
    share: float
    announced: str = "length"

    def __call__(self, request: Request) -> None:
        part = self.data[: int(self.share * len(self.data))]
        match self.announced:
            case "length":
                request.begin(Content_Length=len(self.data))
                request.wfile.write(part)
            case "nothing":
                request.begin()
                request.wfile.write(part)
            case "chunks":
                request.protocol_version = "HTTP/1.1"
                request.begin(Transfer_Encoding="chunked")
                request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        request.close_connection = True


def whole(data: bytes) -> Answer:
    """What should be served."""

    def answer(request: Request) -> None:
        request.begin(Content_Length=len(data))
        request.wfile.write(data)

    return answer


def page(status: int) -> Answer:
    """A web page, as of a proxy that wants a password."""

    def answer(request: Request) -> None:
        text = b"<!DOCTYPE html><html>Sign in</html>"
        request.begin(status, Content_Type="text/html; charset=utf-8", Content_Length=len(text))
        request.wfile.write(text)

    return answer


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def offline(patch: pytest.MonkeyPatch) -> None:
    """The official host does not exist, and no proxy stands between."""
    patch.setattr(published, "HOST", f"http://127.0.0.1:{closed_port()}/")
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            patch.delenv(name)
    patch.delenv(download.MIRRORS, raising=False)


def refused(form: Form, folder: Path, mirror: str, message: str) -> str:
    """The one line of a download that failed; nothing is left in the folder."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    with pytest.raises(DataError, match=message) as caught:
        download.fetch(form, folder, [mirror])
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    for part in (form.url, f"{form.size:,} bytes", form.sha256, str(folder / form.archive), "put it there"):
        assert part in line
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return line
