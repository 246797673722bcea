"""The root: which keys may sign what, and how many of them are needed; it changes by its own signatures only.

Guarantees to whoever follows it: version N+1 counts only if as many root keys of version N *and* of N+1 have
signed it as these versions themselves demand, and no version can be left out; so nobody who holds fewer keys
than that can add a key, and a key that a new version leaves out is revoked by that. A version also names the
bundles that are revoked, by the digests of their manifests; a later version can only add to these.

    {"format":1,"revoked":[…],"roles":{"researcher":{"keys":["NAME+id+…"],"threshold":1},…},"version":1}

Source: The Update Framework 1.0.33, section 5.3 (root), cut down to keys and thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle import canonical, dsse
from appliance.errors import ContentRefused, SignatureError
from audit.errors import Malformed
from audit.note import ED25519, VerifierKey

if TYPE_CHECKING:
    from appliance.bundle.signer import SignerKey

FORMAT: Final = 1
ROOT: Final = "root"
RESEARCHER: Final = "researcher"
RELEASE: Final = "release"
COURIER: Final = "courier"
ROLES: Final = (COURIER, RELEASE, RESEARCHER, ROOT)
ROLE_OF: Final[Mapping[str, str]] = {
    "corpus": RESEARCHER,
    "config": RESEARCHER,
    "weights": RESEARCHER,
    "update": RELEASE,
    "approval": COURIER,
    "witness": COURIER,
    "revocation": COURIER,
}
"""Who vouches for a bundle on its way in. What couriers bring counts by the signatures that are in it."""

MAX_VERSIONS: Final = 256
MAX_BYTES: Final = 32 << 10
MAX_KEYS: Final = 16
MAX_REVOKED: Final = 256
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Role:
    """Keys of which `threshold` different ones must sign."""

    keys: tuple[VerifierKey, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Root:
    """One version: its roles, and the digests of manifests that are revoked."""

    version: int
    roles: Mapping[str, Role]
    revoked: tuple[str, ...]


def root_name(version: int) -> str:
    """Return the file name of a version in a bundle's folder."""
    return f"r{version:04d}.json"


def encode_root(root: Root) -> bytes:
    """Return the canonical bytes that are signed; raise ContentRefused for one that nobody could follow."""
    _check(root)
    return canonical.encode(
        {
            "format": FORMAT,
            "version": root.version,
            "roles": {
                name: {"keys": [key.text for key in role.keys], "threshold": role.threshold}
                for name, role in root.roles.items()
            },
            "revoked": list(root.revoked),
        }
    )


def parse_root(data: bytes) -> Root:
    """Parse the bytes of one version; raise ContentRefused."""
    fields = canonical.Fields(canonical.parse(data, "root", MAX_BYTES), "root")
    fields.constant("format", FORMAT)
    version = fields.number("version", 1, MAX_VERSIONS)
    roles = canonical.Fields(fields.take("roles"), "root, roles")
    found = {name: _parse_role(name, roles.take(name)) for name in ROLES}
    roles.done()
    root = Root(version, found, fields.texts("revoked", MAX_REVOKED))
    fields.done()
    _check(root)
    return root


def unsigned_envelope(root: Root) -> bytes:
    """Return the envelope of a new version that nobody has signed yet."""
    return dsse.sign_envelope(encode_root(root), [], dsse.ROOT)


def add_signature(envelope: bytes, key: SignerKey) -> bytes:
    """Return the envelope with one more signature, by a root key of this version or the one before."""
    return dsse.add_signature(envelope, key.note, dsse.ROOT)


def unverified_root(envelope: bytes) -> Root:
    """Parse a version without asking who signed it: for showing, and for signing."""
    return parse_root(dsse.unverified_payload(envelope, dsse.ROOT))


def verify_first(envelope: bytes) -> Root:
    """Return version 1 of a chain if its own root keys signed it; that it is the right one, its holder knows.

    Raises SignatureError, ContentRefused.
    """
    root = _verify(envelope, unverified_root(envelope).roles[ROOT])
    if root.version != 1:
        raise ContentRefused(f"root: expected version 1 to begin with, found version {root.version}")
    return root


def verify_next(current: Root, envelope: bytes) -> Root:
    """Return the version after `current`; raise SignatureError, ContentRefused."""
    root = _verify(envelope, current.roles[ROOT])
    if root.version != current.version + 1:
        raise ContentRefused(
            f"root: expected version {current.version + 1} after {current.version}, found {root.version};"
            " take all versions along, none may be left out"
        )
    _verify(envelope, root.roles[ROOT])
    if dropped := sorted(set(current.revoked) - set(root.revoked)):
        raise ContentRefused(
            f"root: expected version {root.version} to keep what was revoked, found it without {dropped[0]}"
        )
    return root


def follow(current: Root, chain: Sequence[bytes]) -> tuple[Root, tuple[bytes, ...]]:
    """Follow a chain of all versions from the first; return the newest, and the envelopes that were new.

    Versions up to `current` are passed over unread: they were judged before. Raises as `verify_next`.
    """
    new = tuple(chain[current.version :])
    for envelope in new:
        current = verify_next(current, envelope)
    return current, new


def _verify(envelope: bytes, role: Role) -> Root:
    verified = dsse.verify_envelope(envelope, role.keys, role.threshold, dsse.ROOT)
    return parse_root(verified.payload)


def _parse_role(name: str, value: canonical.JSON) -> Role:
    fields = canonical.Fields(value, f"root, role {name}")
    try:
        keys = tuple(VerifierKey.parse(text) for text in fields.texts("keys", MAX_KEYS))
    except Malformed as error:
        raise ContentRefused(f"root, role {name}: expected keys as NAME+id+base64: {error}") from error
    role = Role(keys, fields.number("threshold", 1, MAX_KEYS))
    fields.done()
    return role


def _check(root: Root) -> None:
    for name, role in root.roles.items():
        if any(key.key_type != ED25519 for key in role.keys):
            raise ContentRefused(f"root, role {name}: expected Ed25519 keys, found another type")
        different = {key.public_key for key in role.keys}
        if len(different) != len(role.keys):
            raise ContentRefused(f"root, role {name}: expected different keys, found one twice")
        if len(different) < role.threshold and (role.keys or name == ROOT):
            raise ContentRefused(
                f"root, role {name}: expected at least {role.threshold} keys, as many as must sign, found"
                f" {len(different)}"
            )
    if not all(_SHA256.fullmatch(digest) for digest in root.revoked):
        raise ContentRefused("root: expected revoked bundles by the SHA-256 of their manifests, found others")
    if list(root.revoked) != sorted(set(root.revoked)):
        raise ContentRefused("root: expected what is revoked sorted and once, found it otherwise")


def demand_keys(role: Role, name: str) -> Role:
    """Return a role that somebody holds; raise SignatureError for one without keys: nobody may sign as it."""
    if not role.keys:
        raise SignatureError(
            f"root: expected keys for the role {name}, found none; nobody may sign such a bundle for this"
            " appliance: a new root version gives somebody the role"
        )
    return role
