"""Who may sign: the OpenSSH allowed-signers file, read more strictly than OpenSSH reads it.

Guarantees that each key belongs to exactly one person and each line names exactly one, so that counting
people is counting names. What would blur that is refused with its line number, not skipped: patterns, several
names on a line, a key listed twice, names that differ only in case, certificate authorities, and dates (the
appliance has no clock that it trusts; a key ends when its line is removed).

Source: ssh-keygen(1), "ALLOWED SIGNERS".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from policy.errors import Malformed
from policy.sshkey import KEY_TYPES, PublicKey, parse_public_key
from policy.wire import decode_base64

MAX_FILE_CHARS: Final = 1 << 18
PERSON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")

_NAMESPACE = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_NAMESPACES = re.compile(r'namespaces="([^"]*)"', re.IGNORECASE)
# A field ends at a blank that is not between quotes.
_FIELD = re.compile(r'(?:[^\s"]|"[^"]*")+', re.ASCII)


@dataclass(frozen=True, slots=True)
class Signer:
    """One person with one key. `namespaces` lists what the key may sign for; empty means anything."""

    person: str
    key: PublicKey
    namespaces: tuple[str, ...]


def parse_allowed_signers(text: str) -> tuple[Signer, ...]:
    """Read a whole file, at most 256 KiB; raises Malformed with the number of the first line not accepted."""
    if len(text) > MAX_FILE_CHARS:
        raise Malformed(f"allowed signers: expected at most {MAX_FILE_CHARS} characters, found {len(text)}")
    by_key: dict[bytes, Signer] = {}
    spellings: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        where = f"allowed signers line {number}"
        signer = _parse_line(stripped, where)
        owner = by_key.setdefault(signer.key.blob, signer)
        if owner is not signer:
            raise Malformed(
                f"{where}: expected each key once, found that of {owner.person} for {signer.person}"
            )
        spelling = spellings.setdefault(signer.person.lower(), signer.person)
        if spelling != signer.person:
            raise Malformed(f"{where}: expected {spelling} spelled as before, found {signer.person}")
    return tuple(by_key.values())


def with_officer(text: str, person: str, key: str, namespace: str) -> str:
    """Return the file with one more line, a key such as `ssh-ed25519 AAAA…`; raises Malformed."""
    if not PERSON.fullmatch(person):
        raise Malformed(f"allowed signers: expected one person's name, found {person[:64]!r}")
    before = text if not text or text.endswith("\n") else f"{text}\n"
    after = f'{before}{person} namespaces="{namespace}" {" ".join(key.split()[:2])}\n'
    parse_allowed_signers(after)
    return after


def without_officer(text: str, person: str) -> str:
    """Return the file without any line of one person, comments left; raises Malformed where there is none."""
    lines = text.split("\n")
    kept = [line for line in lines if line.split()[:1] != [person]]
    if len(kept) == len(lines):
        raise Malformed(f"allowed signers: expected lines of {person[:64]!r} to take away, found none")
    after = "\n".join(kept)
    parse_allowed_signers(after)
    return after


def _parse_line(line: str, where: str) -> Signer:
    if line.count('"') % 2:
        raise Malformed(f"{where}: expected quotes in pairs, found {line[:64]!r}")
    fields = _FIELD.findall(line)
    person = fields[0] if fields else ""  # a line of blanks that are neither space nor tab
    if not PERSON.fullmatch(person):
        raise Malformed(f"{where}: expected one person's name without patterns, found {person[:64]!r}")
    has_options = len(fields) > 1 and fields[1] not in KEY_TYPES
    namespaces = _parse_options(fields[1], where) if has_options else ()
    rest = fields[2:] if has_options else fields[1:]
    if len(rest) < 2 or rest[0] not in KEY_TYPES:
        raise Malformed(
            f"{where}: expected one of {', '.join(KEY_TYPES)} and a key, found {' '.join(rest)[:64]!r}"
        )
    try:
        key = parse_public_key(decode_base64(rest[1], "public key"))
    except Malformed as error:
        raise Malformed(f"{where}: {error}") from error
    if key.type != rest[0]:
        raise Malformed(f"{where}: expected a key of type {rest[0]}, found {key.type}")
    return Signer(person, key, namespaces)


def _parse_options(field: str, where: str) -> tuple[str, ...]:
    """Read the options field, of which only `namespaces="a,b"` is known here."""
    match = _NAMESPACES.fullmatch(field)
    if not match:
        raise Malformed(
            f'{where}: expected a key type or namespaces="…", found {field[:64]!r}; certificates are not '
            "accepted, nor are dates, since there is no trusted clock"
        )
    names = tuple(match[1].split(","))
    for namespace in names:
        if not _NAMESPACE.fullmatch(namespace):
            raise Malformed(f"{where}: expected namespaces without patterns, found {namespace[:64]!r}")
    return names
