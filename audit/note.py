"""Signed notes: text that is believed only when a key named in advance has signed it.

Guarantees the reader of a `VerifiedNote` that every signature by a known key was checked and held; one bad
signature by a known key refuses the whole note, unknown keys are ignored.
Source: C2SP signed-note v1.0.0; types 0x04 and 0x06 from C2SP tlog-cosignature v1.0.1 and v1.1.0-rc.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from audit.errors import BadSignature, Malformed
from audit.mldsa import MLDSA44, PUBLIC_BYTES, verify_head_text

# Specification constants.
ED25519 = 0x01
COSIGNATURE_V1 = 0x04
_DASH = "\N{EM DASH} "
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_LENGTHS = {ED25519: _KEY_BYTES, COSIGNATURE_V1: _KEY_BYTES, MLDSA44: PUBLIC_BYTES}

# Tuning: 16 signatures must be accepted, post-quantum ones reach 5 kB each; four times that stays cheap.
MAX_NOTE_BYTES = 128 * 1024
MAX_SIGNATURES = 64
SECRET_PREFIX = "PRIVATE+KEY+"  # noqa: S105  begins the text of a secret key, is none
_MAX_VKEY_CHARS = 2048  # an ML-DSA-44 key is 1752 base64 characters

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name, as a `vkey` line writes it: `name+hex(id)+base64(type || key)`."""

    name: str
    key_type: int
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read one vkey line (a final newline is allowed); raises Malformed."""
        line = text.removesuffix("\n")
        if line.startswith(SECRET_PREFIX):
            raise Malformed("verifier key: expected the public half, found the secret; give its .vkey")
        parts = line.split("+", 2)
        if len(line) > _MAX_VKEY_CHARS or len(parts) != 3:
            raise Malformed(
                f"verifier key: expected name+id+key on one line, found {len(line)} other characters"
            )
        name, key_id, encoded = parts
        _check_name(name)
        blob = decode_base64(encoded, "verifier key")
        if len(blob) < 1 or len(blob) - 1 != _LENGTHS.get(blob[0]):
            raise Malformed(
                f"verifier key {name}: expected type 0x01 or 0x04 and {_KEY_BYTES} bytes, or 0x06 and "
                f"{PUBLIC_BYTES}, found {len(blob)} bytes beginning {blob[:1].hex()}",
            )
        key = cls(name, blob[0], blob[1:])
        if key.key_id.hex() != key_id:
            raise Malformed(
                f"verifier key {name}: expected id {key.key_id.hex()}, found {key_id!r}; copied wrongly?"
            )
        return key

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key in a signature line."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.key_type]) + self.public_key).digest()[
            :4
        ]

    @property
    def text(self) -> str:
        """The vkey line, without newline: the inverse of `parse`."""
        blob = base64.b64encode(bytes([self.key_type]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{blob}"

    def verify(self, message: bytes, signature: bytes) -> None:
        """Check a bare Ed25519 signature (64 bytes) over `message`; raises BadSignature."""
        try:
            VerifyKey(self.public_key).verify(message, signature)
        except (BadSignatureError, ValueError) as failure:
            raise BadSignature(f"signature by {self.name} does not fit the signed bytes") from failure

    def verify_text(self, text: str, blob: bytes) -> None:
        """Check what follows the key id in a signature line over a note's text; raises BadSignature.

        CouldNotCheck where an ML-DSA-44 key is given and the package that it needs is missing.
        """
        if self.key_type == ED25519:
            self.verify(text.encode(), blob)
            return
        if self.key_type == MLDSA44:
            verify_head_text(self.name, self.public_key, text, blob)
            return
        if len(blob) != 8 + _SIGNATURE_BYTES:
            raise BadSignature(f"cosignature by {self.name}: expected 72 bytes, found {len(blob)}")
        seconds = int.from_bytes(blob[:8], "big")
        self.verify(f"cosignature/v1\ntime {seconds}\n{text}".encode(), blob[8:])


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A log's signing key and name; `seed` is the 32-byte Ed25519 seed, copied, never shown.

    `vkey` is the public half.
    """

    name: str
    seed: bytes | bytearray | memoryview = field(repr=False, compare=False)
    vkey: VerifierKey = field(init=False)
    _key: SigningKey = field(init=False, repr=False, compare=False)
    _key_id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.seed) != _KEY_BYTES:
            raise Malformed(
                f"signing key {self.name}: expected a seed of {_KEY_BYTES} bytes, found {len(self.seed)}"
            )
        key = SigningKey(bytes(self.seed))
        vkey = VerifierKey(self.name, ED25519, bytes(key.verify_key))
        for name, value in {"_key": key, "vkey": vkey, "_key_id": vkey.key_id}.items():
            object.__setattr__(self, name, value)

    def sign_line(self, text: bytes) -> SignatureLine:
        """Sign a note's text: the line that goes below it."""
        return SignatureLine(self.name, self._key_id, self.sign(text))

    def sign(self, message: bytes) -> bytes:
        """Sign bytes with Ed25519; 64 bytes, the same each time."""
        return self._key.sign(message).signature


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """The text of a note and the known keys whose signatures held, each once, and their names."""

    text: str
    names: tuple[str, ...]
    keys: tuple[VerifierKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One unverified signature line: whose it claims to be, and the bytes after the key id."""

    name: str
    key_id: bytes
    blob: bytes

    @property
    def text(self) -> str:
        """The line, with its newline; the inverse of `parse_signature_lines`."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.blob).decode()}\n"

    def is_by(self, key: VerifierKey) -> bool:
        """Tell whether the line claims to be by this key."""
        return (self.name, self.key_id) == (key.name, key.key_id)


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Append one signature line per signer to `text`, which must end in a newline; raises Malformed."""
    if not text.endswith("\n") or not signers:
        raise Malformed("a note needs a text that ends in a newline, and at least one signer")
    _check_characters(text)
    lines = [each.sign_line(text.encode()) for each in signers]
    return (text + "\n" + "".join(line.text for line in lines)).encode()


def verify_note(data: bytes, known: Sequence[VerifierKey]) -> VerifiedNote:
    """Return the text of a note that a known key signed; raises Malformed or BadSignature."""
    text, lines = parse_note(data)
    keys: dict[VerifierKey, None] = {}
    for line in lines:
        for key in known:
            if line.is_by(key):
                key.verify_text(text, line.blob)
                keys[key] = None
    if not keys:
        raise BadSignature(
            f"expected a signature by {', '.join(key.name for key in known) or 'a known key'}, "
            f"found only {', '.join(line.name for line in lines)}; is this the right key file?",
        )
    return VerifiedNote(text, tuple(dict.fromkeys(key.name for key in keys)), tuple(keys))


def decode_base64(text: str, where: str) -> bytes:
    """Decode standard base64 that is exactly what an encoder writes; raises Malformed."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as failure:
        # Not what was found: a secret key handed in by mistake must not end on a screen or in a log.
        raise Malformed(f"{where}: expected base64, found {len(text)} other characters") from failure
    if base64.b64encode(data).decode() != text:  # two spellings of one value would make two receipts of one
        raise Malformed(f"{where}: expected canonical base64, found another spelling of {len(data)} bytes")
    return data


def parse_note(data: bytes) -> tuple[str, list[SignatureLine]]:
    """Split a note into its text and signature lines, none of them verified; raises Malformed."""
    note = _decode(data)
    text, gap, signatures = note.rpartition("\n\n")
    if not gap:
        raise Malformed(
            "signed note: expected a text, an empty line and signature lines; is the end cut off?"
        )
    return text + "\n", _parse_lines(signatures)


def parse_signature_lines(data: bytes) -> list[SignatureLine]:
    """Read signature lines that stand alone, as a witness answers; raises Malformed."""
    return _parse_lines(_decode(data))


def _decode(data: bytes) -> str:
    if len(data) > MAX_NOTE_BYTES:
        raise Malformed(f"signed note: expected at most {MAX_NOTE_BYTES} bytes, found {len(data)}")
    try:
        note = data.decode()
    except UnicodeDecodeError as failure:
        raise Malformed("signed note: expected UTF-8") from failure
    _check_characters(note)
    return note


def _parse_lines(text: str) -> list[SignatureLine]:
    if not text.endswith("\n"):
        raise Malformed(
            "signed note: expected a text, an empty line and signature lines; is the end cut off?"
        )
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise Malformed(f"signed note: expected at most {MAX_SIGNATURES} signatures, found {len(lines)}")
    return [_parse_line(line) for line in lines]


def _parse_line(line: str) -> SignatureLine:
    parts = line.removeprefix(_DASH).split(" ")
    if not line.startswith(_DASH) or len(parts) != 2:
        raise Malformed(f"signature line: expected an em dash, a name and base64, found {line[:80]!r}")
    name, encoded = parts
    _check_name(name)
    blob = decode_base64(encoded, f"signature by {name}")
    if len(blob) <= 4:
        raise Malformed(f"signature by {name}: expected a key id and a signature, found {len(blob)} bytes")
    return SignatureLine(name, blob[:4], blob[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise Malformed(
            f"key name: expected no spaces, no '+' and at least one character, found {name[:80]!r}"
        )


def _check_characters(text: str) -> None:
    if _CONTROL.search(text):
        raise Malformed("signed note: expected no control characters besides newline")
