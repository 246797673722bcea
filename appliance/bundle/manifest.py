"""The signed manifest: what a bundle is, for whom, in which order, and the hash of each of its files.

Guarantees to the importer: a `Manifest` that was parsed from signed bytes is complete, within limits and
consistent in itself (part names in order, sizes that add up), and encodes again to exactly those bytes.
`Label` is the part of it that is known before anything is written; a `Manifest` adds the files.
Source: in-toto Statement v1 around the predicate of docs/formats/transfer-bundle.md, section Manifest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from appliance.bundle import canonical
from appliance.bundle.groups import group_count, parity_name, parity_sizes
from appliance.bundle.root import MAX_VERSIONS, root_name
from appliance.errors import ContentRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://appliance.invalid/transfer-bundle/v1"
FORMAT = 1
KINDS = ("corpus", "config", "weights", "metrics", "update", "approval", "witness", "receipt", "revocation")
DIRECTIONS = ("in", "out")
RECIPIENT_TYPES = ("X25519", "mlkem768x25519")
MAX_PARTS = 4096
MAX_PART_BYTES = 4 << 30
MAX_SIGNERS = 16

README = "readme.txt"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA256_OR_NONE = re.compile(r"(?:[0-9a-f]{64})?")
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TARGET = re.compile(r"[!-~]{1,128}")
_KEY_ID = re.compile(r"[!-*,-~]{1,100}\+[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of a bundle before its parts exist.

    `prev` (SHA-256 of the channel's previous manifest), `tree_head` (a signed note) and `policy_decision`
    are empty where they do not apply. `recipients` names the kinds of key, never the keys.
    """

    bundle_id: str
    kind: str
    direction: str
    channel: str
    seq: int
    prev: str
    target: str
    issued_at: str
    expires: str
    recipients: tuple[str, ...]
    signers: tuple[str, ...]
    quorum: int
    tree_head: str
    policy_decision: str

    @property
    def folder_name(self) -> str:
        """Name of the bundle's folder, valid on any file system."""
        return f"{self.bundle_id[:8]}.bundle"


@dataclass(frozen=True, slots=True)
class PartFile:
    """One file as it lies on the medium: `size` in bytes, `sha256` in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest(Label):
    """A label and the files that it stands for; `parity` is empty, or one file for each group of parts."""

    parts: tuple[PartFile, ...]
    parity: tuple[PartFile, ...]
    readme_sha256: str
    roots: tuple[str, ...] = ()
    """SHA-256 of every version of the root that travels along, from the first."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all parts as they lie on the medium: the space that an import needs, parity left out."""
        return sum(part.size for part in self.parts)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes: what the next bundle's `prev` and the replay state name."""
        return hashlib.sha256(encode_manifest(self)).hexdigest()


def complete(
    label: Label,
    parts: tuple[PartFile, ...],
    readme: bytes,
    parity: tuple[PartFile, ...] = (),
    roots: Sequence[bytes] = (),
) -> Manifest:
    """Return the manifest of a bundle whose files are written."""
    known = {field.name: getattr(label, field.name) for field in fields(Label)}
    return Manifest(
        **known,
        parts=parts,
        parity=parity,
        readme_sha256=hashlib.sha256(readme).hexdigest(),
        roots=tuple(hashlib.sha256(envelope).hexdigest() for envelope in roots),
    )


def part_name(index: int) -> str:
    """Return the file name of part `index`, counted from 0."""
    return f"p{index:04d}.age"


def target_of(recipient: str) -> str:
    """Return the name by which a manifest addresses the holder of a public key.

    A digest, so that a lost medium does not tell whose key it is encrypted to.
    """
    return "sha256:" + hashlib.sha256(recipient.encode("ascii")).hexdigest()


def format_time(moment: datetime) -> str:
    """Return a moment in UTC to the second, as manifests write it."""
    return moment.astimezone(UTC).strftime(_TIME_FORMAT)


def later(moment: datetime, days: int) -> str:
    """Return the moment `days` later, as manifests write it."""
    return format_time(moment + timedelta(days=days))


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of the in-toto Statement that is signed."""
    files = [*manifest.parts, *manifest.parity, PartFile(README, 0, manifest.readme_sha256)]
    files += [PartFile(root_name(index + 1), 0, digest) for index, digest in enumerate(manifest.roots)]
    return canonical.encode(
        {
            "_type": STATEMENT_TYPE,
            "predicateType": PREDICATE_TYPE,
            "subject": [{"name": each.name, "digest": {"sha256": each.sha256}} for each in files],
            "predicate": {
                "format": FORMAT,
                **encode_label(manifest),
                "part_sizes": [part.size for part in manifest.parts],
                "total_bytes": manifest.total_bytes,
            },
        }
    )


def encode_label(label: Label) -> dict[str, canonical.JSON]:
    """Return a label's fields as they stand in a predicate, and in the journal of an unfinished bundle."""
    return {
        "bundle_id": label.bundle_id,
        "kind": label.kind,
        "direction": label.direction,
        "channel": label.channel,
        "seq": label.seq,
        "prev": label.prev,
        "target": label.target,
        "issued_at": label.issued_at,
        "expires": label.expires,
        "recipients": list(label.recipients),
        "signers": list(label.signers),
        "quorum": label.quorum,
        "tree_head": label.tree_head,
        "policy_decision": label.policy_decision,
    }


def parse_manifest(data: bytes) -> Manifest:
    """Parse the bytes whose signatures were verified; raise ContentRefused for anything unexpected."""
    statement = canonical.Fields(canonical.parse(data, "manifest"), "manifest")
    statement.constant("_type", STATEMENT_TYPE)
    statement.constant("predicateType", PREDICATE_TYPE)
    digests = _parse_subject(
        statement.array("subject", MAX_PARTS + group_count(MAX_PARTS) + 1 + MAX_VERSIONS)
    )
    predicate = canonical.Fields(statement.take("predicate"), "manifest, predicate")
    statement.done()
    predicate.constant("format", FORMAT)
    label = parse_label(predicate)
    roots = _take_roots(digests)
    parts, parity = _parse_files(predicate, digests)
    predicate.done()
    known = {field.name: getattr(label, field.name) for field in fields(Label)}
    return Manifest(**known, parts=parts, parity=parity, readme_sha256=digests[README], roots=roots)


def parse_label(predicate: canonical.Fields) -> Label:
    """Take a label's fields out of an object; raise ContentRefused."""
    label = Label(
        bundle_id=predicate.match("bundle_id", _ID),
        kind=predicate.choice("kind", KINDS),
        direction=predicate.choice("direction", DIRECTIONS),
        channel=predicate.match("channel", _CHANNEL),
        seq=predicate.number("seq", least=1),
        prev=predicate.match("prev", _SHA256_OR_NONE),
        target=predicate.match("target", _TARGET),
        issued_at=_parse_time(predicate, "issued_at"),
        expires=_parse_time(predicate, "expires"),
        recipients=predicate.texts("recipients", 16),
        signers=predicate.texts("signers", MAX_SIGNERS),
        quorum=predicate.number("quorum", least=1, most=MAX_SIGNERS),
        tree_head=predicate.text("tree_head", 16_384),
        policy_decision=predicate.text("policy_decision", 256),
    )
    check_label(label)
    return label


def check_label(label: Label) -> None:
    """Raise ContentRefused for a label that contradicts itself."""
    if not label.recipients or not set(label.recipients) <= set(RECIPIENT_TYPES):
        raise ContentRefused(
            f"manifest: expected recipients of type {' or '.join(RECIPIENT_TYPES)}, found"
            f" {label.recipients!r:.120}"
        )
    if not all(_KEY_ID.fullmatch(signer) for signer in label.signers):
        raise ContentRefused("manifest: expected signers as NAME+KEYID, found another form")
    if len(set(label.signers)) != len(label.signers) or len(label.signers) < label.quorum:
        raise ContentRefused(
            f"manifest: expected at least {label.quorum} different signers, found {len(set(label.signers))}"
        )
    if label.expires <= label.issued_at:
        raise ContentRefused(
            f"manifest: expected expires after issued_at {label.issued_at}, found {label.expires}"
        )


def _parse_time(predicate: canonical.Fields, name: str) -> str:
    text = predicate.match(name, _TIME)
    try:
        datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise ContentRefused(f"manifest: expected {name} as a moment in UTC, found {text}") from error
    return text


def _parse_subject(values: Sequence[canonical.JSON]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for value in values:
        subject = canonical.Fields(value, "manifest, subject")
        name = subject.text("name")
        digest = canonical.Fields(subject.take("digest"), "manifest, digest")
        subject.done()
        digests[name] = digest.match("sha256", _SHA256)
        digest.done()
    if len(digests) != len(values):
        raise ContentRefused("manifest: expected each subject once, found one twice")
    return digests


def _take_roots(digests: dict[str, str]) -> tuple[str, ...]:
    """Take the versions of the root off the end of the subjects, in their order."""
    names = list(digests)
    names = names[names.index(README) + 1 :] if README in names else []
    if names != [root_name(index + 1) for index in range(len(names))]:
        raise ContentRefused(
            f"manifest: expected {root_name(1)} and what follows it after {README}, found {names!r:.120}"
        )
    return tuple(digests.pop(name) for name in names)


def _parse_files(
    predicate: canonical.Fields, digests: dict[str, str]
) -> tuple[tuple[PartFile, ...], tuple[PartFile, ...]]:
    """Return parts and parity files: the sizes say how many parts there are, and all names follow from it."""
    said = predicate.array("part_sizes", MAX_PARTS)
    sizes = [size for size in said if isinstance(size, int) and not isinstance(size, bool)]
    if not sizes or len(sizes) != len(said) or not all(0 < size <= MAX_PART_BYTES for size in sizes):
        raise ContentRefused(
            f"manifest: expected part sizes between 1 and {MAX_PART_BYTES} bytes, found {said!r:.80}"
        )
    predicate.constant("total_bytes", sum(sizes))
    names = [part_name(index) for index in range(len(sizes))]
    parity_names = [parity_name(group) for group in range(group_count(len(sizes)))]
    if list(digests) not in ([*names, README], [*names, *parity_names, README]):
        raise ContentRefused(
            f"manifest: expected subjects {names[0]} to {names[-1]}, all of {parity_names[0]} to"
            f" {parity_names[-1]} or none, and {README} in order, found {list(digests)!r:.120}"
        )
    parity_names = parity_names if parity_names[0] in digests else []
    parts = tuple(PartFile(name, size, digests[name]) for name, size in zip(names, sizes, strict=True))
    shared = zip(parity_names, parity_sizes(sizes), strict=False)
    return parts, tuple(PartFile(name, size, digests[name]) for name, size in shared)
