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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.age.chunk import payload_key
from appliance.age.header import FILE_KEY_SIZE, NONCE_SIZE, parse_header
from appliance.age.identity import Identity, Recipient
from appliance.age.recipients import encode_header, unwrap_file_key
from appliance.age.stream import descriptor_sink
from appliance.custody.keyring import Keyring
from appliance.errors import (
    Busy,
    IntegrityError,
    OtherTarget,
    PolicyRefused,
    UnknownObject,
    UsageError,
    WrongSecret,
)
from appliance.grants import Grant, LiveGrants
from appliance.vault import Vault, object_id
from audit.entry import digest_of, parse_entry

# The only decisions that release a key, and to what; every other action starts or changes something instead.
_OBJECT_ACTIONS = frozenset({"use", "verify"})
_BUNDLE_ACTIONS = frozenset({"open"})
_ROTATE_ACTIONS = frozenset({"rotate"})  # new headers, no key


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
        identities = self._vault_identities()
        self._consume(grant, _OBJECT_ACTIONS)
        name = grant.object_id
        file_key, nonce = self._file_key(name, identities)
        try:
            return ObjectKey(name, payload_key(file_key, nonce))
        finally:
            file_key[:] = bytes(len(file_key))

    def rewrap(self, grant: Grant, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Return each object's id and its header for the next vault identity, lazily; never a key.

        One grant for all of `ids`, which its entry must list. What is wrapped for the next identity already
        is wrapped anew; what is no longer there is passed over. Raises PolicyRefused at once, and on the way
        what `unwrap` raises for an object.
        """
        upcoming = self._keyring.next_vault_identity
        if upcoming is None or not _lists(grant.entry, ids):
            raise PolicyRefused(
                f"grant {grant.index} refused: expected one whose entry lists these {len(ids)} objects, and "
                "a next vault identity to wrap them for"
            )
        self._consume(grant, _ROTATE_ACTIONS)
        return self._rewrap(ids, self._recipients(upcoming))

    def _rewrap(self, ids: Sequence[str], recipients: Sequence[Recipient]) -> Iterator[tuple[str, bytes]]:
        for name in ids:
            try:
                file_key, _ = self._file_key(name, self._vault_identities())
            except UnknownObject:
                continue
            try:
                header = encode_header(file_key, recipients)
            finally:
                file_key[:] = bytes(len(file_key))
            yield name, header

    def _file_key(self, name: str, identities: Sequence[Identity]) -> tuple[bytearray, bytes]:
        """Return an object's file key, which the caller wipes, and its nonce, both proved by its id."""
        header, nonce = self._vault.front(name)
        try:
            file_key = unwrap_file_key(parse_header(header), identities)
        except WrongSecret as error:
            raise IntegrityError(
                f"object {name}: expected a header for this vault's identity, found one for others; it was "
                "exchanged, or the vault comes from before a rotation: restore the header's newest copy"
            ) from error
        found = object_id(file_key, nonce)
        if found != name:
            file_key[:] = bytes(len(file_key))
            raise IntegrityError(
                f"object {name}: its header and payload belong to object {found}; the folder was "
                "tampered with"
            )
        return file_key, nonce

    def _vault_identities(self) -> list[Identity]:
        """Return the vault's identity, and while it is rotated the next one."""
        upcoming = self._keyring.next_vault_identity
        return [self._keyring.vault_identity, *([] if upcoming is None else [upcoming])]

    def _recipients(self, identity: Identity) -> list[Recipient]:
        return [identity.recipient, *([] if self._recovery is None else [self._recovery])]

    def prove(self, object_id: str) -> None:
        """Try whether an object's header opens and is its own; no key leaves. Raises as `unwrap` does."""
        file_key, _ = self._file_key(object_id, self._vault_identities())
        file_key[:] = bytes(len(file_key))

    def opens(self, header: bytes) -> bool:
        """Say whether a header opens with a vault identity held here; no key leaves."""
        try:
            file_key = unwrap_file_key(parse_header(header), self._vault_identities())
        except (WrongSecret, IntegrityError):
            return False
        file_key[:] = bytes(len(file_key))
        return True

    def unwrap_parts(self, grant: Grant, parts: Sequence[tuple[bytes, bytes]]) -> list[bytearray]:
        """Return the payload keys of a bundle's parts, given as (header, nonce); the caller wipes them.

        The caller has verified the signed manifest that names these parts and whose id the grant names.
        Raises PolicyRefused, SealedError, OtherTarget when a part is not addressed here, IntegrityError.
        """
        identity = self._keyring.transfer_identity
        self._consume(grant, _BUNDLE_ACTIONS)
        return [_part_key(identity, number, *part) for number, part in enumerate(parts, 1)]

    def mint(self) -> Output:
        """Make a new vault object: recipients are the vault's newest identity and the recovery recipient."""
        return _mint(self._recipients(self._vault_identities()[-1]))

    def mint_for(self, recipients: Sequence[Recipient]) -> Output:
        """Make a new part of an export; its recipients were approved, the vault's own is never among them."""
        own = [identity.recipient for identity in self._vault_identities()]
        if any(recipient in own for recipient in recipients):
            raise PolicyRefused("export refused: the vault's own identity is never a recipient of a bundle")
        return _mint(recipients)

    def reveal_identity(self, fd: int) -> None:
        """Write the vault identity, one line that the public `age` program takes, to a descriptor.

        For offline recovery alone: the caller has logged who asked, and the descriptor is that person's pipe.
        Raises UsageError for anything but a pipe (a file would keep it), or one without room; Busy while a
        rotation is not ended, when one identity alone does not open everything.
        """
        if self._keyring.next_vault_identity is not None:
            raise Busy("a rotation of the vault's key was cut off: finish it with `appliance keys rotate`")
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


def _lists(entry: bytes, ids: Sequence[str]) -> bool:
    """Say whether a decision's entry names exactly these ids, by their hash where they were too many."""
    said = parse_entry(entry).context.get("named", [])  # an entry leaves out an empty list
    return said in (list(ids), digest_of(list(ids)))


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
