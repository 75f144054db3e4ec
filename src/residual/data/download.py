"""Downloads: a published archive under its own name, or nothing under that name.

The bytes go to a temporary file beside the target; size and SHA-256 are compared with the pinned ones before it
is renamed. Only https is spoken, and redirects lead only to public hosts; a mirror that its user named on a
private host may redirect to such hosts, and one on this machine may speak http. The transport (TLS, certificates,
proxies) is pooch's. It works in a thread that is abandoned when too little arrives, so no server can hold us.
"""

from __future__ import annotations

import glob
import hashlib
import ipaddress
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urljoin, urlsplit

from residual.errors import DataError, StorageError, UsageError, log
from residual.files import growing_file, remove_forgotten

MIRRORS = "RESIDUAL_MIRRORS"
TIMEOUTS = (15.0, 30.0)  # seconds to connect; seconds without a byte
PATIENCE = 60.0  # seconds in which LEAST bytes must arrive
LEAST = 1 << 16  # so that a download at 2 kB/s still succeeds
_CHUNK = 1 << 16
_MOST_REDIRECTS = 5

Told = Callable[[int], None]


class Wanted(Protocol):
    """What is downloaded. Of a file of which only the first digits of its SHA-256 are known, `size` is the limit."""

    @property
    def archive(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def url(self) -> str: ...


class _Fault(Exception):
    """Why one address did not give the file."""


class _Elsewhere(Exception):
    """The address redirects to another one."""


def addresses(form: Wanted, named: Sequence[str] = ()) -> list[str]:
    """Where an archive is asked for, in this order: mirrors named, those of RESIDUAL_MIRRORS, the official host.

    A mirror is the address of a folder that holds the archive under its official name.

    Raises:
        UsageError: a mirror is no address that may be used.
    """
    bases = [*named, *os.environ.get(MIRRORS, "").replace(",", " ").split()]
    for base in bases:
        try:
            check_address(base)
        except _Fault as fault:
            raise UsageError(
                f"no mirror: {fault}", _host(base) or base[:80], f"correct --mirror or {MIRRORS}; it must be https"
            ) from None
    return [f"{base.rstrip('/')}/{form.archive}" for base in bases] + [form.url]


def is_right(path: Path, form: Wanted) -> bool:
    """Whether a file has the size and the SHA-256 of the archive."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not _fits(status.st_size, form):
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(form.sha256)
    except OSError:
        return False


def _fits(length: int, form: Wanted) -> bool:
    return length == form.size if _whole(form) else 0 < length <= form.size


def _whole(form: Wanted) -> bool:
    return len(form.sha256) == 2 * hashlib.sha256().digest_size


def _known(form: Wanted) -> str:
    size = f"{form.size:,} bytes, " if _whole(form) else ""
    return f"{size}SHA-256 {form.sha256}{'' if _whole(form) else '...'}"


def fetch(form: Wanted, folder: Path, named: Sequence[str] = (), told: Told = lambda _: None) -> Path:
    """The archive in `folder`, downloaded unless the right one is there.

    Args:
        named: addresses of mirrors, tried before the official host.
        told: called several times a second with the number of bytes that have arrived.

    Raises:
        DataError: no address gave it; says why, and how to get it by hand. Under the final name stands what
            stood there before, as a rule nothing.
        StorageError: the disk refused.
    """
    target = folder / form.archive
    where = addresses(form, named)
    if is_right(target, form):
        return target
    if target.is_dir():
        raise StorageError("a folder has the name of the archive", target, "move it, or name another folder with --to")
    if target.exists():
        log.warning("%s is not the published file; it is downloaded anew", target)
    remove_forgotten(target.parent, glob.escape(target.name))
    reasons = []
    for url in where:
        try:
            _follow(url, form, target, told)
            return target
        except _Fault as fault:
            reasons.append(f"{_host(url)}: {fault}")
        except StorageError as error:
            raise StorageError(error.what, error.where, "make room, or name another folder with --to") from None
    raise DataError(
        f"{form.archive} was not downloaded, {'; '.join(reasons)}",
        target,
        f"try again, or take {form.url} by other means ({_known(form)}) and put it there",
    )


def _host(url: str) -> str:
    """The host of an address, which may also hold a password."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _reach(host: str) -> Literal["loopback", "private", "public"]:
    """Whom a host's addresses can be reached by; one that has none is left to the connection."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return "public"
    kinds = [ipaddress.ip_address(str(address).partition("%")[0]) for address in found]
    if all(kind.is_loopback for kind in kinds):
        return "loopback"
    return "public" if all(kind.is_global and not kind.is_multicast for kind in kinds) else "private"


def check_address(url: str, mirror: str | None = None) -> None:
    """Raise `_Fault` unless `url` may be opened: one that the user named, or one that `mirror` redirects to."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _Fault("the address is malformed") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _Fault(f"{parts.scheme or 'an address without a scheme'} is not spoken here")
    reach = _reach(host)
    if parts.scheme == "http" and reach != "loopback":
        raise _Fault(f"http to {host} is not encrypted")
    if mirror is not None and reach != "public" and _reach(_host(mirror)) == "public":
        raise _Fault(f"a redirect to {host}, which is not a public host")


def _follow(url: str, form: Wanted, target: Path, told: Told) -> None:
    """Download from one address, over at most five redirects."""
    mirror = url
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            with growing_file(target) as write:
                sink = _Sink(write, form)
                _transfer(url, form, sink, told)
                sink.check()
            return
        except _Elsewhere as elsewhere:
            try:
                url = urljoin(url, str(elsewhere))
            except ValueError:
                raise _Fault("a redirect to a malformed address") from None
            check_address(url, mirror)
    raise _Fault("it redirects without end")


class _Sink:
    """Where the bytes go, counted and hashed; closed for good when the download is given up."""

    def __init__(self, write: Callable[[bytes], None], form: Wanted) -> None:
        self._write, self._form = write, form
        self._hash, self._lock, self._closed = hashlib.sha256(), threading.Lock(), False
        self.length = 0

    def write(self, part: bytes) -> None:
        with self._lock:
            if self._closed:
                raise _Fault("given up")
            if self.length + len(part) > self._form.size:
                raise _Fault(f"more than the file's {self._form.size:,} bytes")
            self._write(part)
            self._hash.update(part)
            self.length += len(part)

    def flush(self) -> None: ...

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def check(self) -> None:
        if not _fits(self.length, self._form):
            raise _Fault(f"the connection ended after {self.length:,} of {self._form.size:,} bytes")
        if not self._hash.hexdigest().startswith(self._form.sha256):
            raise _Fault("other bytes than the published ones, by their SHA-256")


def _transfer(url: str, form: Wanted, sink: _Sink, told: Told) -> None:
    """Let pooch write into the sink, and watch it."""
    from pooch import HTTPDownloader

    answers: list[Any] = []

    def judge(response: Any, *_: Any, **__: Any) -> None:
        answers.append(response)
        _judge(response, form)

    downloader = HTTPDownloader(
        chunk_size=_CHUNK,
        timeout=TIMEOUTS,
        allow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        hooks={"response": judge},
    )
    errors: list[Exception] = []

    def work() -> None:
        try:
            downloader(url, sink, None)
        except Exception as error:
            errors.append(error)
        finally:
            for answer in answers:
                answer.close()

    thread = threading.Thread(target=work, name="download", daemon=True)
    thread.start()
    try:
        seen, since, arriving = 0, time.monotonic(), True
        while arriving:  # told once at the least, with all that came
            thread.join(0.1)
            arriving = thread.is_alive()
            told(sink.length)
            if time.monotonic() - since > PATIENCE:
                if sink.length - seen < LEAST and arriving:
                    raise _Fault(f"fewer than {LEAST:,} bytes in {PATIENCE:g} s")
                seen, since = sink.length, time.monotonic()
    finally:
        sink.close()
    if errors:
        raise _reason(errors[0], sink.length)


def _judge(response: Any, form: Wanted) -> None:
    """Look at an answer before its body is read."""
    status, headers = response.status_code, response.headers
    fault: Exception | None = None
    if status in (301, 302, 303, 307, 308) and "location" in headers:
        fault = _Elsewhere(headers["location"])
    elif status != 200:
        fault = _Fault(f"HTTP {status}")
    elif headers.get("content-type", "").partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        fault = _Fault("a web page instead of the file")
    elif (length := headers.get("content-length")) is not None and not (
        length.isdecimal() and _fits(int(length[:20]), form)
    ):
        fault = _Fault(f"{length[:20]} bytes are offered, the file has {form.size:,}")
    if fault is not None:
        raise fault
    # Some servers call the archive's own compression an encoding of the transfer; it must not be undone.
    response.raw.headers.pop("content-encoding", None)


def _reason(error: Exception, length: int) -> Exception:
    """What went wrong, in few words. The errors of pooch's transport are known by name, since it is not imported."""
    if isinstance(error, _Fault | _Elsewhere | StorageError):
        return error
    kinds = {kind.__name__ for kind in type(error).__mro__}
    words = {
        "ProxyError": "the proxy gives no connection",
        "SSLError": "no secure connection, look at the clock, the certificates and the proxy of this machine",
        "ConnectTimeout": f"no answer in {TIMEOUTS[0]:g} s",
        "ReadTimeout": f"no answer in {TIMEOUTS[1]:g} s",
        "ChunkedEncodingError": f"the connection was cut after {length:,} bytes",
        "ConnectionError": f"the connection was cut after {length:,} bytes" if length else "no connection",
    }
    known = next((words[kind] for kind in words if kind in kinds), None)
    return _Fault(known or f"{type(error).__name__}, {' '.join(str(error).split())[:100]}")
