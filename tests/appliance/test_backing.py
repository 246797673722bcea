"""A backup of a running appliance: ciphertext, whole, incremental, and proved to open before it is needed."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil

import pytest

from appliance.backup import RECORD, parse_backup, read_backup
from appliance.custodian import backing
from appliance.custodian.backing import back_up
from appliance.custodian.custodies import unlock
from appliance.custodian.start import open_appliance
from appliance.custodian.vault_rotation import rotate_vault_key
from appliance.errors import (
    Busy,
    Incomplete,
    IntegrityError,
    SealedError,
    SpaceExhausted,
    UsageError,
    WrongSecret,
)
from appliance.home import Home
from appliance.initialise import initialise
from appliance.rehearse import read, rehearse
from appliance.restore import restore
from audit.errors import AuditError
from audit.note import VerifierKey
from audit.verify import verify_log
from tests.simulator import Simulator, digests


class Died(BaseException):
    """The process ends here."""


@pytest.fixture
def filled(sim):
    config = sim.add("config", "tiny", b"[model]")
    sim.add("weights", "tiny", b"the weights" * 20_000, [config])
    return sim


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def make(sim, out, name="stick"):
    async def run():
        fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        return [told async for told in back_up(sim.core, sim.operator, fd, name, os.getuid())]

    return asyncio.run(run())[-1]


def rehearsed(sim, out, key_file=None):
    return list(rehearse(read(out), None, key_file or sim.home.keys / "vault.identity"))[-1]


def rotate(sim):
    async def run():
        return [told async for told in rotate_vault_key(sim.core, sim.operator, "")]

    asyncio.run(run())


def test_a_backup_is_ciphertext_of_one_moment_and_the_log_says_that_it_was_made(filled, out):
    done = make(filled, out)
    assert (done.done, done.total) == (2, 2)
    assert done.copied_bytes == sum(path.stat().st_size for path in filled.home.vault.glob("*/payload"))
    entry = filled.entries()[-1]
    assert (entry.kind, entry.seq) == ("backup-made", done.entry)
    assert (entry.context["name"], entry.context["objects"]) == ("stick", 2)
    assert sorted(path.name for path in out.iterdir()) == [
        *("backup.json", "catalog.db", "home.json", "keys", "log", "officers", "policy", "vault"),
    ]
    assert sorted(path.name for path in (out / "keys").iterdir()) == ["vault.age", "vault.custody.json"]
    secrets = [filled.home.keys / "vault.identity", *filled.home.keys.glob("log*.identity")]
    held = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for secret in secrets:
        assert secret.read_bytes().strip() not in held
    assert b"the weights" not in held
    assert verify_log(out / "log", VerifierKey.parse(filled.init.log_vkey)).size == done.entry
    assert read_backup(out).log_size == done.entry


def test_what_is_there_is_not_copied_again_and_what_is_gone_goes(filled, out):
    make(filled, out)
    newer = filled.add("weights", "tiny", b"newer")
    assert make(filled, out).copied_bytes == (filled.folder_of(newer) / "payload").stat().st_size
    assert make(filled, out).copied_bytes == 0
    old = filled.core.catalog.list()[1]
    filled.core.catalog.shred(old.id, 99, "2031-01-01T00:00:00.000000Z")
    make(filled, out)
    assert not (out / "vault" / old.id).exists()


def test_a_backup_opens_and_is_restored(filled, out, tmp_path):
    make(filled, out)
    told = rehearsed(filled, out)
    assert (told.done, told.total, told.opened_bytes) == (2, 2, 220_007)
    kept = digests(out)
    restore(out, tmp_path / "restored")
    assert digests(out) == kept
    shutil.copy(filled.home.keys / "vault.identity", tmp_path / "restored/keys")
    plain = filled.core.catalog.find("weights", "tiny")
    filled.stop()
    filled.home = Home(tmp_path / "restored")
    filled.start()
    filled.unseal()
    assert filled.read(plain) == b"the weights" * 20_000
    assert filled.core.missing == filled.core.orphans == ()


def test_after_a_rotation_the_same_folder_is_brought_up_to_date(filled, out):
    make(filled, out)
    old = (out / "keys/vault.age").read_bytes()
    rotate(filled)
    assert rehearsed(filled, out).done == 2, "the former backup opens with its own keyring"
    make(filled, out)
    assert (out / "keys/vault.age").read_bytes() != old
    assert rehearsed(filled, out).done == 2


def test_a_rehearsal_keeps_no_plaintext_and_touches_nothing(filled, out, tmp_path):
    make(filled, out)
    kept, home = digests(out), digests(filled.home.root)
    rehearsed(filled, out)
    assert (digests(out), digests(filled.home.root)) == (kept, home)


@pytest.mark.parametrize("what", ["payload", "header"])
@pytest.mark.parametrize("offset", [20, -1])
def test_a_rehearsal_finds_one_flipped_byte(filled, out, what, offset):
    make(filled, out)
    filled.flip_byte(out / "vault" / filled.core.catalog.list()[1].id / what, offset)
    with pytest.raises(IntegrityError):
        rehearsed(filled, out)


@pytest.mark.parametrize("name", ["home.json", "keys/vault.age", "catalog.db", "policy/default.cedar"])
def test_a_rehearsal_finds_a_changed_or_missing_small_file(filled, out, name):
    make(filled, out)
    data = (out / name).read_bytes()
    filled.flip_byte(out / name)
    with pytest.raises(
        IntegrityError, match=r"expected SHA-256 .*: the backup was cut off or changed; repeat"
    ):
        read(out)
    (out / name).unlink()
    with pytest.raises(Incomplete, match="expected it, found: No such file"):
        read(out)
    (out / name).write_bytes(data)
    assert rehearsed(filled, out).done == 2


def test_a_rehearsal_finds_an_object_that_is_not_there(filled, out):
    make(filled, out)
    shutil.rmtree(out / "vault" / filled.core.catalog.list()[0].id)
    with pytest.raises(IntegrityError, match="expected it in the backup, and that it opens"):
        rehearsed(filled, out)


def test_a_rehearsal_finds_a_log_that_was_cut(filled, out):
    make(filled, out)
    record = parse_backup((out / RECORD).read_bytes())
    (out / "log/checkpoint").unlink()
    changed = type(record)(record.origin, record.log_size, {}, record.objects)
    (out / RECORD).write_bytes(changed.encode())
    with pytest.raises(AuditError):
        read(out)


def test_another_secret_opens_nothing(filled, out, tmp_path):
    make(filled, out)
    other = Simulator(tmp_path / "other")
    with pytest.raises(WrongSecret, match="wrong key file"):
        rehearsed(filled, out, other.home.keys / "vault.identity")
    with pytest.raises(UsageError, match="expected --key-file, as no backup holds the key"):
        list(rehearse(read(out), None))
    other.close()


def test_an_appliance_by_passphrase_is_rehearsed_with_it(sim, tmp_path, out):
    initialise(
        tmp_path / "home2",
        profile="development",
        custody_uri="passphrase:",
        secret=bytearray(b"correct horse"),
        trust=[],
        officers=None,
        people={os.getuid(): "operator"},
    )
    opened = open_appliance(Home(tmp_path / "home2"), sysroot=sim.host)
    opened.core.custody = unlock(opened.core, opened.core.live, bytearray(b"correct horse"))

    async def run():
        fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        person = opened.core.person(os.getuid())
        return [told async for told in back_up(opened.core, person, fd, "stick", os.getuid())]

    asyncio.run(run())
    opened.core.log.close()
    opened.core.catalog.close()
    os.close(opened.lock)
    assert list(rehearse(read(out), bytearray(b"correct horse")))[-1].total == 0
    wrong = bytearray(b"wrong")
    with pytest.raises(WrongSecret, match="wrong passphrase"):
        list(rehearse(read(out), wrong))
    assert not any(wrong)


def test_a_folder_with_something_else_or_another_appliance_is_left_alone(filled, out, tmp_path):
    (out / "thesis").write_text("1")
    with pytest.raises(UsageError, match=r"expected an empty folder or a backup of this .*, found 'thesis'"):
        make(filled, out)
    (out / "thesis").unlink()
    other = Simulator(tmp_path / "other")
    make(other, out)
    kept = digests(out)
    with pytest.raises(UsageError, match="found another's"):
        make(filled, out)
    assert digests(out) == kept
    other.close()


def test_a_damaged_object_is_named_not_copied_and_costs_the_others_nothing(filled, out):
    bad = filled.core.catalog.list()[0]
    filled.flip_byte(filled.folder_of(bad) / "payload")
    with pytest.raises(
        IntegrityError, match=f"1 of 2 objects are damaged .* object {bad.id}: expected SHA-256"
    ):
        make(filled, out)
    entry = filled.entries()[-1]
    assert (entry.kind, entry.context["objects"]) == ("backup-made", 1), "what was copied opens elsewhere"
    assert not (out / "vault" / bad.id / "payload").exists()
    assert (out / "vault" / filled.core.catalog.list()[1].id / "payload").exists()
    filled.flip_byte(filled.folder_of(bad) / "payload")
    make(filled, out)
    assert rehearsed(filled, out).done == 2


def test_a_full_medium_leaves_the_former_backup_whole(filled, out, monkeypatch):
    make(filled, out)
    filled.add("weights", "newer", b"newer")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(backing._Backup, "_copy_payload", full)
        with pytest.raises(SpaceExhausted, match="No space left on device; what it held before stands"):
            make(filled, out)
    assert rehearsed(filled, out).done == 2
    assert not filled.core.rotating
    make(filled, out)
    assert rehearsed(filled, out).done == 3


@pytest.mark.parametrize("step", ["_take_moment", "_copy_object", "_digests", "_finish"])
def test_a_backup_that_is_cut_off_is_told_or_whole_and_goes_on(filled, out, monkeypatch, step):
    make(filled, out)
    filled.add("weights", "newer", b"newer")
    real = getattr(backing._Backup, step)

    def die(*given):
        real(*given)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(backing._Backup, step, die)
        with pytest.raises(Died):
            make(filled, out)
    assert rehearsed(filled, out).done == (3 if step == "_finish" else 2)
    make(filled, out)
    assert rehearsed(filled, out).done == 3


def test_rotation_and_backup_wait_for_each_other_and_a_sealed_vault_is_not_copied(filled, out):
    async def both():
        fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        running = back_up(filled.core, filled.operator, fd, "stick", os.getuid())
        await anext(running)
        with pytest.raises(Busy):
            await anext(rotate_vault_key(filled.core, filled.operator, ""))
        async for _ in running:
            pass

    asyncio.run(both())
    filled.seal()
    with pytest.raises(SealedError):
        make(filled, out)
