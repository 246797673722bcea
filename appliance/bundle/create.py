"""Makes a bundle: label, contents, parts, and the manifest last.

Guarantees to the sender: a folder with a `manifest.json` is complete and durable, what it holds would be
accepted by an importer (contents are judged while they are hashed), and a failure leaves no folder behind;
but for a medium that was pulled: then the next try goes on where this one ended.
`label_for`, `plan`, `write_content` and `seal_folder` are the steps of `create_bundle`, apart, because the
appliance runs them in two processes: whoever signs never reads contents, whoever reads never signs.
Source: docs/formats/transfer-bundle.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.age import parse_recipient
from appliance.age.lanes import same, side_by_side
from appliance.bundle import dsse
from appliance.bundle.folder import MANIFEST, SSH_SIGNATURE, SUMS, UNFINISHED, BundleFolder
from appliance.bundle.inner import Inner, InnerMember, inner_of
from appliance.bundle.manifest import (
    README,
    Label,
    Manifest,
    PartFile,
    check_label,
    complete,
    encode_manifest,
    format_time,
    later,
    parse_manifest,
    target_of,
)
from appliance.bundle.medium import demand_same_medium
from appliance.bundle.parity import read_back_parts
from appliance.bundle.parts import PART_BYTES, PartWriter, part_sizes
from appliance.bundle.readme import render_readme, render_sums
from appliance.bundle.root import root_name
from appliance.bundle.signer import NAMESPACE
from appliance.bundle.stream import Member, PlainStream, digest_member, plain_bytes
from appliance.bundle.unfinished import Unfinished, digest_of
from appliance.bundle.writing import Writing, find_unfinished
from appliance.errors import MediumMissing, SignatureError
from policy import sshsig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from appliance.bundle.signer import SignerKey
    from audit.note import VerifierKey

VALID_DAYS = 90

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known of a bundle before a byte is written: contents and plaintext bytes of each part."""

    label: Label
    inner: Inner
    part_sizes: tuple[int, ...]


def label_for(
    *,
    kind: str,
    direction: str,
    recipient: str,
    signers: Sequence[VerifierKey],
    channel: str,
    seq: int,
    prev: str,
    now: datetime,
    entropy: Callable[[int], bytes],
    target: str = "",
    quorum: int = 1,
    valid_days: int = VALID_DAYS,
    tree_head: str = "",
    policy_decision: str = "",
) -> Label:
    """Name a new bundle for the holder of one age recipient; raise UsageError or ContentRefused.

    `target` is the digest of the recipient unless given; `entropy(n)` returns n random bytes.
    """
    post_quantum = parse_recipient(recipient).post_quantum
    label = Label(
        bundle_id=entropy(_ID_BYTES).hex(),
        kind=kind,
        direction=direction,
        channel=channel,
        seq=seq,
        prev=prev,
        target=target or target_of(recipient),
        issued_at=format_time(now),
        expires=later(now, valid_days),
        recipients=("mlkem768x25519" if post_quantum else "X25519",),
        signers=tuple(dsse.key_id(signer) for signer in signers),
        quorum=quorum,
        tree_head=tree_head,
        policy_decision=policy_decision,
    )
    check_label(label)
    return label


def plan(label: Label, members: Sequence[InnerMember], part_bytes: int = PART_BYTES) -> Plan:
    """Decide contents and part sizes from digests alone; raise ContentRefused for names that cannot be."""
    inner = inner_of(label, tuple(members))
    return Plan(label, inner, part_sizes(plain_bytes(inner), part_bytes))


def write_content(planned: Plan, members: Sequence[Member], writer: PartWriter) -> tuple[PartFile, ...]:
    """Stream the members into their parts and return these; raise IntegrityError, SpaceExhausted."""
    chunks = iter(PlainStream(planned.inner, members))

    def take(_: int) -> memoryview | None:
        chunk = next(chunks, None)
        return None if chunk is None else memoryview(chunk)

    try:
        # One lane reads and hashes the next chunk while the other has its own encrypted, hashed and written.
        side_by_side((0, 1), take, same, writer.write)
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def seal_folder(
    folder: BundleFolder,
    label: Label,
    parts: Sequence[PartFile],
    signers: Sequence[SignerKey],
    parity: Sequence[PartFile] = (),
    roots: Sequence[bytes] = (),
) -> Manifest:
    """Write readme, sums, signature and, last, the manifest; the parts must be durable already.

    The first signer also signs for `ssh-keygen -Y verify`. `roots` are all versions of the root, from the
    first. Raises SpaceExhausted.
    """
    readme = render_readme(label, len(parts))
    manifest = complete(label, tuple(parts), readme, tuple(parity), roots)
    envelope = dsse.sign_envelope(encode_manifest(manifest), [signer.note for signer in signers])
    signature = sshsig.sign(signers[0].seed, NAMESPACE, envelope)
    for index, root in enumerate(roots):
        folder.write_file(root_name(index + 1), root)
    folder.write_file(README, readme)
    folder.write_file(SUMS, render_sums(manifest))
    folder.write_file(SSH_SIGNATURE, signature.encode("ascii"))
    folder.publish_manifest(envelope)
    folder.remove_file(UNFINISHED)
    return manifest


def sign_bundle(folder: BundleFolder, key: SignerKey) -> Manifest:
    """Add the signature of one more declared signer to a bundle; repeat it if it was cut off.

    Raises SignatureError for what is no signed manifest, and for a key that its manifest does not declare.
    """
    unverified = folder.read_file(MANIFEST, dsse.MAX_ENVELOPE_BYTES)
    manifest = parse_manifest(dsse.unverified_payload(unverified))
    if dsse.key_id(key.vkey) not in manifest.signers:
        raise SignatureError(
            f"manifest: expected to be signed by {', '.join(manifest.signers)}, found the key"
            f" {dsse.key_id(key.vkey)}; whoever makes the bundle names all signers, with --cosigner"
        )
    envelope = dsse.add_signature(unverified, key.note)
    folder.replace_file(SSH_SIGNATURE, sshsig.sign(key.seed, NAMESPACE, envelope).encode("ascii"))
    folder.replace_file(MANIFEST, envelope)
    return manifest


def create_bundle(
    members: Sequence[Member],
    *,
    kind: str,
    to: str,
    sign: SignerKey,
    also: Sequence[SignerKey] = (),
    awaited: Sequence[VerifierKey] = (),
    roots: Sequence[bytes] = (),
    out_dir: Path,
    channel: str,
    now: datetime,
    seq: int | None = None,
    prev: str = "",
    target: str = "",
    direction: str = "in",
    part_bytes: int = PART_BYTES,
    with_parity: bool = True,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Path:
    """Make a whole bundle below `out_dir` and return its folder; go on with one that was cut off before.

    `also` sign with it; `awaited` are the public keys of those who will, elsewhere, by `sign_bundle`: the
    bundle then needs all their signatures. `seq` is the time in milliseconds unless given: it rises by
    itself, so nobody has to keep count. Raises UsageError for the recipient, ContentRefused for a member or
    label, AlreadyExists, SpaceExhausted, IntegrityError if a member changes while it is packed or the medium
    gives back other bytes; then nothing is left. MediumMissing, and an interruption, leave what is complete
    for the same call to go on with.
    """
    label = label_for(
        kind=kind,
        direction=direction,
        recipient=to,
        signers=[sign.vkey, *(key.vkey for key in also), *awaited],
        quorum=1 + len(also) + len(awaited),
        channel=channel,
        seq=seq or int(now.timestamp() * 1000),
        prev=prev,
        now=now,
        entropy=entropy,
        target=target,
    )
    digests = [digest_member(member) for member in members]
    planned = plan(label, digests, part_bytes)
    parent = os.open(out_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        state = find_unfinished(parent, label, sign.vkey, any_seq=seq is None)
        if state is not None and state.holds(inner_of(state.label, tuple(digests)), planned.part_sizes):
            planned = plan(state.label, digests, part_bytes)
            folder = BundleFolder.beneath(parent, planned.label.folder_name)
        else:
            state = Unfinished(label, digest_of(planned.inner), planned.part_sizes, ())
            folder = BundleFolder.create(parent, label.folder_name)
        with folder:
            try:
                writing = Writing(folder, state, sign, parse_recipient(to), entropy)
                parts = write_content(planned, members, writing.writer())
                parity = read_back_parts(folder, parts, parity=with_parity)
                seal_folder(folder, planned.label, parts, [sign, *also], parity, roots)
            except (MediumMissing, KeyboardInterrupt):
                raise
            except BaseException:
                folder.remove_files()
                os.rmdir(planned.label.folder_name, dir_fd=parent)
                raise
        os.fsync(parent)
        demand_same_medium(out_dir, parent)
    finally:
        os.close(parent)
    return out_dir / planned.label.folder_name
