"""The age v1 file format, read strictly: what seals every object at rest and every bundle in transit.

Anything written here can be opened with the public `age` program and the identity, and the other way round.
Source: C2SP age specification (c2sp.org/age), native X25519 and mlkem768x25519 recipients only.
"""

from appliance.age.chunk import payload_key
from appliance.age.files import decrypt, encrypt, open_bytes, seal_bytes
from appliance.age.header import FILE_KEY_SIZE, NONCE_SIZE, Header, Stanza, parse_header, read_header
from appliance.age.hybrid import HybridIdentity, HybridRecipient
from appliance.age.identity import Identity, Recipient
from appliance.age.reader import PayloadReader
from appliance.age.recipients import (
    encode_header,
    parse_identity,
    parse_identity_file,
    parse_recipient,
    unwrap_file_key,
)
from appliance.age.stream import PayloadWriter, descriptor_sink
from appliance.age.x25519 import X25519Identity, X25519Recipient

__all__ = [
    "FILE_KEY_SIZE",
    "NONCE_SIZE",
    "Header",
    "HybridIdentity",
    "HybridRecipient",
    "Identity",
    "PayloadReader",
    "PayloadWriter",
    "Recipient",
    "Stanza",
    "X25519Identity",
    "X25519Recipient",
    "decrypt",
    "descriptor_sink",
    "encode_header",
    "encrypt",
    "open_bytes",
    "parse_header",
    "parse_identity",
    "parse_identity_file",
    "parse_recipient",
    "payload_key",
    "read_header",
    "seal_bytes",
    "unwrap_file_key",
]
