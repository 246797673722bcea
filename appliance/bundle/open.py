"""Opens a bundle on the recipient's side: verify, copy, decrypt, check, publish by one rename.

Guarantees to the recipient: files appear at `out` only after every check held; until then they lie in a
folder of another name beside it, which is removed on any error. Parts are read off the medium once, even if
it is pulled in between.
The same steps in the same order as the appliance's import (`appliance.bundle.verify`), in one process; this
one writes plaintext to disk, which is what the recipient asked for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.age import NONCE_SIZE, PayloadReader, payload_key, read_header, unwrap_file_key
from appliance.age.lanes import numbers, same, side_by_side
from appliance.bundle.dsse import MAX_ENVELOPE_BYTES
from appliance.bundle.extract import Extractor
from appliance.bundle.folder import MANIFEST, SSH_SIGNATURE, BundleFolder, write_all
from appliance.bundle.manifest import Manifest, target_of
from appliance.bundle.medium import medium_error
from appliance.bundle.quarantine import Quarantine
from appliance.bundle.root import MAX_BYTES, MAX_VERSIONS, root_name
from appliance.bundle.verify import (
    MAX_SSH_SIGNATURE_BYTES,
    verify_files,
    verify_manifest,
    verify_ssh_signature,
)
from appliance.errors import AlreadyExists

if TYPE_CHECKING:
    from appliance.age import Identity
    from appliance.bundle.inner import Inner, InnerMember
    from appliance.bundle.trust import Trust

_READ_BYTES = 2 << 20


def read_manifest(folder: BundleFolder, trust: Trust, target: str, floor: str = "") -> Manifest:
    """Return the verified manifest of an open folder whose files are those it names.

    Steps 1, 2, 4 and 5 of `appliance.bundle.verify`; errors as there. Still owed: replay, parts, contents.
    """
    manifest = read_signed(folder, trust, target, floor)
    verify_files(folder, manifest)
    return manifest


def travelling_roots(folder: BundleFolder) -> tuple[bytes, ...]:
    """Return the versions of the root in a bundle's folder, from the first up to a gap; none is verified."""
    names = set(folder.names())
    found: list[bytes] = []
    while len(found) < MAX_VERSIONS and (name := root_name(len(found) + 1)) in names:
        found.append(folder.read_file(name, MAX_BYTES))
    return tuple(found)


def read_signed(folder: BundleFolder, trust: Trust, target: str, floor: str = "") -> Manifest:
    """Return the verified manifest of an open folder, whatever became of its other files.

    Steps 1, 2 and 4 of `appliance.bundle.verify`; errors as there.
    """
    envelope = folder.read_file(MANIFEST, MAX_ENVELOPE_BYTES)
    manifest = verify_manifest(envelope, trust, target, floor)
    signature = folder.read_file(SSH_SIGNATURE, MAX_SSH_SIGNATURE_BYTES)
    verify_ssh_signature(signature, envelope, manifest, trust.keys)
    return manifest


def open_bundle(bundle: Path, identity: Identity, out: Path, trust: Trust) -> Inner:
    """Open the bundle folder into the new folder `out` and return its contents.

    Raises MediumMissing, Incomplete, SignatureError, OtherTarget, IntegrityError, ContentRefused,
    SpaceExhausted, and AlreadyExists if `out` is there. After MediumMissing, or an interruption, the parts
    that were copied whole are kept beside `out`, encrypted, for the same call to go on with.
    """
    if out.exists():
        raise AlreadyExists(f"expected no {out} yet, found one; choose another folder")
    target = target_of(identity.recipient.text)
    with BundleFolder.open(bundle) as folder:
        manifest = read_manifest(folder, trust, target)
        with Quarantine.below(out.parent, manifest) as quarantine:
            quarantine.demand_room()
            scratch = Path(tempfile.mkdtemp(prefix=".opening-", dir=out.parent))
            try:
                inner = _extract(folder, manifest, identity, scratch, quarantine)
                scratch.chmod(0o755)
                scratch.rename(out)
            except BaseException:
                shutil.rmtree(scratch)
                raise
    return inner


def _extract(
    folder: BundleFolder, manifest: Manifest, identity: Identity, scratch: Path, quarantine: Quarantine
) -> Inner:
    """Copy and hash each part while the one before it is decrypted and taken apart."""
    sink = _FileSink(scratch)
    extractor = Extractor(manifest, sink)

    def feed(part: int) -> None:
        try:
            _feed(extractor, part, identity)
        finally:
            os.close(part)

    numbered = numbers(len(manifest.parts))

    def take(lane: int) -> int | None:
        index = numbered(lane)
        return None if index is None else quarantine.fetch(folder, index)

    try:
        side_by_side((0, 1), take, same, feed)
        return extractor.finish()
    finally:
        sink.close()


def _feed(extractor: Extractor, part: int, identity: Identity) -> None:
    with open(part, "rb", closefd=False) as source:
        header = read_header(source)
        source.seek(header.size)
        nonce = source.read(NONCE_SIZE)
    file_key = unwrap_file_key(header, [identity])
    key = payload_key(file_key, nonce)
    file_key[:] = bytes(len(file_key))
    offset = header.size + NONCE_SIZE
    with PayloadReader(part, key, offset, os.fstat(part).st_size - offset) as plain:

        def take(block: memoryview) -> memoryview | None:
            count = plain.readinto(block)
            return block[:count] if count else None

        lanes = 2 if plain.size > _READ_BYTES else 1  # one decrypts while the other hashes and writes
        side_by_side([memoryview(bytearray(_READ_BYTES)) for _ in range(lanes)], take, same, extractor.feed)
    key[:] = bytes(len(key))


class _FileSink:
    """Writes members as new files below one folder; their names were checked with inner.json."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._fd = -1
        self._name = ""

    def contents(self, inner: Inner) -> None:
        """Make the folders that the members need."""
        for member in inner.members:
            (self._root / member.name).parent.mkdir(parents=True, exist_ok=True)

    def begin(self, member: InnerMember) -> None:
        """Create the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._root / member.name, flags, 0o644)
        except OSError as error:
            raise medium_error(error, member.name) from error
        self._name = member.name

    def data(self, data: memoryview) -> None:
        """Write the next bytes."""
        write_all(self._fd, data, self._name)

    def end(self, member: InnerMember) -> None:
        """Make the file durable."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise medium_error(error, member.name) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the file in work, if there is one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
