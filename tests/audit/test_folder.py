from __future__ import annotations

import errno
import os
import socket

import pytest

from audit.errors import CouldNotCheck, Malformed
from audit.folder import INCOMING, Folder, write_at


@pytest.fixture
def folder(tmp_path):
    with Folder(tmp_path) as opened:
        yield opened


def test_a_file_replaced_is_read_back(folder, tmp_path):
    folder.replace("a/b/c", b"old")
    folder.replace("a/b/c", b"new")
    folder.sync()
    assert folder.read("a/b/c", 3) == b"new"
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / INCOMING).exists()


def test_a_file_larger_than_its_bound_is_not_read_in(folder, tmp_path):
    with (tmp_path / "huge").open("wb") as sparse:
        sparse.truncate(2 << 30)
    with pytest.raises(Malformed, match="huge: expected at most 100 bytes, found more"):
        folder.read("huge", 100)


def test_a_pipe_a_socket_a_link_or_a_folder_is_no_file(folder, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "sub").mkdir()
    with pytest.raises(Malformed, match="pipe: expected a plain file"):
        folder.read("pipe", 10)
    with pytest.raises(Malformed, match="sub: expected a plain file"):
        folder.read("sub", 10)
    with pytest.raises(CouldNotCheck, match="link: cannot be read"):
        folder.read("link", 10)
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        with pytest.raises(CouldNotCheck, match="sock: cannot be read"):
            folder.read("sock", 10)


def test_what_is_missing_is_said_to_be_missing(folder, tmp_path):
    with pytest.raises(CouldNotCheck, match="gone: expected a file, found none"):
        folder.read("gone", 10)
    assert folder.read_if_present("gone/further", 10) is None
    assert list(folder.names("gone")) == []
    assert not folder.is_present("gone")
    folder.remove_folder("gone")
    (tmp_path / "file").write_bytes(b"")
    assert folder.is_present("file")
    assert folder.read_if_present("file/further", 10) is None
    with pytest.raises(CouldNotCheck, match="file: expected a folder"):
        list(folder.names("file"))
    with pytest.raises(CouldNotCheck, match="expected the folder of a log"):
        Folder(tmp_path / "none")


def test_a_disk_that_fails_while_reading_is_not_called_tampering(folder, monkeypatch):
    folder.replace("a", b"data")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(CouldNotCheck, match="a: cannot be read: Input/output error"):
        folder.read("a", 10)


@pytest.mark.parametrize("also", [False, True])
def test_a_failed_replacement_leaves_the_old_file_and_takes_no_room(folder, tmp_path, monkeypatch, also):
    folder.replace("a", b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    if also:
        monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(OSError, match="No space"):
        folder.replace("a", b"new")
    assert folder.read("a", 10) == b"old"
    assert also or (tmp_path / INCOMING).stat().st_size == 0


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, bytes(data[:3]), offset))
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    write_at(fd, b"0123456789", 2)
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == b"\0\x000123456789"


def test_closing_twice_is_harmless(tmp_path):
    folder = Folder(tmp_path)
    folder.close()
    folder.close()
    assert folder.fd == -1
