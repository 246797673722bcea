"""Signatures over files as `ssh-keygen -Y sign` makes them and `ssh-keygen -Y verify` checks them.

Guarantees to the caller of `verify_signature` that the key named in the signature signed exactly these bytes
for exactly this purpose (the namespace, so that a signature over one kind of document counts for no other).
Whether that key belongs to anybody is for the caller to ask: see `policy.allowed_signers`.

Source: OpenSSH PROTOCOL.sshsig, version 1.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from policy.errors import Malformed, SignatureInvalid
from policy.sshkey import ED25519, PublicKey, ed25519_key, parse_public_key, verify
from policy.wire import Reader, decode_base64, encode_string

# Specification constants.
MAGIC: Final = b"SSHSIG"
VERSION: Final = 1
BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
END: Final = "-----END SSH SIGNATURE-----"
HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_LINE_CHARS: Final = 70

# Tuning: a token's P-256 signature in armor has about 500 characters.
MAX_ARMOR_CHARS: Final = 8192


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed signature that nobody has verified yet. `hash_name` is b"sha256" or b"sha512"."""

    key: PublicKey
    namespace: str
    hash_name: bytes
    value: bytes


def parse_signature(armored: str) -> Signature:
    """Read the armored form; raises Malformed for anything `ssh-keygen -Y sign` would not write."""
    reader = Reader(_unarmored(armored), "SSH signature")
    magic, version = reader.take(len(MAGIC)), reader.uint32()
    if magic != MAGIC or version != VERSION:
        raise Malformed(
            f"SSH signature: expected {MAGIC!r} version {VERSION}, found {magic!r} version {version}"
        )
    key = parse_public_key(reader.string())
    namespace, reserved, hash_name, value = (reader.string() for _ in range(4))
    reader.end()
    if not namespace or not namespace.isascii() or not namespace.decode("ascii").isprintable():
        raise Malformed(f"SSH signature: expected a namespace in printable ASCII, found {namespace[:64]!r}")
    if reserved:
        raise Malformed(f"SSH signature: expected nothing in the reserved field, found {len(reserved)} bytes")
    if hash_name not in HASHES:
        raise Malformed(f"SSH signature: expected sha256 or sha512, found {hash_name[:64]!r}")
    return Signature(key, namespace.decode("ascii"), hash_name, value)


def verify_signature(armored: str, namespace: str, message: bytes) -> PublicKey:
    """Return the key that signed `message` for `namespace`.

    Raises Malformed for the form, SignatureInvalid for another purpose, other bytes, an untouched token.
    """
    signature = parse_signature(armored)
    if signature.namespace != namespace:
        raise SignatureInvalid(
            f"expected a signature for {namespace}, found one for {signature.namespace}; "
            f"sign with: ssh-keygen -Y sign -n {namespace}"
        )
    verify(signature.key, signature.value, _signed(namespace, signature.hash_name, message))
    return signature.key


def sign(seed32: bytes | bytearray | memoryview, namespace: str, message: bytes) -> str:
    """Sign with an Ed25519 seed of 32 bytes; return it armored, byte for byte as ssh-keygen would."""
    signer = SigningKey(bytes(seed32))
    value = signer.sign(_signed(namespace, b"sha512", message)).signature
    key = ed25519_key(bytes(signer.verify_key))
    fields = (
        key.blob,
        namespace.encode("ascii"),
        b"",
        b"sha512",
        encode_string(ED25519.encode()) + encode_string(value),
    )
    return _armored(MAGIC + VERSION.to_bytes(4, "big") + b"".join(encode_string(field) for field in fields))


def public_key_line(key32: bytes, comment: str) -> str:
    """Return the line of a `.pub` file for an Ed25519 key; after a name, a line of allowed signers."""
    return f"{ED25519} {base64.b64encode(ed25519_key(key32).blob).decode('ascii')} {comment}"


def _signed(namespace: str, hash_name: bytes, message: bytes) -> bytes:
    """Return what is signed: the namespace, and a digest of the message in its place."""
    fields = (namespace.encode("ascii"), b"", hash_name, HASHES[hash_name](message).digest())
    return MAGIC + b"".join(encode_string(field) for field in fields)


def _armored(blob: bytes) -> str:
    text = base64.b64encode(blob).decode("ascii")
    lines = [text[at : at + _LINE_CHARS] for at in range(0, len(text), _LINE_CHARS)]
    return "\n".join([BEGIN, *lines, END]) + "\n"


def _unarmored(armored: str) -> bytes:
    if len(armored) > MAX_ARMOR_CHARS:
        raise Malformed(f"SSH signature: expected at most {MAX_ARMOR_CHARS} characters, found {len(armored)}")
    lines = armored.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) < 3 or lines[0] != BEGIN or lines[-1] != END:
        raise Malformed(f"SSH signature: expected {BEGIN} … {END}, found {armored[:40]!r}")
    return decode_base64("".join(lines[1:-1]), "SSH signature")
