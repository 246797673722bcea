"""What a witness remembers: its key, and the last head of each log that it cosigned.

Guarantees that a cosignature leaves only after the head it is over was stored and synced, so that no crash
and no second run makes a witness forget what it said; and that two runs never judge at once.

    <state>/NAME.key        secret, mode 0600        <state>/NAME.vkey     public, enrolled with the log
    <state>/logs/DIGEST     the last head of one log, as its keys and this witness signed it; a witness does
                            not believe a state without its own signature. DIGEST = SHA-256(origin), hex

KNOWN: a witness's folder that is set back to an older copy forgets what came after; keep it where the log's
keeper cannot reach it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from audit.checkpoint import TreeHead
from audit.cosignature import Cosigner
from audit.errors import AlreadyExists, AuditError, CouldNotCheck, Invalid, LogBusy
from audit.folder import LOCK, Folder
from audit.note import MAX_NOTE_BYTES, MAX_SIGNATURES, SignatureLine, VerifierKey, parse_note, verify_note
from audit.witness import origin_of, parse_challenge, verify_challenge

_LOGS = "logs"
_MAX_KEY_BYTES = 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def create_witness(state: Path, name: str, seed: bytes) -> tuple[Path, Path]:
    """Make a witness's folder and key of a fresh 32-byte seed; raises AlreadyExists, Malformed, OSError.

    Returns the paths of the secret and the public half.
    """
    key = Cosigner.from_seed(name, seed)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = name.replace("/", "_")
    secret, public = state / f"{stem}.key", state / f"{stem}.vkey"
    for path in (secret, public):
        if os.path.lexists(path):
            raise AlreadyExists(f"{path}: expected no key yet, found one; a key is never overwritten")
    _write_new(secret, f"{key.text}\n", 0o600)
    _write_new(public, f"{key.vkey.text}\n", 0o644)
    with Folder(state) as folder:
        os.fsync(folder.fd)
    return secret, public


def read_witness_key(path: Path) -> Cosigner:
    """Read a secret key that nobody else may read; raises CouldNotCheck, Malformed, Invalid."""
    with Folder(path.parent) as folder:
        text = folder.read(path.name, _MAX_KEY_BYTES)
    cosigner = Cosigner.parse(text.decode("utf-8", "replace"))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Invalid(
            f"{path}: expected mode 0600, found {mode:04o}; make a new key, others may have read it"
        )
    return cosigner


def answer(data: bytes, state: Path, keys: Sequence[VerifierKey], cosigner: Cosigner, seconds: int) -> bytes:
    """Judge a challenge and return the cosignature line, the head stored first.

    1. one run at a time; 2. the last head is read, and is one that this witness signed; 3. the challenge is
    judged against it; 4. the new head is signed, stored and synced; 5. only then is the answer returned.
    Raises what `verify_challenge` raises, LogBusy, CouldNotCheck, OSError.
    """
    challenge = parse_challenge(data)
    with _locked(state) as folder:
        name = f"{_LOGS}/{sha256(origin_of(challenge).encode()).hexdigest()}"
        head = verify_challenge(challenge, keys, _latest(folder, name, cosigner))
        line = cosigner.cosign(head, seconds)
        folder.replace(name, _kept(challenge.note, keys, line))
        folder.sync()
        return line.text.encode()


def _latest(folder: Folder, name: str, cosigner: Cosigner) -> TreeHead | None:
    note = folder.read_if_present(name, MAX_NOTE_BYTES)
    if note is None:
        return None
    try:
        return TreeHead.parse(verify_note(note, [cosigner.vkey]).text)
    except AuditError as failure:
        raise type(failure)(f"{folder.path / name}: {failure}; this is no state of this witness") from failure


def _kept(note: bytes, keys: Sequence[VerifierKey], line: SignatureLine) -> bytes:
    """Keep the log's own signatures, each once, as evidence beside ours; others could fill the note."""
    text, lines = parse_note(note)
    of_log = {each.text: None for each in lines if any(each.is_by(key) for key in keys)}
    return (text + "\n" + "".join([*list(of_log)[: MAX_SIGNATURES - 1], line.text])).encode()


@contextmanager
def _locked(state: Path) -> Iterator[Folder]:
    if not state.is_dir():
        raise CouldNotCheck(f"{state}: expected a witness's folder, found none; make one with --init NAME")
    with Folder(state) as folder:
        fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        except BlockingIOError as held:
            raise LogBusy(f"{state}: another run of this witness is at work; wait for it") from held
        finally:
            os.close(fd)


def _write_new(path: Path, text: str, mode: int) -> None:
    fd = os.open(path, _NEW, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(fd)
