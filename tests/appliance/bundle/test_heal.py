"""One damaged or lost file of each group of sixteen parts comes back, and nothing else is touched."""

import os
import random
from pathlib import Path

import pytest

from appliance.bundle import parity
from appliance.bundle.folder import BundleFolder
from appliance.bundle.groups import group_count, members_of, parity_sizes
from appliance.bundle.heal import damaged_files, heal_bundle
from appliance.bundle.manifest import target_of
from appliance.bundle.names import TEXT
from appliance.bundle.open import open_bundle, read_manifest, read_signed
from appliance.bundle.stream import bytes_member
from appliance.bundle.trust import anyone_of
from appliance.errors import IntegrityError, MediumMissing

PART_BYTES = 3000
TEXT_BYTES = 17 * PART_BYTES


@pytest.fixture
def bundle(world, monkeypatch):
    """Two groups: sixteen parts and a few more, the last part shorter; several blocks a part."""
    monkeypatch.setattr(parity, "BLOCK_BYTES", 1024)
    text = random.Random(1).randbytes(TEXT_BYTES // 2).hex().encode()
    made = world.create(members=[bytes_member("corpus/a/a.txt", TEXT, text)], part_bytes=PART_BYTES)
    assert {path.name for path in made.glob("x*")} == {"x0000.xor", "x0001.xor"}
    return made


def contents(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def heal(world, bundle):
    with BundleFolder.open(bundle) as folder:
        return heal_bundle(folder, read_signed(folder, anyone_of([world.alice.vkey]), target_of(world.to)))


def damage(bundle, name, how):
    data = (bundle / name).read_bytes()
    if how == "lost":
        (bundle / name).unlink()
    elif how == "cut":
        (bundle / name).write_bytes(data[:-1])
    elif how == "grown":
        (bundle / name).write_bytes(data + b"x")
    else:
        (bundle / name).write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])


def test_groups_are_sixteen_parts_each():
    assert [group_count(parts) for parts in (1, 16, 17, 33)] == [1, 1, 2, 3]
    assert list(members_of(1, 17)) == [16]
    assert parity_sizes([7] * 17 + [3]) == (7, 7)


@pytest.mark.parametrize("how", ["lost", "cut", "grown", "flipped"])
@pytest.mark.parametrize(
    "name", ["p0000.age", "p0015.age", "p0016.age", "x0000.xor", "readme.txt", "sha256sums"]
)
def test_any_one_damaged_file_comes_back(world, bundle, name, how):
    before = contents(bundle)
    damage(bundle, name, how)
    assert heal(world, bundle) == (name,)
    assert contents(bundle) == before
    assert heal(world, bundle) == ()


def test_the_last_and_shorter_part_comes_back(world, bundle):
    last = max(path.name for path in bundle.glob("p*.age"))
    before = contents(bundle)
    assert len(before[last]) < len(before["p0000.age"])
    damage(bundle, last, "lost")
    assert heal(world, bundle) == (last,)
    assert contents(bundle) == before


def test_one_of_each_group_comes_back_and_the_bundle_opens(world, bundle):
    damage(bundle, "p0003.age", "flipped")
    damage(bundle, "x0001.xor", "lost")
    assert heal(world, bundle) == ("p0003.age", "x0001.xor")
    open_bundle(bundle, world.identity, world.root / "out", anyone_of([world.alice.vkey]))
    assert len((world.root / "out/corpus/a/a.txt").read_bytes()) == TEXT_BYTES // 2 * 2


@pytest.mark.parametrize("also", ["p0004.age", "x0000.xor"])
def test_two_of_one_group_are_named_and_nothing_is_changed(world, bundle, also):
    damage(bundle, "p0003.age", "flipped")
    damage(bundle, "p0016.age", "flipped")
    damage(bundle, also, "lost")
    before = contents(bundle)
    with pytest.raises(IntegrityError, match=f"found p0003.age, {also} damaged"):
        heal(world, bundle)
    assert contents(bundle) == before


def test_without_parity_the_damage_is_named(world):
    bundle = world.create(with_parity=False)
    assert not list(bundle.glob("x*"))
    damage(bundle, "p0000.age", "flipped")
    with pytest.raises(IntegrityError, match=r"found p0000\.age damaged; copy these again"):
        heal(world, bundle)


def test_parity_that_is_lost_hinders_nobody_from_opening(world, bundle):
    damage(bundle, "x0000.xor", "lost")
    open_bundle(bundle, world.identity, world.root / "out", anyone_of([world.alice.vkey]))


def test_every_damaged_file_is_named_at_once(world, bundle):
    for name in ("p0001.age", "p0007.age", "x0001.xor"):
        damage(bundle, name, "flipped")
    with BundleFolder.open(bundle) as folder:
        manifest = read_manifest(folder, anyone_of([world.alice.vkey]), target_of(world.to))
        assert damaged_files(folder, manifest) == ("p0001.age", "p0007.age", "x0001.xor")


def test_a_medium_that_answers_differently_each_time_heals_nothing(world, bundle, monkeypatch):
    damage(bundle, "p0003.age", "lost")
    before = contents(bundle)
    preadv = os.preadv

    def moody(fd, views, at):
        count = preadv(fd, views, at)
        if count and "p0005.age" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            views[0][0] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", moody)
    with pytest.raises(IntegrityError, match="expected to compute SHA-256"):
        heal(world, bundle)
    assert contents(bundle) == before


def test_a_medium_that_is_pulled_while_it_is_read_is_a_missing_one(bundle, world, monkeypatch):
    damage(bundle, "p0003.age", "lost")

    def gone(_fd, _views, _at):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "preadv", gone)
    with pytest.raises(MediumMissing, match="insert the same one again"):
        heal(world, bundle)
