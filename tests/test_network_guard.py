"""The guard of tests/conftest.py, tried by what it must stop."""

from __future__ import annotations

import socket

import pytest


def test_a_test_cannot_open_an_internet_socket():
    with pytest.raises(AssertionError, match="no network in tests: socket family 2"):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def test_a_test_cannot_open_a_raw_packet_socket():
    with pytest.raises(AssertionError, match="no network in tests"):
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW)


def test_a_test_cannot_ask_the_name_service():
    with pytest.raises(AssertionError, match=r"address 'example\.org'"):
        socket.getaddrinfo("example.org", 443)


def test_unix_sockets_work(short_home):
    near, far = socket.socketpair()
    with near, far, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_home / "s"))
        near.sendall(b"x")
        assert far.recv(1) == b"x"


@pytest.mark.loopback
def test_a_marked_test_reaches_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@pytest.mark.loopback
@pytest.mark.parametrize("host", ["192.0.2.1", "169.254.1.1"])
def test_a_marked_test_reaches_nothing_else(host):
    with socket.socket() as near, pytest.raises(AssertionError, match="only loopback"):
        near.connect((host, 9))


@pytest.mark.loopback
def test_a_marked_test_cannot_ask_the_name_service():
    with pytest.raises(AssertionError, match=r"address 'example\.org'"):
        socket.getaddrinfo("example.org", 443)


@pytest.mark.loopback
def test_a_marked_test_cannot_listen_on_every_interface():
    with socket.socket() as near, pytest.raises(AssertionError, match="only loopback"):
        near.bind(("", 0))
