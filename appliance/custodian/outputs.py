"""New objects: keys made here, bytes sealed by a worker, checked by another, then published.

The custodian chooses the file key, the nonce and the recipients, so a worker cannot seal to a stranger; a
fresh worker opens and parses what was written, so a worker cannot leave plaintext or garbage. What a crash
leaves, step by step:

1. the log says that an output was opened (nothing is handed out before),
2. the payload grows under `vault/.incoming/` (a restart removes it),
3. a fresh worker has read all of it; the folder is renamed into the vault (a restart finds an orphan),
4. the creation entry is durable: from here the object exists,
5. the catalog has its row (a restart adds it from the entry).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from appliance.age import PayloadWriter, descriptor_sink
from appliance.catalog import Object
from appliance.catalog.entries import row_of
from appliance.custodian.core import Core
from appliance.custodian.workers import Worker, checked_name
from appliance.errors import IntegrityError, ProtocolError
from appliance.gate import StagedObject
from appliance.inventory import CREATED
from appliance.worklink import GiveOutput, Sealed, Verified, WantOutput
from audit.entry import parse_entry
from policy.model import Entity

KINDS = frozenset({"weights", "config", "corpus", "tokenizer", "optimizer", "report"})
MAX_OUTPUTS = 4096


@dataclass(slots=True)
class Staged:
    """An output on its way into the vault."""

    id: str
    kind: str
    name: str
    sealed_bytes: int = -1


class Outputs:
    """The outputs of one job."""

    def __init__(
        self,
        core: Core,
        job: str,
        allowed: Sequence[str],
        environment: Mapping[str, str],
        *,
        name: str | None = None,
        compartments: Collection[str] = (),
    ) -> None:
        """Begin without outputs; where the job gives every output one `name`, a worker chooses none.

        `compartments` are labels that outputs get beside their parents', as they are when each is published.
        """
        self._name = name
        self._compartments = compartments
        self._core = core
        self._job = job
        self._allowed = frozenset(allowed) & KINDS
        self._environment = environment
        self._staged: dict[int, Staged] = {}
        self._tokens = 0

    def open(self, worker: Worker, want: WantOutput) -> None:
        """Make a key for a new object, log it, and give the worker that key and one descriptor."""
        if want.object_kind not in self._allowed or self._tokens >= MAX_OUTPUTS:
            raise ProtocolError(f"the task may not make {want.object_kind[:20]!r} objects here")
        name = checked_name(want.name)
        if name != (self._name or name):  # names are logged in clear: here they could carry what was read out
            raise ProtocolError("a worker chose the name of an output whose name was given to it")
        output = self._core.custody.mint()
        self._core.gate.outcome(
            "output-opened",
            f"Job:{self._job}",
            "create",
            f"Object:{output.object_id}",
            {"kind": want.object_kind, "name": name},
        )
        descriptor = self._core.vault.stage(output.object_id, output.header, output.nonce)
        self._tokens += 1
        self._staged[self._tokens] = Staged(output.object_id, want.object_kind, name)
        worker.give_output(GiveOutput(self._tokens), descriptor, output.key)

    def sealed(self, message: Sealed) -> None:
        """Note that a worker closed an output."""
        self._of(message.token).sealed_bytes = message.size_bytes

    def kind_of(self, token: int) -> str:
        """Return the kind of an output; raises ProtocolError for one that is not there."""
        return self._of(token).kind

    async def publish(
        self, tokens: Sequence[int], parents: Sequence[Object], secret: Mapping[str, int] | None = None
    ) -> list[Object]:
        """Have a fresh worker read the outputs, then publish, log and catalogue them, in this order.

        `secret` figures about them are committed to in their entries.
        """
        if len(set(tokens)) != len(tokens):
            raise ProtocolError("a worker named one output twice")
        staged = [self._of(token) for token in tokens]
        found = await self._verify(staged, parents)
        rows = [self._publish(item, found[item.id], parents, secret or {}) for item in staged]
        for token in tokens:
            del self._staged[token]
        return rows

    def seal_report(self, text: bytes) -> None:
        """Seal what a worker wrote to its standard output and error; the daemon never shows it.

        The text comes from a jailed process and is not parsed. Raises SpaceExhausted.
        """
        output = self._core.custody.mint()
        self._core.gate.outcome(
            "output-opened", f"Job:{self._job}", "create", f"Object:{output.object_id}", {"kind": "report"}
        )
        descriptor = self._core.vault.stage(output.object_id, output.header, output.nonce)
        digest = hashlib.sha256(output.nonce)
        put = descriptor_sink(descriptor)

        def write(data: memoryview) -> None:
            digest.update(data)
            put(data)

        try:
            with PayloadWriter(write, output.key) as writer:
                writer.write(text)
        finally:
            os.close(descriptor)
            output.wipe()
        item = Staged(output.object_id, "report", self._job, len(text))
        plain = hashlib.sha256(text).hexdigest()
        self._publish(item, Verified(item.id, len(text), digest.hexdigest(), plain), (), {})

    def discard(self) -> None:
        """Drop what was staged and not published."""
        for item in self._staged.values():
            self._core.vault.discard(item.id)
        self._staged.clear()

    def _of(self, token: int) -> Staged:
        if token not in self._staged:
            raise ProtocolError(f"a worker spoke of output {token}, which it does not have")
        return self._staged[token]

    async def _verify(self, staged: Sequence[Staged], parents: Sequence[Object]) -> dict[str, Verified]:
        trained = any(parent.kind == "config" for parent in parents)  # what may leave; see `models.model_of`
        worker = await Worker.start(
            "verify", self._job, self._core.facts.profile, {"trained": int(trained)}, self._environment
        )
        try:
            for item in staged:
                self._give(worker, item)
            worker.proceed()
            found: dict[str, Verified] = {}
            for item in staged:
                verified = await worker.expect(Verified)
                if verified.role != item.id or verified.size_bytes != item.sealed_bytes:
                    message = (
                        f"{item.kind} {item.name}: its maker sealed {item.sealed_bytes} bytes, "
                        f"a fresh reader found {verified.size_bytes}; it was dropped"
                    )
                    raise IntegrityError(message)
                found[item.id] = verified
            return found
        finally:
            await worker.end()

    def _give(self, worker: Worker, item: Staged) -> None:
        if item.sealed_bytes < 0:
            raise ProtocolError(f"{item.kind} {item.name} was named complete before it was sealed")
        resource = StagedObject(item.id, item.kind, item.name, self._job)
        allowed = self._core.gate.request(
            Entity("Custodian", "custodian", {}), "verify", resource, job=self._job
        )
        key = self._core.custody.unwrap(allowed.grant).key
        payload = self._core.vault.open_staged(item.id)
        worker.give_input(item.id, item.kind, payload, key)

    def _publish(
        self, item: Staged, verified: Verified, parents: Sequence[Object], secret: Mapping[str, int]
    ) -> Object:
        inherited = {label for parent in parents for label in parent.compartments}
        compartments = sorted(inherited.union(self._compartments))
        core = self._core
        core.settle()
        core.vault.publish(item.id)
        version = 1 + max(
            (row.version for row in core.catalog.list(item.kind) if row.name == item.name), default=0
        )
        committed = core.record(
            CREATED,
            f"Job:{self._job}",
            "create",
            f"Object:{item.id}",
            {
                "object": item.id,
                "kind": item.kind,
                "name": item.name,
                "version": version,
                "size": verified.size_bytes,
                "payload_sha256": verified.payload_sha256,
                "compartments": compartments,
                "parents": [parent.id for parent in parents],
                "job": self._job,
            },
            then=lambda said: core.catalog.add(row_of(parse_entry(said.entry))),
            secret={"plaintext_sha256": verified.plaintext_sha256, **secret},
        )
        return row_of(parse_entry(committed.entry))
