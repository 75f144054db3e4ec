"""Whatever a server does, the final name is absent or right, and one line says what to do."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest

from residual.data import download
from residual.data.download import fetch, is_right
from residual.errors import StorageError
from residual.files import TEMPORARY
from tests.conftest import subprocess_environment
from tests.data.lying_server import (
    ARCHIVES,
    DATA,
    FORM,
    Cut,
    Request,
    closed_port,
    offline,
    page,
    refused,
    serving,
    whole,
)

NAMES = pytest.mark.parametrize("name", ARCHIVES)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    offline(monkeypatch)


@NAMES
def test_what_is_right_is_there_whole(tmp_path, name):
    form, data = ARCHIVES[name]
    told: list[int] = []
    with serving(good=whole(data)) as server:
        path = fetch(form, tmp_path / "new" / "data", [server.address("good") + "/"], told.append)
        assert path == tmp_path / "new" / "data" / name
        assert path.read_bytes() == data
        assert os.listdir(path.parent) == [name]
        assert told == sorted(told)
        assert told[-1] == len(data)
        fetch(form, path.parent, [server.address("good")])
        assert server.asked == [f"/good/{name}"]  # what is right is not asked for again


def test_a_download_that_is_over_before_anybody_looks_is_told(tmp_path, monkeypatch):
    class AtOnce(threading.Thread):
        def start(self) -> None:
            super().start()
            self.join()

    told: list[int] = []
    with serving(good=whole(DATA)) as server:
        monkeypatch.setattr(threading, "Thread", AtOnce)
        fetch(FORM, tmp_path, [server.address("good") + "/"], told.append)
    assert told == [len(DATA)]


@NAMES
def test_a_connection_cut_anywhere_leaves_nothing(tmp_path, name):
    form, data = ARCHIVES[name]
    manners = ["length", "nothing", "chunks"]
    answers = {f"cut{tenth}": Cut(data, tenth / 10, manners[tenth % 3]) for tenth in range(10)}
    with serving(**answers, good=whole(data)) as server:
        for manner in answers:
            refused(form, tmp_path / "data", server.address(manner), "the connection was cut after|connection ended")
        assert fetch(form, tmp_path / "data", [server.address("good")]).read_bytes() == data


def redirect(target):
    return lambda request: request.begin(302, Location=target)


def endless(request: Request) -> None:
    request.begin()
    while not request.server.over.is_set():
        request.wfile.write(DATA)


def longer(request: Request) -> None:
    request.begin()
    request.wfile.write(DATA + b"x")


def plain_page(request: Request) -> None:
    request.begin(Content_Length=len(DATA))
    request.wfile.write(b"<html>".ljust(len(DATA)))


LIES = {
    "not found": (page(404), "HTTP 404"),
    "server error": (page(500), "HTTP 500"),
    "no proxy": (page(407), "HTTP 407"),
    "not allowed": (page(451), "HTTP 451"),
    "nothing": (lambda request: request.begin(204), "HTTP 204"),
    "a part": (lambda request: request.begin(206, Content_Length=len(DATA)), "HTTP 206"),
    "a page": (page(200), "a web page instead of the file"),
    "a page as a file": (plain_page, "other bytes than the published ones"),
    "a bit flipped": (whole(bytes([DATA[0] ^ 1]) + DATA[1:]), "other bytes than the published ones"),
    "another archive": (whole(ARCHIVES["cifar-10-python.tar.gz"][1]), "bytes are offered, the file has"),
    "empty": (whole(b""), "0 bytes are offered, the file has"),
    "empty, unannounced": (lambda request: request.begin(), "the connection ended after 0 of"),
    "too long": (longer, "more than the file's"),
    "endless": (endless, "more than the file's"),
    "a length that is none": (lambda request: request.begin(Content_Length="many"), "many bytes are offered"),
    "a file": (redirect("file:///etc/passwd"), "file is not spoken here"),
    "ftp": (redirect("ftp://example.org/x"), "ftp is not spoken here"),
    "data": (redirect("data:text/plain,x"), "data is not spoken here"),
    "a private host by http": (redirect("http://10.0.0.1/x"), "http to 10.0.0.1 is not encrypted"),
    "a public host by http": (redirect("http://93.184.215.14/x"), "http to 93.184.215.14 is not encrypted"),
    "a malformed address": (redirect("http://[::1/x"), "a redirect to a malformed address"),
    "a malformed port": (redirect("https://example.org:99999/"), "the address is malformed"),
    "itself": (redirect("#"), "it redirects without end"),
    "no place": (lambda request: request.begin(302), "HTTP 302"),
    "no HTTP": (lambda request: request.wfile.write(b"\0" * 100), "the connection was cut|no connection"),
    "silence": (lambda request: None, "no connection"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("answer", "message"), LIES.values(), ids=LIES)
def test_a_lie_is_found(tmp_path, answer, message):
    with serving(lie=answer) as server:
        line = refused(FORM, tmp_path / "data", server.address("lie"), message)
        assert len(server.asked) <= 6
    assert "127.0.0.1: " in line


def test_an_archive_whose_compression_is_called_an_encoding_is_kept_as_it_is(tmp_path):
    def answer(request):
        request.begin(Content_Length=len(DATA), Content_Encoding="gzip", Content_Type="application/x-gzip")
        request.wfile.write(DATA)

    with serving(encoded=answer) as server:
        assert fetch(FORM, tmp_path, [server.address("encoded")]).read_bytes() == DATA


def test_a_redirect_on_this_machine_is_followed(tmp_path):
    with serving(good=whole(DATA), away=redirect(f"/good/{FORM.archive}")) as server:
        assert fetch(FORM, tmp_path, [server.address("away")]).read_bytes() == DATA
        assert server.asked == [f"/away/{FORM.archive}", f"/good/{FORM.archive}"]


def drip_body(request: Request) -> None:
    request.begin(Content_Length=len(DATA))
    request.drip(DATA, 0.05)


def drip_chunks(request: Request) -> None:
    request.protocol_version = "HTTP/1.1"
    request.begin(Transfer_Encoding="chunked")
    request.drip(b"1\r\nx\r\n" * 1000, 0.01)


def wait(request: Request) -> None:
    request.server.over.wait(30)


def half(request: Request) -> None:
    Cut(DATA, 0.5)(request)
    wait(request)


DAWDLERS = {
    "body": drip_body,
    "chunks": drip_chunks,
    "head": lambda request: request.drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, 0.05),
    "no word": wait,
    "a half": half,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("answer", DAWDLERS.values(), ids=DAWDLERS)
def test_a_server_that_dawdles_is_given_up(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(download, "PATIENCE", 0.4)
    with serving(slow=answer) as server:
        began = time.monotonic()
        refused(FORM, tmp_path / "data", server.address("slow"), r"fewer than 65,536 bytes in 0\.4 s")
        assert time.monotonic() - began < 5


@pytest.mark.timeout(60)
def test_no_answer_and_no_connection_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUTS", (0.3, 0.3))
    with serving(mute=wait) as server:
        refused(FORM, tmp_path / "data", server.address("mute"), r"no answer in 0\.3 s")
    refused(FORM, tmp_path / "data", f"http://127.0.0.1:{closed_port()}", "127.0.0.1: no connection")

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused(FORM, tmp_path / "data", "https://mirror.example", r"mirror\.example: no connection")


def test_a_proxy_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    refused(FORM, tmp_path / "data", "https://192.0.2.1", "the proxy gives no connection")


def test_a_host_without_tls_is_told(tmp_path):
    with serving(plain=whole(DATA)) as server:
        mirror = server.address("plain").replace("http:", "https:")
        refused(FORM, tmp_path / "data", mirror, "no secure connection, look at the clock, the certificates")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_nobody_signed_is_refused(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(good=whole(DATA)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        mirror = server.address("good").replace("http:", "https:")
        refused(FORM, tmp_path / "data", mirror, "no secure connection, look at the clock, the certificates")
        assert server.asked == []


# What lies there already, and what a dead process leaves


def test_a_wrong_file_is_replaced_with_a_warning(tmp_path, caplog):
    (tmp_path / FORM.archive).write_bytes(DATA[:100])
    with serving(good=whole(DATA), bad=page(404)) as server:
        refused(FORM, tmp_path, server.address("bad"), "HTTP 404")  # and what stood there still does
        fetch(FORM, tmp_path, [server.address("good")])
    assert (tmp_path / FORM.archive).read_bytes() == DATA
    assert all("is not the published file; it is downloaded anew" in line for line in caplog.messages)
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("wrong", [DATA[:-1] + b"x", DATA + b"x", b""], ids=["altered", "longer", "empty"])
def test_only_the_published_file_is_right(tmp_path, wrong):
    path = tmp_path / "x"
    assert not is_right(path, FORM)
    path.write_bytes(wrong)
    assert not is_right(path, FORM)
    path.write_bytes(DATA)
    assert is_right(path, FORM)


def test_a_disk_that_refuses_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with serving(good=whole(DATA)) as server, pytest.raises(StorageError, match="another folder with --to"):
        fetch(FORM, tmp_path / "file" / "data", [server.address("good")])

    (tmp_path / "taken" / FORM.archive).mkdir(parents=True)
    with pytest.raises(StorageError, match="a folder has the name of the archive"):
        fetch(FORM, tmp_path / "taken")

    def full(*_):
        raise OSError(28, "No space left on device")

    with serving(good=whole(DATA)) as server, monkeypatch.context() as patch:
        patch.setattr("residual.files._write_all", full)
        with pytest.raises(StorageError, match=r"No space left on device .*make room"):
            fetch(FORM, tmp_path / "data", [server.address("good")])
        assert len(server.asked) == 1
    assert os.listdir(tmp_path / "data") == []


def test_an_interrupt_leaves_nothing(tmp_path):
    def stop(received):
        if received:
            raise KeyboardInterrupt

    with serving(slow=half) as server, pytest.raises(KeyboardInterrupt):
        fetch(FORM, tmp_path / "data", [server.address("slow")], stop)
    assert os.listdir(tmp_path / "data") == []


PROGRAM = """
    import sys
    from pathlib import Path
    from residual.data.download import fetch
    from residual.data.published import Form
    form = Form("x", "X", "binary", sys.argv[1], int(sys.argv[2]), sys.argv[3], "", "x", {}, "", 0, {})
    fetch(form, Path(sys.argv[4]), [sys.argv[5]])
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_process_killed_in_the_middle_leaves_no_final_name(tmp_path):
    """All four archives at once, each killed when half of it has been written."""
    answers = {}
    for name, (_, data) in ARCHIVES.items():

        def half(request, data=data):
            request.begin(Content_Length=len(data))
            request.wfile.write(data[: len(data) // 2])
            request.wfile.flush()
            request.server.over.wait(60)

        answers[name] = half
    with serving(**answers) as server:
        processes = {}
        for name, (form, _) in ARCHIVES.items():
            arguments = [name, str(form.size), form.sha256, str(tmp_path / name), server.address(name)]
            command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
            processes[name] = subprocess.Popen(command, env=subprocess_environment({"NO_PROXY": "*"}))
        for name, process in processes.items():
            while not any(path.stat().st_size for path in (tmp_path / name).glob(f"{TEMPORARY}*")):
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
            assert process.wait(30) == -signal.SIGKILL
            assert not (tmp_path / name / name).exists()
    for name, (form, data) in ARCHIVES.items():
        (left,) = (tmp_path / name).iterdir()
        os.utime(left, (time.time() - 1000,) * 2)
        with serving(good=whole(data)) as server:
            assert fetch(form, tmp_path / name, [server.address("good")]).read_bytes() == data
        assert os.listdir(tmp_path / name) == [name]


def test_the_temporary_file_of_a_process_at_work_stays(tmp_path):
    other = tmp_path / f"{TEMPORARY}1-{FORM.archive}"
    other.write_bytes(b"x")
    with serving(good=whole(DATA)) as server:
        fetch(FORM, tmp_path, [server.address("good")])
    assert sorted(os.listdir(tmp_path)) == [other.name, FORM.archive]


def test_a_form_of_other_bytes_is_another_form(tmp_path):
    with serving(good=whole(DATA)) as server:
        refused(replace(FORM, sha256="0" * 64), tmp_path, server.address("good"), "other bytes than the published")
