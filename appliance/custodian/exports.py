"""Export of a model: approved by two officers, packed in a jail, signed here, checked by a second reader.

In this order: request and approvals verified anew → decision → first pass (hashes) → lineage and model
signature → second pass into encrypted parts → each part read back from the medium → a fresh worker takes the
whole bundle apart as its recipient would → manifest, written last → log. Until the manifest is there the
folder is no bundle, and an error removes it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.age import parse_recipient
from appliance.bundle.create import Plan, label_for, plan, seal_folder
from appliance.bundle.folder import BundleFolder
from appliance.bundle.groups import group_count, members_of
from appliance.bundle.inner import InnerMember
from appliance.bundle.manifest import (
    Label,
    Manifest,
    PartFile,
    complete,
    encode_manifest,
    part_name,
    target_of,
)
from appliance.bundle.names import media_type_of
from appliance.bundle.parity import read_group
from appliance.bundle.signer import SignerKey
from appliance.catalog import Object
from appliance.catalog.entries import EXPORTED, OUTGOING
from appliance.custodian import approvals, leaving
from appliance.custodian.approvals import Approved
from appliance.custodian.core import Core
from appliance.custodian.files import give_bytes
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.lineages import lineage_files
from appliance.custodian.metrics import FILE as METRICS
from appliance.custodian.models import model_of
from appliance.custodian.requests import Subject, export_of, metrics_export_of
from appliance.custodian.workers import Worker, key_pipe
from appliance.custody.release import Output
from appliance.errors import IntegrityError, PolicyRefused, ProtocolError, SpaceExhausted
from appliance.export.form import Form
from appliance.export.signing import SIGNATURE_NAME
from appliance.gate import Allowed
from appliance.worklink import Finished, GivePart, MemberHashed, OpenPart, PartDone
from audit.entry import JSON
from policy.model import Entity

MODEL = "model/"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for: a model, an age recipient, the approved request, and whose files to leave.

    Where only the figures of a run are to leave, `model` is its job and `metrics` the file.
    """

    model: str
    recipient: str
    request: str
    uid: int
    metrics: bytes | None = None

    @property
    def content(self) -> str:
        """What leaves, as the egress budget counts it."""
        return "weights" if self.metrics is None else "metrics"


@dataclass(frozen=True, slots=True)
class Stage:
    """How far an export is."""

    stage: str
    part: int
    parts: int
    bundle: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part being written: its file, its key once more for the second reader, and where its chunks begin."""

    fd: int
    key: bytearray
    offset: int


async def export(
    core: Core, environment: Mapping[str, str], person: Entity, wanted: Wanted, folder_fd: int
) -> AsyncGenerator[Stage, None]:
    """Write one export bundle beneath a folder, telling each stage; takes ownership of the descriptor."""
    try:
        core.custody  # noqa: B018  raises SealedError before anything is asked
        check_writable_by(folder_fd, wanted.uid)
        weights, approved = approved_export(core, wanted)
        job = new_job_id("export")
        named = model_of(core, weights).ids
        size = weights.size if wanted.metrics is None else len(wanted.metrics)
        subject = _subject(weights, wanted, Form.of(approved.request.options))
        decided = _decide(core, person, approved, subject, job, named, size)
        run = Run(core, job, person.id, "export", named if wanted.metrics is None else ())
        run.keep(decided.committed)
        core.counting.raise_for("export")
        exporting = _Export(core, environment, run, weights, approved, wanted, decided)
        async for stage in exporting.write(folder_fd):
            yield stage
    finally:
        os.close(folder_fd)


def check_writable_by(folder_fd: int, uid: int) -> None:
    """Refuse to write, as root, where whoever asks could not: a descriptor alone is no right to a folder.

    Raises PolicyRefused. As an ordinary user the kernel asks this question itself.
    """
    found = os.fstat(folder_fd)
    if os.geteuid() == 0 and uid not in (0, found.st_uid) and not found.st_mode & stat.S_IWOTH:
        raise PolicyRefused(f"expected a folder that uid {uid} may write to, found one of uid {found.st_uid}")


def approved_export(core: Core, wanted: Wanted) -> tuple[Object, Approved]:
    """Return the weights that the request named by `wanted` is for, and its approvals.

    A request is for one version: what was published under the name since then needs another. Raises what
    `approvals.demand_approved` raises.
    """
    request = approvals.approved_request(core, wanted.request).request
    weights = core.catalog.get(request.objects[0]) if request.action == "export" else None
    if weights is None or (wanted.metrics is None and weights.name != wanted.model):
        raise PolicyRefused(
            f"request {request.id[:16]} is for {approvals.in_words(request)}, found the export of "
            f"{wanted.model}: ask for what you mean to export"
        )
    subject = _subject(weights, wanted, Form.of(request.options))
    return weights, approvals.demand_approved(core, request.id, subject)


def _subject(weights: Object, wanted: Wanted, form: Form) -> Subject:
    if wanted.metrics is not None:
        return metrics_export_of(weights, wanted.model, wanted.recipient)
    return export_of(weights, wanted.recipient, form)


def _decide(
    core: Core,
    person: Entity,
    approved: Approved,
    subject: Subject,
    job: str,
    named: Sequence[str],
    size_bytes: int,
) -> Allowed:
    """Decide on an export of at least `size_bytes`; how large it is exactly is known once it was hashed."""
    recipient = subject.recipients[0]
    content = subject.options.get("content", "weights")
    asked = (core, content, target_of(recipient), size_bytes)
    context: dict[str, JSON] = {"signed": True, "recipient": recipient, **leaving.facts(*asked)}
    if content == "weights":
        form = Form.of(subject.options)
        context |= {"architecture": form.architecture, "rounding": form.rounding}
    return approvals.decide(
        core,
        person,
        approved,
        subject,
        context=context,
        job=job,
        named=named,
        lacks=leaving.lacks(*asked),
    )


class _Export:
    """One export on its way."""

    def __init__(
        self,
        core: Core,
        environment: Mapping[str, str],
        run: Run,
        weights: Object,
        approved: Approved,
        wanted: Wanted,
        decided: Allowed,
    ) -> None:
        self._core = core
        self._environment = environment
        self._run = run
        self._weights = weights
        self._approved = approved
        self._wanted = wanted
        self._decided = decided
        self._form = Form.of(approved.request.options)
        self._signer = SignerKey.from_seed(core.facts.bundle_name, core.custody.keyring.bundle_seed)
        self._parts: list[_Part] = []

    async def write(self, parent: int) -> AsyncGenerator[Stage, None]:
        """Carry out the stages; on any error the new folder is removed."""
        worker = await self._start("export")
        label = self._label()
        try:
            yield Stage("hashing", 0, 0)
            planned = await self._prepare(worker, label)
            self._check_space(parent, planned)
            with BundleFolder.create(parent, label.folder_name) as folder:
                try:
                    async for stage in self._fill(worker, folder, planned):
                        yield stage
                except BaseException:
                    folder.remove_files()
                    os.rmdir(label.folder_name, dir_fd=parent)
                    raise
            os.fsync(parent)
        finally:
            await worker.end()
            self._core.live.revoke_job(self._run.job)
            for part in self._parts:
                os.close(part.fd)
                part.key[:] = bytes(len(part.key))
        yield Stage("done", len(planned.part_sizes), len(planned.part_sizes), label.folder_name)

    async def _start(self, task: str) -> Worker:
        numbers: dict[str, JSON] = {"architecture": self._form.architecture, "rounding": self._form.rounding}
        return await Worker.start(task, self._run.job, self._core.facts.profile, numbers, self._environment)

    def _label(self) -> Label:
        core = self._core
        last = core.catalog.last_bundle(*OUTGOING)
        return label_for(
            kind=self._wanted.content,
            direction="out",
            recipient=self._wanted.recipient,
            signers=[self._signer.vkey],
            channel=OUTGOING[0],
            seq=(last.seq if last else 0) + 1,
            prev=last.digest if last else "",
            now=datetime.now(UTC),
            entropy=os.urandom,
            tree_head=core.log.tree_head().decode("utf-8"),
            policy_decision=str(self._decided.grant.index),
        )

    async def _prepare(self, worker: Worker, label: Label) -> Plan:
        """First pass: have the sealed files hashed, sign what they are, and plan the parts."""
        if self._wanted.metrics is not None:
            return self._prepare_metrics(worker, label, self._wanted.metrics)
        weights = self._weights
        model_of(self._core, weights).give(self._run, worker)
        worker.proceed()
        expected = [f"{MODEL}{name}" for name in self._form.files]
        found = [await worker.expect(MemberHashed) for _ in expected]
        if sorted(member.name for member in found) != expected:
            raise ProtocolError("an exporting worker hashed other files than a model's")
        digests = {member.name.removeprefix(MODEL): member.sha256 for member in found}
        key = self._core.custody.keyring.export_key()
        made = lineage_files(self._core, weights, self._approved, self._decided, digests, key)
        self._core.gate.outcome(
            "model-signed",
            f"Job:{self._run.job}",
            "export",
            f"Object:{weights.id}",
            {
                "request": self._approved.request.id,
                "signature_sha256": hashlib.sha256(made[SIGNATURE_NAME]).hexdigest(),
            },
        )
        for name, data in made.items():
            give_bytes(worker, f"{MODEL}{name}", data)
        give_bytes(worker, "label", json.dumps(dataclasses.asdict(label)).encode("ascii"))
        worker.proceed()
        members = [InnerMember(each.name, each.media_type, each.size_bytes, each.sha256) for each in found]
        for name, data in made.items():
            full = f"{MODEL}{name}"
            members.append(
                InnerMember(full, media_type_of(full), len(data), hashlib.sha256(data).hexdigest())
            )
        return plan(label, members)

    @staticmethod
    def _prepare_metrics(worker: Worker, label: Label, data: bytes) -> Plan:
        """Plan the parts of one small file that needs no key; the manifest's signature is the bundle's."""
        worker.proceed()
        give_bytes(worker, METRICS, data)
        give_bytes(worker, "label", json.dumps(dataclasses.asdict(label)).encode("ascii"))
        worker.proceed()
        digest = hashlib.sha256(data).hexdigest()
        return plan(label, [InnerMember(METRICS, media_type_of(METRICS), len(data), digest)])

    def _check_space(self, parent: int, planned: Plan) -> None:
        found = os.fstatvfs(parent)
        free, wanted = found.f_bavail * found.f_frsize, sum(planned.part_sizes) + (1 << 20)
        if free < wanted:
            raise SpaceExhausted(
                f"expected {wanted} bytes free on the medium, found {free}: take a larger one"
            )

    async def _fill(self, worker: Worker, folder: BundleFolder, planned: Plan) -> AsyncGenerator[Stage, None]:
        """Second pass, read-back, second reader, manifest."""
        count = len(planned.part_sizes)
        self._begin_to_leave(sum(planned.part_sizes))
        for index in range(count):
            yield Stage("writing", index + 1, count)
            self._give_part(worker, folder, index)
            done = await worker.expect(PartDone)
            if done.index != index:
                raise ProtocolError(f"an exporting worker finished part {done.index}, expected {index}")
        await worker.expect(Finished)
        files: list[PartFile] = []
        parity: list[PartFile] = []
        for group in range(group_count(count)):
            yield Stage("verifying", len(files) + 1, count)
            fds = [self._parts[index].fd for index in members_of(group, count)]
            found = await asyncio.to_thread(read_group, folder, group, fds, parity=True)
            files += found.parts
            parity += found.parity
        await self._read_as_recipient(planned, files)
        self._core.live.check(self._run.job)
        manifest = seal_folder(folder, planned.label, files, [self._signer], parity)
        folder.hand_over(self._wanted.uid)
        self._record(manifest)

    def _begin_to_leave(self, size_bytes: int) -> None:
        """Use the request up and count what leaves: both stand in the log before the first byte does."""
        core, run, recipient = self._core, self._run, target_of(self._wanted.recipient)
        content = self._wanted.content
        leaving.demand_room(core, content, recipient, size_bytes, run.job)
        approvals.use(core, run.owner, self._approved, self._decided, run.job)
        request = self._approved.request.id
        leaving.charge(core, content, recipient, size_bytes, person=run.owner, job=run.job, request=request)

    def _give_part(self, worker: Worker, folder: BundleFolder, index: int) -> None:
        output: Output = self._core.custody.mint_for([parse_recipient(self._wanted.recipient)])
        front = output.header + output.nonce
        fd = folder.create_file(part_name(index))
        self._parts.append(_Part(fd, bytearray(output.key), len(front)))
        os.write(fd, front)
        worker.send(GivePart(index), (os.dup(fd), key_pipe(output.key)))

    async def _read_as_recipient(self, planned: Plan, files: Sequence[PartFile]) -> None:
        """Have a fresh worker take the parts apart; what it finds must be what was planned and signed."""
        manifest = complete(planned.label, tuple(files), b"")
        worker = await self._start("verify-export")
        try:
            give_bytes(worker, "manifest", encode_manifest(manifest))
            for index, part in enumerate(self._parts):
                message = OpenPart(index, part.offset, files[index].size - part.offset)
                worker.send(message, (os.dup(part.fd), key_pipe(bytearray(part.key))))
            worker.proceed()
            for expected in planned.inner.members:
                found = await worker.expect(MemberHashed)
                if InnerMember(found.name, found.media_type, found.size_bytes, found.sha256) != expected:
                    raise IntegrityError(
                        f"{expected.name}: a second reader found other content; the export was removed"
                    )
            await worker.expect(Finished)
        finally:
            await worker.end()

    def _record(self, manifest: Manifest) -> None:
        weights = self._weights
        context: dict[str, JSON] = {
            "object": weights.id,
            "request": self._approved.request.id,
            "bundle": manifest.bundle_id,
            "bundle_seq": manifest.seq,
            "manifest_sha256": manifest.digest,
            "bytes": manifest.total_bytes,
            "job": self._run.job,
        }
        self._run.keep(
            self._core.gate.outcome(
                EXPORTED, f"Person:{self._run.owner}", "export", f"Object:{weights.id}", context
            )
        )
        self._core.catalog.set_last_bundle(*OUTGOING, manifest.seq, manifest.digest)
