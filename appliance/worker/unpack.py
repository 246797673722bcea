"""Import: copy the parts off the medium once, then decrypt, take apart and seal what is inside.

Each part is hashed as it is copied into quarantine, and only the quarantined copy is read afterwards: a
medium that answers two reads differently gains nothing. No key arrives before the custodian has compared the
hashes with the signed manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.age import PayloadReader
from appliance.bundle.extract import Extractor
from appliance.bundle.inner import Inner, InnerMember
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.names import APPROVAL, NOTICE, REVOCATION, object_of
from appliance.bundle.parts import copy_part
from appliance.errors import ContentRefused, ProtocolError
from appliance.messages import Channel, close_fds
from appliance.training.config import MAX_CONFIG_BYTES, parse_config
from appliance.training.documents import SEPARATOR
from appliance.worker.approvals import Approvals
from appliance.worker.port import Port, SealedOutput, read_key
from appliance.worklink import Begin, CopyPart, Finished, OpenPart, PartCopied, PartDone, Proceed

BLOCK_BYTES = 1 << 20


class _Vault:
    """Seals members as they pass; the documents of one corpus become one object, joined by NUL."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._open: tuple[str, str] | None = None
        self._output: SealedOutput | None = None
        self._config = bytearray()
        self._kind = ""

    def contents(self, inner: Inner) -> None:
        """Refuse a bundle with members that become no object, before anything is sealed."""
        for member in inner.members:
            object_of(member.name, member.media_type)

    def begin(self, member: InnerMember) -> None:
        """Begin a new object, or the next document of the corpus that is open."""
        wanted = object_of(member.name, member.media_type)
        self._kind = wanted[0]
        self._config.clear()
        if wanted == self._open and self._kind == "corpus":
            self._sealing().seal_from(SEPARATOR)
            return
        self.close()
        self._output = self._port.want_output(*wanted)
        self._open = wanted

    def data(self, data: memoryview) -> None:
        """Seal the next bytes."""
        if self._kind == "config":
            if len(self._config) + len(data) > MAX_CONFIG_BYTES:
                raise ContentRefused(f"config: expected at most {MAX_CONFIG_BYTES} bytes, found more")
            self._config += data
        self._sealing().seal_from(data)

    def end(self, member: InnerMember) -> None:
        """Refuse a config that cannot be trained as it stands."""
        del member
        if self._kind == "config":
            parse_config(bytes(self._config))

    def close(self) -> None:
        """Complete the object that is open."""
        if self._output is not None:
            self._output.close()
        self._output = None
        self._open = None

    def _sealing(self) -> SealedOutput:
        assert self._output is not None  # noqa: S101  `begin` comes before `data`
        return self._output


class _Notice:
    """Looks at the words of a revocation and keeps none: what is revoked, the root beside them says."""

    def __init__(self, port: Port) -> None:
        del port

    def contents(self, inner: Inner) -> None:
        """Refuse anything but the notice."""
        if [member.name for member in inner.members] != [NOTICE]:
            raise ContentRefused(f"bundle of kind {REVOCATION}: expected {NOTICE} alone, found other members")

    def begin(self, member: InnerMember) -> None:
        """Begin the notice."""

    def data(self, data: memoryview) -> None:
        """Let words pass."""

    def end(self, member: InnerMember) -> None:
        """Have been told that the notice was text."""

    def close(self) -> None:
        """Keep nothing."""


_SINKS: Mapping[str, Callable[[Port], _Vault | Approvals | _Notice]] = {
    APPROVAL: Approvals,
    REVOCATION: _Notice,
}


def run(channel: Channel, begin: Begin) -> None:
    """Carry out one import."""
    del begin
    port = Port(channel)
    manifest = parse_manifest(port.file("manifest"))
    _copy_parts(port)
    sink = _SINKS.get(manifest.kind, _Vault)(port)
    extractor = Extractor(manifest, sink)
    for _ in manifest.parts:
        part, (descriptor, key_pipe) = port.expect(OpenPart)
        reader = PayloadReader(descriptor, read_key(key_pipe), part.offset, part.length)
        block = memoryview(bytearray(BLOCK_BYTES))
        while count := reader.readinto(block):
            extractor.feed(block[:count])
        reader.wipe()
        close_fds([descriptor])
        port.send(PartDone(part.index, reader.size))
    extractor.finish()
    sink.close()
    port.send(Finished(0, stopped=False))


def _copy_parts(port: Port) -> None:
    """Copy what is handed over, part by part, until the custodian has seen every hash."""
    while True:
        message, descriptors = port.receive()
        if isinstance(message, Proceed):
            return
        if not isinstance(message, CopyPart):
            raise ProtocolError(f"expected CopyPart or Proceed, found {type(message).__name__}")
        medium, quarantine = descriptors
        size, digest = copy_part(medium, quarantine, message.size_bytes)
        close_fds(descriptors)
        port.send(PartCopied(message.index, size, digest))
