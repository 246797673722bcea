"""The rules of the age specification in our words, and which vectors show each: what opens, what must not.

Names are patterns over `age_vectors.VECTORS`; a rule that only forbids leans on a plain file. Source:
c2sp.org/age, in the order of its sections.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """What a reader owes, and the vectors for it."""

    text: str
    opens: tuple[str, ...]
    refused: tuple[str, ...]


RULES = (
    Rule(
        "the first line is age-encryption.org/v1 and nothing else",
        ("header plain",),
        ("header version *", "header leading line feed", "header empty file", "header armor"),
    ),
    Rule(
        "lines end in one line feed",
        ("header plain",),
        ("header carriage returns", "stanza carriage return in *", "header MAC with a carriage return"),
    ),
    Rule("there is at least one stanza", ("X25519 alone",), ("header no stanza",)),
    Rule(
        "a stanza begins with `-> ` and arguments of visible ASCII, one space apart",
        ("stanza all visible characters", "stanza long argument", "stanza many arguments"),
        (
            *("stanza no arguments", "stanza one space*", "stanza two spaces*", "stanza no space*"),
            *("stanza empty argument", "stanza trailing space", "stanza bad start", "stanza short start"),
            *("stanza control character", "stanza tab", "stanza delete character", "stanza zero byte"),
            "stanza character above ASCII",
        ),
    ),
    Rule(
        "a body is lines of 64 columns and a shorter last one, which may be empty",
        ("stanza empty body", "stanza empty last line", "stanza two full lines", "stanza of 16,000 lines"),
        (
            *("stanza line of 65", "stanza line of 68", "stanza two short lines", "stanza missing body"),
            *("stanza missing last line", "stanza empty line between"),
        ),
    ),
    Rule(
        "base64 is the standard alphabet, without padding, in its one canonical form",
        ("stanza unknown kind",),
        (
            *(
                "stanza padded body",
                "stanza padding in*",
                "stanza body *",
                "stanza two bits*",
                "stanza space in*",
            ),
            *("header MAC padded", "header MAC not canonical", "header MAC in another alphabet"),
            *("X25519 share not canonical", "X25519 body not canonical", "X25519 share padded"),
            *("hybrid share not canonical", "hybrid body not canonical", "hybrid share padded"),
        ),
    ),
    Rule(
        "stanzas of unknown kinds are passed over",
        ("stanza unknown kind", "X25519 before grease", "hybrid before grease", "stanza sixty-four in all"),
        ("X25519 in lower case", "hybrid in upper case", "header stanzas for others only"),
    ),
    Rule(
        "a header is bounded, which the specification leaves to readers",
        ("stanza sixty-four in all",),
        ("stanza sixty-five in all", "header of more than 64 KiB"),
    ),
    Rule(
        "a passphrase stanza is alone, and is not for us",
        ("X25519 alone",),
        ("stanza passphrase beside a key", "stanza two passphrases", "header passphrase alone"),
    ),
    Rule(
        "the header ends with `--- `, 43 letters of base64 and a line feed",
        ("header plain",),
        (
            *(
                "header MAC without a space",
                "header MAC after two spaces",
                "header MAC with a trailing space",
            ),
            *("header MAC cut", "header MAC longer", "header MAC missing", "header MAC line cut off"),
            *("header MAC behind four dashes", "header MAC without its line feed"),
        ),
    ),
    Rule(
        "the MAC is over all before it up to the dashes, under a key from the file key",
        ("header plain",),
        (
            *("header MAC of another key", "header MAC of another header", "header MAC over the space too"),
            *("X25519 with another file's key", "hybrid with another file's key"),
        ),
    ),
    Rule(
        "any of several recipients opens, whichever place it has, with any of several identities",
        (
            *("X25519 behind another's", "X25519 for two keys", "X25519 twice for one key"),
            *("X25519 second identity", "hybrid behind another's", "hybrid for two keys"),
            *("hybrid twice for one key", "hybrid beside X25519"),
        ),
        ("X25519 for a stranger", "hybrid for a stranger"),
    ),
    Rule(
        "an X25519 stanza has one argument of 32 bytes and a body of 32",
        ("X25519 alone",),
        (
            *("X25519 extra argument", "X25519 no share", "X25519 short share", "X25519 long share"),
            *("X25519 long file key", "X25519 short file key", "X25519 short body", "X25519 no body"),
            *("X25519 malformed beside a good one", "hybrid X25519 with a hybrid share"),
        ),
    ),
    Rule(
        "an X25519 share is any 32 bytes but those whose secret is zero (RFC 7748)",
        ("X25519 share with its unused bit set", "X25519 share above the prime"),
        ("X25519 low-order share *",),
    ),
    Rule(
        "an X25519 body opens under HKDF of the shared secret, salted by share and recipient",
        ("X25519 alone",),
        ("X25519 bad tag",),
    ),
    Rule(
        "a hybrid stanza has one argument of 1,120 bytes and a body of 32",
        ("hybrid alone",),
        (
            *("hybrid extra argument", "hybrid no share", "hybrid short share", "hybrid long share"),
            *(
                "hybrid long file key",
                "hybrid short file key",
                "hybrid no body",
                "hybrid with a share of X25519",
            ),
        ),
    ),
    Rule("a hybrid share's curve half has a secret", ("hybrid alone",), ("hybrid low-order curve share *",)),
    Rule(
        "a hybrid body opens by HPKE under both halves",
        ("hybrid alone",),
        ("hybrid bad tag", "hybrid altered lattice share", "hybrid altered curve share"),
    ),
    Rule(
        "16 bytes of nonce follow the header and salt the payload's key",
        ("stream short",),
        (
            *(
                "stream no nonce",
                "stream short nonce",
                "stream altered nonce",
                "stream key without the nonce",
            ),
            "header line feed behind the MAC",
        ),
    ),
    Rule(
        "all chunks but the last have 64 KiB",
        ("stream two", "stream three"),
        (
            *("stream short chunk in front", "stream short second chunk", "stream final chunk too long"),
            "stream first chunk too long",
        ),
    ),
    Rule(
        "the last chunk may be short, and is empty only in an empty file",
        ("stream empty", "stream short", "stream one full", "stream two full"),
        (
            "stream empty final chunk*",
            "stream empty chunk that is not final",
            "stream no chunk",
            "stream no tag",
        ),
    ),
    Rule(
        "a chunk's nonce is its number from 0, in 11 bytes, big-endian",
        ("stream 257 chunks", "stream 257 full chunks"),
        (
            *("stream chunks counted *", "stream chunks not counted", "stream number that wraps at 256"),
            *("stream chunks swapped", "stream chunk left out", "stream chunk given twice"),
        ),
    ),
    Rule(
        "the last chunk alone is marked, by 1, and ends the file",
        ("stream two", "stream two full"),
        (
            *("stream no final *", "stream final chunk cut off", "stream two final *"),
            *("stream two short final chunks", "stream another mark for the last", "stream a * behind*"),
        ),
    ),
    Rule(
        "every chunk's tag fits",
        ("stream three",),
        ("stream bad tag*", "stream altered first chunk", "stream chunk of another file"),
    ),
)
