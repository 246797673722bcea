"""The vault's identity is rotated: every object opens at every moment, and old headers end up shut."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil

import pytest

from appliance import exchange
from appliance.age.header import parse_header
from appliance.age.recipients import unwrap_file_key
from appliance.age.x25519 import X25519Identity
from appliance.custodian import vault_rotation
from appliance.custodian.vault_rotation import rotate_vault_key
from appliance.custody.keyring import parse_keyring
from appliance.custody.slot import VAULT_SLOT, open_slot, read_record
from appliance.errors import (
    Busy,
    IntegrityError,
    PolicyRefused,
    SealedError,
    SetBack,
    SpaceExhausted,
    WrongSecret,
)
from appliance.exchange import HeaderExchange
from appliance.inventory import KEY_BEGUN, KEY_ROTATED
from appliance.vault import object_id
from audit.entry import digest_of
from tests.simulator import Simulator, digests


class Died(BaseException):
    """The process ends here."""


def rotate(sim, reason=""):
    """Rotate to the end; return what was told."""

    async def run():
        return [told async for told in rotate_vault_key(sim.core, sim.operator, reason)]

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(vault_rotation, "BATCH", 2)
    monkeypatch.setattr(vault_rotation, "BREATH", 1)


@pytest.fixture
def five(sim):
    return [sim.add("weights", f"w{number}", b"%d" % number * 100) for number in range(5)]


def on_disk(sim):
    """The keyring as it lies on the disk now."""
    return parse_keyring(open_slot(sim.home.keys, VAULT_SLOT, None))


def identities(keyring):
    return [each for each in (keyring.vault_identity, keyring.next_vault_identity) if each is not None]


def headers(sim):
    return {row.id: sim.core.vault.header(row.id) for row in sim.core.catalog.list()}


def opens(header, keys):
    try:
        return unwrap_file_key(parse_header(header), keys)
    except WrongSecret:
        return None


def test_all_headers_are_new_payloads_and_ids_are_not_and_the_old_identity_is_gone(sim, five):
    old_headers, old_keyring = headers(sim), on_disk(sim)
    payloads = {row.id: (sim.folder_of(row) / "payload").read_bytes() for row in five}
    staged = sim.stage(b"on its way")
    before = sim.core.log.size
    told = rotate(sim, "yearly")
    assert [(each.done, each.total) for each in told] == [(2, 6), (4, 6), (6, 6), (6, 6)]
    entries = sim.entries(before)
    assert [entry.kind for entry in entries] == ["decision", KEY_BEGUN, KEY_ROTATED]
    assert entries[0].context["named"] == sorted([*(row.id for row in five), staged.id])
    assert (entries[0].action, entries[0].context["reason"]) == ("rotate", "yearly")
    assert told[-1].entry == entries[2].seq
    new = on_disk(sim)
    assert new.next_vault_identity is None
    assert entries[2].context["vault_recipient"] == new.vault_identity.recipient.text
    for row in five:
        header = sim.core.vault.header(row.id)
        assert opens(header, [old_keyring.vault_identity]) is None
        assert opens(old_headers[row.id], [new.vault_identity]) is None, (
            "an old copy of a header must stay shut"
        )
        key = opens(header, [new.vault_identity])
        assert object_id(key, sim.core.vault.nonce(row.id)) == row.id
        assert (sim.folder_of(row) / "payload").read_bytes() == payloads[row.id]
        assert sorted(path.name for path in sim.folder_of(row).iterdir()) == ["header", "payload"]
    assert sim.verify(staged) == b"on its way"
    fresh = sim.add("weights", "fresh", b"fresh")
    sim.restart()
    for number, row in enumerate(five):
        assert sim.read(row) == b"%d" % number * 100
    assert sim.read(fresh) == b"fresh"
    assert sim.core.warnings() == [text for text in sim.core.warnings() if "rotation" not in text]
    sim.verify_log()


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_rotation_keeps_the_kind_of_the_identity(tmp_path, hybrid):
    sim = Simulator(tmp_path, hybrid=hybrid)
    row = sim.add("weights", "w", b"w")
    rotate(sim)
    rotate(sim)
    sim.restart()
    assert sim.core.custody.keyring.vault_identity.recipient.post_quantum == hybrid
    assert sim.read(row) == b"w"
    sim.close()


STEPS = [
    ("reseal_keyring", vault_rotation, 1),
    ("reseal_keyring", vault_rotation, 2),
    ("_record", vault_rotation, 1),
    ("_record", vault_rotation, 2),
    ("put", HeaderExchange, 1),
    ("put", HeaderExchange, 4),
    ("sync_file_system", exchange, 1),
    ("sync_file_system", exchange, 3),
    ("rename", exchange.os, 1),
    ("rename", exchange.os, 2),
    ("rename", exchange.os, 5),
    ("sync_file_system", vault_rotation, 1),
]


def die_at(monkeypatch, where, name, nth, *, after):
    """Have the process end before or after the nth call of a function."""
    real, calls = getattr(where, name), []

    def call(*given, **named):
        calls.append(name)
        if len(calls) == nth and not after:
            raise Died
        made = real(*given, **named)
        if len(calls) == nth:
            raise Died
        return made

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("name", "where", "nth"), STEPS)
def test_a_crash_at_any_step_leaves_every_object_open_and_is_gone_on_from(
    sim, five, monkeypatch, name, where, nth, after
):
    old = on_disk(sim)
    with monkeypatch.context() as patched:
        die_at(patched, where, name, nth, after=after)
        patched.setattr(HeaderExchange, "discard", lambda _: None)  # the dead clear nothing up
        with pytest.raises(Died):
            rotate(sim)
    sim.crash()
    held = identities(on_disk(sim))
    for row in five:
        header = (sim.folder_of(row) / "header").read_bytes()
        assert opens(header, held) is not None, "the keyring on the disk opens every header, at any moment"
    sim.start()
    sim.unseal()
    for number, row in enumerate(five):
        assert sim.read(row) == b"%d" % number * 100
    between = sim.add("weights", "between", b"between")
    rotate(sim)
    sim.restart()
    assert sim.core.inventory.next_recipient is None
    for number, row in enumerate(five):
        assert sim.read(row) == b"%d" % number * 100
        assert opens(sim.core.vault.header(row.id), [old.vault_identity]) is None
        assert sorted(path.name for path in sim.folder_of(row).iterdir()) == ["header", "payload"]
    assert sim.read(between) == b"between"
    sim.verify_log()


def test_a_rotation_that_was_cut_off_is_told(sim, five, monkeypatch):
    with monkeypatch.context() as patched:
        die_at(patched, HeaderExchange, "put", 3, after=False)
        with pytest.raises(Died):
            rotate(sim)
    sim.crash()
    sim.start()
    assert (
        "a rotation of the vault's key was cut off: finish it with `appliance keys rotate`"
        in sim.core.warnings()
    )
    sim.unseal()
    with pytest.raises(Busy, match="a rotation of the vault's key was cut off"):
        sim.core.custody.reveal_identity(0)
    assert rotate(sim)[-1].entry > 0
    assert [entry.kind for entry in sim.entries()].count(KEY_BEGUN) == 1


def test_a_full_disk_changes_nothing_that_opens_and_the_same_call_goes_on(sim, five, monkeypatch):
    real, puts = HeaderExchange.put, []

    def full(batch, name, header):
        puts.append(name)
        if len(puts) == 4:
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise exchange._failed(error, f"object {name}") from error
        real(batch, name, header)

    with monkeypatch.context() as patched:
        patched.setattr(HeaderExchange, "put", full)
        with pytest.raises(SpaceExhausted, match="no space for a new header; every object opens as before"):
            rotate(sim)
    for number, row in enumerate(five):
        assert sim.read(row) == b"%d" % number * 100
        assert sorted(path.name for path in sim.folder_of(row).iterdir()) == ["header", "payload"]
    rotate(sim)
    sim.restart()
    assert sim.read(five[4]) == b"4" * 100


def test_a_full_disk_at_the_keyring_leaves_the_rotation_not_begun(sim, five, monkeypatch):
    def full(*_):
        raise SpaceExhausted("slot: expected to write it, found: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(vault_rotation, "reseal_keyring", full)
        with pytest.raises(SpaceExhausted, match="No space left on device"):
            rotate(sim)
    assert sim.core.custody.keyring.next_vault_identity is None
    assert sim.core.inventory.next_recipient is None
    assert sim.read(five[0]) == b"0" * 100
    rotate(sim)


def test_ten_thousand_ids_enter_as_their_hash_and_are_granted_all_the_same(sim, five, monkeypatch):
    many = [f"{number:064x}" for number in range(1200)]
    monkeypatch.setattr(type(sim.core.vault), "staged", lambda _: tuple(many))
    rotate(sim)
    (decision,) = [entry for entry in sim.entries() if entry.action == "rotate" and entry.decision]
    assert decision.context["named"] == digest_of(sorted([*many, *(row.id for row in five)]))
    assert sim.read(five[0]) == b"0" * 100


def test_a_grant_rewraps_what_its_entry_lists_and_nothing_else(sim, five):
    custody, thing = sim.core.custody, sim.thing()
    custody.keyring.prepare_rotation()
    ids = [row.id for row in five]
    grant = sim.core.gate.request(sim.operator, "rotate", thing, named=ids[:4]).grant
    for wrong in (ids, ids[:3], [], ids[1:]):
        with pytest.raises(PolicyRefused, match="expected one whose entry lists these"):
            custody.rewrap(grant, wrong)
    assert [name for name, _ in custody.rewrap(grant, ids[:4])] == ids[:4]
    with pytest.raises(PolicyRefused, match="expected one issued by the gate and unused"):
        custody.rewrap(grant, ids[:4])
    with pytest.raises(PolicyRefused, match="which yields no key here"):
        custody.unwrap(sim.core.gate.request(sim.operator, "rotate", thing, named=ids).grant)


def test_a_damaged_or_missing_object_is_named_before_it_is_left_behind(sim, five):
    sim.folder_of(five[2]).rename(sim.folder / "kept")
    with pytest.raises(
        IntegrityError, match=f"1 objects lack their folders, first {five[2].id[:16]}: .*restore them"
    ):
        rotate(sim)
    (sim.folder / "kept").rename(sim.folder_of(five[2]))
    sim.flip_byte(sim.folder_of(five[2]) / "header", 60)
    with pytest.raises(IntegrityError, match="header"):
        rotate(sim)
    assert sim.read(five[0]) == b"0" * 100
    sim.flip_byte(sim.folder_of(five[2]) / "header", 60)
    rotate(sim)
    assert sim.read(five[2]) == b"2" * 100


def test_an_object_that_goes_meanwhile_is_passed_over(sim, five):
    staged = sim.stage(b"discarded soon")

    async def run():
        async for told in rotate_vault_key(sim.core, sim.operator, ""):
            if told.done == 2:
                sim.core.vault.discard(staged.id)
        return told

    assert asyncio.run(run()).entry > 0


def test_a_second_rotation_waits_and_a_sealed_vault_is_not_rotated(sim, five):
    async def twice():
        first = rotate_vault_key(sim.core, sim.operator, "")
        await anext(first)
        with pytest.raises(Busy, match="a rotation or a backup is under way: wait for its end"):
            await anext(rotate_vault_key(sim.core, sim.operator, ""))
        sim.seal()
        with pytest.raises(SealedError):
            async for _ in first:
                pass

    asyncio.run(twice())
    with pytest.raises(SealedError):
        rotate(sim)
    sim.unseal()
    rotate(sim)
    assert sim.read(five[4]) == b"4" * 100


def test_keys_or_headers_from_before_a_rotation_are_named(sim, five):
    shutil.copytree(sim.home.keys, sim.folder / "old-keys")
    old = sim.core.vault.header(five[0].id)
    rotate(sim)
    sim.stop()
    with sim.undone():
        for path in (sim.folder / "old-keys").glob("vault.*"):
            shutil.copy2(path, sim.home.keys)
        sim.start()
        with pytest.raises(
            SetBack, match=r"expected the vault identity that the newest rotation .* put back"
        ):
            sim.unseal()
        sim.close()
    (sim.folder_of(five[0]) / "header").write_bytes(old)
    with sim.refused(IntegrityError, "the vault comes from before a rotation", ["allow use"]):
        sim.read(five[0])
    assert not any("headers in the vault do not open" in text for text in sim.core.warnings())
    sim.restart()
    assert any(
        f"do not open, first {five[0].id[:16]}: the vault was put back" in text
        for text in sim.core.warnings()
    )


def test_a_next_identity_that_the_log_does_not_name_is_not_wrapped_for(sim, five):
    """Who writes the disk can seal a keyring to the slot's public recipient; the log makes it count."""
    keyring = on_disk(sim)
    planted = keyring.prepare_rotation()
    vault_rotation.reseal_keyring(sim.core, keyring)
    sim.restart()
    assert sim.core.custody.keyring.next_vault_identity is None
    rotate(sim)
    assert all(opens(header, [planted]) is None for header in headers(sim).values())


def test_a_keyring_without_the_identity_that_a_rotation_began_is_named(sim, five, monkeypatch):
    shutil.copytree(sim.home.keys, sim.folder / "old-keys")
    with monkeypatch.context() as patched:
        die_at(patched, HeaderExchange, "put", 3, after=False)
        with pytest.raises(Died):
            rotate(sim)
    sim.crash()
    for path in (sim.folder / "old-keys").glob("vault.*"):
        shutil.copy2(path, sim.home.keys)
    sim.start()
    with pytest.raises(SetBack, match="expected the next vault identity too"):
        sim.unseal()


def test_a_keyring_is_sealed_to_no_recipient_that_the_log_does_not_name(sim, five):
    """A custody file exchanged, or one more laid beside it, must not get the next identity."""
    record = sim.home.keys / f"{VAULT_SLOT}.custody.json"
    mallory = X25519Identity.generate()
    planted = record.read_text().replace(
        read_record(sim.home.keys, VAULT_SLOT).recipient, mallory.recipient.text
    )
    (sim.home.keys / f"{VAULT_SLOT}-9.custody.json").write_text(planted)
    rotate(sim)
    assert not (sim.home.keys / f"{VAULT_SLOT}-9.age").exists()
    (sim.home.keys / f"{VAULT_SLOT}-9.custody.json").unlink()
    whole = record.read_text()
    before = digests(sim.home.keys)
    record.write_text(planted)
    with pytest.raises(IntegrityError, match="expected the record that the log names, found another"):
        rotate(sim)
    record.write_text(whole)
    assert digests(sim.home.keys) == before
    assert sim.read(five[0]) == b"0" * 100


def test_a_vault_without_an_object_is_rotated_to_the_end(sim):
    before = on_disk(sim).vault_identity.recipient.text
    rotate(sim)
    after = on_disk(sim)
    assert after.next_vault_identity is None
    assert after.vault_identity.recipient.text != before
    sim.restart()


def test_a_header_whose_folder_vanished_meanwhile_costs_the_others_nothing(sim, five):
    exchanged = HeaderExchange(sim.core.vault, sim.home.vault)
    gone, stays = five[:2]
    header = sim.core.vault.header(stays.id)
    exchanged.put(gone.id, b"new")
    exchanged.put(stays.id, header[::-1])
    sim.core.vault.remove(gone.id)
    asyncio.run(exchanged.settle())
    exchanged.discard()
    assert (sim.folder_of(stays) / "header").read_bytes() == header[::-1]
    assert not sim.folder_of(gone).exists()
