"""Makes age files for every rule of the specification, good and bad, without the code that they test.

Written from the specification on the libraries' one-shot primitives, HPKE and the hybrid KEM from their parts
(RFC 9180 and draft-ietf-hpke-pq: SHA3-256 combiner), so that a vector is a second opinion. Deterministic: all
keys come from one seed. `OUTCOMES` are the five ways a reader may end.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

OUTCOMES = ("success", "header", "no match", "mac", "payload")
CHUNK = 65536
SEALED = CHUNK + 16
BYTE_WIDE = tuple(i % 256 for i in range(257))
Chunks = list[tuple[bytes, bool]]


@dataclass(frozen=True)
class Vector:
    """One age file, the secrets offered for it, and what a strict reader must say."""

    name: str
    outcome: str
    data: bytes
    plain: bytes = b""
    curve: tuple[bytes, ...] = ()
    hybrid: tuple[bytes, ...] = ()


def b64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def wrap(arguments: bytes, body: bytes) -> bytes:
    text = b64(body)
    return (
        b"-> " + arguments + b"\n" + b"".join(text[i : i + 64] + b"\n" for i in range(0, len(text) + 1, 64))
    )


def chunks_of(plain: bytes) -> Chunks:
    pieces = [plain[i : i + CHUNK] for i in range(0, len(plain), CHUNK)] or [b""]
    return [(piece, piece is pieces[-1]) for piece in pieces]


def labeled(suite: bytes, label: bytes, data: bytes) -> bytes:
    return b"HPKE-v1" + suite + label + data


def hpke_key(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """RFC 9180 section 5.1, base mode, KEM 0x647a, HKDF-SHA256, ChaCha20-Poly1305."""
    suite = b"HPKE\x64\x7a\x00\x01\x00\x03"

    def extract(salt: bytes, label: bytes, data: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), labeled(suite, label, data), "sha256")

    def expand(key: bytes, label: bytes, data: bytes, size: int) -> bytes:
        text = size.to_bytes(2, "big") + labeled(suite, label, data)
        return hmac.digest(key, text + b"\x01", "sha256")[:size]

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)


@dataclass
class Maker:
    """Keys of one run, and the parts of a file."""

    seed: int = 1
    draw: random.Random = field(init=False)
    file_key: bytes = field(init=False)
    nonce: bytes = field(init=False)
    secret: bytes = field(init=False)
    stranger: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.file_key, self.nonce = self.draw.randbytes(16), self.draw.randbytes(16)
        self.secret, self.stranger = self.draw.randbytes(32), self.draw.randbytes(32)

    def public(self, secret: bytes) -> bytes:
        return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

    def curve_parts(self, secret: bytes, file_key: bytes | None = None) -> tuple[bytes, bytes]:
        """Share and body of an X25519 stanza."""
        ephemeral = X25519PrivateKey.from_private_bytes(self.draw.randbytes(32))
        share, public = ephemeral.public_key().public_bytes_raw(), self.public(secret)
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
        key = hkdf(shared, share + public, b"age-encryption.org/v1/X25519")
        return share, ChaCha20Poly1305(key).encrypt(
            bytes(12), self.file_key if file_key is None else file_key, None
        )

    def curve_body(self, secret: bytes, share: bytes) -> bytes:
        """Body that belongs to a given share, computed with the identity instead of the ephemeral secret."""
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(
            X25519PublicKey.from_public_bytes(share)
        )
        key = hkdf(shared, share + self.public(secret), b"age-encryption.org/v1/X25519")
        return ChaCha20Poly1305(key).encrypt(bytes(12), self.file_key, None)

    def curve(self, secret: bytes) -> bytes:
        share, body = self.curve_parts(secret)
        return wrap(b"X25519 " + b64(share), body)

    def hybrid_keys(self, seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(seed).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(
            expanded[64:]
        )

    def hybrid_public(self, seed: bytes) -> bytes:
        lattice, curve = self.hybrid_keys(seed)
        return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()

    def hybrid_parts(
        self, seed: bytes, file_key: bytes | None = None, point: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Share and body of a hybrid stanza, by hand; a low-order `point` makes the curve's secret zero."""
        lattice, curve = self.hybrid_keys(seed)
        lattice_secret, ciphertext = lattice.public_key().encapsulate()
        ephemeral = X25519PrivateKey.from_private_bytes(self.draw.randbytes(32))
        share, public = ephemeral.public_key().public_bytes_raw(), curve.public_key().public_bytes_raw()
        curve_secret = bytes(32) if point else ephemeral.exchange(curve.public_key())
        share = point or share
        shared = hashlib.sha3_256(
            lattice_secret + curve_secret + share + public + rb"\.//^\ ".strip()
        ).digest()
        key, nonce = hpke_key(shared, b"age-encryption.org/mlkem768x25519")
        body = ChaCha20Poly1305(key).encrypt(nonce, self.file_key if file_key is None else file_key, None)
        return ciphertext + share, body

    def hybrid(self, seed: bytes) -> bytes:
        share, body = self.hybrid_parts(seed)
        return wrap(b"mlkem768x25519 " + b64(share), body)

    def mac(self, marked: bytes) -> bytes:
        return hmac.digest(hkdf(self.file_key, b"", b"header"), marked, "sha256")

    def header(self, *stanzas: bytes, version: bytes = b"age-encryption.org/v1\n") -> bytes:
        marked = version + b"".join(stanzas) + b"---"
        return marked + b" " + b64(self.mac(marked)) + b"\n"

    def payload(
        self, chunks: Chunks, *, numbers: Sequence[int] = (), mark: int = 1, salt: bytes | None = None
    ) -> bytes:
        """Nonce and chunks; `numbers`, `mark` and `salt` depart from the rules."""
        cipher = ChaCha20Poly1305(hkdf(self.file_key, self.nonce if salt is None else salt, b"payload"))
        sealed = [
            cipher.encrypt(number.to_bytes(11, "big") + bytes([mark * final]), plain, None)
            for number, (plain, final) in zip(numbers or range(len(chunks)), chunks, strict=True)
        ]
        return self.nonce + b"".join(sealed)

    def vector(
        self, name: str, outcome: str, header: bytes, payload: bytes | None = None, plain: bytes = b"age"
    ) -> Vector:
        body = self.payload(chunks_of(plain)) if payload is None else payload
        return Vector(name, outcome, header + body, plain, curve=(self.secret,))


def header_vectors() -> Iterator[Vector]:
    """Version line, stanza shapes, MAC line: everything before the first key is tried."""
    m = Maker(1)
    ours = m.curve(m.secret)
    good = m.header(ours)
    marked = good[: good.rindex(b"---") + 3]
    mac = good[len(marked) + 1 : -1]

    def v(name: str, outcome: str, header: bytes) -> Vector:
        return m.vector(f"header {name}", outcome, header)

    def extra(name: str, stanza: bytes, outcome: str = "header") -> Vector:
        return m.vector(f"stanza {name}", outcome, m.header(ours, stanza))

    yield v("plain", "success", good)
    yield Vector("header empty file", "header", b"", curve=(m.secret,))
    yield v("version v2", "header", m.header(ours, version=b"age-encryption.org/v2\n"))
    yield v("version with a space", "header", m.header(ours, version=b"age-encryption.org/v1 \n"))
    yield v("carriage returns", "header", good.replace(b"\n", b"\r\n"))
    yield v("leading line feed", "header", b"\n" + good)
    yield v("no stanza", "header", m.header())
    yield v("MAC of another key", "mac", marked + b" " + b64(bytes(32)) + b"\n")
    yield v("MAC of another header", "mac", good.replace(ours, ours + wrap(b"x", b"")))
    yield v("MAC without a space", "header", marked + mac + b"\n")
    yield v("MAC after two spaces", "header", marked + b"  " + mac + b"\n")
    yield v("MAC with a trailing space", "header", marked + b" " + mac + b" \n")
    yield v("MAC padded", "header", marked + b" " + mac + b"=\n")
    yield v("MAC cut", "header", marked + b" " + mac[:-1] + b"\n")
    yield v("MAC longer", "header", marked + b" " + mac + b"AAAA\n")
    yield v("MAC missing", "header", marked + b"\n")
    yield v("MAC not canonical", "header", marked + b" " + not_canonical(mac) + b"\n")
    yield v("MAC line cut off", "header", marked[:-3])
    yield v("MAC with a carriage return", "header", marked + b" " + mac + b"\r\n")
    yield v("MAC behind four dashes", "header", marked + b"- " + mac + b"\n")
    yield v(
        "MAC in another alphabet", "header", marked + b" " + b64(b"\xff" * 32).replace(b"/", b"_") + b"\n"
    )
    yield v("MAC without its line feed", "header", good[:-1])
    yield v("MAC over the space too", "mac", marked + b" " + b64(m.mac(marked + b" ")) + b"\n")
    yield v("line feed behind the MAC", "payload", good + b"\n")
    yield v("version twice", "header", good.replace(b"/v1\n", b"/v1\n" * 2))
    yield v("version in upper case", "header", m.header(ours, version=b"AGE-ENCRYPTION.ORG/v1\n"))
    yield v("version missing", "header", m.header(ours, version=b""))
    yield m.vector("header armor", "header", armor(good + m.payload(chunks_of(b"age"))), b"")
    yield v("stanzas for others only", "no match", m.header(wrap(b"example.com/x", b"x"), wrap(b"y", b"")))
    yield v("of more than 64 KiB", "header", m.header(ours, wrap(b"large", bytes(49_000))))
    yield extra("unknown kind", wrap(b"example.com/enigma a b", b"x" * 100), "success")
    yield extra("empty body", wrap(b"empty", b""), "success")
    yield extra("empty last line", wrap(b"full", bytes(48)), "success")
    yield extra("all visible characters", wrap(bytes(range(33, 127)), b"x"), "success")
    yield extra("two full lines", wrap(b"full", bytes(96)), "success")
    yield extra("of 16,000 lines", wrap(b"long", bytes(40_000)), "success")
    yield extra("long argument", wrap(b"a" * 5000, b""), "success")
    yield extra("many arguments", wrap(b" ".join([b"a"] * 500), b""), "success")
    yield extra("sixty-four in all", b"".join(wrap(b"grease", bytes([i])) for i in range(63)), "success")
    yield extra("sixty-five in all", b"".join(wrap(b"grease", bytes([i])) for i in range(64)))
    yield extra("no arguments", b"->\n\n")
    yield extra("one space and no argument", b"-> \n\n")
    yield extra("empty argument", b"-> a  b\n\n")
    yield extra("trailing space", b"-> a \n\n")
    yield extra("bad start", b"- > a\n\n")
    yield extra("short start", b"> a\n\n")
    yield extra("control character", b"-> a\x01\n\n")
    yield extra("tab", b"-> a\tb\n\n")
    yield extra("two spaces at the start", b"->  a\n\n")
    yield extra("no space at the start", b"->a\n\n")
    yield extra("delete character", b"-> a\x7f\n\n")
    yield extra("zero byte", b"-> a\0\n\n")
    yield extra("carriage return in the arguments", b"-> a\r\n\n")
    yield extra("space in the body", b"-> a\nAA AA\n")
    yield extra("padding in a full line", b"-> a\n" + b"A" * 62 + b"==\n\n")
    yield extra("two bits too many in the body", b"-> a\nAAB\n")
    yield extra("empty line between", b"-> a\n\n\n")
    yield extra("character above ASCII", "-> ä\n\n".encode())
    yield extra("padded body", b"-> a\nAA==\n")
    yield extra("body not canonical", b"-> a\nAB\n")
    yield extra("body of an impossible length", b"-> a\nA\n")
    yield extra("body with a foreign letter", b"-> a\nAA-_\n")
    yield extra("line of 65", b"-> a\n" + b"A" * 65 + b"\n\n")
    yield extra("line of 68", b"-> a\n" + b"A" * 68 + b"\n")
    yield extra("two short lines", b"-> a\nAAAA\nAAAA\n")
    yield extra("missing body", b"-> a\n")
    yield extra("missing last line", b"-> a\n" + b"A" * 64 + b"\n")
    yield extra("carriage return in the body", b"-> a\nAAAA\r\n")
    yield extra("passphrase beside a key", wrap(b"scrypt " + b64(bytes(16)) + b" 10", bytes(32)))
    yield extra("two passphrases", wrap(b"scrypt " + b64(bytes(16)) + b" 10", bytes(32)) * 2)
    yield v("passphrase alone", "no match", m.header(wrap(b"scrypt " + b64(bytes(16)) + b" 10", bytes(32))))


def not_canonical(text: bytes) -> bytes:
    """Set an unused bit of unpadded base64 whose length leaves two or four of them."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-1] + letters[letters.index(text[-1]) | 1 :][:1]


def armor(data: bytes) -> bytes:
    """The textual form, which the appliance neither writes nor reads."""
    text = base64.b64encode(data)
    lines = b"".join(text[i : i + 64] + b"\n" for i in range(0, len(text), 64))
    return b"-----BEGIN AGE ENCRYPTED FILE-----\n" + lines + b"-----END AGE ENCRYPTED FILE-----\n"


def curve_vectors() -> Iterator[Vector]:
    """The X25519 stanza."""
    m = Maker(2)
    share, body = m.curve_parts(m.secret)
    long_body = m.curve_parts(m.secret, m.file_key + b"x")[1]
    others = m.curve(m.stranger)

    def v(name: str, outcome: str, *stanzas: bytes) -> Vector:
        return m.vector(f"X25519 {name}", outcome, m.header(*stanzas))

    def one(arguments: bytes, wrapped: bytes = body) -> bytes:
        return wrap(arguments, wrapped)

    yield v("alone", "success", one(b"X25519 " + b64(share)))
    yield v("behind another's", "success", others, one(b"X25519 " + b64(share)))
    yield v("before grease", "success", one(b"X25519 " + b64(share)), wrap(b"Q-grease 7", b"noise"))
    yield v("for a stranger", "no match", others)
    yield v("bad tag", "no match", one(b"X25519 " + b64(share), body[:-1] + bytes([body[-1] ^ 1])))
    yield v("in lower case", "no match", one(b"x25519 " + b64(share)))
    yield v("extra argument", "header", one(b"X25519 " + b64(share) + b" x"))
    yield v("no share", "header", one(b"X25519"))
    yield v("short share", "header", one(b"X25519 " + b64(share[:-1])))
    yield v("long share", "header", one(b"X25519 " + b64(share + b"\0")))
    yield v("share not canonical", "header", one(b"X25519 " + not_canonical(b64(share))))
    yield v("share padded", "header", one(b"X25519 " + b64(share) + b"="))
    for point in LOW_ORDER:  # with the body that fits the secret everybody knows: zero
        shared = hkdf(bytes(32), point + m.public(m.secret), b"age-encryption.org/v1/X25519")
        known = ChaCha20Poly1305(shared).encrypt(bytes(12), m.file_key, None)
        yield v(f"low-order share {point.hex()}", "header", one(b"X25519 " + b64(point), known))
    high = share[:-1] + bytes([share[-1] | 0x80])
    yield v(
        "share with its unused bit set", "success", one(b"X25519 " + b64(high), m.curve_body(m.secret, high))
    )
    nine = (P + 9).to_bytes(32, "little")
    yield v("share above the prime", "success", one(b"X25519 " + b64(nine), m.curve_body(m.secret, nine)))
    yield v("twice for one key", "success", m.curve(m.secret), m.curve(m.secret))
    yield v("for two keys", "success", m.curve(m.secret), others)
    strange = m.curve_parts(m.secret, bytes(16))
    yield v("with another file's key", "mac", wrap(b"X25519 " + b64(strange[0]), strange[1]))
    yield replace(v("second identity", "success", m.curve(m.secret)), curve=(m.stranger, m.secret))
    yield v("short file key", "header", one(b"X25519 " + b64(share), m.curve_parts(m.secret, bytes(15))[1]))
    yield v("no body", "header", one(b"X25519 " + b64(share), b""))
    yield v("long file key", "header", one(b"X25519 " + b64(share), long_body))
    yield v("short body", "header", one(b"X25519 " + b64(share), body[:-1]))
    yield v(
        "body not canonical", "header", b"-> X25519 " + b64(share) + b"\n" + not_canonical(b64(body)) + b"\n"
    )
    yield v(
        "malformed beside a good one",
        "header",
        one(b"X25519 " + b64(share)),
        one(b"X25519 " + b64(share) + b" x"),
    )


P = 2**255 - 19
# u-coordinates whose product with every scalar is zero: orders 1, 2, 4 and 8 of curve and twist, and those of
# them that fit into 255 bits a second time (RFC 7748, section 6.1; computed from the curve's equation)
_EIGHT = 325606250916557431795983626356110631294008115727848805560023387167927233504
LOW_ORDER = tuple(
    u.to_bytes(32, "little") for u in (0, 1, P - 1, _EIGHT, _EIGHT * pow(_EIGHT, -2, P) % P, P, P + 1)
)


def hybrid_vectors() -> Iterator[Vector]:
    """The mlkem768x25519 stanza."""
    m = Maker(3)
    share, body = m.hybrid_parts(m.secret)
    kind = b"mlkem768x25519 "

    def v(name: str, outcome: str, *stanzas: bytes) -> Vector:
        data = m.header(*stanzas) + m.payload(chunks_of(b"age"))
        return Vector(f"hybrid {name}", outcome, data, b"age", hybrid=(m.secret,))

    yield v("alone", "success", wrap(kind + b64(share), body))
    yield v("behind another's", "success", m.hybrid(m.stranger), wrap(kind + b64(share), body))
    yield v("before grease", "success", wrap(kind + b64(share), body), wrap(b"Q-grease", b""))
    yield v("beside X25519", "success", m.curve(m.stranger), wrap(kind + b64(share), body))
    yield v("for a stranger", "no match", m.hybrid(m.stranger))
    yield v("bad tag", "no match", wrap(kind + b64(share), bytes([body[0] ^ 1]) + body[1:]))
    yield v("altered lattice share", "no match", wrap(kind + b64(bytes([share[0] ^ 1]) + share[1:]), body))
    yield v("altered curve share", "no match", wrap(kind + b64(share[:-1] + bytes([share[-1] ^ 1])), body))
    yield v("in upper case", "no match", wrap(kind.upper() + b64(share), body))
    yield v("extra argument", "header", wrap(kind + b64(share) + b" x", body))
    yield v("no share", "header", wrap(kind.strip(), body))
    yield v("short share", "header", wrap(kind + b64(share[:-1]), body))
    yield v("long share", "header", wrap(kind + b64(share + b"\0"), body))
    yield v("share not canonical", "header", wrap(kind + not_canonical(b64(share)), body))
    yield v(
        "body not canonical", "header", b"-> " + kind + b64(share) + b"\n" + not_canonical(b64(body)) + b"\n"
    )
    for point in LOW_ORDER:
        forged = m.hybrid_parts(m.secret, point=point)
        yield v(f"low-order curve share {point.hex()}", "header", wrap(kind + b64(forged[0]), forged[1]))
    yield v("twice for one key", "success", m.hybrid(m.secret), m.hybrid(m.secret))
    yield v("for two keys", "success", m.hybrid(m.secret), m.hybrid(m.stranger))
    strange = m.hybrid_parts(m.secret, bytes(16))
    yield v("with another file's key", "mac", wrap(kind + b64(strange[0]), strange[1]))
    yield v("share padded", "header", wrap(kind + b64(share) + b"==", body))
    yield v("with a share of X25519", "header", wrap(kind + b64(share[1088:]), body))
    yield v("short file key", "header", wrap(kind + b64(share), m.hybrid_parts(m.secret, bytes(15))[1]))
    yield v("no body", "header", wrap(kind + b64(share), b""))
    yield v("long file key", "header", wrap(kind + b64(share), m.hybrid_parts(m.secret, bytes(17))[1]))
    yield v("X25519 with a hybrid share", "header", wrap(b"X25519 " + b64(share), body))


def stream_vectors() -> Iterator[Vector]:
    """The payload's chunks."""
    m = Maker(4)
    header = m.header(m.curve(m.secret))
    full = bytes(range(256)) * 256
    two, three = full + b"tail", full + full + b"tail"

    def v(name: str, outcome: str, payload: bytes, plain: bytes = b"") -> Vector:
        return m.vector(f"stream {name}", outcome, header, payload, plain)

    for name, plain in {
        "empty": b"",
        "short": b"x",
        "one full": full,
        "two": two,
        "two full": full + full,
        "three": three,
        "257 chunks": full * 256 + b"end",
        "257 full chunks": full * 257,
    }.items():
        yield v(name, "success", m.payload(chunks_of(plain)), plain)
    good = m.payload(chunks_of(two))
    yield v("no nonce", "payload", b"")
    yield v("short nonce", "payload", m.nonce[:-1])
    yield v("no chunk", "payload", m.nonce)
    yield v("no tag", "payload", m.nonce + b"x" * 15)
    yield v("bad tag", "payload", flip(m.payload(chunks_of(b"x")), -1))
    yield v("bad tag in the second chunk", "payload", flip(good, -1))
    yield v("altered first chunk", "payload", flip(good, 16))
    yield v("altered nonce", "payload", flip(good, 0))
    yield v("no final chunk", "payload", m.payload([(b"x", False)]))
    yield v("no final full chunk", "payload", m.payload([(full, False)]))
    yield v("no final chunk of two", "payload", m.payload([(full, False), (b"x", False)]))
    yield v("final chunk cut off", "payload", m.payload([(full, False), (b"x", True)])[: 16 + CHUNK + 16])
    yield v("two final chunks", "payload", m.payload([(full, True), (b"x", True)]))
    yield v("two final full chunks", "payload", m.payload([(full, True), (full, True)]))
    yield v("empty final chunk", "payload", m.payload([(full, False), (b"", True)]))
    yield v("short chunk in front", "payload", m.payload([(b"short", False), (b"x", True)]))
    yield v("short second chunk", "payload", m.payload([(full, False), (b"short", False), (b"x", True)]))
    yield v("bad tag in the second full chunk", "payload", flip(m.payload(chunks_of(full + full)), -1))
    yield v("two short final chunks", "payload", m.payload([(b"x", True), (b"y", True)]))
    yield v(
        "two final chunks after another", "payload", m.payload([(full, False), (full, True), (b"x", True)])
    )
    yield v("empty chunk that is not final", "payload", m.payload([(b"", False)]))
    yield v("empty final chunk after two", "payload", m.payload([(full, False), (full, False), (b"", True)]))
    yield v("final chunk too long", "payload", m.payload([(full + b"x", True)]))
    yield v("first chunk too long", "payload", m.payload([(full + b"x", False), (b"x", True)]))
    yield v("chunk left out", "payload", cut(m.payload(chunks_of(three)), 1))
    yield v("chunk given twice", "payload", twice(m.payload(chunks_of(three))))
    strange = Maker(40).payload(chunks_of(three))
    yield v(
        "chunk of another file",
        "payload",
        m.payload(chunks_of(three))[: 16 + SEALED] + strange[16 + SEALED :],
    )
    for name, numbers in {
        "chunks counted from one": (1, 2),
        "chunks counted from the other end": (0, 1 << 80),
        "chunks not counted": (0, 0),
    }.items():
        yield v(name, "payload", m.payload(chunks_of(two), numbers=numbers))
    yield v(
        "number that wraps at 256", "payload", m.payload(chunks_of(full * 256 + b"end"), numbers=BYTE_WIDE)
    )
    yield v("another mark for the last", "payload", m.payload(chunks_of(b"x"), mark=2))
    yield v("key without the nonce", "payload", m.payload(chunks_of(b"x"), salt=b""))
    yield v("a byte behind", "payload", good + b"\0")
    yield v("a tag behind", "payload", good + bytes(16))
    yield v("a sealed chunk of zeros behind", "payload", good + bytes(SEALED))
    yield v("a byte behind a full chunk", "payload", m.payload(chunks_of(full)) + b"\0")
    yield v("a chunk behind", "payload", good + good[16:])
    yield v(
        "chunks swapped",
        "payload",
        m.nonce + swap(m.payload([(full, False), (full[::-1], False), (b"x", True)])),
    )


def flip(data: bytes, at: int) -> bytes:
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def swap(payload: bytes) -> bytes:
    chunks = payload[16:]
    return chunks[SEALED : 2 * SEALED] + chunks[:SEALED] + chunks[2 * SEALED :]


def cut(payload: bytes, index: int) -> bytes:
    """Leave one chunk out."""
    at = 16 + index * SEALED
    return payload[:at] + payload[at + SEALED :]


def twice(payload: bytes) -> bytes:
    """Give the first chunk a second time."""
    return payload[: 16 + SEALED] + payload[16:]


VECTORS = tuple(v for make in (header_vectors, curve_vectors, hybrid_vectors, stream_vectors) for v in make())
