"""Import of a bundle: judged by its signature before anything in it is parsed.

In this order: limits → signatures → target and replay → free space → each part copied once off the medium
while it is hashed → decision on the key → decrypt and take apart in a jail → a second reader → publish →
replay state → log. An error before publication leaves the vault as it was.

KNOWN: a crash in the middle of publication leaves the objects published so far, and the bundle can be
imported again; they then have another version.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.age import NONCE_SIZE, read_header
from appliance.bundle.dsse import MAX_ENVELOPE_BYTES
from appliance.bundle.folder import MANIFEST, SSH_SIGNATURE, BundleFolder
from appliance.bundle.manifest import Manifest, encode_manifest, target_of
from appliance.bundle.names import APPROVAL, MAX_APPROVALS
from appliance.bundle.trust import Trust
from appliance.bundle.verify import (
    MAX_SSH_SIGNATURE_BYTES,
    Last,
    check_replay,
    verify_files,
    verify_manifest,
    verify_part,
    verify_ssh_signature,
)
from appliance.catalog import Object
from appliance.catalog.entries import IMPORTED, ROLE
from appliance.custodian.core import Core, job_entity
from appliance.custodian.files import give_bytes
from appliance.custodian.handing_in import HandedIn, hand_in
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.outputs import Outputs
from appliance.custodian.roots import follow_bundle, record_roots
from appliance.custodian.workers import Worker, key_pipe
from appliance.errors import Busy, ContentRefused, MediumMissing, ProtocolError, SpaceExhausted
from appliance.gate import Thing
from appliance.worklink import (
    CopyPart,
    Finished,
    OpenPart,
    PartCopied,
    PartDone,
    Sealed,
    Signed,
    WantOutput,
)
from audit.entry import JSON, parse_entry
from policy.model import Entity

MADE_BY_IMPORT = ("corpus", "config", "weights")
SPACE_FACTOR = 2.2  # quarantine and vault hold the same bytes for a moment, plus the catalog and the log


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in."""

    manifest: Manifest
    objects: tuple[Object, ...]
    approvals: HandedIn | None


@dataclass(slots=True)
class _Taken:
    """What a worker told of one bundle: outputs by their tokens, or signatures."""

    outputs: Outputs
    approval: bool
    tokens: list[int] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)


async def import_bundle(
    core: Core, environment: Mapping[str, str], person: Entity, folder_fd: int
) -> Imported:
    """Import one bundle; takes ownership of the directory descriptor."""
    with BundleFolder(folder_fd) as folder:
        core.custody  # noqa: B018  raises SealedError before the medium is read
        followed = follow_bundle(core, folder)
        role, manifest = _judge(core, folder, followed.trust)
        _check_space(core.home.quarantine, manifest)
        job = new_job_id("import")
        labels = _labels(core, manifest)
        bundle = _entity(manifest, labels)
        decided = core.gate.request(person, "import", Thing(bundle), job=job)
        record_roots(core, person.id, followed)
        run = Run(core, job, person.id, "import")
        run.keep(decided.committed)
        core.counting.raise_for("import")
        quarantine = core.home.quarantine / manifest.digest[:32]
        approval = manifest.kind == APPROVAL
        made = () if approval else MADE_BY_IMPORT
        outputs = Outputs(core, job, made, environment, compartments=labels)
        taken = _Taken(outputs, approval)
        with _alone(quarantine):
            worker = await Worker.start("import", job, core.facts.profile, environment=environment)
            try:
                give_bytes(worker, "manifest", encode_manifest(manifest))
                await _copy(worker, folder, quarantine, manifest)
                await _open(run, worker, quarantine, bundle, manifest, taken)
                rows = await outputs.publish(taken.tokens, ())
            finally:
                await worker.end()
                outputs.discard()
                core.live.revoke_job(job)
        approvals = hand_in(core, taken.signed) if approval else None
        _record(core, run, manifest, role, rows, approvals)
        return Imported(manifest, tuple(rows), approvals)


@contextlib.contextmanager
def _alone(quarantine: Path) -> Iterator[None]:
    """Have one bundle's quarantine for one import; it is kept, until the next start, if a medium was pulled.

    Raises Busy where another import of the same bundle runs.
    """
    quarantine.mkdir(parents=True, mode=0o700, exist_ok=True)
    fd = os.open(quarantine, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        except MediumMissing:
            raise
        except BaseException:
            shutil.rmtree(quarantine, ignore_errors=True)
            raise
        shutil.rmtree(quarantine, ignore_errors=True)
    except BlockingIOError as taken:
        raise Busy("this bundle is being imported: `appliance status` shows how far it is") from taken
    finally:
        os.close(fd)


def _judge(core: Core, folder: BundleFolder, trust: Trust) -> tuple[str, Manifest]:
    """Return role and manifest of a bundle that is signed, for us, whole by its files, and not a replay."""
    envelope = folder.read_file(MANIFEST, MAX_ENVELOPE_BYTES)
    target = target_of(core.facts.transfer_recipient)
    manifest = verify_manifest(envelope, trust, target, floor=core.ledger.floor)
    role = trust.role_name(manifest.kind)
    if manifest.direction != "in":
        raise ContentRefused(
            f"manifest: expected a bundle that goes in, found one of direction {manifest.direction}"
        )
    check_replay(_last(core, manifest.channel, role), manifest)
    ssh_signature = folder.read_file(SSH_SIGNATURE, MAX_SSH_SIGNATURE_BYTES)
    verify_ssh_signature(ssh_signature, envelope, manifest, trust.keys)
    verify_files(folder, manifest)
    return role, manifest


def _last(core: Core, channel: str, role: str) -> Last | None:
    """Return the last bundle of a channel and role by the log, to which the catalog may only add.

    The catalog can be set back.
    """
    row = core.catalog.last_bundle(channel, role)
    last = None if row is None else Last(row.seq, row.digest, row.published)
    for data in core.log.entries():
        if IMPORTED.encode("ascii") not in data:
            continue
        entry = parse_entry(data)
        said: Mapping[str, Any] = entry.context  # written by `_record`
        if entry.kind != IMPORTED or (said["channel"], said.get("role", ROLE)) != (channel, role):
            continue
        if last is None or said["bundle_seq"] > last.seq:
            last = Last(said["bundle_seq"], said["manifest_sha256"])
    return last


def _labels(core: Core, manifest: Manifest) -> tuple[str, ...]:
    """Return the compartments of what came in: those of all who signed it, by the names of their keys."""
    names = {signer.rpartition("+")[0] for signer in manifest.signers}
    return tuple(sorted({label for name in names for label in core.facts.compartments.get(name, ())}))


def _entity(manifest: Manifest, labels: Sequence[str]) -> Entity:
    attrs = {
        "kind": manifest.kind,
        "direction": "import",
        "signer": ",".join(manifest.signers),
        "compartments": labels,
    }
    return Entity("Bundle", manifest.bundle_id, attrs)


def _check_space(where: Path, manifest: Manifest) -> None:
    wanted = int(manifest.total_bytes * SPACE_FACTOR)
    free = shutil.disk_usage(where).free
    if free < wanted:
        raise SpaceExhausted(
            f"expected {wanted} bytes free to import {manifest.folder_name}, found {free}; free some"
        )


async def _copy(worker: Worker, folder: BundleFolder, quarantine: Path, manifest: Manifest) -> None:
    """Copy every part that an earlier try did not, and compare all with the manifest.

    The medium is not read again for a part that was copied whole; that one is hashed where it lies.
    """
    for index, part in enumerate(manifest.parts):
        place, scratch = quarantine / part.name, quarantine / "part.new"
        if place.exists():
            kept, nowhere = os.open(place, os.O_RDONLY | os.O_NOFOLLOW), os.open(os.devnull, os.O_WRONLY)
            worker.send(CopyPart(index, part.size), (kept, nowhere))
        else:
            scratch.unlink(missing_ok=True)
            medium = folder.open_file(part.name)
            target = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            worker.send(CopyPart(index, part.size), (medium, target))
        copied = await worker.expect(PartCopied)
        verify_part(manifest, index, copied.size_bytes, copied.sha256)
        if not place.exists():
            scratch.rename(place)
    worker.proceed()


async def _open(
    run: Run, worker: Worker, quarantine: Path, bundle: Entity, manifest: Manifest, taken: _Taken
) -> None:
    """Have all parts' keys released under one decision and the contents sealed, or told."""
    core = run.core
    told = core.facts.compartments.get(run.owner, ())
    principal = job_entity(run.job, run.owner, "import", (manifest.bundle_id,), told)
    allowed = core.gate.request(principal, "open", Thing(bundle), job=run.job)
    run.keep(allowed.committed)
    fronts = [_read_front(quarantine / part.name) for part in manifest.parts]
    keys = core.custody.unwrap_parts(allowed.grant, fronts)
    for index, part in enumerate(manifest.parts):
        offset = len(fronts[index][0]) + NONCE_SIZE
        descriptor = os.open(quarantine / part.name, os.O_RDONLY | os.O_NOFOLLOW)
        worker.send(OpenPart(index, offset, part.size - offset), (descriptor, key_pipe(keys[index])))
        while not isinstance(message := await worker.receive(), PartDone):
            _take(worker, taken, message)
    while not isinstance(message := await worker.receive(), Finished):
        _take(worker, taken, message)
    if taken.approval and not taken.signed:
        raise ProtocolError("an importing worker told no signature of an approval bundle")


def _take(worker: Worker, taken: _Taken, message: object) -> None:
    if isinstance(message, WantOutput):
        taken.outputs.open(worker, message)
    elif isinstance(message, Sealed):
        taken.outputs.sealed(message)
        taken.tokens.append(message.token)
    elif isinstance(message, Signed) and taken.approval and len(taken.signed) < MAX_APPROVALS:
        taken.signed.append(message)
    else:
        raise ProtocolError(f"an importing worker said {type(message).__name__}")


def _read_front(path: Path) -> tuple[bytes, bytes]:
    """Return (header, nonce) of a quarantined part; the custodian reads no further."""
    with path.open("rb") as source:
        size = read_header(source).size
        source.seek(0)
        return source.read(size), source.read(NONCE_SIZE)


def _record(
    core: Core, run: Run, manifest: Manifest, role: str, rows: Sequence[Object], approvals: HandedIn | None
) -> None:
    """Log the import, then move the replay state: a crash in between is repaired from the log."""
    context: dict[str, JSON] = {
        "bundle": manifest.bundle_id,
        "kind": manifest.kind,
        "channel": manifest.channel,
        "role": role,
        "bundle_seq": manifest.seq,
        "manifest_sha256": manifest.digest,
        "issued_at": manifest.issued_at,
        "signers": list(manifest.signers),
        "objects": [row.id for row in rows],
        "job": run.job,
    }
    if approvals is not None:
        context |= {"request": approvals.request, "people": list(approvals.people)}
    run.keep(
        core.gate.outcome(IMPORTED, f"Person:{run.owner}", "import", f"Bundle:{manifest.bundle_id}", context)
    )
    core.catalog.set_last_bundle(manifest.channel, role, manifest.seq, manifest.digest)
