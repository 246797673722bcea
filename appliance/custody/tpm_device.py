"""One connection to a TPM 2.0, through the TCG's software stack (`tpm2-pytss`, the extra `tpm`).

Guarantee: what a session loads into the TPM is flushed again, whatever happens; secrets cross the bus between
processor and chip encrypted, under a session salted to the TPM's own storage key. Faults of the way to the
TPM are DeviceMissing. Source: TCG TPM 2.0 Library, Part 3; the storage key is the TCG's default ECC P-256
template under the owner hierarchy, made anew each time, so that nothing of ours is left in the TPM.

KNOWN: a TPM that takes a command and never answers is waited for as long as the kernel does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from appliance.errors import ApplianceError, DeviceMissing

_LAYER, _TCTI_LAYER = 0xFF0000, 0x0A0000
_turn = threading.Lock()  # a TPM without a resource manager serves one connection at a time


@dataclass(frozen=True, slots=True)
class Device:
    """An open connection: the package, its ESAPI context, and the storage key's handle."""

    tss: Any
    esys: Any
    storage_key: Any

    @contextmanager
    def session(self, kind: str, attribute: str) -> Iterator[Any]:
        """Yield a salted session; `kind` is HMAC, POLICY or TRIAL, `attribute` ENCRYPT or DECRYPT."""
        tss = self.tss
        handle = self.esys.start_auth_session(
            self.storage_key,
            tss.ESYS_TR.NONE,
            getattr(tss.TPM2_SE, kind),
            tss.TPMT_SYM_DEF.parse("aes128cfb"),
            tss.TPM2_ALG.SHA256,
        )
        try:
            wanted = getattr(tss.TPMA_SESSION, attribute) | tss.TPMA_SESSION.CONTINUESESSION
            self.esys.trsess_set_attributes(handle, wanted)
            yield handle
        finally:
            self.esys.flush_context(handle)


@contextmanager
def connected(tcti: str) -> Iterator[Device]:
    """Yield a connection to the TPM at this TCTI. Raises DeviceMissing, ApplianceError for other faults."""
    tss = _stack()
    with _turn, _named(tss, tcti), tss.ESAPI(tcti) as esys:
        made = esys.create_primary(tss.TPM2B_SENSITIVE_CREATE(), "ecc256")
        try:
            yield Device(tss, esys, made[0])
        finally:
            esys.flush_context(made[0])


@contextmanager
def _named(tss: Any, tcti: str) -> Iterator[None]:
    """Turn what the stack raises into this package's errors."""
    try:
        yield
    except tss.TSS2_Exception as fault:
        if fault.rc & _LAYER == _TCTI_LAYER:
            raise DeviceMissing(
                f"TPM: expected one to answer at {tcti}, found none ({fault}): start it, or give this user "
                "its device (group tss)"
            ) from fault
        raise ApplianceError(f"TPM at {tcti}: it refused a command: {fault}") from fault
    except RuntimeError as fault:  # the stack's way to say that no such TCTI can be loaded
        raise DeviceMissing(f"TPM: expected a way to one at {tcti}, found: {fault}") from fault


def _stack() -> Any:
    os.environ.setdefault("TSS2_LOG", "all+NONE")  # its own words on standard error say nothing of what to do
    try:
        import tpm2_pytss  # noqa: PLC0415  an optional extra
    except ImportError as missing:
        raise DeviceMissing(
            "tpm: custody needs the extra `tpm` (tpm2-pytss), which is not installed here: "
            "pip install 'training-appliance[tpm]', or requirements/tpm.txt"
        ) from missing
    return tpm2_pytss
