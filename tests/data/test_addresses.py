"""A file is asked for where its user says, then at the official host, and redirects lead only where they may."""

import contextlib
import os
import socket

import pytest

from residual.data import download, published
from residual.data.cifar import CIFAR10
from residual.data.cifar100 import CIFAR100
from residual.data.download import _Fault, addresses, check_address, fetch
from residual.errors import UsageError
from tests.data.lying_server import DATA, FORM, Cut, offline, page, refused, serving, whole


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    offline(monkeypatch)


def test_mirrors_are_asked_in_order_and_the_official_host_last(tmp_path, monkeypatch):
    with serving(a=page(404), b=page(500), c=page(410)) as server:
        monkeypatch.setattr(published, "HOST", server.address("c") + "/")
        monkeypatch.setenv(download.MIRRORS, f"{server.address('b')}, {server.address('b')}/")
        line = refused(FORM, tmp_path, server.address("a"), "HTTP 404; .*HTTP 500; .*HTTP 500; .*HTTP 410")
        assert [path.split("/")[1] for path in server.asked] == ["a", "b", "b", "c"]
    assert line.count(FORM.archive) >= 3


def test_the_first_that_is_right_is_the_last_asked(tmp_path, monkeypatch):
    with serving(a=Cut(DATA, 0.5), b=whole(DATA), c=whole(DATA)) as server:
        monkeypatch.setattr(published, "HOST", server.address("c") + "/")
        assert fetch(FORM, tmp_path, [server.address("a"), server.address("b")]).read_bytes() == DATA
        assert [path.split("/")[1] for path in server.asked] == ["a", "b"]


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("http://example.org/x", "http to example.org is not encrypted"),
        ("http://192.168.0.1/x", "http to 192.168.0.1 is not encrypted"),
        ("file:///data", "file is not spoken here"),
        ("ftp://example.org", "ftp is not spoken here"),
        ("example.org/x", "an address without a scheme"),
        ("https://", "https is not spoken here"),
        ("https://[::1", "the address is malformed"),
        ("", "an address without a scheme"),
    ],
)
def test_a_mirror_that_is_none_is_refused_before_anything_is_asked(tmp_path, monkeypatch, mirror, message):
    monkeypatch.setattr(download, "_reach", lambda host: "private" if host == "192.168.0.1" else "public")
    with pytest.raises(UsageError, match=message) as caught:
        fetch(FORM, tmp_path, [mirror])
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == []


def test_a_password_in_an_address_is_not_repeated(tmp_path):
    with serving(gone=page(404)) as server:
        mirror = server.address("gone").replace("127.0.0.1", "someone:secret@127.0.0.1")
        assert "secret" not in refused(FORM, tmp_path, mirror, "HTTP 404")


HOSTS = {
    "public.example": ["93.184.215.14"],
    "private.example": ["10.1.2.3"],
    "both.example": ["93.184.215.14", "10.1.2.3"],
    "local.example": ["127.0.0.1", "::1"],
    "link.example": ["169.254.169.254"],
    "six.example": ["fe80::1%2"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "shared.example": ["100.64.0.1"],
}
WAYS = [  # mirror, the address it redirects to, whether it is followed
    ("public.example", "https://public.example/x", True),
    ("public.example", "http://public.example/x", False),
    ("public.example", "https://private.example/x", False),
    ("public.example", "https://both.example/x", False),
    ("public.example", "https://local.example/x", False),
    ("public.example", "http://local.example/x", False),
    ("public.example", "https://link.example/x", False),
    ("public.example", "https://six.example/x", False),
    ("public.example", "https://mapped.example/x", False),
    ("public.example", "https://shared.example/x", False),
    ("public.example", "file:///etc/passwd", False),
    ("private.example", "https://private.example/x", True),
    ("private.example", "https://public.example/x", True),
    ("private.example", "http://private.example/x", False),
    ("local.example", "http://local.example/x", True),
    ("local.example", "http://private.example/x", False),
]


@pytest.mark.parametrize(("mirror", "target", "followed"), WAYS)
def test_a_redirect_leads_only_where_it_may(monkeypatch, mirror, target, followed):
    def resolve(host, *_):
        return [(None, None, None, "", (address, 0)) for address in HOSTS[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with contextlib.nullcontext() if followed else pytest.raises(_Fault):
        check_address(target, f"https://{mirror}/data")


def test_the_addresses_of_the_official_archives(monkeypatch):
    monkeypatch.undo()
    found = [addresses(form)[-1] for family in (CIFAR10, CIFAR100) for form in family.forms]
    assert found == [
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    ]
