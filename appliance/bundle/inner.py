"""`inner.json`: the encrypted list of contents, bound to the signed manifest outside it.

Guarantees to the importing worker: it repeats bundle id, kind, seq, target and signers of the manifest, so
a signature that was stripped and replaced by another trusted signer's no longer matches what is inside;
and it states name, media type, size and SHA-256 of every member before the first byte of one is read.
Source: docs/formats/transfer-bundle.md, section Inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle import canonical
from appliance.bundle.names import (
    APPROVAL,
    MEDIA_TYPES,
    check_approval_names,
    check_media_types,
    check_member_names,
)
from appliance.bundle.ustar import MAX_SIZE
from appliance.errors import ContentRefused

if TYPE_CHECKING:
    from appliance.bundle.manifest import Label

FORMAT = 1
MAX_MEMBERS = 65_536
# About 250 bytes for each of the most members allowed.
MAX_INNER_BYTES = 16 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class InnerMember:
    """What is promised about one member; `size` in bytes, `sha256` in hex."""

    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Inner:
    """The contents of a bundle, and which bundle they belong to."""

    bundle_id: str
    kind: str
    seq: int
    target: str
    signers: tuple[str, ...]
    members: tuple[InnerMember, ...]


def inner_of(label: Label, members: tuple[InnerMember, ...]) -> Inner:
    """Bind members, sorted by name, to a bundle's label; raise ContentRefused for names that cannot be."""
    members = tuple(sorted(members, key=lambda member: member.name))
    _check_members(label.kind, members)
    return Inner(label.bundle_id, label.kind, label.seq, label.target, label.signers, members)


def encode_inner(inner: Inner) -> bytes:
    """Return the canonical bytes of `inner.json`."""
    data = canonical.encode(
        {
            "format": FORMAT,
            "bundle_id": inner.bundle_id,
            "kind": inner.kind,
            "seq": inner.seq,
            "target": inner.target,
            "signers": list(inner.signers),
            "members": [
                {"name": each.name, "media_type": each.media_type, "size": each.size, "sha256": each.sha256}
                for each in inner.members
            ],
        }
    )
    if len(data) > MAX_INNER_BYTES:
        raise ContentRefused(
            f"inner.json: expected at most {MAX_INNER_BYTES} bytes, found {len(data)}; pack fewer files in"
            " one bundle"
        )
    return data


def parse_inner(data: bytes) -> Inner:
    """Parse `inner.json` strictly; raise ContentRefused."""
    fields = canonical.Fields(canonical.parse(data, "inner.json", MAX_INNER_BYTES), "inner.json")
    fields.constant("format", FORMAT)
    members = tuple(_parse_member(value) for value in fields.array("members", MAX_MEMBERS))
    inner = Inner(
        bundle_id=fields.text("bundle_id"),
        kind=fields.text("kind"),
        seq=fields.number("seq"),
        target=fields.text("target"),
        signers=fields.texts("signers", 16),
        members=members,
    )
    fields.done()
    _check_members(inner.kind, members)
    return inner


def check_inner(inner: Inner, label: Label) -> None:
    """Raise ContentRefused unless the contents say that they belong to the verified manifest."""
    found = Inner(label.bundle_id, label.kind, label.seq, label.target, label.signers, inner.members)
    for field in ("bundle_id", "kind", "seq", "target", "signers"):
        outside, inside = getattr(found, field), getattr(inner, field)
        if outside != inside:
            raise ContentRefused(
                f"inner.json: expected {field} {outside!r} as in the signed manifest, found {inside!r};"
                " this manifest was put around another bundle's parts"
            )


def _check_members(kind: str, members: tuple[InnerMember, ...]) -> None:
    check_member_names([member.name for member in members])
    check_media_types(kind, {member.media_type for member in members})
    if kind == APPROVAL:
        check_approval_names([member.name for member in members])


def _parse_member(value: canonical.JSON) -> InnerMember:
    fields = canonical.Fields(value, "inner.json, member")
    member = InnerMember(
        name=fields.text("name"),
        media_type=fields.choice("media_type", MEDIA_TYPES),
        size=fields.number("size", most=MAX_SIZE),
        sha256=fields.match("sha256", _SHA256),
    )
    fields.done()
    return member
