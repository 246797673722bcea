"""Rotating the log's key: the old key names the new one in an entry, signs once more, and is destroyed."""

from __future__ import annotations

from appliance.custodian.core import Core
from appliance.custody.logkeys import create_log_key, retire_log_keys
from audit.log import Committed
from policy.model import Entity


def rotate_log_key(core: Core, person: Entity, reason: str) -> Committed:
    """Begin the next epoch of the log's key; the order is that of `audit.signing`.

    Raises LogUnavailable; then the next start knows which of both keys is needed, and keeps that.
    """
    chain = core.log.epochs.chain
    epoch = len(chain.closings) + 1
    signer = create_log_key(
        core.home.keys,
        epoch,
        core.facts.origin,
        core.facts.log_custody,
        post_quantum=len(chain.keys.newest) > 1,
    )
    committed = core.log.rotate_key(
        signer, f"Person:{person.id}", f"Appliance:{core.facts.origin}", {"reason": reason}
    )
    retire_log_keys(core.home.keys, epoch)
    return committed
