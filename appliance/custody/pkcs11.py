"""`pkcs11:` custody: an AES-256 key that cannot leave a token wraps the 32 bytes (the extra `pkcs11`).

Guarantee: without the token and its PIN the 32 bytes cannot be had. A PIN that a person gave is tried once,
and an error tells what the token says about the tries that are left. Source: PKCS #11 v2.40; AES key wrap of
RFC 3394.

KNOWN: the standard has no count of tries, only three flags (few left, one left, none left), and some tokens
set none; the token's library runs inside the custodian, so it is part of what is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.age.identity import SECRET_SIZE
from appliance.custody.lock import Made
from appliance.custody.uri import Pkcs11URI, parse_pkcs11
from appliance.errors import ApplianceError, DeviceMissing, PlatformChanged, UsageError, WrongSecret
from appliance.strictjson import JSON

FIELD = "pkcs11"
_KEY_ID_BYTES = 8
_WRAPPED_BYTES = SECRET_SIZE + 8  # RFC 3394 adds one block
# CK_TOKEN_INFO flags of PKCS #11
_COUNT_LOW, _FINAL_TRY, _LOCKED = 0x00010000, 0x00020000, 0x00040000


class WrongPin(WrongSecret):
    """The token refused the PIN; the message says what it tells about the tries left."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The wrapped 32 bytes, and the id of the key on the token that unwraps them."""

    where: Pkcs11URI
    key_id: bytes
    wrapped: bytes

    @property
    def uri(self) -> str:
        """The custody URI."""
        return self.where.text

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds."""
        return {FIELD: {"key": self.key_id.hex(), "wrapped": self.wrapped.hex()}}

    def open(self, secret: bytearray | None, beside: Path) -> bytearray:
        """Unwrap on the token; `secret` is the PIN. Raises WrongPin, DeviceMissing, PlatformChanged."""
        del beside
        with _logged_in(self.where, secret) as (lib, session):
            key = self._find(lib, session)
            readable = {lib.Attribute.SENSITIVE: False, lib.Attribute.EXTRACTABLE: True}
            try:
                found = key.unwrap_key(
                    lib.ObjectClass.SECRET_KEY,
                    lib.KeyType.GENERIC_SECRET,
                    self.wrapped,
                    mechanism=lib.Mechanism.AES_KEY_WRAP,
                    template=readable,
                )
            except lib.exceptions.PKCS11Error as refused:
                raise PlatformChanged(
                    f"token {self.where.token}: its key does not unwrap this slot ({type(refused).__name__})"
                    ": the token was set up anew, or the record is another's"
                ) from refused
            return bytearray(found[lib.Attribute.VALUE])

    def destroy(self, secret: bytearray | None) -> None:
        """Destroy the wrapping key on the token. Raises as `open`."""
        with _logged_in(self.where, secret) as (lib, session):
            self._find(lib, session).destroy()

    def _find(self, lib: Any, session: Any) -> Any:
        try:
            return session.get_key(
                object_class=lib.ObjectClass.SECRET_KEY, key_type=lib.KeyType.AES, id=self.key_id
            )
        except lib.exceptions.NoSuchKey as missing:
            raise PlatformChanged(
                f"token {self.where.token}: expected key {self.key_id.hex()} on it, found none: another "
                "token of that name, or one that was set up anew"
            ) from missing


def make(uri: str, pin: bytearray | None) -> Made:
    """Make a wrapping key on the token and wrap fresh randomness. Raises as `WrappedKey.open`."""
    where = parse_pkcs11(uri)
    secret, key_id = bytearray(os.urandom(SECRET_SIZE)), os.urandom(_KEY_ID_BYTES)
    with _logged_in(where, pin) as (lib, session):
        a = lib.Attribute
        kept = {a.SENSITIVE: True, a.EXTRACTABLE: False, a.WRAP: True, a.UNWRAP: True}
        key = session.generate_key(
            lib.KeyType.AES, 256, id=key_id, label=where.object, store=True, template=kept
        )
        passing = session.create_object(
            {
                a.CLASS: lib.ObjectClass.SECRET_KEY,
                a.KEY_TYPE: lib.KeyType.GENERIC_SECRET,
                a.VALUE: bytes(secret),
                a.EXTRACTABLE: True,
                a.SENSITIVE: False,
                a.TOKEN: False,
            }
        )
        wrapped = bytes(key.wrap_key(passing, mechanism=lib.Mechanism.AES_KEY_WRAP))
    return Made(WrappedKey(where, key_id, wrapped), secret)


def parse(uri: str, fields: Any) -> WrappedKey:
    """Parse what `WrappedKey.fields` says; raises ValueError, LookupError or TypeError."""
    lock = WrappedKey(parse_pkcs11(uri), bytes.fromhex(fields["key"]), bytes.fromhex(fields["wrapped"]))
    if len(lock.key_id) != _KEY_ID_BYTES or len(lock.wrapped) != _WRAPPED_BYTES:
        raise ValueError("a key's id or a wrapped key of another size")
    return lock


def tries_left(where: Pkcs11URI) -> str:
    """Return in words what the token says about wrong PINs, "" where all is well. Raises DeviceMissing."""
    return said_of_tries(int(_token(_library(where), where).flags))


def said_of_tries(flags: int) -> str:
    """Put the token's flags into words."""
    if flags & _LOCKED:
        return "its PIN is locked: the security officer's PIN (SO-PIN) unlocks it"
    if flags & _FINAL_TRY:
        return "ONE TRY IS LEFT: another wrong PIN locks it"
    if flags & _COUNT_LOW:
        return "a wrong PIN was given since the last right one: few tries may be left"
    return ""


@contextmanager
def _logged_in(where: Pkcs11URI, pin: bytearray | None) -> Iterator[tuple[Any, Any]]:
    """Yield the package and a session of the token's user; the PIN is tried once."""
    if not pin:
        raise UsageError(f"token {where.token}: expected its PIN, found none")
    lib = _library(where)
    token = _token(lib, where)
    faults = lib.exceptions
    try:
        session = token.open(rw=True, user_pin=bytes(pin).decode("utf-8", "surrogateescape"))
    except (faults.PinIncorrect, faults.PinInvalid, faults.PinLenRange, faults.PinLocked) as refused:
        told = said_of_tries(int(_token(lib, where).flags)) or "it says nothing about the tries left"
        raise WrongPin(f"token {where.token}: wrong PIN; {told}. Nothing was opened") from refused
    except faults.PKCS11Error as fault:
        raise DeviceMissing(f"token {where.token}: it opens no session ({type(fault).__name__})") from fault
    with session:
        try:
            yield lib, session
        except faults.PKCS11Error as fault:
            raise ApplianceError(
                f"token {where.token}: it refused a command ({type(fault).__name__})"
            ) from fault


def _token(lib: Any, where: Pkcs11URI) -> Any:
    try:
        return lib.lib(where.module_path).get_token(token_label=where.token)
    except lib.exceptions.NoSuchToken as missing:
        raise DeviceMissing(
            f"token {where.token}: expected it to be plugged in, found no token of that label"
        ) from missing
    except (lib.exceptions.PKCS11Error, OSError) as fault:
        raise DeviceMissing(
            f"token {where.token}: expected the library {where.module_path} to answer, found: "
            f"{fault or type(fault).__name__}"
        ) from fault


def _library(where: Pkcs11URI) -> Any:
    try:
        import pkcs11  # noqa: PLC0415  an optional extra
    except ImportError as missing:
        raise DeviceMissing(
            "pkcs11: custody needs the extra `pkcs11` (python-pkcs11), which is not installed here: "
            "pip install 'training-appliance[pkcs11]', or requirements/pkcs11.txt"
        ) from missing
    if not Path(where.module_path).is_file():
        raise DeviceMissing(
            f"token {where.token}: expected its library {where.module_path}, found no such file"
        )
    return pkcs11
