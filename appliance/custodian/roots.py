"""Whose bundles come in: by the root that `init` pinned, and by the versions that came with bundles since.

Guarantees that a version is followed only if the one before it and itself demand so, that all versions stand
in the log, and that a home or catalog that was set back brings no older one back: the newest is gathered from
the log at each start. Without a root the keys that `init` named vouch for everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.bundle.folder import BundleFolder
from appliance.bundle.open import travelling_roots
from appliance.bundle.root import follow, verify_first
from appliance.bundle.trust import Trust, anyone_of
from appliance.custodian.core import Core
from appliance.ledger import ROOT_CHANGED
from audit.entry import JSON
from audit.note import VerifierKey


@dataclass(frozen=True, slots=True)
class Followed:
    """Whose signatures count for a bundle, and the versions of the root that it brought."""

    trust: Trust
    new: tuple[bytes, ...]


def follow_bundle(core: Core, folder: BundleFolder) -> Followed:
    """Return whom to trust, following what travels with a bundle; raises what `verify_next` raises."""
    if not core.facts.root:
        return Followed(anyone_of([VerifierKey.parse(text) for text in core.facts.trust]), ())
    pinned = core.facts.root.encode("ascii")
    told = [envelope.encode("ascii") for envelope in core.ledger.roots]
    current, _ = follow(verify_first(pinned), [pinned, *told])
    newest, new = follow(current, travelling_roots(folder))
    return Followed(Trust(newest), new)


def record_roots(core: Core, person: str, followed: Followed) -> None:
    """Log each new version, whole: from then on it is the one to follow."""
    new: Sequence[bytes] = followed.new
    newest = followed.trust.root
    for number, envelope in enumerate(new):
        assert newest is not None  # noqa: S101  there is none new without a root
        said: dict[str, JSON] = {
            "version": newest.version - len(new) + number + 1,
            "root": envelope.decode("ascii"),
            "sha256": hashlib.sha256(envelope).hexdigest(),
        }
        core.gate.outcome(ROOT_CHANGED, f"Person:{person}", "import", f"Appliance:{core.facts.origin}", said)
