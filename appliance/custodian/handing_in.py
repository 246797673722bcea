"""Approvals that an `approval` bundle brought: each verified and decided on as if it had been handed in here.

Guarantees that a bundle is worth what the signatures in it are: whoever signed the bundle adds nothing to
them. One signature that does not count keeps no good one back. What an earlier bundle, or `appliance
approve`, brought already counts once; a crash between two approvals is made good by importing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.custodian.approvals import take_approval
from appliance.custodian.core import Core
from appliance.errors import AlreadyExists, PolicyRefused, ReplayRefused, UnknownObject
from appliance.worklink import Signed
from audit.entry import JSON
from policy.errors import PolicyError

_NOT_COUNTED = (PolicyError, PolicyRefused, ReplayRefused, UnknownObject)


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Who approved by a bundle, of what, and why other signatures in it do not count."""

    request: str
    people: tuple[str, ...]
    refused: tuple[str, ...]

    def answer(self) -> JSON:
        """Return what the importer is told."""
        return {"request": self.request, "people": list(self.people), "refused": list(self.refused)}


def hand_in(core: Core, signed: Sequence[Signed]) -> HandedIn:
    """Take every signature that counts; raises what refused the first one where none does."""
    request = signed[0].request
    document = core.catalog.request(request).document.decode("ascii")  # ours, not the bundle's copy
    people: list[str] = []
    refused: list[Exception] = []
    known = 0
    for each in signed:
        try:
            people.append(take_approval(core, document, each.signature).person)
        except AlreadyExists:
            known += 1
        except _NOT_COUNTED as error:
            refused.append(error)
    if refused and not people and not known:
        raise refused[0]
    return HandedIn(request, tuple(people), tuple(str(error) for error in refused))
