"""A number in the TPM that only grows: what shows that a home was set back.

Guarantee: `raise_counter` returns once the TPM holds the next value in memory that survives power cuts, and
nobody, root included, makes it smaller; a counter that is removed and made anew begins above every value that
any counter of this TPM ever had. Source: TCG TPM 2.0 Library, Part 1 (NV counter index).

KNOWN: whoever may talk to the TPM can raise the number too, and thereby stop the appliance, not deceive it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from appliance.custody.tpm_device import Device, connected
from appliance.errors import PlatformChanged
from appliance.strictjson import JSON

# The range that the TCG's registry leaves to owners (Registry of Reserved TPM 2.0 Handles, 2.2.2).
_FIRST_INDEX, _INDICES = 0x01800000, 0x00400000
_SIZE = 8
_HANDLE = 0x08B  # TPM_RC_HANDLE, without the handle's number


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter's index in the TPM, and its value when it was made."""

    index: int
    initial: int

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds."""
        return {"index": self.index, "initial": self.initial}

    @classmethod
    def parse(cls, fields: Any) -> Self:
        """Parse what `fields` says; raises ValueError, LookupError or TypeError."""
        counter = cls(int(fields["index"]), int(fields["initial"]))
        if not _FIRST_INDEX <= counter.index < _FIRST_INDEX + _INDICES or counter.initial < 1:
            raise ValueError("a counter outside the owner's range")
        return counter


def create_counter(tpm: Device) -> Counter:
    """Define a counter at a free index and give it its first value."""
    tss, nv = tpm.tss, tpm.tss.TPMA_NV
    attributes = nv.AUTHREAD | nv.AUTHWRITE | nv.OWNERREAD | nv.NO_DA
    attributes |= int(tss.TPM2_NT.COUNTER) << int(nv.TPM2_NT_SHIFT)
    index = _FIRST_INDEX + secrets.randbelow(_INDICES)
    public = tss.TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=tss.TPM2_ALG.SHA256, attributes=attributes, dataSize=_SIZE
    )
    handle = tpm.esys.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=public))
    tpm.esys.nv_increment(handle)
    return Counter(index, _read(tpm, handle))


def read_counter(tcti: str, counter: Counter) -> int:
    """Return the present value. Raises DeviceMissing, PlatformChanged where this TPM has no such counter."""
    with connected(tcti) as tpm:
        return _read(tpm, _handle(tpm, counter))


def raise_counter(tcti: str, counter: Counter) -> int:
    """Add one and return the new value. Raises DeviceMissing, PlatformChanged."""
    with connected(tcti) as tpm:
        handle = _handle(tpm, counter)
        tpm.esys.nv_increment(handle)
        return _read(tpm, handle)


def remove_counter(tcti: str, counter: Counter) -> None:
    """Free the index. Raises DeviceMissing, PlatformChanged."""
    with connected(tcti) as tpm:
        tpm.esys.nv_undefine_space(_handle(tpm, counter))


def _handle(tpm: Device, counter: Counter) -> Any:
    """Return the index's handle; refuses an index that is no counter, which its owner could set at will."""
    tss = tpm.tss
    try:
        handle = tpm.esys.tr_from_tpmpublic(counter.index)
    except tss.TSS2_Exception as missing:
        if missing.error != _HANDLE:
            raise
        raise PlatformChanged(
            f"TPM: expected this home's counter at index 0x{counter.index:08x}, found none: another TPM, or "
            "one that was cleared"
        ) from missing
    public, _ = tpm.esys.nv_read_public(handle)
    nv = tss.TPMA_NV
    kind = (int(public.nvPublic.attributes) & int(nv.TPM2_NT_MASK)) >> int(nv.TPM2_NT_SHIFT)
    if kind != int(tss.TPM2_NT.COUNTER):
        raise PlatformChanged(f"TPM: expected a counter at index 0x{counter.index:08x}, found another kind")
    return handle


def _read(tpm: Device, handle: Any) -> int:
    return int.from_bytes(bytes(tpm.esys.nv_read(handle, _SIZE, 0)), "big")
