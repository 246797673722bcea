"""Unsealing: the secret is taken from a pipe, wiped, and opens this appliance's keyring or nothing."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from appliance.custody import slot
from appliance.custody.keyring import Keyring
from appliance.custody.passphrase import Costs
from appliance.custody.unsealing import open_custody, read_secret
from appliance.egress import DEFAULTS
from appliance.errors import IntegrityError, UsageError, WrongSecret
from appliance.grants import LiveGrants
from appliance.home import Facts, Home
from appliance.vault import Vault

CHEAP = Costs(passes=1, memory_bytes=8192)


def piped(data):
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    try:
        return asyncio.run(read_secret(read_end))
    finally:
        os.close(read_end)


@pytest.mark.parametrize("data", [b"words", b"words\n"])
def test_a_secret_is_read_without_its_line_feed(data):
    assert piped(data) == bytearray(b"words")


@pytest.mark.parametrize(
    ("data", "found"), [(b"", "none"), (b"\n", "none"), (b"x" * 8193, "8193"), (b"x" * 9000, "819.")]
)
def test_an_empty_or_endless_secret_is_refused(data, found):
    with pytest.raises(WrongSecret, match=f"expected 1 to 8192 bytes on the pipe, found {found}"):
        piped(data)


def test_the_longest_secret_with_its_line_feed_fits():
    assert piped(b"x" * 8192 + b"\n") == bytearray(b"x" * 8192)


def test_a_pipe_that_stays_open_and_empty_is_not_waited_for():
    read_end, write_end = os.pipe()

    async def others_go_on():
        asked = asyncio.create_task(read_secret(read_end, patience_s=0.3))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not asked.done()
        await asked

    try:
        with pytest.raises(WrongSecret, match=r"expected it on the pipe within 0\.3 s, found none"):
            asyncio.run(others_go_on())
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_secret_in_a_file_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"words")
    with (tmp_path / "secret").open("rb") as file, pytest.raises(UsageError, match="expected a pipe"):
        asyncio.run(read_secret(file.fileno()))


@pytest.fixture
def appliance(tmp_path):
    home = Home(tmp_path)
    home.keys.mkdir()
    keyring = Keyring.generate()
    slot.create_slot(home.keys, "vault", "passphrase:", bytearray(b"words"), keyring.encode(), costs=CHEAP)
    facts = Facts(
        format=1,
        origin="test",
        profile="development",
        log_vkey="",
        log_pq_vkey="",
        bundle_vkey="",
        export_key_pem=keyring.export_public_pem().decode(),
        vault_recipient=keyring.vault_identity.recipient.text,
        transfer_recipient=keyring.transfer_identity.recipient.text,
        custody="passphrase:",
        log_custody="file:",
        policy_set="",
        officers_sha256="",
        trust=(),
        witnesses=(),
        witness_quorum=0,
        people={},
        roles={},
        compartments={},
        recovery="",
        quorums={},
        budgets=DEFAULTS,
    )
    vault = Vault(home.vault)
    vault.create()
    return home, facts, vault, LiveGrants(lambda: 0.0)


def test_the_right_secret_opens_custody_and_is_wiped(appliance):
    secret = bytearray(b"words")
    custody = open_custody(*appliance, secret)
    assert secret == bytes(5)
    assert custody.keyring.vault_identity.recipient.text == appliance[1].vault_recipient


def test_a_wrong_secret_is_wiped_too(appliance):
    secret = bytearray(b"wards")
    with pytest.raises(WrongSecret, match="wrong passphrase"):
        open_custody(*appliance, secret)
    assert secret == bytes(5)


@pytest.mark.parametrize("what", ["vault_recipient", "transfer_recipient", "export_key_pem"])
def test_another_appliance_s_keyring_opens_nothing(appliance, what):
    home, facts, vault, live = appliance
    with pytest.raises(
        IntegrityError, match=r"that the (genesis entry|log) names, found another; restore keys/"
    ):
        open_custody(home, replace(facts, **{what: "another"}), vault, live, bytearray(b"words"))
