"""Shredding: two officers' word, every wrap removed, the vault's key rotated, and what could still defeat it.

The order, and what a crash leaves after each step:

    1. decisions on shredding and on rotating     nothing
    2. the request is used                        the object stands; ask anew
    3. entry `object-shredded`                    the object is dead: the next start removes its folder
    4. its folder is gone                         status says that old headers still open: rotate the key
    5. rotation (`vault_rotation`)                as there; `appliance keys rotate` goes on
    6. proof and entry `shredding-proved`         everything is done, the proof alone is missing

Steps 1 to 4 run without a pause. What is proved: the gate refuses the object, the vault has it no more, and
the header it had opens with no key that the appliance holds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.catalog import Object
from appliance.catalog.entries import repeat
from appliance.custodian.approvals import decide, demand_approved, use
from appliance.custodian.core import Core, job_entity
from appliance.custodian.requests import named_object, shred_of
from appliance.custodian.vault_rotation import Progress, rotate_vault_key
from appliance.errors import Busy, Incomplete, IntegrityError, PolicyRefused, UnknownObject
from appliance.gate import NamedObject
from appliance.inventory import SHREDDED
from audit.entry import JSON, Entry, parse_entry
from policy.model import Entity

PROVED = "shredding-proved"
BACKED_UP = "backup-made"
GIVEN_OUT = "recover-identity"


@dataclass(frozen=True, slots=True)
class Remains:
    """Something that would still open the object, together with an old copy of it."""

    what: str
    entry: int
    detail: str


@dataclass(frozen=True, slots=True)
class Shredded:
    """The end of an object: the entries that say and prove it, what would defeat it, what was made of it."""

    object_id: str
    entry: int
    proof: int
    remains: tuple[Remains, ...]
    descendants: int


async def shred(
    core: Core, person: Entity, name: str, request: str
) -> AsyncGenerator[Progress | Shredded, None]:
    """Shred one object on an approved request; tells how far the rotation is, and at last what was done.

    Raises Busy while a job holds its key or a rotation is not ended, what `decide` and the rotation raise.
    """
    row = _resolve(core, name)
    _demand_unused(core, row)
    # A rotation that was cut off, by a header that does not open perhaps, is ended without the object first.
    rounds = 1 if core.inventory.next_recipient is None else 2
    header = _header(core, row)
    subject = shred_of(row)
    approved = demand_approved(core, request, subject)
    decided = decide(core, person, approved, subject)
    entries: list[int] = []

    def destroy() -> None:
        use(core, person.id, approved, decided)
        context: dict[str, JSON] = {
            "object": row.id,
            "object_name": f"{row.kind}/{row.name} version {row.version}",
            "decision": decided.grant.index,
            "request": approved.request.id,
        }
        committed = core.record(
            SHREDDED,
            f"Person:{person.id}",
            "shred",
            f"Object:{row.id}",
            context,
            then=lambda said: repeat(core.catalog, parse_entry(said.entry)),
        )
        entries.append(committed.index)
        core.vault.remove(row.id)
        core.missing = tuple(each for each in core.missing if each != row.id)

    async for progress in rotate_vault_key(core, person, f"shred {row.id}", without=row.id, first=destroy):
        yield progress
    if rounds == 2:
        async for progress in rotate_vault_key(core, person, f"shred {row.id}"):
            yield progress
    refused = _prove(core, row, header)
    remains = what_remains(core, entries[0])
    descendants = sum(row.id in other.parents for other in core.catalog.list())
    proof = core.gate.outcome(
        PROVED,
        "Custodian:custodian",
        "shred",
        f"Object:{row.id}",
        {
            "object": row.id,
            "shredded": entries[0],
            "refusal": refused,
            "remains": [{"what": each.what, "entry": each.entry} for each in remains],
        },
    )
    yield Shredded(row.id, entries[0], proof.index, remains, descendants)


def what_remains(core: Core, shredded: int) -> tuple[Remains, ...]:
    """List from the log what would still open an object beside an old copy of its folder."""
    found: list[Remains] = []
    for data in core.log.entries(0):  # a key from before the object was made opens it too
        if b"backup-made" in data or b"recover-identity" in data:
            entry = parse_entry(data)
            if entry.seq < shredded:
                found += _remains_of(entry)
    if core.facts.recovery:
        found.append(Remains("recovery identity", 0, f"the offline identity of {core.facts.recovery[:20]}…"))
    first: Mapping[str, Any] = parse_entry(core.log.entry(0)).context
    if "continues" in first:
        found.append(Remains("earlier home", 0, f"the home and backups of {first['continues']['origin']}"))
    return tuple(found)


def _remains_of(entry: Entry) -> list[Remains]:
    said: Mapping[str, Any] = entry.context
    if entry.kind == BACKED_UP:
        return [Remains("backup", entry.seq, f"{said['name']} of {entry.time}, with the secret of that time")]
    allowed = entry.decision is not None and entry.decision.allow
    if allowed and said.get("setting") == GIVEN_OUT:
        return [Remains("vault identity", entry.seq, f"printed for {entry.principal} at {entry.time}")]
    return []


def _resolve(core: Core, name: str) -> Object:
    found = named_object(core, name)
    if isinstance(found, NamedObject):
        row = core.catalog.find(found.kind, found.name)
        if row is None:
            raise UnknownObject(f"there is no {found.kind} named {found.name}: see `appliance objects`")
        return row
    if found.state == "shredded":
        raise UnknownObject(
            f"object {found.id[:16]} was shredded already: `appliance objects show` says when"
        )
    return found


def _demand_unused(core: Core, row: Object) -> None:
    holders = sorted(core.live.holders(row.id))
    if holders:
        raise Busy(
            f"job {holders[0]} holds the key of {row.kind} {row.name}: end it with `appliance stop` first"
        )


def _header(core: Core, row: Object) -> bytes | None:
    """Return the header as it is now, for the proof; None where the object has lost it."""
    try:
        return core.vault.header(row.id)
    except (UnknownObject, Incomplete):
        return None


def _prove(core: Core, row: Object, header: bytes | None) -> int:
    """Try to read what was shredded, in each way there is; returns the entry of the refusal."""
    refused = core.log.size
    reader = job_entity("shred-proof", "custodian", "train", [row.id])
    try:
        core.gate.request(reader, "use", core.catalog.get(row.id))
    except PolicyRefused:
        found = "its folder in the vault" if core.vault.holds(row.id) else ""
        if header is not None and core.custody.opens(header):
            found = "that its old header opens"
    else:
        found = "that the gate allows to read it"
    if found:
        raise IntegrityError(f"object {row.id}: expected it shredded, found {found}; tell the maintainers")
    return refused
