"""The kinds of custody in one table: what makes a lock for a URI, and what reads one back from its record.

Devices' packages are imported only when a lock of theirs is used, so that an appliance without them starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.age import Identity
from appliance.custody import file, passphrase, pkcs11, shamir, tpm
from appliance.custody.lock import Lock, Made
from appliance.custody.passphrase import Costs
from appliance.custody.uri import PASSPHRASE, PKCS11, SHAMIR, TPM, scheme_of

# What each kind keeps in a record beside URI and recipient.
FIELDS: Mapping[str, str] = {
    PASSPHRASE: passphrase.FIELD,
    SHAMIR: shamir.FIELD,
    TPM: tpm.FIELD,
    PKCS11: pkcs11.FIELD,
}


def make_lock(uri: str, secret: bytearray | None, beside: Path, kind: type[Identity], costs: Costs) -> Made:
    """Make a new lock; `secret` is what a person gives (passphrase, PIN). Raises as the kind's own `make`."""
    scheme = scheme_of(uri)
    if scheme == PASSPHRASE:
        return passphrase.make(secret, costs)
    if scheme == SHAMIR:
        return shamir.make(uri)
    if scheme == TPM:
        return tpm.make(uri)
    if scheme == PKCS11:
        return pkcs11.make(uri, secret)
    return file.make(beside, kind)


def parse_lock(uri: str, fields: Mapping[str, Any]) -> Lock:
    """Parse a record's fields, those of its kind and no other; raises what the kind's own `parse` does."""
    scheme = scheme_of(uri)
    name = FIELDS.get(scheme, "")
    if set(fields) != ({name} if name else set()):
        raise ValueError(f"{uri[:80]!r} goes with {name or 'no fields'}")
    if scheme == PASSPHRASE:
        return passphrase.parse(fields[name])
    if scheme == SHAMIR:
        return shamir.parse(uri, fields[name])
    if scheme == TPM:
        return tpm.parse(uri, fields[name])
    if scheme == PKCS11:
        return pkcs11.parse(uri, fields[name])
    return file.FileLock()
