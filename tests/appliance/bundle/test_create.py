"""A bundle is complete or absent, and opens with programs that we did not write."""

import base64
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.age import HybridIdentity, X25519Identity
from appliance.bundle import create as create_module
from appliance.bundle.folder import BundleFolder
from appliance.bundle.manifest import parse_manifest, target_of
from appliance.bundle.names import SAFETENSORS, TEXT
from appliance.bundle.open import open_bundle
from appliance.bundle.signer import allowed_signers_line
from appliance.bundle.stream import bytes_member
from appliance.bundle.trust import anyone_of
from appliance.errors import AlreadyExists, ContentRefused, SpaceExhausted, UsageError

from .conftest import Entropy

AGE = pytest.mark.skipif(shutil.which("age") is None, reason="the public age program is not installed")
SSH = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def expected(world) -> dict[str, bytes]:
    found = {}
    for member in world.members:
        with member.open() as source:
            found[member.name] = source.read(1 << 20)
    return found


def payload(bundle: Path) -> bytes:
    return base64.b64decode(json.loads((bundle / "manifest.json").read_bytes())["payload"])


@pytest.mark.parametrize("part_bytes", [256 << 20, 1000])
def test_bundle_opens_on_the_other_side(world, part_bytes):
    bundle = world.create(part_bytes=part_bytes)
    open_bundle(bundle, world.identity, world.root / "out", anyone_of([world.alice.vkey]))
    assert contents(world.root / "out") == expected(world)


def test_bundle_to_a_post_quantum_recipient_opens(world):
    identity = HybridIdentity(bytearray(range(32)))
    bundle = world.create(to=identity.recipient.text)
    open_bundle(bundle, identity, world.root / "out", anyone_of([world.alice.vkey]))
    assert contents(world.root / "out") == expected(world)
    assert parse_manifest(payload(bundle)).recipients == ("mlkem768x25519",)


def test_manifest_says_all_that_the_format_promises(world):
    manifest = parse_manifest(payload(world.create(part_bytes=1000)))
    assert (manifest.kind, manifest.direction, manifest.channel, manifest.seq) == (
        "corpus",
        "in",
        "default",
        7,
    )
    assert (manifest.issued_at, manifest.expires) == ("2026-03-01T12:00:00Z", "2026-05-30T12:00:00Z")
    assert manifest.target == target_of(world.to)
    assert manifest.recipients == ("X25519",)
    assert len(manifest.parts) > 1


def test_names_of_people_and_keys_stay_off_the_medium(world):
    bundle = world.create()
    for name, data in contents(bundle).items():
        assert world.to.encode() not in data, name
        assert b"tales" not in data, name


def test_folder_is_flat_with_names_for_fat(world):
    bundle = world.create(part_bytes=1000)
    assert len(bundle.name) == len("01234567.bundle")
    names = [path.name for path in bundle.iterdir()]
    assert all(len(name) <= 32 and name == name.lower() for name in names)


def test_equal_randomness_and_time_give_equal_manifests_but_for_ephemeral_keys(world):
    first = parse_manifest(payload(world.create(entropy=Entropy())))
    (world.root / "second").mkdir()
    second = parse_manifest(payload(world.create(entropy=Entropy(), out_dir=world.root / "second")))
    assert first.bundle_id == second.bundle_id
    assert [part.size for part in first.parts] == [part.size for part in second.parts]


@AGE
@SSH
def test_public_tools_verify_and_open_it_as_the_readme_says(world):
    bundle = world.create(part_bytes=1000)
    (world.root / "key.txt").write_bytes(bytes(world.identity.encode()) + b"\n")
    (world.root / "allowed_signers").write_text(allowed_signers_line(world.alice.vkey))
    (world.root / "out").mkdir()

    def run(command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=bundle, check=True, capture_output=True, text=True
        )

    assert "p0001.age: OK" in run("sha256sum -c sha256sums").stdout
    good = run(
        "ssh-keygen -Y verify -f ../allowed_signers -I alice@example -n manifest@appliance"
        " -s manifest.json.sig < manifest.json"
    )
    assert "Good" in good.stdout
    run("for p in p*.age; do age -d -i ../key.txt $p || exit 9; done | tar -x -C ../out")
    found = contents(world.root / "out")
    inner = json.loads(found.pop("inner.json"))
    assert found == expected(world)
    assert [member["name"] for member in inner["members"]] == sorted(found)
    readme = (bundle / "readme.txt").read_text()
    assert "for p in p*.age; do age -d -i key.txt $p; done | tar -x" in readme


@AGE
def test_padding_of_a_large_bundle_does_not_disturb_tar(world):
    text = bytes_member("corpus/a/big.txt", TEXT, b"0123456789abcde\n" * 70_001)
    bundle = world.create(members=[text], part_bytes=300_000)
    (world.root / "key.txt").write_bytes(bytes(world.identity.encode()) + b"\n")
    # tar leaves at the end of the archive; age, still writing zeros, is ended by the pipe without a word.
    command = "for p in p*.age; do age -d -i ../key.txt $p; done | tar -t"
    done = subprocess.run(["sh", "-c", command], cwd=bundle, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["inner.json", "corpus/a/big.txt"]
    assert done.stderr == ""


def refuses_and_leaves_nothing(world, error, match, **changed):
    with pytest.raises(error, match=match):
        world.create(**changed)
    assert list(world.root.iterdir()) == []


def test_content_that_no_importer_would_take_is_refused_at_home(world):
    bad = [bytes_member("corpus/a/a.txt", TEXT, b"\x1b[0m")]
    refuses_and_leaves_nothing(world, ContentRefused, r"U\+001B", members=bad)
    refuses_and_leaves_nothing(world, ContentRefused, "found no member", members=[])
    tensors = [bytes_member("weights/a.safetensors", SAFETENSORS, b"\x02" + bytes(7) + b"{}")]
    refuses_and_leaves_nothing(world, ContentRefused, "one bundle per kind", members=tensors)


def test_bad_recipient_is_refused(world):
    refuses_and_leaves_nothing(world, UsageError, "refused", to="age1qqqq")


def test_same_bundle_twice_is_refused(world):
    bundle = world.create()
    before = contents(bundle)
    with pytest.raises(AlreadyExists, match=r"\.bundle yet, found one"):
        world.create()
    assert contents(bundle) == before


@pytest.mark.parametrize("fail_at", range(8))
def test_medium_that_fills_up_leaves_no_folder(world, monkeypatch, fail_at):
    calls = []
    original = BundleFolder.create_file

    def create_file(folder, name):
        calls.append(name)
        if len(calls) > fail_at:
            raise SpaceExhausted(f"no room to write {name}")
        return original(folder, name)

    monkeypatch.setattr(BundleFolder, "create_file", create_file)
    refuses_and_leaves_nothing(world, SpaceExhausted, "no room to write")


def test_medium_full_at_a_parts_header_says_so_and_leaks_no_descriptor(world, monkeypatch):
    original = BundleFolder.create_file

    def create_file(folder, name):
        return os.open("/dev/full", os.O_RDWR) if name == "p0000.age" else original(folder, name)

    monkeypatch.setattr(BundleFolder, "create_file", create_file)
    before = set(Path("/proc/self/fd").iterdir())
    refuses_and_leaves_nothing(world, SpaceExhausted, r"no room to write p0000\.age")
    assert len(set(Path("/proc/self/fd").iterdir())) == len(before)


def test_failing_memory_is_an_error_and_leaves_no_folder(world, monkeypatch):
    def write_all(fd, data, name):
        raise OSError(errno.ENOMEM, "cannot allocate memory")

    monkeypatch.setattr("appliance.bundle.parts.write_all", write_all)
    refuses_and_leaves_nothing(world, OSError, "cannot allocate memory")


def test_manifest_is_written_last(world, monkeypatch):
    written = []
    original = BundleFolder.create_file

    def create_file(folder, name):
        written.append(name)
        return original(folder, name)

    monkeypatch.setattr(BundleFolder, "create_file", create_file)
    world.create(part_bytes=4096)
    assert [name for name in written if name != "unfinished.new"] == [
        *("p0000.age", "p0001.age", "x0000.xor"),
        *("readme.txt", "sha256sums", "manifest.json.sig", "manifest.new"),
    ]
    assert create_module.PART_BYTES == 256 << 20
    assert X25519Identity.kind == "X25519"
