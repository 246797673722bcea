"""Decides whether a bundle may come in, in an order that never parses what nobody trusted has signed.

The custodian's steps, each a function here; what the steps leave to others is in brackets:
 1. limits and signatures over the envelope's bytes      `verify_manifest`    a stranger, an altered manifest
 2. target, expiry                                       `verify_manifest`    another appliance's, an old one
 3. replay                                               `check_replay`       a bundle played again
 4. the same signer by SSHSIG                            `verify_ssh_signature`
 5. exactly the files that the manifest names            `verify_files`       an added or altered file
 6. [free space for `manifest.total_bytes`; `parts.copy_part`: one read of each part into quarantine]
 7. each part's size and hash as copied                  `verify_part`        damage, a medium that changes
 8. [decrypt; `extract.Extractor`; policy; publish; write replay state; log]
No argument skips a step. Source: docs/formats/transfer-bundle.md, sections Replay, Time, Order of import.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from appliance.bundle import dsse
from appliance.bundle.folder import MANIFEST, SSH_SIGNATURE, SUMS
from appliance.bundle.manifest import README, Label, Manifest, PartFile, parse_manifest
from appliance.bundle.readme import render_sums
from appliance.bundle.root import MAX_BYTES, root_name
from appliance.bundle.signer import NAMESPACE
from appliance.errors import (
    ContentRefused,
    Expired,
    Incomplete,
    IntegrityError,
    MediumMissing,
    OtherTarget,
    ReplayRefused,
    SignatureError,
)
from policy import sshkey, sshsig
from policy.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bundle.folder import BundleFolder
    from appliance.bundle.trust import Trust
    from audit.note import VerifierKey

MAX_README_BYTES = 64 << 10
MAX_SUMS_BYTES = 1 << 20
MAX_SSH_SIGNATURE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Last:
    """What a channel brought last: its `seq`, manifest digest, and whether its import was completed."""

    seq: int
    digest: str
    published: bool = True


def verify_manifest(envelope: bytes, trust: Trust, target: str, floor: str = "") -> Manifest:
    """Return the manifest in `envelope` if it is signed by whom its kind demands, for us and still good.

    `target` is `manifest.target_of` our transfer recipient; `floor` the latest moment (as manifests write it)
    that is known to have passed, empty if none is.
    Raises SignatureError, ContentRefused, OtherTarget, Expired.
    """
    verified = dsse.verify_envelope(envelope, trust.keys)
    manifest = parse_manifest(verified.payload)
    _check_signers(manifest, verified.signers, trust)
    trust.demand_not_revoked(manifest.digest)
    if manifest.target != target:
        raise OtherTarget(
            f"manifest: expected a bundle for {target}, found one for {manifest.target};"
            " make it again with --to and this appliance's recipient"
        )
    if manifest.expires < floor:
        raise Expired(
            f"manifest: expected one valid at {floor}, found it expired at {manifest.expires}; make a new one"
        )
    return manifest


def check_replay(last: Last | None, manifest: Manifest) -> Literal["new", "resume"]:
    """Say whether a bundle is new in its channel or resumes an import; raise ReplayRefused for any other."""
    if last is None or manifest.seq > last.seq:
        if last is not None and manifest.seq == last.seq + 1 and manifest.prev not in ("", last.digest):
            raise ReplayRefused(
                f"channel {manifest.channel}: expected number {manifest.seq} to follow {last.digest},"
                f" found it follows {manifest.prev}; two senders use one channel"
            )
        return "new"
    if manifest.seq == last.seq and manifest.digest == last.digest and not last.published:
        return "resume"
    raise ReplayRefused(
        f"channel {manifest.channel}: expected a number above {last.seq}, found {manifest.seq};"
        " this bundle, or a later one, was already imported"
    )


def verify_ssh_signature(
    signature: bytes, envelope: bytes, label: Label, trusted: Sequence[VerifierKey]
) -> None:
    """Check that a declared, trusted signer signed the envelope's bytes; raise SignatureError."""
    declared = {key.public_key for key in trusted if dsse.key_id(key) in label.signers}
    try:
        found = sshsig.verify_signature(signature.decode("ascii"), NAMESPACE, envelope)
    except (PolicyError, UnicodeDecodeError) as error:
        raise SignatureError(
            f"{SSH_SIGNATURE}: expected an OpenSSH signature over {MANIFEST}, found none that holds: {error}"
        ) from error
    if found.type != sshkey.ED25519 or found.key not in declared:
        raise SignatureError(
            f"{SSH_SIGNATURE}: expected a key of {', '.join(label.signers)}, found another; copy the"
            " bundle again"
        )


def verify_files(folder: BundleFolder, manifest: Manifest) -> None:
    """Check that the folder holds the files of the manifest and no other, and that the small ones are right.

    Raises Incomplete, ContentRefused for a file too many, IntegrityError for a readme or sums that differ,
    MediumMissing where nothing is left. The parts are left to `verify_part`; parity may be missing, since
    only healing needs it.
    """
    expected = {MANIFEST, SSH_SIGNATURE, SUMS, README, *(part.name for part in manifest.parts)}
    found = set(folder.names()) - {each.name for each in manifest.parity}
    expected |= {root_name(index + 1) for index in range(len(manifest.roots))}
    if not found:
        raise MediumMissing("bundle: expected the files seen before, found none; the medium was pulled")
    if missing := sorted(expected - found):
        raise Incomplete(
            f"bundle: expected {len(expected)} files, found {', '.join(missing[:8])} missing; copy the"
            " bundle again"
        )
    if surplus := sorted(found - expected):
        raise ContentRefused(
            f"bundle: expected only files that the manifest names, found {', '.join(surplus[:8])}; remove"
            " them"
        )
    if hashlib.sha256(folder.read_file(README, MAX_README_BYTES)).hexdigest() != manifest.readme_sha256:
        raise IntegrityError(
            f"{README}: expected the text that was signed, found another; copy the bundle again"
        )
    for index, digest in enumerate(manifest.roots):
        if hashlib.sha256(folder.read_file(root_name(index + 1), MAX_BYTES)).hexdigest() != digest:
            raise IntegrityError(
                f"{root_name(index + 1)}: expected what was signed, found another; copy the bundle again"
            )
    if folder.read_file(SUMS, MAX_SUMS_BYTES) != render_sums(manifest):
        raise IntegrityError(
            f"{SUMS}: expected the sums in the manifest, found others; copy the bundle again"
        )


def verify_part(manifest: Manifest, index: int, size: int, sha256: str) -> None:
    """Compare a part as it was copied with the manifest; raise IntegrityError naming the part."""
    verify_file(manifest.parts[index], size, sha256)


def verify_file(part: PartFile, size: int, sha256: str) -> None:
    """Compare a part or parity file as it was read with what was signed; raise IntegrityError naming it."""
    if size != part.size:
        raise IntegrityError(
            f"{part.name}: expected {part.size} bytes, found {'more' if size > part.size else size};"
            " copy this part again"
        )
    if sha256 != part.sha256:
        raise IntegrityError(
            f"{part.name}: expected SHA-256 {part.sha256}, found {sha256}; damaged on the way, copy this"
            " part again"
        )


def _check_signers(manifest: Manifest, held: tuple[str, ...], trust: Trust) -> None:
    """Count only signers that the manifest declares and whose role vouches for its kind.

    So a signature cannot be swapped for another's, and a key of one role says nothing in another.
    """
    role = trust.role_for(manifest.kind)
    may_sign = {dsse.key_id(key) for key in role.keys}
    counted = [signer for signer in held if signer in manifest.signers and signer in may_sign]
    needed = max(role.threshold, manifest.quorum)
    if len(counted) < needed:
        raise SignatureError(
            f"manifest: expected signatures by {needed} of {', '.join(manifest.signers)} that may sign"
            f" bundles of kind {manifest.kind}, found {', '.join(counted) or 'none'}; the bundle was signed"
            " over by somebody else, or needs more signers: `appliance bundle sign`"
        )
