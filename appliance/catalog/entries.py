"""From log entries to rows: what a start, or a rebuilding, does again where the catalog lacks it.

Each function says whether it changed something, so doing it twice does nothing. What the entries look like is
fixed by those who write them: `custodian.outputs`, `imports`, `exports`, `approvals`, `rotation`,
`leaving`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from appliance.catalog.catalog import Catalog
from appliance.catalog.rows import Object, VaultKey
from appliance.errors import ContentRefused, UnknownObject
from appliance.inventory import CREATED, EVENTS, KEY_BEGUN, KEY_ROTATED, SHREDDED
from audit.entry import Entry

IMPORTED = "bundle-imported"
EXPORTED = "bundle-exported"
USED = "request-used"
RETIRED = "object-retired"
CHARGED = "egress"
ROLE = "researcher"
"""The role of an import whose entry names none: it was logged before there were roles."""
OUTGOING = ("export", "self")
"""Channel and role of this appliance's own bundles."""
UNFILLED = "unfilled"
"""Set in a catalog that was begun anew, until a start has filled it; says by whom."""


def row_of(entry: Entry) -> Object:
    """Return the catalog row that a creation entry states; raises ContentRefused for any other entry."""
    if entry.kind != CREATED:
        raise ContentRefused(f"log entry {entry.seq} is {entry.kind}, expected {CREATED}")
    said: Mapping[str, Any] = entry.context  # written by the custodian; the row checks each value
    return Object(
        id=said["object"],
        kind=said["kind"],
        name=said["name"],
        version=said["version"],
        compartments=tuple(said["compartments"]),
        size=said["size"],
        sha256=said["payload_sha256"],
        parents=tuple(said["parents"]),
        log_index=entry.seq,
        created=entry.time,
        job=said["job"],
    )


def may_repeat(entry: bytes) -> bool:
    """Say whether an entry's bytes are worth parsing: a cheap look, and never wrongly no."""
    return any(mark in entry for mark in _MARKS)


def repeat(catalog: Catalog, entry: Entry) -> bool:
    """Do what an entry says, if the catalog lacks it; returns whether it did."""
    again = REPEATED.get(entry.kind)
    return again is not None and again(catalog, entry, entry.context)


def _created(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    try:
        catalog.get(said["object"])
    except UnknownObject:
        catalog.add(row_of(entry))
        return True
    return False


def _shredded(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    return catalog.shred(said["object"], entry.seq, entry.time)


def _retired(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    lacking = [name for name in said["objects"] if not catalog.get(name).retired]
    for name in lacking:
        catalog.retire(name, entry.seq)
    return bool(lacking)


def _vault_key(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    return catalog.add_vault_key(VaultKey(entry.seq, entry.kind, said["vault_recipient"]))


def _imported(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    del entry
    return _forward(catalog, said["channel"], said.get("role", ROLE), said)


def _exported(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    del entry
    return _forward(catalog, *OUTGOING, said)


def _forward(catalog: Catalog, channel: str, role: str, said: Mapping[str, Any]) -> bool:
    last = catalog.last_bundle(channel, role)
    if last is not None and last.seq >= said["bundle_seq"]:
        return False
    catalog.set_last_bundle(channel, role, said["bundle_seq"], said["manifest_sha256"])
    return True


def _charged(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    return catalog.charge(entry.seq, said["content"], said["recipient"], said["bytes"])


def _used(catalog: Catalog, entry: Entry, said: Mapping[str, Any]) -> bool:
    del entry
    try:
        if catalog.request(said["request"]).state != "open":
            return False
    except UnknownObject:
        return False
    catalog.use_request(said["request"])
    return True


REPEATED: Mapping[str, Callable[[Catalog, Entry, Mapping[str, Any]], bool]] = {
    CREATED: _created,
    SHREDDED: _shredded,
    KEY_BEGUN: _vault_key,
    KEY_ROTATED: _vault_key,
    IMPORTED: _imported,
    EXPORTED: _exported,
    USED: _used,
    CHARGED: _charged,
    RETIRED: _retired,
}
_MARKS = tuple(f'"kind":"{kind}"'.encode("ascii") for kind in REPEATED)
assert REPEATED.keys() >= set(EVENTS)  # noqa: S101  a kind that is tallied and not repeated could never agree
