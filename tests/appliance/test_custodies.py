"""Changing custody: the secret in force is asked for, the new way is proved first, the old one ends last."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial

import pytest

from appliance import age
from appliance.custodian import custodies
from appliance.custodian.clients import Caller
from appliance.custodian.custodies import Custodies, unlock
from appliance.custodian.vault_rotation import rotate_vault_key
from appliance.custody import slot
from appliance.custody.generations import reseal_vault
from appliance.custody.keyring import Keyring, parse_keyring
from appliance.custody.passphrase import Costs
from appliance.custody.shamir import ShareOfAnotherSet
from appliance.errors import (
    Busy,
    DeviceMissing,
    IntegrityError,
    PlatformChanged,
    PolicyRefused,
    SealedError,
    SpaceExhausted,
    UsageError,
    WrongSecret,
)
from appliance.grants import LiveGrants
from audit.entry import parse_entry
from tests.devices import PIN, software_token, software_tpm

CHEAP = Costs(passes=1, memory_bytes=8192)
WORDS = b"correct horse"


class Bench:
    """The custody verbs of a simulated appliance, called as clients call them."""

    def __init__(self, sim):
        self.sim = sim

    def call(self, verb, *, uid=None, out=False, **given):
        """Call a verb; bytes go on pipes. With `out`, returns what was written to `shares_fd` too."""
        table = Custodies(self.sim.core, asyncio.Lock()).table()
        parameters, fds, shares = {}, [], None
        for name, value in given.items():
            if isinstance(value, bytes):
                read_end, write_end = os.pipe()
                os.write(write_end, value)
                os.close(write_end)
                parameters[name] = len(fds)
                fds.append(read_end)
            else:
                parameters[name] = value
        if out:
            shares, write_end = os.pipe()
            parameters["shares_fd"] = len(fds)
            fds.append(write_end)
        try:
            caller = Caller(os.getuid() if uid is None else uid, parameters, tuple(fds))
            reply = asyncio.run(answer(table[verb](caller)))
            return (reply, os.read(shares, 65536)) if out else reply
        finally:
            for fd in [*fds, *([shares] if out else [])]:
                os.close(fd)

    def slots(self):
        return sorted(path.name for path in self.sim.home.keys.iterdir() if not path.name.startswith("log"))

    def opens(self, secret, *, by_recovery=False):
        """Whether a secret opens the slot in force, and with it this appliance's keyring."""
        given = bytearray(secret) if secret is not None else None
        try:
            custody = unlock(self.sim.core, LiveGrants(lambda: 0.0), given, by_recovery=by_recovery)
        except (WrongSecret, UsageError):
            return False
        custody.wipe()
        return True

    def last(self, kind):
        return next(entry for entry in reversed(self.sim.entries(0)) if entry.kind == kind)


async def answer(awaitable):
    return await awaitable


@pytest.fixture
def bench(sim, monkeypatch):
    monkeypatch.setattr(custodies, "create_slot", partial(slot.create_slot, costs=CHEAP))
    return Bench(sim)


def to_passphrase(bench, words=WORDS):
    return bench.call("RotateCustody", uri="passphrase:", new_secret_fd=words)


def test_another_kind_of_custody_takes_over_and_the_old_one_is_gone(bench):
    reply = to_passphrase(bench)
    assert (reply["uri"], reply["staged"], reply["left"]) == ("passphrase:", False, "")
    assert bench.slots() == ["vault-1.age", "vault-1.custody.json"]
    assert bench.opens(WORDS)
    assert not bench.opens(b"wrong horse")
    told = bench.last("custody-changed")
    assert told.context["custody"] == "passphrase:"
    assert told.context["generation"] == 1
    assert bench.sim.core.custody_uri == "passphrase:"
    assert bench.sim.core.world().custody == "passphrase:"
    assert bench.call("CustodyStatus")["asks"] == "passphrase"
    bench.sim.stop()
    bench.sim.start()
    assert bench.opens(WORDS)


def test_a_change_asks_for_the_secret_in_force(bench):
    """Who finds a vault open must not be able to take it over."""
    to_passphrase(bench)
    for given in ({}, {"secret_fd": b"wrong horse"}):
        with pytest.raises((WrongSecret, UsageError)):
            bench.call("RotateCustody", uri="file:", **given)
    assert bench.opens(WORDS)
    assert bench.slots() == ["vault-1.age", "vault-1.custody.json"]
    bench.call("RotateCustody", uri="passphrase:", secret_fd=WORDS, new_secret_fd=b"battery staple")
    assert not bench.opens(WORDS)
    assert bench.opens(b"battery staple")
    assert bench.slots() == ["vault-2.age", "vault-2.custody.json"]


def test_a_stranger_changes_nothing_and_sees_nothing(bench):
    for verb, given in (
        ("RotateCustody", {"uri": "file:"}),
        ("ProveCustody", {"shares_fd": b"x"}),
        ("CustodyStatus", {}),
    ):
        with pytest.raises(PolicyRefused):
            bench.call(verb, uid=54321, **given)
    assert bench.slots() == ["vault.age", "vault.custody.json", "vault.identity"]


def test_a_sealed_vault_changes_no_custody(bench):
    bench.sim.seal()
    with pytest.raises(SealedError):
        to_passphrase(bench)
    assert bench.call("CustodyStatus")["uri"] == "file:"


def test_new_shares_wait_until_each_was_entered(bench):
    reply, shares = bench.call("RotateCustody", uri="shamir:2-of-3", out=True)
    assert reply["staged"]
    lines = shares.splitlines()
    assert len(lines) == 3
    assert bench.sim.core.custody_uri == "file:"
    assert bench.opens(None)
    status = bench.call("CustodyStatus")
    assert (status["pending"], status["pending_shares"]["shares"]) == ("shamir:2-of-3", 3)
    bench.sim.stop()
    bench.sim.start()  # they wait across a start
    bench.sim.unseal()
    for some in (lines[:2], [*lines[:2], lines[1]], [lines[0], lines[1], damaged(lines[2])]):
        with pytest.raises(WrongSecret):
            bench.call("ProveCustody", shares_fd=b"\n".join(some))
    assert bench.sim.core.custody_uri == "file:"
    reply = bench.call("ProveCustody", shares_fd=shares)
    assert (reply["uri"], reply["staged"]) == ("shamir:2-of-3", False)
    assert bench.slots() == ["vault-1.age", "vault-1.custody.json"]
    assert bench.opens(b"\n".join(lines[1:]))
    assert not bench.opens(lines[0])
    assert not bench.opens(None)


def damaged(line):
    words = line.split()
    return b" ".join([words[1], words[0], *words[2:]])


def test_old_shares_are_of_another_set_after_resharing(bench):
    _, old = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    bench.call("ProveCustody", shares_fd=old)
    _, new = bench.call("RotateCustody", uri="shamir:2-of-3", secret_fd=old, out=True)
    with pytest.raises(ShareOfAnotherSet):
        bench.call("ProveCustody", shares_fd=old + new.splitlines()[0])
    assert bench.opens(old)
    bench.call("ProveCustody", shares_fd=new)
    assert not bench.opens(old)
    assert bench.opens(b"\n".join(new.splitlines()[:2]))


def test_a_set_in_force_can_be_rehearsed(bench):
    _, shares = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    bench.call("ProveCustody", shares_fd=shares)
    slots = bench.slots()
    assert bench.call("ProveCustody", shares_fd=shares)["log_index"] is None
    with pytest.raises(WrongSecret, match="expected all 2, each to be proved, found 1"):
        bench.call("ProveCustody", shares_fd=shares.splitlines()[0])
    assert bench.slots() == slots


def test_custody_without_shares_has_none_to_prove(bench):
    with pytest.raises(UsageError, match="custody file: has no shares to prove"):
        bench.call("ProveCustody", shares_fd=b"abc")


def test_shares_go_to_an_empty_pipe_and_nowhere_else(bench, tmp_path):
    with pytest.raises(UsageError, match="expected a pipe to hand the new shares to"):
        bench.call("RotateCustody", uri="shamir:2-of-3")
    rotate = Custodies(bench.sim.core, asyncio.Lock()).table()["RotateCustody"]
    with (tmp_path / "file").open("wb") as file:
        caller = Caller(os.getuid(), {"uri": "shamir:2-of-3", "shares_fd": 0}, (file.fileno(),))
        with pytest.raises(UsageError, match="expected an empty pipe"):
            asyncio.run(answer(rotate(caller)))
    assert bench.slots() == ["vault.age", "vault.custody.json", "vault.identity"]
    assert bench.sim.core.standing.pending is None


def test_a_second_set_replaces_the_one_that_waits(bench):
    _, first = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    _, second = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    with pytest.raises(ShareOfAnotherSet):
        bench.call("ProveCustody", shares_fd=first)
    bench.call("ProveCustody", shares_fd=second)
    assert bench.slots() == ["vault-2.age", "vault-2.custody.json"]


def test_keys_that_changed_while_shares_waited_are_the_ones_they_open(bench):
    _, shares = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    core = bench.sim.core
    before = core.custody.keyring
    changed = Keyring.generate()
    changed._identities["vault_identity"] = before.vault_identity
    changed._identities["transfer_identity"] = before.transfer_identity
    core.custody._keyring = changed
    bench.call("ProveCustody", shares_fd=shares)
    opened = parse_keyring(slot.open_slot(core.home.keys, core.standing.slot, bytearray(shares)))
    assert opened.bundle_seed == changed.bundle_seed != before.bundle_seed


def test_a_changed_keyring_is_put_into_every_slot_without_a_secret(bench):
    _, shares = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    keys = bench.sim.home.keys
    text = Keyring.generate().encode()
    reseal_vault(keys, bench.sim.core.standing, text, "")
    assert slot.open_slot(keys, "vault", None) == text
    assert slot.open_slot(keys, "vault-1", bytearray(shares)) == text


def test_no_space_while_rotating_leaves_the_old_state(bench, monkeypatch):
    real, written = slot._write, []

    def full(path, data):
        written.append(path.name)
        if path.name.endswith(".custody.json"):
            raise SpaceExhausted(f"slot: expected to write {path}, found: No space left on device")
        real(path, data)

    monkeypatch.setattr(slot, "_write", full)
    with pytest.raises(SpaceExhausted, match="No space left"):
        to_passphrase(bench)
    assert written == ["vault-1.age", "vault-1.custody.json"]
    assert bench.slots() == ["vault.age", "vault.custody.json", "vault.identity"]
    assert bench.opens(None)


def test_a_log_that_cannot_be_written_leaves_the_old_state(bench, monkeypatch):
    def dead(*_args, **_options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(bench.sim.core.gate, "outcome", dead)
    with pytest.raises(OSError, match="Input/output"):
        to_passphrase(bench)
    assert bench.opens(None)
    monkeypatch.undo()
    bench.sim.stop()
    bench.sim.start()
    assert bench.slots() == ["vault.age", "vault.custody.json", "vault.identity"]


def test_an_exchanged_record_opens_nothing(bench):
    """A vandal's record would send the PIN, or the shares, to where the vandal wants them."""
    to_passphrase(bench)
    path = bench.sim.home.keys / "vault-1.custody.json"
    good = path.read_bytes()
    fields = json.loads(good)
    fields["argon2id"]["passes"] = 2
    path.write_bytes(json.dumps(fields, sort_keys=True).encode() + b"\n")
    with pytest.raises(IntegrityError, match="expected the record that the log names, found another"):
        bench.opens(WORDS)
    bench.sim.stop()
    bench.sim.refuses_to_start(IntegrityError, "expected the record that the log names")
    path.write_bytes(good)
    bench.sim.start()
    assert bench.opens(WORDS)


def test_an_old_slot_that_is_put_back_is_removed_again(bench):
    keys = bench.sim.home.keys
    old = {path.name: path.read_bytes() for path in keys.iterdir() if path.name.startswith("vault")}
    to_passphrase(bench)
    bench.sim.stop()
    for name, data in old.items():
        (keys / name).write_bytes(data)
    bench.sim.start()
    assert bench.slots() == ["vault-1.age", "vault-1.custody.json"]
    assert not bench.opens(None)
    assert bench.opens(WORDS)


# Devices


def test_a_tpm_takes_over_and_gives_way(bench):
    with software_tpm() as chip:
        reply = bench.call("RotateCustody", uri=chip.uri())
        assert reply["uri"] == chip.uri()
        assert bench.opens(None)
        assert bench.call("CustodyStatus")["device"] == ""
        first = bench.sim.core.slot_record.lock.counter
        bench.call("RotateCustody", uri=chip.uri())  # sealed anew
        assert bench.sim.core.slot_record.lock.counter.index != first.index
        chip.extend(7)
        with pytest.raises(PlatformChanged):
            to_passphrase(bench)
        chip.stop()
        assert "expected one to answer" in bench.call("CustodyStatus")["device"]
        with pytest.raises(DeviceMissing):
            to_passphrase(bench)
        chip.start()
        assert to_passphrase(bench)["left"] == ""
    assert bench.opens(WORDS)


def test_a_token_takes_over_and_its_key_ends_with_it(bench, tmp_path):
    with software_token(tmp_path) as token:
        take_over(bench, token.uri(), tmp_path)


def take_over(bench, uri, tmp_path):
    with pytest.raises(WrongSecret, match="wrong PIN"):
        bench.call("RotateCustody", uri=uri, new_secret_fd=b"000000")
    assert bench.opens(None)
    bench.call("RotateCustody", uri=uri, new_secret_fd=PIN)
    assert bench.opens(PIN)
    assert bench.call("CustodyStatus")["asks"] == "PIN"
    with pytest.raises(WrongSecret, match="few tries may be left"):
        bench.call("RotateCustody", uri="file:", secret_fd=b"000000")
    assert "few tries" in bench.call("CustodyStatus")["device"]
    old = bench.sim.core.slot_record.lock
    assert bench.call("RotateCustody", uri="file:", secret_fd=PIN)["left"] == ""
    with pytest.raises(PlatformChanged, match="found none"):
        old.open(bytearray(PIN), tmp_path)


# Recovery


def test_the_recovery_identity_opens_what_a_lost_device_does_not(tmp_path, monkeypatch):
    from tests.simulator import Simulator  # noqa: PLC0415  loads all four packages

    monkeypatch.setattr(custodies, "create_slot", partial(slot.create_slot, costs=CHEAP))
    offline = age.X25519Identity.generate()
    sim = Simulator(tmp_path, recovery=offline.recipient.text)
    bench = Bench(sim)
    try:
        thing = sim.add("weights", "tiny", b"what was learnt")
        folder = sim.home.vault / thing.id
        whole = (folder / "header").read_bytes() + (folder / "payload").read_bytes()
        assert age.open_bytes(whole, [offline]) == b"what was learnt"
        with software_tpm() as chip:
            bench.call("RotateCustody", uri=chip.uri("7"))
            chip.extend(7)
            with pytest.raises(PlatformChanged):
                bench.opens(None)
            text = bytes(offline.encode())
            assert bench.opens(text, by_recovery=True)
            stranger = bytes(age.X25519Identity.generate().encode())
            assert not bench.opens(stranger, by_recovery=True)
            reply = bench.call("RotateCustody", uri=chip.uri("7"), secret_fd=text, recovery=True)
            assert reply["left"] == ""
            assert bench.opens(None)
        reply = bench.call("RotateCustody", uri="file:", secret_fd=text, recovery=True)
        assert "could not be removed" in reply["left"]
        assert bench.opens(text, by_recovery=True)
    finally:
        sim.close()


def test_entries_of_custody_hold_no_secret(bench):
    _, shares = bench.call("RotateCustody", uri="shamir:2-of-2", out=True)
    bench.call("ProveCustody", shares_fd=shares)
    bench.call("RotateCustody", uri="passphrase:", secret_fd=shares, new_secret_fd=WORDS)
    log = bench.sim.core.log
    text = b"".join(log.entry(index) for index in range(log.size))
    assert b"custody-staged" in text
    assert parse_entry(log.entry(log.size - 1)).kind == "custody-changed"
    for secret in (WORDS, *shares.splitlines(), b" ".join(shares.split()[:5])):
        assert secret not in text


def test_a_change_of_custody_and_a_rotation_do_not_overlap(bench, monkeypatch):
    """A slot made of the keyring of before a rotation would open nothing after it."""
    sim = bench.sim
    row = sim.add("weights", "tiny", b"the weights")

    def rotate():
        async def run():
            return [told async for told in rotate_vault_key(sim.core, sim.operator, "")]

        return asyncio.run(run())

    refused = []
    made = Custodies._make

    def meanwhile(self, *given):
        with pytest.raises(Busy):
            rotate()
        refused.append(True)
        return made(self, *given)

    monkeypatch.setattr(Custodies, "_make", meanwhile)
    to_passphrase(bench)
    assert refused
    monkeypatch.setattr(sim.core, "rotating", True)
    with pytest.raises(Busy, match="a rotation or a backup is under way"):
        bench.call("RotateCustody", uri="passphrase:", secret_fd=WORDS, new_secret_fd=b"other words")
    monkeypatch.setattr(sim.core, "rotating", False)
    assert bench.opens(WORDS)
    assert sim.read(row) == b"the weights"
