"""Receipts that travel back: the sender of a bundle gets proof that it came in, on the next stick out.

Guarantees to the sender: the log entry of the import, which names the digest of the manifest that was sent,
and its proof under a signed tree head; both encrypted to a recipient, and signed by this appliance. To the
owner: nothing leaves but what any auditor gets; it counts against the budget of figures (`metrics`), and that
it left is logged first.
Source: docs/formats/transfer-bundle.md, section Receipts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from appliance.bundle.create import create_bundle
from appliance.bundle.folder import BundleFolder
from appliance.bundle.manifest import target_of
from appliance.bundle.names import RECEIPT, RECEIPT_ENTRY, RECEIPT_PROOF, media_type_of
from appliance.bundle.signer import SignerKey
from appliance.bundle.stream import bytes_member
from appliance.catalog.entries import IMPORTED
from appliance.custodian import leaving
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.exports import check_writable_by
from appliance.custodian.jobs import new_job_id
from appliance.errors import UnknownObject
from appliance.gate import Thing
from audit.entry import parse_entry

SENT: Final = "receipt-sent"
CHANNEL: Final = "receipts"
BUDGET: Final = "metrics"


class Receipts:
    """The verb of one custodian that writes receipts."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"SendReceipt": self.send}

    async def send(self, caller: Caller) -> Answer:
        """Write the receipt of an import as a bundle into the caller's folder."""
        core = self._core
        person = core.person(caller.uid)
        recipient, folder_fd = caller.text("recipient"), caller.descriptor("folder_fd")
        check_writable_by(folder_fd, caller.uid)
        signer = SignerKey.from_seed(core.facts.bundle_name, core.custody.keyring.bundle_seed)
        core.gate.request(person, "status", Thing(core.appliance()))
        index = _import_of(core, caller.text("bundle"))
        found = core.gate.receipt_of(index, None)
        self._charge(person.id, target_of(recipient), len(found.entry) + len(found.receipt))
        core.gate.outcome(
            SENT,
            f"Person:{person.id}",
            "status",
            f"Appliance:{core.facts.origin}",
            {"import": index, "recipient": target_of(recipient)},
        )
        members = {RECEIPT_ENTRY: found.entry, RECEIPT_PROOF: found.receipt}
        made = create_bundle(
            [bytes_member(name, media_type_of(name), data) for name, data in members.items()],
            kind=RECEIPT,
            to=recipient,
            sign=signer,
            out_dir=Path(f"/proc/self/fd/{folder_fd}"),
            channel=CHANNEL,
            seq=core.log.size,  # rises with every entry, and one was made just now
            now=datetime.now(UTC),
            direction="out",
        )
        parent = os.open(f"/proc/self/fd/{folder_fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with BundleFolder.beneath(parent, made.name) as folder:
                folder.hand_over(caller.uid)
        finally:
            os.close(parent)
        return {"receipt": made.name, "index": index}

    def _charge(self, person: str, recipient: str, size_bytes: int) -> None:
        """Count it as figures are, before it leaves; raises PolicyRefused where there is no room for it."""
        job = new_job_id("receipt")
        asked = (self._core, BUDGET, recipient, size_bytes)
        leaving.demand_room(*asked, job)
        leaving.charge(*asked, person=person, job=job)


def _import_of(core: Core, bundle_id: str) -> int:
    """Return the newest entry that says a bundle came in; raises UnknownObject."""
    found = -1
    for data in core.log.entries():
        if IMPORTED.encode("ascii") not in data:
            continue
        entry = parse_entry(data)
        said: Mapping[str, Any] = entry.context  # written by an import
        if entry.kind == IMPORTED and said.get("bundle") == bundle_id:
            found = entry.seq
    if found < 0:
        raise UnknownObject(f"expected a bundle {bundle_id[:32]} that was imported, found none in the log")
    return found
