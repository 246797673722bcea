"""A medium cannot lead a reader anywhere but to regular files in its folder."""

import errno
import os
from pathlib import Path

import pytest

from appliance.bundle.folder import MANIFEST, BundleFolder
from appliance.errors import AlreadyExists, ContentRefused, Incomplete, IntegrityError, MediumMissing


@pytest.fixture
def folder(tmp_path):
    with BundleFolder.open(tmp_path) as opened:
        yield opened


def test_absent_medium_is_named(tmp_path):
    with pytest.raises(MediumMissing, match="insert the medium"):
        BundleFolder.open(tmp_path / "stick")
    (tmp_path / "file").touch()
    with pytest.raises(MediumMissing):
        BundleFolder.open(tmp_path / "file")


def test_links_pipes_and_folders_are_not_opened(folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sub").mkdir()
    for name in ("link", "pipe", "sub"):
        with pytest.raises(ContentRefused, match=f"{name}: expected a regular file"):
            folder.open_file(name)


def test_absent_file_is_incomplete(folder):
    with pytest.raises(Incomplete, match=r"expected the file p0000\.age"):
        folder.open_file("p0000.age")


def test_small_file_is_bounded(folder, tmp_path):
    (tmp_path / "readme.txt").write_bytes(b"12345")
    assert folder.read_file("readme.txt", 5) == b"12345"
    with pytest.raises(ContentRefused, match="at most 4 bytes"):
        folder.read_file("readme.txt", 4)


def test_nothing_is_overwritten(folder, tmp_path):
    folder.write_file("a", b"1")
    with pytest.raises(AlreadyExists):
        folder.write_file("a", b"2")
    with (
        BundleFolder.create(folder.fd, "sub.bundle"),
        pytest.raises(AlreadyExists, match=r"expected no sub\.bundle yet"),
    ):
        BundleFolder.create(folder.fd, "sub.bundle")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_manifest_appears_whole(folder, tmp_path):
    folder.publish_manifest(b"whole")
    assert folder.names() == [MANIFEST]
    assert (tmp_path / MANIFEST).read_bytes() == b"whole"


def test_what_other_systems_leave_behind_is_told_apart(folder, tmp_path):
    for name in ("._p0000.age", ".Trash-1000", "System Volume Information", ".hidden", "p0000.age"):
        (tmp_path / name).mkdir()
    assert folder.names() == [".hidden", "p0000.age"]
    assert folder.foreign() == [".Trash-1000", "._p0000.age", "System Volume Information"]


def test_a_medium_that_gives_back_other_bytes_is_named(folder, monkeypatch):
    monkeypatch.setattr(os, "pread", lambda *_: b"other")
    with pytest.raises(IntegrityError, match=r"readme\.txt: expected the bytes just written, found others"):
        folder.write_file("readme.txt", b"written")


def test_a_folder_that_stops_answering_is_a_medium_that_vanished(folder, monkeypatch):
    def listdir(_fd):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(MediumMissing, match="insert the same one again"):
        folder.names()


def test_a_folder_put_in_the_place_of_the_one_just_made_is_refused(folder, tmp_path, monkeypatch):
    """As root, what its owner linked into it would be handed over with the export."""
    real = os.mkdir

    def swapped(name, mode, *, dir_fd):
        real(name, mode, dir_fd=dir_fd)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    monkeypatch.setattr(os, "mkdir", swapped)
    held = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ContentRefused, match=r"the folder sub\.bundle just made, found another's"):
        BundleFolder.create(folder.fd, "sub.bundle")
    assert len(list(Path("/proc/self/fd").iterdir())) == held
