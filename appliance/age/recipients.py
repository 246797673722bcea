"""Who can open an age file: headers for recipients, file keys for identities, and both as text.

Two kinds of recipient, never mixed on one file, since one classical stanza would undo what the post-quantum
ones give. A stanza that is damaged ends the attempt; one meant for somebody else is passed over. Source:
c2sp.org/age, "Header" and "Native recipient types".
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.age import bech32, hybrid, x25519
from appliance.age.header import FILE_KEY_SIZE, Header, build_header, verify_mac
from appliance.age.hybrid import HybridIdentity, HybridRecipient, refuse_bad_public
from appliance.age.identity import SECRET_SIZE, Identity, Recipient
from appliance.age.x25519 import X25519Identity, X25519Recipient, refuse_low_order
from appliance.errors import UsageError, WrongSecret


def encode_header(file_key: bytes | bytearray, recipients: Sequence[Recipient]) -> bytes:
    """Return the header that wraps a 16-byte file key to every recipient.

    Raises UsageError for none, or for a mix of classical and post-quantum ones.
    """
    if len(file_key) != FILE_KEY_SIZE:
        raise UsageError(f"file key refused: expected {FILE_KEY_SIZE} bytes, found {len(file_key)}")
    if not recipients:
        raise UsageError("nobody could open this: expected at least one recipient, found none")
    if len({recipient.post_quantum for recipient in recipients}) > 1:
        raise UsageError(
            "recipients refused: expected only classical (age1…) or only post-quantum ones (age1pq1…), found "
            "both; a classical stanza would undo what the others protect"
        )
    return build_header(file_key, tuple(recipient.wrap(file_key) for recipient in recipients))


def unwrap_file_key(header: Header, identities: Sequence[Identity]) -> bytearray:
    """Return the 16-byte file key, after checking the header's MAC; the caller wipes it.

    Raises WrongSecret when no stanza is meant for these identities, IntegrityError when a native stanza or
    the MAC is damaged.
    """
    for stanza in header.stanzas:
        for identity in identities:
            file_key = identity.unwrap(stanza) if identity.kind == stanza.kind else None
            if file_key is not None:
                verify_mac(header, file_key)
                return file_key
    raise WrongSecret(
        f"no match: expected a stanza for one of {len(identities)} identities, found {len(header.stanzas)} "
        "for others; use the identity that this was sealed to"
    )


def parse_recipient(text: str) -> Recipient:
    """Parse an `age1…` or `age1pq1…` string; raises UsageError."""
    try:
        prefix, data = bech32.decode(text.encode("ascii"))
    except UnicodeEncodeError as error:
        raise UsageError("recipient refused: expected age1…, found a character outside ASCII") from error
    public = bytes(data)
    if prefix == "age" and len(public) == x25519.PUBLIC_SIZE and text.islower():
        refuse_low_order(public)
        return X25519Recipient(public)
    if prefix == "age1pq" and len(public) == hybrid.PUBLIC_SIZE and text.islower():
        refuse_bad_public(public)
        return HybridRecipient(public)
    raise UsageError(
        f"recipient refused: expected age1… or age1pq1… in lower case, found prefix {prefix!r} and "
        f"{len(public)} bytes; scrypt, ssh and plugin recipients are not supported"
    )


def parse_identity(text: str | bytes | bytearray) -> Identity:
    """Parse one `AGE-SECRET-KEY-…` string, upper case as `age-keygen` writes it; raises UsageError.

    Give a bytearray when the text is to be wiped afterwards; no copy of it stays.
    """
    try:
        raw = bytearray(text, "ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise UsageError("identity refused: expected ASCII, found another character") from error
    if not raw.isupper():
        raise UsageError("identity refused: expected AGE-SECRET-KEY-… in upper case, found something else")
    prefix, secret = bech32.decode(raw)
    try:
        for kind in (X25519Identity, HybridIdentity):
            if kind.prefix == prefix and len(secret) == SECRET_SIZE:
                return kind(secret)
    finally:
        secret[:] = bytes(len(secret))
    raise UsageError(
        "identity refused: expected AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…, found another kind of key"
    )


def parse_identity_file(data: bytes | bytearray) -> tuple[Identity, ...]:
    """Parse an identity file as `age-keygen` writes it: one identity a line, `#` comments, blank lines.

    Raises UsageError, naming the line and never its text.
    """
    found: list[Identity] = []
    for number, line in enumerate(bytearray(data).split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        try:
            found.append(parse_identity(line))
        except UsageError as error:
            raise UsageError(f"identity file, line {number}: {error}") from error
    if not found:
        raise UsageError("identity file: expected a line AGE-SECRET-KEY-…, found none")
    return tuple(found)
