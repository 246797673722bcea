"""The vault's promise: an object is there whole, or it is not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance import age
from appliance import vault as vault_module
from appliance.errors import (
    AlreadyExists,
    ApplianceError,
    Busy,
    Incomplete,
    IntegrityError,
    SpaceExhausted,
    UnknownObject,
)
from appliance.vault import Vault, check_object_id, object_id

ID = "ab" * 32
OTHER = "cd" * 32
NONCE = b"n" * 16


@pytest.fixture
def root(tmp_path):
    return tmp_path / "vault"


@pytest.fixture
def vault(root):
    made = Vault(root)
    made.create()
    made.create()
    return made


def staged(vault, name=ID, chunks=b"chunks"):
    fd = vault.stage(name, b"header", NONCE)
    os.write(fd, chunks)
    os.close(fd)


def published(vault, name=ID):
    staged(vault, name)
    vault.publish(name)


def everything(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def read(fd):
    with os.fdopen(fd, "rb") as stream:
        return stream.read()


def test_an_object_is_staged_then_published_whole(vault, root):
    staged(vault)
    assert vault.is_staged(ID)
    assert vault.staged_header(ID) == b"header"
    assert read(vault.open_staged(ID)) == NONCE + b"chunks"
    with pytest.raises(UnknownObject, match=r"expected it published in .*, found nothing"):
        vault.header(ID)
    assert vault.publish(ID) == len(NONCE) + 6
    assert not vault.is_staged(ID)
    assert (vault.header(ID), vault.nonce(ID)) == (b"header", NONCE)
    assert read(vault.open_payload(ID)) == NONCE + b"chunks"
    assert everything(root) == [".incoming", ID, f"{ID}/header", f"{ID}/payload"]


def test_a_published_payload_is_read_only_and_for_its_owner(vault, root):
    published(vault)
    assert (root / ID / "payload").stat().st_mode & 0o777 == 0o400
    assert (root / ID / "header").stat().st_mode & 0o777 == 0o600
    assert (root / ID).stat().st_mode & 0o777 == 0o700
    fd = vault.open_payload(ID)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    os.close(fd)


def test_a_payload_that_somebody_can_still_write_is_not_published(vault, root):
    fd = vault.stage(ID, b"header", NONCE)
    kept = os.dup(fd)
    os.close(fd)
    with pytest.raises(Busy, match="found a writer; close it before publishing"):
        vault.publish(ID)
    assert vault.is_staged(ID)
    os.close(kept)
    reader = vault.open_staged(ID)
    vault.publish(ID)  # readers are no obstacle
    os.close(reader)


@pytest.mark.parametrize(
    ("code", "published"), [(errno.EINVAL, True), (errno.EOPNOTSUPP, True), (errno.EBADF, False)]
)
def test_a_file_system_without_leases_still_publishes(vault, monkeypatch, code, published):
    def fail(*_args):
        raise OSError(code, os.strerror(code))

    staged(vault)
    monkeypatch.setattr(vault_module.fcntl, "fcntl", fail)
    if published:
        vault.publish(ID)
    else:
        with pytest.raises(ApplianceError, match="it counts as not written"):
            vault.publish(ID)
    assert bool(vault.objects()) == published


def test_objects_are_immutable(vault):
    published(vault)
    with pytest.raises(AlreadyExists, match="objects are immutable"):
        vault.stage(ID, b"header", NONCE)
    staged(vault, OTHER)
    with pytest.raises(AlreadyExists, match="found it begun"):
        vault.stage(OTHER, b"header", NONCE)
    assert read(vault.open_staged(OTHER)) == NONCE + b"chunks"  # the refusal took nothing away


def test_a_folder_that_appeared_meanwhile_is_not_replaced(vault, root):
    staged(vault)
    (root / ID).mkdir()
    with pytest.raises(AlreadyExists, match="found one"):
        vault.publish(ID)
    assert list((root / ID).iterdir()) == []


def test_what_was_discarded_is_gone_and_may_be_discarded_twice(vault, root):
    staged(vault)
    vault.discard(ID)
    vault.discard(ID)
    assert everything(root) == [".incoming"]
    with pytest.raises(UnknownObject, match="expected it staged, found nothing"):
        vault.publish(ID)


def test_recovery_removes_everything_half_written_and_nothing_else(vault, root):
    published(vault)
    staged(vault, OTHER)
    (root / ".incoming" / "stray").write_bytes(b"x")
    (root / ".incoming" / "link").symlink_to(root / ID)
    assert vault.recover() == tuple(sorted([OTHER, "link", "stray"]))
    assert vault.recover() == ()
    assert everything(root) == [".incoming", ID, f"{ID}/header", f"{ID}/payload"]


@pytest.mark.parametrize("text", ["", "AB" * 32, "ab" * 31, "../" + "a" * 61, "ab" * 32 + "\n", ".incoming"])
def test_an_id_that_is_no_id_reaches_no_file(vault, text):
    for use in (
        vault.header,
        vault.open_payload,
        vault.is_staged,
        vault.discard,
        vault.publish,
        check_object_id,
    ):
        with pytest.raises(UnknownObject, match="expected 64 lower-case hex digits"):
            use(text)


def test_no_symbolic_link_is_followed(vault, root, tmp_path):
    published(vault)
    secret = tmp_path / "secret"
    secret.write_bytes(b"elsewhere")
    (root / ID / "header").unlink()
    (root / ID / "header").symlink_to(secret)
    with pytest.raises(Incomplete, match="expected a file header, found: Too many levels of symbolic links"):
        vault.header(ID)
    (root / OTHER).symlink_to(root / ID)
    with pytest.raises(IntegrityError, match="expected a folder, found: Not a directory"):
        vault.open_payload(OTHER)


def test_missing_files_and_forgotten_folders_are_named(vault, root):
    for name in (ID, OTHER, "ef" * 32):
        published(vault, name)
    (root / OTHER / "header").unlink()
    assert vault.orphans([ID, OTHER]) == ("ef" * 32,)
    assert vault.damaged([ID, OTHER, "00" * 32]) == ("00" * 32, OTHER)
    with pytest.raises(
        Incomplete, match=r"expected a file header, found: No such file.*restore it from a backup"
    ):
        vault.header(OTHER)
    (root / "notes.txt").touch()
    with pytest.raises(IntegrityError, match=r"expected object folders only, found 'notes.txt'"):
        vault.objects()


def test_a_payload_without_its_nonce_is_damage(vault, root):
    fd = vault.stage(ID, b"header", b"short")
    os.close(fd)
    with pytest.raises(IntegrityError, match="expected a nonce of 16 bytes in front of its payload, found 5"):
        vault.nonce(ID, staged=True)


def test_a_header_of_any_size_costs_no_more_than_its_bound(vault, root):
    published(vault)
    with (root / ID / "header").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(IntegrityError, match="expected a header of at most 65536 bytes"):
        vault.header(ID)


def test_object_ids_come_from_file_key_and_nonce_alone():
    name = object_id(bytes(16), bytes(16))
    assert check_object_id(name) == name == object_id(bytearray(16), bytes(16))
    assert name != object_id(b"\1" + bytes(15), bytes(16))
    assert name != object_id(bytes(16), b"\1" + bytes(15))


CALLS = ["mkdir", "open", "write", "fsync", "fchmod", "rename"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", CALLS)
def test_a_disk_that_fails_at_any_step_leaves_nothing_half_written(vault, root, monkeypatch, call, code):
    published(vault, OTHER)
    before = everything(root)

    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    def attempt():
        with monkeypatch.context() as patch:
            owner = Path if call in {"mkdir", "rename"} else os
            if call == "open":
                real = os.open
                # Only creations: a disk that cannot even be read is another story.
                patch.setattr(os, "open", lambda *a, **k: fail() if a[1] & os.O_CREAT else real(*a, **k))
            else:
                patch.setattr(owner, call, fail)
            staged_fd = vault.stage(ID, b"header", NONCE)
            os.close(staged_fd)
            vault.publish(ID)

    expected = ApplianceError if code == errno.EIO else SpaceExhausted
    message = (
        "it counts as not written" if code == errno.EIO else "nothing of it was kept; free some and repeat"
    )
    with pytest.raises(expected, match=message) as caught:
        attempt()
    assert type(caught.value) is expected
    assert everything(root) == before
    published(vault)  # and the next attempt succeeds


def test_a_really_full_disk_is_refused_and_left_clean(root, vault):
    """A child with a file size limit writes until the kernel refuses: the sink and the vault agree."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from appliance.age import PayloadWriter, descriptor_sink
from appliance.errors import SpaceExhausted
from appliance.vault import Vault
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
vault = Vault(Path(sys.argv[1]))
writer = PayloadWriter(descriptor_sink(vault.stage("{ID}", b"header", bytes(16))), bytes(32))
try:
    writer.write(bytes(4 << 20))
except SpaceExhausted as error:
    vault.discard("{ID}")
    sys.exit(error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, check=False, timeout=60)
    assert done.returncode == SpaceExhausted.exit_code, done.stderr
    assert everything(root) == [".incoming"]


def test_a_writer_killed_at_any_moment_leaves_whole_objects_only(root, vault):
    """A child seals and publishes until it is killed; what is published opens to its last byte."""
    code = """
import os, sys
from pathlib import Path
from appliance import age
from appliance.vault import Vault, object_id
vault = Vault(Path(sys.argv[1]))
print(flush=True)
while True:
    key, nonce = os.urandom(16), os.urandom(16)
    name = object_id(key, nonce)
    fd = vault.stage(name, key.hex().encode(), nonce)
    with age.PayloadWriter(age.descriptor_sink(fd), age.payload_key(key, nonce)) as writer:
        writer.write(bytes(200_000))
    os.close(fd)
    vault.publish(name)
"""
    found = 0
    for delay_s in (0.05, 0.1, 0.15):
        with subprocess.Popen([sys.executable, "-c", code, root], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(delay_s)
            child.kill()
        vault.recover()
        assert list((root / ".incoming").iterdir()) == []
        assert vault.damaged(vault.objects()) == ()
        for name in vault.objects():
            key = age.payload_key(bytes.fromhex(vault.header(name).decode()), vault.nonce(name))
            fd = vault.open_payload(name)
            assert age.PayloadReader(fd, key, 16, os.fstat(fd).st_size - 16).readall() == bytes(200_000)
            os.close(fd)
            found += 1
    assert found


def test_order_of_publication_is_durable_before_visible(vault, monkeypatch):
    staged(vault)
    calls = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(fd):
        calls.append(("fsync", Path(f"/proc/self/fd/{fd}").readlink().name))
        real_fsync(fd)

    def rename(self, target):
        calls.append(("rename", self.name))
        return real_rename(self, target)

    monkeypatch.setattr(vault_module.os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    vault.publish(ID)
    assert calls == [
        ("fsync", "payload"),
        ("fsync", ID),
        ("rename", ID),
        ("fsync", ".incoming"),
        ("fsync", "vault"),
    ]
