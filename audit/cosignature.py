"""Cosignatures: a witness's timed signature over a tree head that somebody else's log signed.

Guarantees who counts them that each was checked against a key named in advance, that one key counts once
whatever names it goes by, and that a wrong signature by a known witness refuses the whole note.
Source: C2SP tlog-cosignature v1.0.1, type 0x04; the answer of a witness is that of C2SP tlog-witness v1.0.0.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from audit.checkpoint import MAX_SIZE, TreeHead
from audit.errors import BadSignature, Malformed
from audit.note import (
    COSIGNATURE_V1,
    SECRET_PREFIX,
    NoteSigner,
    SignatureLine,
    VerifierKey,
    decode_base64,
    parse_note,
    parse_signature_lines,
)


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness's signing key and name."""

    signer: NoteSigner

    @classmethod
    def from_seed(cls, name: str, seed: bytes | bytearray) -> Cosigner:
        """Make the key of a 32-byte Ed25519 seed; raises Malformed."""
        return cls(NoteSigner(name, seed))

    @classmethod
    def parse(cls, text: str) -> Cosigner:
        """Read the one line of a key file; the inverse of `text`; raises Malformed, which quotes nothing."""
        parts = text.removesuffix("\n").removeprefix(SECRET_PREFIX).split("+", 2)
        if text.startswith(SECRET_PREFIX) and len(parts) == 3:
            try:
                blob = decode_base64(parts[2], "witness key")
                key = cls.from_seed(parts[0], blob[1:])
            except Malformed:
                key = None
            if key is not None and blob[0] == COSIGNATURE_V1 and key.vkey.key_id.hex() == parts[1]:
                return key
        raise Malformed(
            f"witness key: expected one line {SECRET_PREFIX}NAME+id+base64 of type 0x04, found others"
        )

    @property
    def text(self) -> str:
        """The secret as one line, without newline."""
        blob = base64.b64encode(bytes([COSIGNATURE_V1]) + bytes(self.signer.seed)).decode()
        return f"{SECRET_PREFIX}{self.signer.name}+{self.vkey.key_id.hex()}+{blob}"

    @property
    def vkey(self) -> VerifierKey:
        """The public half, by which the log's keeper enrols this witness."""
        return VerifierKey(self.signer.name, COSIGNATURE_V1, self.signer.vkey.public_key)

    def cosign(self, head: TreeHead, seconds: int) -> SignatureLine:
        """Sign a head as seen at a Unix time in whole seconds; raises Malformed for a time out of range."""
        if not 0 <= seconds <= MAX_SIZE:
            raise Malformed(f"cosignature: expected a time from 0 to 2^63 - 1 seconds, found {seconds}")
        message = f"cosignature/v1\ntime {seconds}\n{head.text}".encode()
        blob = seconds.to_bytes(8, "big") + self.signer.sign(message)
        return SignatureLine(self.signer.name, self.vkey.key_id, blob)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: whose, and the Unix time in seconds by the witness's own clock."""

    witness: VerifierKey
    seconds: int


def verify_cosignatures(note: bytes, witnesses: Sequence[VerifierKey]) -> tuple[Cosignature, ...]:
    """Return the cosignatures of a note by known witnesses, one for each key, the newest.

    Signatures by others are ignored. Raises Malformed; BadSignature if one by a known witness is wrong.
    """
    text, lines = parse_note(note)
    newest: dict[bytes, Cosignature] = {}
    for line in lines:
        for key in witnesses:
            if key.key_type == COSIGNATURE_V1 and line.is_by(key):
                key.verify_text(text, line.blob)
                seconds = int.from_bytes(line.blob[:8], "big")
                known = newest.get(key.public_key)
                if known is None or known.seconds < seconds:
                    newest[key.public_key] = Cosignature(key, seconds)
    return tuple(newest.values())


def demand_quorum(note: bytes, witnesses: Sequence[VerifierKey], quorum: int) -> tuple[Cosignature, ...]:
    """Return the cosignatures of a head that at least `quorum` witnesses cosigned; raises BadSignature."""
    found = verify_cosignatures(note, witnesses)
    if len(found) < quorum:
        names = ", ".join(each.witness.name for each in found) or "nobody"
        raise BadSignature(
            f"tree head: expected cosignatures by {quorum} of {len(witnesses)} witnesses, found {names}"
        )
    return found


def merge_cosignatures(note: bytes, answer: bytes, witnesses: Sequence[VerifierKey]) -> bytes:
    """Move a witness's answer into the note of the head that it is about.

    A newer cosignature replaces the same witness's older one; lines by unknown keys are dropped. Raises
    Malformed; BadSignature if none in the answer is by a known witness, or one is wrong for this head.
    """
    text, lines = parse_note(note)
    added = [line for line in parse_signature_lines(answer) if any(line.is_by(key) for key in witnesses)]
    if not added:
        names = ", ".join(key.name for key in witnesses) or "a witness, but none is enrolled"
        raise BadSignature(
            f"cosignature: expected one by {names}, found none; is it another witness's answer?"
        )
    replaced = {(line.name, line.key_id) for line in added}
    kept = [line for line in lines if (line.name, line.key_id) not in replaced]
    merged = (text + "\n" + "".join(line.text for line in [*kept, *added])).encode()
    verify_cosignatures(merged, witnesses)
    return merged
