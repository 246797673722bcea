"""From a person's secret to open custody: the vault's slot, and proof that its keyring is this appliance's.

Guarantee: the secret and the keyring's text are overwritten before `open_custody` returns, whatever happens,
and a keyring that is not the one named by the genesis facts opens nothing.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable

from appliance.age import parse_recipient
from appliance.custody.keyring import Keyring, parse_keyring
from appliance.custody.release import Custody
from appliance.custody.slot import VAULT_SLOT, open_slot
from appliance.custody.succession import settle_succession
from appliance.errors import IntegrityError, UsageError, WrongSecret
from appliance.grants import LiveGrants
from appliance.home import Facts, Home
from appliance.inventory import Inventory
from appliance.vault import Vault

_MAX_SECRET = 8192  # sixteen shares of 33 words
PATIENCE_S = 10.0  # it was typed before the call: more time would only serve whoever holds a pipe open


async def read_secret(fd: int, patience_s: float = PATIENCE_S) -> bytearray:
    """Read an unseal secret from a pipe until its end, without its line feed; the caller wipes it.

    The descriptor stays the caller's, and is never waited on: a client that holds its pipe open and writes
    nothing holds up nobody. Raises UsageError for anything but a pipe, WrongSecret when the secret is empty,
    longer than 8,192 bytes or not there in time.
    """
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        raise UsageError("secret: expected a pipe, found another kind of descriptor")
    secret = bytearray(_MAX_SECRET + 2)
    size = 0
    try:
        async with asyncio.timeout(patience_s):
            while size < len(secret):
                await _readable(fd)
                got = os.readv(fd, [memoryview(secret)[size:]])
                if not got:
                    break
                size += got
    except TimeoutError as silent:
        secret[:] = bytes(len(secret))
        raise WrongSecret(
            f"secret: expected it on the pipe within {patience_s:g} s, found none; close the pipe's other end"
        ) from silent
    del secret[size:]
    if secret.endswith(b"\n"):
        del secret[-1:]
    if not 0 < len(secret) <= _MAX_SECRET:
        found = len(secret)
        secret[:] = bytes(found)
        raise WrongSecret(f"secret: expected 1 to {_MAX_SECRET} bytes on the pipe, found {found or 'none'}")
    return secret


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def open_custody(
    home: Home,
    facts: Facts,
    vault: Vault,
    live: LiveGrants,
    secret: bytearray | None,
    *,
    slot: str = VAULT_SLOT,
    by_recovery: bool = False,
    inventory: Inventory | None = None,
    outdated: Callable[[Keyring], None] | None = None,
) -> Custody:
    """Open a slot of the vault; `secret` is None where a device or file answers, and overwritten in any case.

    `by_recovery` takes the offline recovery identity instead of the slot's own secret. `inventory` says which
    vault identity is in force; without one, that of the genesis entry. `outdated` is told of a keyring that
    is not as it lies in the slot. Raises WrongSecret, IntegrityError, SetBack, Incomplete, UsageError,
    DeviceMissing, PlatformChanged.
    """
    try:
        text = open_slot(home.keys, slot, secret, by_recovery=by_recovery)
    finally:
        if secret is not None:
            secret[:] = bytes(len(secret))
    try:
        keyring = parse_keyring(text)
    finally:
        text[:] = bytes(len(text))
    _compare(keyring, facts)
    try:
        if (
            settle_succession(keyring, facts.vault_recipient, inventory or Inventory())
            and outdated is not None
        ):
            outdated(keyring)
    except BaseException:
        keyring.wipe()
        raise
    return Custody(keyring, vault, live, parse_recipient(facts.recovery) if facts.recovery else None)


def _compare(keyring: Keyring, facts: Facts) -> None:
    """Refuse another appliance's keyring: the recorded keys could not open what it would seal."""
    for what, found, expected in (
        ("transfer identity", keyring.transfer_identity.recipient.text, facts.transfer_recipient),
        ("export key", keyring.export_public_pem().decode("ascii").strip(), facts.export_key_pem.strip()),
    ):
        if found != expected:
            keyring.wipe()
            raise IntegrityError(
                f"keyring: expected the {what} that the genesis entry names, found another; restore keys/ "
                "from a backup of this appliance"
            )
