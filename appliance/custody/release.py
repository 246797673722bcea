"""The one door: an object key leaves custody for a grant that was logged, and for nothing else.

Guarantee: no receipt, no key. `unwrap` and `unwrap_parts` consume their grant before they read a byte, so a
grant that failed is spent too; an object whose recomputed id is not the one granted is refused, so a swapped
header or payload cannot turn the right to one object into the key of another. Source: DESIGN section 2;
docs/formats/sealed-objects.md.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.age.chunk import payload_key
from appliance.age.header import FILE_KEY_SIZE, NONCE_SIZE, parse_header
from appliance.age.identity import Identity, Recipient
from appliance.age.recipients import encode_header, unwrap_file_key
from appliance.age.stream import descriptor_sink
from appliance.custody.keyring import Keyring
from appliance.errors import IntegrityError, OtherTarget, PolicyRefused, UsageError, WrongSecret
from appliance.grants import Grant, LiveGrants
from appliance.vault import Vault, object_id

# The only decisions that release a key, and to what; every other action starts or changes something instead.
_OBJECT_ACTIONS = frozenset({"use", "verify"})
_BUNDLE_ACTIONS = frozenset({"open"})


@dataclass(frozen=True, slots=True, repr=False)
class ObjectKey:
    """The payload key of one object, 32 bytes; opens its chunks and nothing else."""

    object_id: str
    key: bytearray

    def wipe(self) -> None:
        """Overwrite the key."""
        self.key[:] = bytes(len(self.key))


@dataclass(frozen=True, slots=True, repr=False)
class Output:
    """A new object: what its writer gets. Who can read it is fixed already, in the header."""

    object_id: str
    header: bytes
    nonce: bytes
    key: bytearray

    def wipe(self) -> None:
        """Overwrite the key."""
        self.key[:] = bytes(len(self.key))


class Custody:
    """The unsealed keys of one appliance; `wipe` ends them."""

    def __init__(
        self, keyring: Keyring, vault: Vault, live: LiveGrants, recovery: Recipient | None = None
    ) -> None:
        self._keyring = keyring
        self._vault = vault
        self._live = live
        self._recovery = recovery

    @property
    def keyring(self) -> Keyring:
        """The keyring, for signing; after `wipe` its every use raises SealedError."""
        return self._keyring

    def unwrap(self, grant: Grant) -> ObjectKey:
        """Return the key of the granted object, published or staged; the caller wipes it.

        Raises PolicyRefused for a grant that is not live, SealedError, UnknownObject or Incomplete when the
        object is not there, IntegrityError when it is not the object granted.
        """
        identity = self._keyring.vault_identity
        self._consume(grant, _OBJECT_ACTIONS)
        name = grant.object_id
        staged = self._vault.is_staged(name)
        header = self._vault.staged_header(name) if staged else self._vault.header(name)
        nonce = self._vault.nonce(name, staged=staged)
        try:
            file_key = unwrap_file_key(parse_header(header), [identity])
        except WrongSecret as error:
            raise IntegrityError(
                f"object {name}: expected a header for this vault's identity, found one for others; it was "
                "exchanged, or the vault comes from before a rotation"
            ) from error
        try:
            found = object_id(file_key, nonce)
            if found != name:
                raise IntegrityError(
                    f"object {name}: its header and payload belong to object {found}; the folder was "
                    "tampered with"
                )
            return ObjectKey(name, payload_key(file_key, nonce))
        finally:
            file_key[:] = bytes(len(file_key))

    def unwrap_parts(self, grant: Grant, parts: Sequence[tuple[bytes, bytes]]) -> list[bytearray]:
        """Return the payload keys of a bundle's parts, given as (header, nonce); the caller wipes them.

        The caller has verified the signed manifest that names these parts and whose id the grant names.
        Raises PolicyRefused, SealedError, OtherTarget when a part is not addressed here, IntegrityError.
        """
        identity = self._keyring.transfer_identity
        self._consume(grant, _BUNDLE_ACTIONS)
        return [_part_key(identity, number, *part) for number, part in enumerate(parts, 1)]

    def mint(self) -> Output:
        """Make a new vault object: recipients are the vault's own identity and the recovery recipient."""
        own = self._keyring.vault_identity.recipient
        return _mint([own] if self._recovery is None else [own, self._recovery])

    def mint_for(self, recipients: Sequence[Recipient]) -> Output:
        """Make a new part of an export; its recipients were approved, the vault's own is never among them."""
        own = self._keyring.vault_identity.recipient
        if any(recipient == own for recipient in recipients):
            raise PolicyRefused("export refused: the vault's own identity is never a recipient of a bundle")
        return _mint(recipients)

    def reveal_identity(self, fd: int) -> None:
        """Write the vault identity, one line that the public `age` program takes, to a descriptor.

        For offline recovery alone: the caller has logged who asked, and the descriptor is that person's pipe.
        Raises UsageError for anything but a pipe (a file would keep it), or one without room.
        """
        room = select.poll()
        room.register(fd, select.POLLOUT)
        if not stat.S_ISFIFO(os.fstat(fd).st_mode) or not room.poll(0):
            raise UsageError("identity: expected a pipe with room for one line, found none")
        text = self._keyring.vault_identity.encode() + b"\n"
        try:
            descriptor_sink(fd)(memoryview(text))
        finally:
            text[:] = bytes(len(text))

    def wipe(self) -> None:
        """Drop every grant and overwrite every key: the vault is sealed from here on."""
        self._live.revoke_all()
        self._keyring.wipe()

    def _consume(self, grant: Grant, actions: frozenset[str]) -> None:
        if grant.action not in actions:
            raise PolicyRefused(
                f"grant {grant.index} refused: expected one of {', '.join(sorted(actions))}, found "
                f"{grant.action!r}, which yields no key here"
            )
        self._live.consume(grant)


def _part_key(identity: Identity, number: int, header: bytes, nonce: bytes) -> bytearray:
    try:
        file_key = unwrap_file_key(parse_header(header), [identity])
    except WrongSecret as error:
        raise OtherTarget(
            f"bundle part {number}: expected it addressed to this appliance's transfer identity, found "
            "another recipient; ask the sender to encrypt to the one that `appliance status` shows"
        ) from error
    try:
        return payload_key(file_key, nonce)
    finally:
        file_key[:] = bytes(len(file_key))


def _mint(recipients: Sequence[Recipient]) -> Output:
    file_key = bytearray(os.urandom(FILE_KEY_SIZE))
    nonce = os.urandom(NONCE_SIZE)
    try:
        header = encode_header(file_key, recipients)
        return Output(object_id(file_key, nonce), header, nonce, payload_key(file_key, nonce))
    finally:
        file_key[:] = bytes(len(file_key))
