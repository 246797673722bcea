"""`tpm:` custody: the 32 bytes are sealed by this machine's TPM to what the machine booted.

Guarantee: they come out of this TPM alone, and only while the named platform registers (PCRs, SHA-256 bank)
hold what they held when the key was sealed. A stolen disk opens nowhere. It is no secret of a person: who
steals the whole machine, or boots the same software on it, has the vault as far as the rules let them.
Source: TCG TPM 2.0 Library, Part 1 (sealed data, PolicyPCR).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.age.identity import SECRET_SIZE
from appliance.custody.counter import Counter, create_counter, remove_counter
from appliance.custody.lock import Made
from appliance.custody.tpm_device import Device, connected
from appliance.custody.uri import TpmURI, parse_tpm
from appliance.errors import PlatformChanged
from appliance.strictjson import JSON

FIELD = "tpm"
_DIGEST_BYTES = 32
_MAX_BLOB = 1024
_READ_AT_ONCE = 8  # what one TPM2_PCR_Read returns
_POLICY_FAIL, _INTEGRITY = 0x09D, 0x09F  # TPM_RC_POLICY_FAIL, TPM_RC_INTEGRITY, without handle or parameter


@dataclass(frozen=True, slots=True)
class TpmSeal:
    """The sealed object's two halves, the registers it is sealed to, and the machine's counter."""

    where: TpmURI
    values: tuple[bytes, ...]
    private: bytes
    public: bytes
    counter: Counter

    @property
    def uri(self) -> str:
        """The custody URI."""
        return self.where.text

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds."""
        pairs = zip(self.where.pcrs, self.values, strict=True)
        return {
            FIELD: {
                "counter": self.counter.fields(),
                "pcrs": {str(number): value.hex() for number, value in pairs},
                "private": base64.b64encode(self.private).decode("ascii"),
                "public": base64.b64encode(self.public).decode("ascii"),
            }
        }

    def open(self, secret: bytearray | None, beside: Path) -> bytearray:
        """Unseal. Raises DeviceMissing, or PlatformChanged that names the registers which differ."""
        del secret, beside
        with connected(self.where.tcti) as tpm:
            now = read_pcrs(tpm, self.where.pcrs)
            changed = [
                number
                for number, then, found in zip(self.where.pcrs, self.values, now, strict=True)
                if then != found
            ]
            if changed:
                raise PlatformChanged(
                    f"TPM: expected the registers this key was sealed to, found another value in PCR "
                    f"{', '.join(map(str, changed))}: other firmware, boot loader or settings were started; "
                    "boot the former ones, or unseal with the recovery identity and seal anew"
                )
            try:
                return _unseal(tpm, self)
            except tpm.tss.TSS2_Exception as refused:
                if refused.error == _INTEGRITY:
                    raise PlatformChanged(
                        "TPM: expected the one that sealed this key, found another, or one that was cleared; "
                        "unseal with the recovery identity and seal anew"
                    ) from refused
                if refused.error == _POLICY_FAIL:
                    raise PlatformChanged("TPM: its registers changed just now; boot again") from refused
                raise

    def destroy(self, secret: bytearray | None) -> None:
        """Take the counter's index out of the TPM; the sealed object lies in the record alone."""
        del secret
        remove_counter(self.where.tcti, self.counter)


def make(uri: str) -> Made:
    """Seal fresh randomness to this TPM and its registers as they are. Raises DeviceMissing."""
    where = parse_tpm(uri)
    secret = bytearray(os.urandom(SECRET_SIZE))
    with connected(where.tcti) as tpm:
        values = read_pcrs(tpm, where.pcrs)
        private, public = _seal(tpm, where, secret)
        counter = create_counter(tpm)
    return Made(TpmSeal(where, values, private, public, counter), secret)


def parse(uri: str, fields: Any) -> TpmSeal:
    """Parse what `TpmSeal.fields` says; raises ValueError, LookupError or TypeError."""
    where = parse_tpm(uri)
    values = {int(number): bytes.fromhex(value) for number, value in fields["pcrs"].items()}
    if set(values) != set(where.pcrs) or any(len(value) != _DIGEST_BYTES for value in values.values()):
        raise ValueError("other registers than the URI names")
    private, public = (base64.b64decode(fields[name], validate=True) for name in ("private", "public"))
    if not (0 < len(private) <= _MAX_BLOB and 0 < len(public) <= _MAX_BLOB):
        raise ValueError("a sealed object of another size")
    counter = Counter.parse(fields["counter"])
    return TpmSeal(where, tuple(values[number] for number in where.pcrs), private, public, counter)


def read_pcrs(tpm: Device, pcrs: tuple[int, ...]) -> tuple[bytes, ...]:
    """Read registers of the SHA-256 bank, in the order given (ascending)."""
    values: list[bytes] = []
    for start in range(0, len(pcrs), _READ_AT_ONCE):
        _, _, digests = tpm.esys.pcr_read(_selection(tpm, pcrs[start : start + _READ_AT_ONCE]))
        values += [bytes(digest) for digest in digests]
    if len(values) != len(pcrs):
        raise PlatformChanged(f"TPM: expected {len(pcrs)} registers of a SHA-256 bank, found {len(values)}")
    return tuple(values)


def _selection(tpm: Device, pcrs: tuple[int, ...]) -> Any:
    return tpm.tss.TPML_PCR_SELECTION.parse(f"sha256:{','.join(map(str, pcrs))}")


def _seal(tpm: Device, where: TpmURI, secret: bytearray) -> tuple[bytes, bytes]:
    """Create a sealed data object that the registers' policy alone opens, not an empty password."""
    tss, esys = tpm.tss, tpm.esys
    with tpm.session("TRIAL", "DECRYPT") as trial:
        esys.policy_pcr(trial, tss.TPM2B_DIGEST(), _selection(tpm, where.pcrs))
        policy = esys.policy_get_digest(trial)
    attributes = tss.TPMA_OBJECT.FIXEDTPM | tss.TPMA_OBJECT.FIXEDPARENT | tss.TPMA_OBJECT.ADMINWITHPOLICY
    template = tss.TPM2B_PUBLIC.parse("keyedhash", objectAttributes=attributes, authPolicy=policy)
    sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(data=bytes(secret)))
    with tpm.session("HMAC", "DECRYPT") as encrypted:
        private, public, *_ = esys.create(
            tpm.storage_key, sensitive, template, session1=tss.ESYS_TR.PASSWORD, session2=encrypted
        )
    return private.marshal(), public.marshal()


def _unseal(tpm: Device, seal: TpmSeal) -> bytearray:
    tss, esys = tpm.tss, tpm.esys
    private, _ = tss.TPM2B_PRIVATE.unmarshal(seal.private)
    public, _ = tss.TPM2B_PUBLIC.unmarshal(seal.public)
    loaded = esys.load(tpm.storage_key, private, public)
    try:
        with tpm.session("POLICY", "ENCRYPT") as policy:
            esys.policy_pcr(policy, tss.TPM2B_DIGEST(), _selection(tpm, seal.where.pcrs))
            return bytearray(bytes(esys.unseal(loaded, session1=policy)))
    finally:
        esys.flush_context(loaded)
