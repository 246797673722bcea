"""The verbs that look after the log: witnesses, its key, broken glass, and salts for an auditor.

Each asks the gate first, so each stands in the log before it does anything. Witnessing works while the
vault is sealed, since the log goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.custodian.approvals import spend
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.requests import break_glass_of
from appliance.custodian.rotation import rotate_log_key
from appliance.errors import UnknownObject
from appliance.gate import Thing
from audit.entry import JSON, entry_salt, format_time

_LATEST_S = 253_402_300_799  # the last second of the year 9999: a witness's clock may say anything


class Audits:
    """The log's verbs of one custodian."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {
            "Challenge": self.challenge,
            "Accept": self.accept,
            "AuditStatus": self.audit_status,
            "BreakGlass": self.break_glass,
            "Salt": self.salt,
            "RotateLogKey": self.rotate_log_key,
        }

    async def challenge(self, caller: Caller) -> Answer:
        """Make what is shown to a witness."""
        old = caller.number("old") if caller.parameters.get("old") is not None else None
        again = bool(caller.parameters.get("again"))
        self._decide(caller, "witness", {"setting": "challenge"})
        body, begin, size = self._core.witnessing.challenge(old, caller.text("witness"), again=again)
        return {"body": body.decode("utf-8"), "old": begin, "size": size}

    async def accept(self, caller: Caller) -> Answer:
        """Take what a witness answered."""
        self._decide(caller, "witness", {"setting": "accept"})
        accepted = self._core.witnessing.accept(caller.text("answer").encode("utf-8"))
        names = [each.witness.name for each in accepted.cosignatures]
        told: dict[str, JSON] = {
            "size": accepted.head.size,
            "root": accepted.head.root.hex(),
            "witnesses": list(names),
            "missing": accepted.missing,
        }
        person = self._core.person(caller.uid)
        resource = f"Appliance:{self._core.facts.origin}"
        self._core.gate.outcome("cosigned", f"Person:{person.id}", "witness", resource, told)
        return {"size": accepted.head.size, "names": list(names), "missing": accepted.missing}

    async def audit_status(self, caller: Caller) -> Answer:
        """Say who witnessed the log, how far, and how long ago."""
        self._decide(caller, "status")
        witnessing = self._core.witnessing
        witnesses = [
            {
                "name": each.witness.name,
                "vkey": each.witness.text,
                "size": each.size,
                "time": format_time(each.seconds) if 0 < each.seconds <= _LATEST_S else None,
            }
            for each in witnessing.seen()
        ]
        return {
            "log_size": self._core.log.size,
            "quorum": witnessing.quorum,
            "witnessed_size": witnessing.size,
            "unwitnessed_entries": witnessing.entries,
            "unwitnessed_age_s": witnessing.age_s,
            "break_glass": self._core.allowance.is_open,
            "witnesses": witnesses,
        }

    async def break_glass(self, caller: Caller) -> Answer:
        """Let the next job start although the log is long unwitnessed; officers approved it."""
        person = self._core.person(caller.uid)
        approved, _ = spend(self._core, person, caller.text("request"), break_glass_of(self._core))
        self._core.allowance.give(approved.people)
        return {}

    async def salt(self, caller: Caller) -> Answer:
        """Hand out the salt of one entry, which opens that entry's commitments to an auditor."""
        index = caller.number("index")
        if not 0 <= index < self._core.log.size:
            raise UnknownObject(f"expected an entry of 0 to {self._core.log.size - 1}, found {index}")
        self._decide(caller, "disclose", {"entry": index})
        secret = self._core.log.commit_secret
        assert secret is not None  # noqa: S101  nothing is allowed to be disclosed while sealed
        return {"salt": entry_salt(secret, index).hex()}

    async def rotate_log_key(self, caller: Caller) -> Answer:
        """Begin the next epoch of the log's key."""
        self._decide(caller, "configure", {"setting": "log-key"})
        committed = rotate_log_key(self._core, self._core.person(caller.uid), caller.text("reason"))
        chain = self._core.log.epochs.chain
        return {
            "epoch": len(chain.closings),
            "vkey": chain.keys.newest[0].text,
            "log_index": committed.index,
        }

    def _decide(self, caller: Caller, action: str, context: Mapping[str, JSON] | None = None) -> None:
        person = self._core.person(caller.uid)
        self._core.gate.request(person, action, Thing(self._core.appliance()), context)
