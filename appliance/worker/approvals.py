"""Import of an `approval` bundle: a request and its signatures, read in the jail and told as they are.

Guarantees to the custodian that nothing is told before the whole bundle held. What is told decides nothing:
the custodian looks the request up by its digest and verifies each signature over its own copy of it.
"""

from __future__ import annotations

from hashlib import sha256

from appliance.bundle.inner import Inner, InnerMember
from appliance.bundle.names import APPROVED_REQUEST
from appliance.errors import ContentRefused
from appliance.worker.port import Port
from appliance.worklink import Signed
from policy.approvals import MAX_REQUEST_BYTES
from policy.sshsig import MAX_ARMOR_CHARS


class Approvals:
    """Keeps the members of one bundle, whose names were checked with inner.json, until it is complete."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._members: dict[str, bytearray] = {}
        self._open = bytearray()

    def contents(self, inner: Inner) -> None:
        """Refuse members that are larger than a request or a signature can be."""
        for member in inner.members:
            most = MAX_REQUEST_BYTES if member.name == APPROVED_REQUEST else MAX_ARMOR_CHARS
            if member.size > most:
                raise ContentRefused(f"{member.name}: expected at most {most} bytes, found {member.size}")

    def begin(self, member: InnerMember) -> None:
        """Begin a request or a signature."""
        self._open = self._members[member.name] = bytearray()

    def data(self, data: memoryview) -> None:
        """Keep the next bytes."""
        self._open += data

    def end(self, member: InnerMember) -> None:
        """Leave the judgement to whoever knows the request."""

    def close(self) -> None:
        """Tell every signature, and of which document; raises ContentRefused for one that is not ASCII."""
        request = sha256(self._members.pop(APPROVED_REQUEST)).hexdigest()
        for name, signature in sorted(self._members.items()):
            if not signature.isascii():
                raise ContentRefused(f"{name}: expected a signature in ASCII, found another text")
            self._port.send(Signed(request, signature.decode("ascii")))
