"""The textual header of an age file: one strict, bounded parser and its inverse.

What parses here is in the one canonical form: line feeds only, unpadded canonical base64, body lines of 64
columns with a shorter last one, native stanzas with the exact share and body sizes. Whether the header is
*authentic* is decided later, by its MAC (`verify_mac`). Source: c2sp.org/age, "Header".
"""

from __future__ import annotations

import binascii
import hmac
import io
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from appliance.age.hkdf import hkdf_sha256
from appliance.errors import IntegrityError

FILE_KEY_SIZE = 16
NONCE_SIZE = 16
"""Bytes between header and first chunk: the salt of the payload key."""

VERSION_LINE = b"age-encryption.org/v1"
_COLUMNS = 64
_WRAPPED_KEY_SIZE = FILE_KEY_SIZE + 16
_SHARE_SIZES = {"X25519": 32, "mlkem768x25519": 1120}
_MAC_LINE = re.compile(rb"--- ([A-Za-z0-9+/]{43})")
_ARGUMENT_LINE = re.compile(rb"->(?: [\x21-\x7e]+)+")
_BODY_LINE = re.compile(rb"[A-Za-z0-9+/]*")
_MARK = b"---"

MAX_HEADER_SIZE = 64 * 1024
"""Bytes read before giving up: forty hybrid stanzas, so that a hostile header cannot fill memory."""
MAX_STANZAS = 64
"""Stanzas accepted: each costs a key exchange per identity."""


@dataclass(frozen=True, slots=True)
class Stanza:
    """One wrap of the file key: arguments (the first is the type) and a binary body."""

    arguments: tuple[str, ...]
    body: bytes

    @property
    def kind(self) -> str:
        """The recipient type, `X25519` for example."""
        return self.arguments[0]

    def share(self) -> bytes:
        """Return the encapsulated key of a native stanza, its second argument."""
        return decode_base64(self.arguments[1].encode("ascii"))

    def encode(self) -> bytes:
        """Return the stanza's lines; a body of a multiple of 48 bytes ends with an empty line."""
        text = encode_base64(self.body)
        lines = [text[i : i + _COLUMNS] for i in range(0, len(text) + 1, _COLUMNS)]
        return b"-> " + " ".join(self.arguments).encode("ascii") + b"\n" + b"".join(x + b"\n" for x in lines)


@dataclass(frozen=True, slots=True)
class Header:
    """A header in canonical form; its MAC is not yet checked (`verify_mac`)."""

    stanzas: tuple[Stanza, ...]
    unverified_mac: bytes
    raw: bytes

    @property
    def size(self) -> int:
        """Bytes of the header on disk: where the payload's nonce begins."""
        return len(self.raw)


def encode_base64(data: bytes) -> bytes:
    """Encode to unpadded standard base64 (RFC 4648 section 4)."""
    return b64encode(data).rstrip(b"=")


def decode_base64(text: bytes) -> bytes:
    """Decode unpadded *canonical* base64; raises IntegrityError when the text would not re-encode alike."""
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        data = b""
    if encode_base64(data) != text:
        raise IntegrityError(f"age header: expected canonical unpadded base64, found {text[:80]!r}")
    return data


def build_header(file_key: bytes | bytearray, stanzas: tuple[Stanza, ...]) -> bytes:
    """Return the header bytes: version line, stanzas, MAC under the file key."""
    marked = VERSION_LINE + b"\n" + b"".join(stanza.encode() for stanza in stanzas) + _MARK
    return marked + b" " + encode_base64(_mac(file_key, marked)) + b"\n"


def verify_mac(header: Header, file_key: bytes | bytearray) -> None:
    """Raise IntegrityError unless the header was made by a holder of this file key."""
    marked = header.raw[: header.raw.rindex(_MARK) + len(_MARK)]
    if not hmac.compare_digest(_mac(file_key, marked), header.unverified_mac):
        raise IntegrityError("age header: its MAC does not fit the file key; the header was altered")


def _mac(file_key: bytes | bytearray, marked: bytes) -> bytes:
    key = hkdf_sha256(file_key, b"", b"header")
    try:
        return hmac.digest(key, marked, "sha256")
    finally:
        key[:] = bytes(len(key))


def read_header(stream: BinaryIO | io.BufferedIOBase) -> Header:
    """Read one header and not a byte more, at most 64 KiB; raises IntegrityError."""
    lines: list[bytes] = []
    left = MAX_HEADER_SIZE
    while not lines or not lines[-1].startswith(_MARK):
        line = stream.readline(left + 1)
        left -= len(line)
        if left < 0:
            raise IntegrityError(f"age header: expected its end within {MAX_HEADER_SIZE} bytes, found none")
        lines.append(line)
        if not line.endswith(b"\n"):
            break
    return parse_header(b"".join(lines))


def parse_header(data: bytes) -> Header:
    """Parse a whole header, nothing before or after it; raises IntegrityError naming the line.

    The exact inverse of writing: a header that parses re-encodes to the same bytes.
    """
    if len(data) > MAX_HEADER_SIZE:
        raise IntegrityError(f"age header: expected at most {MAX_HEADER_SIZE} bytes, found {len(data)}")
    lines = data.split(b"\n")
    if lines[0] != VERSION_LINE:
        _refuse(1, "the line age-encryption.org/v1", lines[0])
    stanzas: list[Stanza] = []
    at = 1
    while at < len(lines) and not lines[at].startswith(_MARK):
        if len(stanzas) == MAX_STANZAS:
            _refuse(at + 1, f"at most {MAX_STANZAS} stanzas", lines[at])
        stanza, at = _parse_stanza(lines, at)
        stanzas.append(stanza)
    if lines[at:][1:] != [b""]:
        _refuse(at + 1, "a MAC line, then the end of the header", b"" if at >= len(lines) else lines[at])
    mac = _MAC_LINE.fullmatch(lines[at])
    if mac is None:
        _refuse(at + 1, "`--- ` and 43 base64 characters", lines[at])
    _check_stanzas(stanzas)
    return Header(tuple(stanzas), decode_base64(mac[1]), data)


def _parse_stanza(lines: list[bytes], at: int) -> tuple[Stanza, int]:
    if not _ARGUMENT_LINE.fullmatch(lines[at]):
        _refuse(at + 1, "`-> ` and arguments of visible characters, one space apart", lines[at])
    arguments = tuple(lines[at].decode("ascii").split(" ")[1:])
    body: list[bytes] = []
    for number in range(at + 1, len(lines) - 1):  # the last element follows the last line feed
        line = lines[number]
        if len(line) > _COLUMNS or not _BODY_LINE.fullmatch(line):
            _refuse(number + 1, f"at most {_COLUMNS} base64 characters", line)
        body.append(line)
        if len(line) < _COLUMNS:
            return Stanza(arguments, decode_base64(b"".join(body))), number + 1
    raise IntegrityError(f"age header, line {len(lines)}: expected a stanza's last line, found the end")


def _check_stanzas(stanzas: list[Stanza]) -> None:
    """Refuse an empty header, native stanzas of a wrong shape, and a passphrase stanza that is not alone.

    Sizes are fixed before any decryption: a longer body could decrypt under two keys (partitioning oracle).
    """
    if not stanzas:
        raise IntegrityError("age header: expected at least one stanza, found none")
    for stanza in stanzas:
        if stanza.kind == "scrypt" and len(stanzas) > 1:
            raise IntegrityError("age header: expected a passphrase stanza to be the only one, found others")
        size = _SHARE_SIZES.get(stanza.kind)
        if size is None:
            continue  # unknown kinds are to be ignored: other people's recipients, or grease
        if len(stanza.arguments) != 2:
            raise IntegrityError(
                f"age header: expected two arguments in a {stanza.kind} stanza, found {len(stanza.arguments)}"
            )
        found = (len(stanza.share()), len(stanza.body))
        if found != (size, _WRAPPED_KEY_SIZE):
            raise IntegrityError(
                f"age header: expected a share of {size} and a body of {_WRAPPED_KEY_SIZE} bytes in a "
                f"{stanza.kind} stanza, found {found[0]} and {found[1]}"
            )


def _refuse(line_number: int, expected: str, found: bytes) -> NoReturn:
    raise IntegrityError(f"age header, line {line_number}: expected {expected}, found {found[:80]!r}")
