"""A medium is read once: what it answers later, or that it is pulled, changes nothing of what was copied."""

import errno
import os

import pytest

from appliance.bundle.folder import BundleFolder
from appliance.bundle.names import TEXT
from appliance.bundle.open import open_bundle
from appliance.bundle.stream import bytes_member
from appliance.bundle.trust import anyone_of
from appliance.errors import AlreadyExists, IntegrityError, MediumMissing

from .test_create import contents

PARTS = 6


@pytest.fixture
def bundle(world):
    text = os.urandom(2000).hex().encode()
    made = world.create(members=[bytes_member("corpus/a/a.txt", TEXT, text)], part_bytes=1200)
    assert len(list(made.glob("p*.age"))) == PARTS
    return made


@pytest.fixture
def reads(monkeypatch):
    """Which parts were opened on their medium, in order."""
    seen = []
    original = BundleFolder.open_file

    def open_file(folder, name):
        if os.readlink(f"/proc/self/fd/{folder.fd}").endswith(".bundle"):  # noqa: PTH115
            seen.append(name)
        return original(folder, name)

    monkeypatch.setattr(BundleFolder, "open_file", open_file)
    return seen


def opened(world, bundle):
    return open_bundle(bundle, world.identity, world.root / "out", anyone_of([world.alice.vkey]))


def pulled_at(world, bundle, monkeypatch, name):
    """Open a bundle whose medium stops answering at one part."""
    original = BundleFolder.open_file

    def open_file(folder, wanted):
        if wanted == name and ".quarantine-" not in os.readlink(f"/proc/self/fd/{folder.fd}"):  # noqa: PTH115
            raise MediumMissing(f"{name}: {os.strerror(errno.ENODEV)}")
        return original(folder, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(BundleFolder, "open_file", open_file)
        with pytest.raises(MediumMissing):
            opened(world, bundle)


def test_each_part_is_read_off_its_medium_once(world, bundle, reads):
    opened(world, bundle)
    assert [name for name in reads if name.startswith("p")] == [f"p{index:04d}.age" for index in range(PARTS)]
    assert sorted(path.name for path in world.root.iterdir()) == [bundle.name, "out"]


@pytest.mark.parametrize("index", range(PARTS))
def test_a_pulled_medium_is_gone_on_with_at_the_missing_part(world, bundle, monkeypatch, reads, index):
    pulled_at(world, bundle, monkeypatch, f"p{index:04d}.age")
    (kept,) = [path for path in world.root.iterdir() if path != bundle]
    assert sorted(contents(kept)) == [f"p{number:04d}.age" for number in range(index)]
    assert kept.stat().st_mode & 0o777 == 0o700
    reads.clear()
    opened(world, bundle)
    assert [name for name in reads if name.startswith("p")] == [
        f"p{number:04d}.age" for number in range(index, PARTS)
    ]
    assert sorted(path.name for path in world.root.iterdir()) == [bundle.name, "out"]


def test_a_kept_part_that_changed_is_copied_again(world, bundle, monkeypatch):
    pulled_at(world, bundle, monkeypatch, "p0003.age")
    (kept,) = world.root.glob(".quarantine-*")
    (kept / "p0001.age").write_bytes(b"changed")
    opened(world, bundle)
    assert not kept.exists()


def test_a_damaged_part_leaves_nothing(world, bundle):
    data = bytearray((bundle / "p0002.age").read_bytes())
    data[-1] ^= 1
    (bundle / "p0002.age").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"p0002\.age"):
        opened(world, bundle)
    assert list(world.root.iterdir()) == [bundle]


def test_a_folder_of_another_in_the_place_of_the_quarantine_is_refused(world, bundle, monkeypatch):
    pulled_at(world, bundle, monkeypatch, "p0001.age")
    (kept,) = world.root.glob(".quarantine-*")
    kept.chmod(0o755)
    with pytest.raises(AlreadyExists, match="a folder of ours alone"):
        opened(world, bundle)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN])
def test_a_medium_that_stops_answering_within_a_part_is_a_missing_one(world, bundle, monkeypatch, code):
    readv = os.readv

    def failing(fd, blocks):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".bundle/p0001.age"):  # noqa: PTH115
            raise OSError(code, os.strerror(code))
        return readv(fd, blocks)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readv", failing)
        with pytest.raises(MediumMissing, match=os.strerror(code)):
            opened(world, bundle)
    opened(world, bundle)
