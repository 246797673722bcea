"""Tree heads: the signed statement of a log's size and root, the only thing a log ever signs.

Guarantees a reader that a `TreeHead` it was given is complete and canonical. In code and prose it is a *tree
head*; "checkpoint" is the specification's word and the file's name.
Source: C2SP tlog-checkpoint v1.0.0, without extension lines.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from audit.errors import Invalid, Malformed
from audit.keys import LogKeys
from audit.merkle import EMPTY_ROOT
from audit.note import NoteSigner, VerifierKey, decode_base64, sign_note, verify_note

MAX_SIZE = 2**63 - 1
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A log's name, the number of its entries, and the RFC 6962 root (32 bytes) over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> TreeHead:
        """Read the three lines; the inverse of `text`; raises Malformed."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise Malformed(f"tree head: expected origin, size and root on three lines, found {text[:120]!r}")
        root = decode_base64(lines[2], "tree head root")
        if len(root) != 32:
            raise Malformed(f"tree head root: expected 32 bytes, found {len(root)}")
        head = cls(lines[0], parse_decimal(lines[1], "tree head size"), root)
        if head.size == 0 and head.root != EMPTY_ROOT:
            raise Malformed("tree head: expected the empty tree's root for size 0")
        return head


def parse_decimal(text: str, where: str) -> int:
    """Read a number written without sign, spaces or leading zeros, at most 2^63 - 1; raises Malformed."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise Malformed(f"{where}: expected a decimal number without leading zeros, found {text[:40]!r}")
    return int(text)


def sign_tree_head(head: TreeHead, signer: NoteSigner) -> bytes:
    """Sign a head with the log's own key, whose name is the origin; raises Malformed."""
    if signer.name != head.origin:
        raise Malformed(f"tree head of {head.origin}: expected the signer of that name, found {signer.name}")
    return sign_note(head.text, [signer])


def verify_tree_head(data: bytes, keys: VerifierKey | LogKeys) -> TreeHead:
    """Return the head that the log's keys of its time signed; raises Malformed, BadSignature, Invalid."""
    log = LogKeys.of(keys)
    note = verify_note(data, log.known)
    head = TreeHead.parse(note.text)
    if head.origin != log.name:
        raise Invalid(
            f"tree head: expected the log {log.name}, found one of {head.origin} under its signature"
        )
    log.demand(head.size, note.keys)
    return head
