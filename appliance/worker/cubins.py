"""Compiled kernels on their way to a card: the list's signature first, then each file against the list.

Guarantee: what is returned are the bytes that were hashed; nothing else of the folder is read again, and no
byte reaches a driver before all that the card needs was checked. The key is one that was named in advance.
Format: docs/formats/cubins.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.errors import Incomplete, SignatureError
from audit.errors import AuditError
from audit.note import MAX_NOTE_BYTES, VerifierKey, verify_note
from kernels.cuda.cubins import CubinList, arch_for, parse_list, verify_cubin
from kernels.cuda.signatures import KERNELS

NOTE = "cubins.note"
MAX_CUBIN_BYTES = 16 * 1024 * 1024  # tuning: the largest of today is a hundredth of it


def read_list(folder: Path, signer: VerifierKey) -> CubinList:
    """Return the list that `signer` signed; raises SignatureError, Incomplete and CubinRefused."""
    data = _read(folder / NOTE, MAX_NOTE_BYTES)
    try:
        note = verify_note(data, [signer])
    except AuditError as error:
        raise SignatureError(
            f"{NOTE}: expected a list of cubins signed by {signer.name}, found {error}; install the kernels "
            "of one release, and ask who had write access"
        ) from error
    return parse_list(note.text.encode("ascii", "replace"))


def load_cubins(folder: Path, signer: VerifierKey, capability: tuple[int, int]) -> Mapping[str, bytes]:
    """Return the checked cubin of every source, for a card of this compute capability.

    Raises BackendMissing for a card that none was built for, CubinRefused for one that was changed, and what
    `read_list` raises.
    """
    listed = read_list(folder, signer)
    arch = arch_for(capability, listed.archs)
    checked: dict[str, bytes] = {}
    for source in sorted({kernel.source for kernel in KERNELS.values()}):
        data = _read(folder / arch / f"{source}.cubin", MAX_CUBIN_BYTES)
        verify_cubin(listed, arch, source, data)
        checked[source] = data
    return checked


def _read(path: Path, limit: int) -> bytes:
    """Read a file once; a byte beyond the limit makes it fail its check."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise Incomplete(
            f"{path.name}: expected a file of the kernels' release, found {error.strerror}; install it again"
        ) from error
