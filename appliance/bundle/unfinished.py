"""The journal of a bundle that is being written, so that a pulled stick costs one part and not all of them.

    unfinished.json     what the bundle is to be, and which parts are complete; gone once there is a manifest

Guarantees to the sender: it is signed by the key that will sign the manifest, so nobody who has the stick in
between can slip in a part of theirs and have it signed; each part that it names is read and hashed again
before it counts. It tells a finder no more than the manifest would, and a digest of the list of contents.
Source: docs/formats/transfer-bundle.md, section Resume.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.bundle import canonical, dsse
from appliance.bundle.folder import UNFINISHED, BundleFolder
from appliance.bundle.inner import encode_inner
from appliance.bundle.manifest import (
    MAX_PART_BYTES,
    MAX_PARTS,
    Label,
    PartFile,
    encode_label,
    parse_label,
    part_name,
)
from appliance.bundle.parity import read_back
from appliance.errors import ApplianceError, IntegrityError

if TYPE_CHECKING:
    from appliance.bundle.inner import Inner
    from appliance.bundle.signer import SignerKey
    from audit.note import VerifierKey

FORMAT: Final = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What is to be written, and the first parts that are; `part_sizes` in bytes of plaintext."""

    label: Label
    contents_sha256: str
    part_sizes: tuple[int, ...]
    parts: tuple[PartFile, ...]

    def holds(self, inner: Inner, part_sizes: tuple[int, ...]) -> bool:
        """Say whether these are the contents, cut this way, that the journal was begun for."""
        return (self.contents_sha256, self.part_sizes) == (digest_of(inner), part_sizes)


def digest_of(inner: Inner) -> str:
    """Return the SHA-256 of a list of contents, in hex."""
    return hashlib.sha256(encode_inner(inner)).hexdigest()


def write_journal(folder: BundleFolder, state: Unfinished, parts: Sequence[PartFile], key: SignerKey) -> None:
    """Put the journal into place, or a newer one in the place of the last; raises what a full medium does."""
    payload = canonical.encode(
        {
            "format": FORMAT,
            **encode_label(state.label),
            "contents_sha256": state.contents_sha256,
            "plain_sizes": list(state.part_sizes),
            "parts": [{"size": part.size, "sha256": part.sha256} for part in parts],
        }
    )
    folder.replace_file(UNFINISHED, dsse.sign_envelope(payload, [key.note], dsse.JOURNAL))


def read_journal(folder: BundleFolder, key: VerifierKey) -> Unfinished | None:
    """Return the journal of an unfinished bundle of ours, None where there is none that we signed."""
    if UNFINISHED not in folder.names():
        return None
    try:
        data = folder.read_file(UNFINISHED, dsse.MAX_ENVELOPE_BYTES)
        return _parse(dsse.verify_envelope(data, [key], 1, dsse.JOURNAL).payload)
    except ApplianceError:
        return None  # somebody else's, or damaged: it is neither trusted nor touched


def keep_whole_parts(folder: BundleFolder, state: Unfinished) -> Unfinished:
    """Return the journal with the parts that the medium still gives back as they were; remove all else."""
    whole: list[PartFile] = []
    for part in state.parts:
        if not _is_whole(folder, part):
            break
        whole.append(part)
    kept = {UNFINISHED, *(part.name for part in whole)}
    for name in folder.names():
        if name not in kept:
            folder.remove_file(name)
    return replace(state, parts=tuple(whole))


def _is_whole(folder: BundleFolder, part: PartFile) -> bool:
    if part.name not in folder.names():
        return False
    fd = folder.open_file(part.name)
    try:
        (found,) = read_back([fd], [part.name])
    finally:
        os.close(fd)
    return (found.size, found.sha256) == (part.size, part.sha256)


def _parse(payload: bytes) -> Unfinished:
    fields = canonical.Fields(canonical.parse(payload, UNFINISHED), UNFINISHED)
    fields.constant("format", FORMAT)
    label = parse_label(fields)
    sizes = [size for size in fields.array("plain_sizes", MAX_PARTS) if isinstance(size, int)]
    parts = tuple(
        _parse_part(value, part_name(index)) for index, value in enumerate(fields.array("parts", MAX_PARTS))
    )
    state = Unfinished(label, fields.match("contents_sha256", _SHA256), tuple(sizes), parts)
    fields.done()
    if len(parts) > len(sizes):
        raise IntegrityError(f"{UNFINISHED}: expected at most {len(sizes)} parts, found {len(parts)}")
    return state


def _parse_part(value: canonical.JSON, name: str) -> PartFile:
    fields = canonical.Fields(value, UNFINISHED)
    part = PartFile(name, fields.number("size", 1, MAX_PART_BYTES), fields.match("sha256", _SHA256))
    fields.done()
    return part
