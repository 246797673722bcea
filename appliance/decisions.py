"""The decisions of a home's log, verified as an auditor does before one of them is believed."""

from __future__ import annotations

from pathlib import Path

from appliance.home import Home, read_facts
from audit.entry import Entry
from audit.keys import LogKeys
from audit.note import VerifierKey
from audit.verify import verify_log
from policy.replay import Logged


def decisions(root: Path) -> list[Logged]:
    """Return every logged decision in order; raises UnknownObject or what the verification raises."""
    home = Home(root)
    facts = read_facts(home)
    found: list[Logged] = []

    def observe(entry: Entry) -> None:
        said = entry.decision
        if said is not None:
            found.append(
                Logged(
                    entry.seq,
                    entry.principal,
                    entry.action,
                    entry.resource,
                    entry.context,
                    said.allow,
                    said.reasons,
                )
            )

    keys = [VerifierKey.parse(text) for text in (facts.log_vkey, facts.log_pq_vkey) if text]
    verify_log(home.log, LogKeys((tuple(keys),)), observe=observe)
    return found
