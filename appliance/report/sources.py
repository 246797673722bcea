"""What a page on a job is made of. Values only: where they come from is the caller's business.

Jobs, events, accounts and objects are the socket's types of these names; entries were led to one tree head by
their receipts before they came here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.checkpoint import TreeHead
from audit.entry import Entry

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cosigned:
    """Who else signed a head of this log, of how many entries; times are the witnesses' own, UTC."""

    size: int
    by: Sequence[tuple[str, str]]
    """Name and time of each."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the entries were checked against: a head, the key that signed it, where that key is from."""

    head: TreeHead
    key: str
    key_from: str
    cosigned: Cosigned | None


@dataclass(frozen=True, slots=True)
class Sample:
    """How the weights of one version went on from a prompt."""

    version: int
    created: str
    text: str


@dataclass(frozen=True, slots=True)
class Samples:
    """Continuations of one prompt by versions of a model, oldest first, or why there are none."""

    prompt: str
    texts: Sequence[Sample]
    why_none: str


@dataclass(frozen=True, slots=True)
class Sources:
    """All of one page; `made` is the time to put on it (RFC 3339)."""

    origin: str
    profile: str
    job: Row
    events: Sequence[Row]
    account: Row | None
    why_no_account: str
    objects: Mapping[str, Row]
    entries: Sequence[Entry]
    left_out: int
    proof: Proof
    samples: Samples
    made: str
