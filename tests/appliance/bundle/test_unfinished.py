"""A stick that was pulled costs one part: the same call goes on, and nobody can slip a part in meanwhile."""

import errno
import os
from datetime import timedelta

import pytest

from appliance.bundle import dsse
from appliance.bundle.folder import BundleFolder
from appliance.bundle.names import TEXT
from appliance.bundle.open import open_bundle
from appliance.bundle.signer import SignerKey
from appliance.bundle.stream import bytes_member
from appliance.bundle.trust import anyone_of
from appliance.errors import MediumMissing

from .conftest import NOW, Entropy
from .test_create import contents, expected

PART_BYTES = 1000


def pulled_at(world, name, **changed):
    """Make a bundle on a medium that is pulled when a certain file is to be created."""
    original = BundleFolder.create_file

    def create_file(folder, wanted):
        if wanted == name:
            raise MediumMissing(f"{name}: pulled")
        return original(folder, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundleFolder, "create_file", create_file)
        with pytest.raises(MediumMissing):
            world.create(part_bytes=PART_BYTES, **changed)
    (folder,) = world.root.glob("*.bundle")
    assert not (folder / "manifest.json").exists()
    return folder


def go_on(world, **changed):
    """Repeat the call, later and with other randomness, as a person does."""
    later = {"now": NOW + timedelta(hours=1), "entropy": Entropy2(), "part_bytes": PART_BYTES} | changed
    return world.create(**later)


class Entropy2(Entropy):
    def __call__(self, size):
        return bytes(byte ^ 0x55 for byte in super().__call__(size))


@pytest.mark.parametrize(
    "name", ["p0000.age", "p0001.age", "p0002.age", "x0000.xor", "readme.txt", "sha256sums", "manifest.new"]
)
def test_a_pulled_stick_is_gone_on_with_and_whole_parts_are_kept(world, name):
    folder = pulled_at(world, name, seq=None)
    before = contents(folder)
    assert go_on(world, seq=None) == folder
    after = contents(folder)
    kept = [part for part in before if part.startswith("p")]
    assert {part: after[part] for part in kept} == {part: before[part] for part in kept}
    assert "unfinished.json" not in after
    open_bundle(folder, world.identity, world.root / "out", anyone_of([world.alice.vkey]))
    assert contents(world.root / "out") == expected(world)


def test_half_a_part_is_written_anew(world):
    folder = pulled_at(world, "p0002.age")
    (folder / "p0002.age").write_bytes(b"half")
    assert go_on(world) == folder
    open_bundle(folder, world.identity, world.root / "out", anyone_of([world.alice.vkey]))


def test_a_part_that_changed_meanwhile_is_written_anew(world):
    folder = pulled_at(world, "p0002.age")
    planted = b"another part, by whoever had the stick"
    (folder / "p0001.age").write_bytes(planted)
    assert go_on(world) == folder
    assert (folder / "p0001.age").read_bytes() != planted
    open_bundle(folder, world.identity, world.root / "out", anyone_of([world.alice.vkey]))


def test_a_journal_that_another_signed_is_left_alone(world):
    folder = pulled_at(world, "p0001.age")
    journal = (folder / "unfinished.json").read_bytes()
    forged = dsse.verify_envelope(journal, [world.alice.vkey], 1, dsse.JOURNAL).payload
    signed = dsse.sign_envelope(forged, [SignerKey.from_seed("alice@example", bytes(32)).note], dsse.JOURNAL)
    (folder / "unfinished.json").write_bytes(signed)
    before = contents(folder)
    assert go_on(world) != folder
    assert contents(folder) == before


def test_a_journal_does_not_verify_as_a_manifest(world):
    folder = pulled_at(world, "p0001.age")
    (folder / "manifest.json").write_bytes((folder / "unfinished.json").read_bytes())
    with pytest.raises(Exception, match="payloadType"):
        open_bundle(folder, world.identity, world.root / "out", anyone_of([world.alice.vkey]))


@pytest.mark.parametrize(
    "changed",
    [
        {"channel": "other"},
        {"seq": 8},
        {"kind": "config", "members": [bytes_member("config/a.toml", "application/toml", b"")]},
        {"members": [bytes_member("corpus/tales/one.txt", TEXT, b"another text")]},
        {"part_bytes": 2000},
        {"now": NOW + timedelta(days=91)},
    ],
)
def test_another_bundle_is_begun_anew(world, changed):
    folder = pulled_at(world, "p0001.age")
    before = contents(folder)
    assert go_on(world, **changed) != folder
    assert contents(folder) == before


def test_an_unfinished_bundle_is_no_bundle(world):
    folder = pulled_at(world, "manifest.new")
    with pytest.raises(Exception, match=r"expected the file manifest\.json"):
        open_bundle(folder, world.identity, world.root / "out", anyone_of([world.alice.vkey]))


def test_links_in_the_place_of_a_bundle_are_not_followed(world):
    elsewhere = world.root / "elsewhere"
    elsewhere.mkdir()
    (world.root / "00000000.bundle").symlink_to(elsewhere)
    with pytest.raises(Exception, match="found a link"):
        world.create()
    assert list(elsewhere.iterdir()) == []


def test_a_medium_that_stops_answering_while_a_part_is_written_is_gone_on_with(world, monkeypatch):
    write = os.write
    calls = []

    def failing(fd, data):
        calls.append(fd)
        if len(calls) > 8:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        with pytest.raises(MediumMissing, match="insert the same one again"):
            world.create(part_bytes=PART_BYTES)
    (folder,) = world.root.glob("*.bundle")
    assert go_on(world) == folder
    open_bundle(folder, world.identity, world.root / "out", anyone_of([world.alice.vkey]))
