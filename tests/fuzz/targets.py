"""Every reader of bytes that the log's program takes from others, and what must hold whatever it is given.

One table for two drivers: Hypothesis in `make test` (tests/audit/test_readers.py) and a coverage-guided
fuzzer in `make fuzz` (tests/fuzz/drive.py). A reader refuses by an `AuditError`, or returns what, written
again, is the same bytes; whatever else it raises or returns is a defect. Where a signature is checked,
nothing but what was signed may come out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from audit.checkpoint import TreeHead, sign_tree_head
from audit.cosignature import Cosigner
from audit.entry import Decision, Record, encode_entry, parse_entry
from audit.epoch import Chain, key_record, make_closing
from audit.errors import AuditError
from audit.keys import LogKeys
from audit.listing import parse_listing
from audit.merkle import consistency_proof, inclusion_proof, leaf_hash
from audit.note import NoteSigner, VerifierKey, parse_note, parse_signature_lines, sign_note, verify_note
from audit.receipt import format_receipt, parse_receipt, verify_receipt
from audit.tiles import Tile, encode_bundle, parse_bundle, parse_hashes
from audit.tree import Tree
from audit.wal import encode_group, encode_head, parse_write_ahead
from audit.witness import Challenge, format_challenge, parse_challenge, verify_challenge

SIGNER = NoteSigner("log.example/fuzz", bytes(range(32)))
NEXT = NoteSigner("log.example/fuzz", bytes(range(1, 33)))
TIME = "2026-01-02T03:04:05.000000Z"


class Defect(AssertionError):
    """A reader took what its writer does not write."""


@dataclass(frozen=True, slots=True)
class Target:
    """A reader to be called with any bytes, and some that it takes."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]

    def try_(self, data: bytes) -> bool:
        """Tell whether the reader took the bytes; raises Defect, or whatever a broken reader raises."""
        try:
            self.read(data)
        except AuditError:
            return False
        return True


def demand(holds: bool, what: str) -> None:  # noqa: FBT001  a condition, read at the call
    if not holds:
        raise Defect(what)


@cache
def entries() -> tuple[bytes, ...]:
    decision = Decision(True, ("rule",), "ab" * 32, ("because", "\u202e"))
    records = [
        Record("decision", "Person:ada", "use", "weights/7", {"n": -1, "t": [True, None, "é"]}, decision),
        Record("note", "", "", "", {"nested": {"a": {"b": [[], {}]}}}),
        Record("log.full", "log", "stop", "x" * 1024, {"big": 2**63, "secret": {"commitment": "00" * 32}}),
        key_record([NEXT.vkey], 1, "Custodian:custodian", "log", {}),
    ]
    return tuple(encode_entry(record, seq, TIME) for seq, record in enumerate(records))


@cache
def tree(size: int) -> Tree:
    grown = Tree()
    for entry in entries()[:size]:
        grown.append(leaf_hash(entry))
    return grown


@cache
def head(size: int) -> bytes:
    return sign_tree_head(TreeHead(SIGNER.name, size, tree(size).root()), SIGNER)


@cache
def receipt(index: int, size: int, extra: bytes | None = None) -> bytes:
    return format_receipt(index, inclusion_proof(index, size, tree(size).subtree), head(size), extra)


# ---- one reader each --------------------------------------------------------------------------------


def read_note(data: bytes) -> None:
    text, lines = parse_note(data)
    demand(
        (text + "\n" + "".join(line.text for line in lines)).encode() == data, "a second spelling of a note"
    )


def read_signed(data: bytes) -> None:
    text = verify_note(data, [SIGNER.vkey]).text
    demand(text in {"hello\n", "a\n\nb\n"}, f"a text that nobody signed: {text!r}")


def read_signature_lines(data: bytes) -> None:
    lines = parse_signature_lines(data)
    demand("".join(line.text for line in lines).encode() == data, "a second spelling of a signature line")


def read_key(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    demand(VerifierKey.parse(text).text == text.removesuffix("\n"), "a second spelling of a key")


def read_tree_head(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    demand(TreeHead.parse(text).text == text, "a second spelling of a tree head")


def read_tile_path(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    demand(Tile.parse(text).path == text, "a second spelling of a tile's path")


def read_bundle(data: bytes) -> None:
    found = parse_bundle(data, "bundle")
    demand(len(found) <= 256 and encode_bundle(found) == data, "a second spelling of a bundle")


def read_hashes(data: bytes) -> None:
    demand(b"".join(parse_hashes(data, 3, "tile")) == data, "a second spelling of a tile")


def read_entry(data: bytes) -> None:
    found = parse_entry(data)
    record = Record(found.kind, found.principal, found.action, found.resource, found.context, found.decision)
    try:
        again = encode_entry(record, found.seq, found.time)
    except AuditError as failure:
        raise Defect(f"an entry that no log writes: {failure}") from failure
    demand(again == data, "an entry that no log writes")


def read_receipt(data: bytes) -> None:
    found = parse_receipt(data)
    again = format_receipt(found.index, found.proof, found.note, found.extra)
    demand(again == data, "a second spelling of a receipt")


def read_proved_entry(data: bytes) -> None:
    """A receipt with its entry, behind one byte that says where the entry ends."""
    entry, proof = data[2:][: int.from_bytes(data[:2], "big")], data[2 + int.from_bytes(data[:2], "big") :]
    shown = verify_receipt(proof, entry, SIGNER.vkey)
    demand(entry == entries()[shown.index], "an entry that is not in the log")


def read_closing(data: bytes) -> None:
    chain = Chain(LogKeys.of(SIGNER.vkey)).closed_by(data)
    demand(chain.keys.newest == (NEXT.vkey,) and chain.end == 4, "a key that nobody named")


def read_challenge(data: bytes) -> None:
    demand(format_challenge(parse_challenge(data)) == data, "a second spelling of a challenge")


def read_judged_challenge(data: bytes) -> None:
    """To a witness that last saw one entry."""
    latest = TreeHead(SIGNER.name, 1, tree(1).root())
    found = verify_challenge(parse_challenge(data), [SIGNER.vkey], latest)
    demand(found.root == tree(found.size).root(), "a head that nobody signed")


def read_witness_key(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    demand(Cosigner.parse(text).text == text.removesuffix("\n"), "a second spelling of a witness's key")


def read_write_ahead(data: bytes) -> None:
    found = parse_write_ahead(data, SIGNER.vkey)
    demand(0 <= found.torn_bytes < len(data), "more torn than there is")
    whole = parse_write_ahead(data[: len(data) - found.torn_bytes], SIGNER.vkey)
    same = (whole.base, whole.entries, whole.heads, whole.torn_bytes) == (
        found.base,
        found.entries,
        found.heads,
        0,
    )
    demand(same, "without its torn end it reads otherwise")
    settled = found.heads[-1].size if found.heads else found.base.size
    demand(len(found.entries) >= settled, "a signed head beyond the entries")
    for size in range(settled + 1):
        demand(size == 0 or found.entries[size - 1] == entries()[size - 1], "a committed entry was changed")


def read_listing(data: bytes) -> None:
    for name, item in parse_listing(data).items():
        demand(item.id == name and item.version >= 0, "an object under another's name")


@cache
def challenges() -> tuple[bytes, ...]:
    proofs = {new: tuple(consistency_proof(1, new, tree(new).subtree)) for new in (1, 3, 4)}
    return tuple(format_challenge(Challenge(1, proof, head(new))) for new, proof in proofs.items())


ROW = (
    b'{"id":"' + b"ab" * 32 + b'","kind":"weights","name":"tiny","version":1,"size_bytes":7,"sha256":"'
    b'00","parents":["x"],"compartments":[],"state":"ready","job":"j","log_index":3,"created":"t"}'
)


@cache
def write_aheads() -> tuple[bytes, ...]:
    begun = encode_head(head(0))
    first = begun + encode_group(0, entries()[:1]) + encode_head(head(1))
    second = first + encode_group(1, entries()[1:4])
    return begun, first, second, second + encode_head(head(4)), second[:-9]


TARGETS = {
    "note": Target(read_note, (head(1), sign_note("a\n\nb\n", [SIGNER, NEXT]))),
    "signed-note": Target(
        read_signed, (sign_note("hello\n", [SIGNER]), sign_note("a\n\nb\n", [NEXT, SIGNER]))
    ),
    "signature-lines": Target(read_signature_lines, (head(1).rpartition(b"\n\n")[2],)),
    "key": Target(
        read_key, (SIGNER.vkey.text.encode() + b"\n", VerifierKey("w", 4, bytes(32)).text.encode())
    ),
    "tree-head": Target(read_tree_head, tuple(head(n).rpartition(b"\n\n")[0] + b"\n" for n in (0, 1, 4))),
    "tile-path": Target(
        read_tile_path, (b"tile/0/000", b"tile/entries/x001/x234/067.p/255", b"tile/7/001.p/1")
    ),
    "bundle": Target(read_bundle, (b"", encode_bundle(entries()), encode_bundle([b""] * 256))),
    "hashes": Target(read_hashes, (bytes(96),)),
    "entry": Target(read_entry, entries()),
    "receipt": Target(read_receipt, (receipt(0, 1), receipt(2, 4), receipt(3, 4, b"x"))),
    "proved-entry": Target(
        read_proved_entry,
        tuple(len(entries()[i]).to_bytes(2, "big") + entries()[i] + receipt(i, 4) for i in range(4)),
    ),
    "closing": Target(read_closing, (make_closing(entries()[3], receipt(3, 4)),)),
    "challenge": Target(read_challenge, challenges()),
    "judged-challenge": Target(read_judged_challenge, challenges()),
    "witness-key": Target(read_witness_key, (Cosigner.from_seed("w.example", bytes(32)).text.encode(),)),
    "write-ahead": Target(read_write_ahead, write_aheads()),
    "listing": Target(read_listing, (b"[]", b"[" + ROW + b"]")),
}
