"""Witnessing: whether a log that was seen before has only grown since.

Guarantees whoever trusts a witness that it never cosigned two histories of one log, whatever it was shown.
What it is shown is the body of `add-checkpoint`, byte for byte, so any public witness can stand in its place.
The checks, in the specification's order, what each refuses, and as what:

    1. a key was given for the origin that the head names   a log nobody asked us to watch   UnknownOrigin
    2. one of those keys signed the head                    a head of somebody's making      BadSignature
    3. the old size is not above the new one                going back                       OldBeyondNew
    4. the old size is the one cosigned last                a second branch, a lost answer   NotLatest
    5. the old tree is the beginning of the new one         a fork, a rewritten history      Invalid

Pure; `audit.witness_state` keeps what was cosigned last, and stores it before anything is answered.
Source: C2SP tlog-witness v1.0.0, "add-checkpoint". One difference: where both sizes are equal and the roots
are not, which the specification reports as a conflict, this says what it is: a fork (Invalid).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from audit.checkpoint import TreeHead, parse_decimal
from audit.errors import Malformed, NotLatest, OldBeyondNew, UnknownOrigin
from audit.merkle import EMPTY_ROOT, HASH_BYTES, MAX_PROOF_HASHES, verify_consistency
from audit.note import MAX_NOTE_BYTES, VerifierKey, decode_base64, parse_note, verify_note

_OLD = "old "
MAX_CHALLENGE_BYTES = MAX_NOTE_BYTES + 64 * 45


@dataclass(frozen=True, slots=True)
class Challenge:
    """An unverified challenge: the size last cosigned, the consistency proof from there, the signed head."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes


def format_challenge(challenge: Challenge) -> bytes:
    """Write the body of add-checkpoint."""
    lines = [f"{_OLD}{challenge.old}", *(base64.b64encode(node).decode() for node in challenge.proof)]
    return "\n".join([*lines, "", ""]).encode() + challenge.note


def parse_challenge(data: bytes) -> Challenge:
    """Read the body of add-checkpoint; the inverse of `format_challenge`; raises Malformed."""
    if len(data) > MAX_CHALLENGE_BYTES:
        raise Malformed(f"challenge: expected at most {MAX_CHALLENGE_BYTES} bytes, found {len(data)}")
    head, gap, note = data.partition(b"\n\n")
    try:
        first, *rest = head.decode("ascii").split("\n")
    except UnicodeDecodeError as failure:
        raise Malformed("challenge: expected ASCII before the tree head") from failure
    if not gap or not first.startswith(_OLD):
        raise Malformed("challenge: expected 'old SIZE', proof lines, an empty line and a tree head")
    old = parse_decimal(first.removeprefix(_OLD), "challenge old size")
    if len(rest) > MAX_PROOF_HASHES:
        raise Malformed(f"challenge: expected at most {MAX_PROOF_HASHES} proof lines, found {len(rest)}")
    proof = tuple(decode_base64(line, "challenge proof") for line in rest)
    if any(len(node) != HASH_BYTES for node in proof):
        raise Malformed(f"challenge proof: expected hashes of {HASH_BYTES} bytes")
    return Challenge(old, proof, note)


def origin_of(challenge: Challenge) -> str:
    """Return the name of the log that an unverified challenge claims to come from; raises Malformed."""
    return TreeHead.parse(parse_note(challenge.note)[0]).origin


def verify_challenge(challenge: Challenge, keys: Sequence[VerifierKey], latest: TreeHead | None) -> TreeHead:
    """Return the head that may be cosigned, after the checks of the module's list.

    `latest` is the head of this log that was cosigned last, None if there was none. Raises Malformed, and
    what the list says.
    """
    origin = origin_of(challenge)
    known = [key for key in keys if key.name == origin]
    if not known:
        names = ", ".join(key.name for key in keys) or "which a key is given"
        raise UnknownOrigin(
            f"challenge: expected a log of {names}, found {origin!r}; give that log's key with --log-key, "
            "once you know it for the log's own"
        )
    head = TreeHead.parse(verify_note(challenge.note, known).text)
    if challenge.old > head.size:
        raise OldBeyondNew(f"challenge: expected an old size of at most {head.size}, found {challenge.old}")
    mine = TreeHead(origin, 0, EMPTY_ROOT) if latest is None else latest
    if challenge.old != mine.size:
        raise NotLatest(
            f"challenge of {origin}: old size {challenge.old} is not my latest (mine is {mine.size}); "
            f"make another from {mine.size}; a log that cannot was set back, or has forked"
        )
    verify_consistency(mine.size, head.size, challenge.proof, mine.root, head.root)
    return head
