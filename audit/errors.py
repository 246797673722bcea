"""The errors of the log and its verifier, each with the exit code that a script may rely on.

    AuditError              1   anything that is our own fault
    ├── Invalid             6   bytes, hashes or proofs contradict each other: evidence of tampering or damage
    ├── BadSignature        7   a signature is missing, wrong, or by a key that was not given
    ├── NotLatest           9   a witness was shown a proof from another size than it last cosigned
    ├── UnknownOrigin      11   a log that this witness was given no key for
    ├── Malformed          12   bytes that no correct writer produces
    │   └── OldBeyondNew   12   a witness was asked to go back: the old size is above the new one
    ├── CouldNotCheck      13   something needed for the check is missing or unreadable
    ├── LogBusy            16   another process holds the log open for writing
    ├── LogUnavailable     17   the log cannot be written: whoever depends on it must stop
    └── AlreadyExists      21   refused to overwrite: a log, or a file that the auditor keeps

*Wrong* (6, 7, 12) and *could not check* (13) never share a class: the first accuses, the second does not.
"""

from __future__ import annotations

from typing import ClassVar


class AuditError(Exception):
    """Root of every error raised on purpose by this package."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal"


class Invalid(AuditError):
    """Bytes, hashes or proofs contradict each other."""

    exit_code = 6
    code = "integrity"


class BadSignature(AuditError):
    """A signature is missing, wrong, or by a key that was not given."""

    exit_code = 7
    code = "signature"


class NotLatest(AuditError):
    """A witness was shown a proof from another size than it last cosigned; it says which."""

    exit_code = 9
    code = "replay"


class UnknownOrigin(AuditError):
    """A log that this witness was given no key for."""

    exit_code = 11
    code = "other-target"


class Malformed(AuditError):
    """Bytes that no correct writer produces."""

    exit_code = 12
    code = "content"


class OldBeyondNew(Malformed):
    """A witness was asked to go back: the old size is above the new one."""


class CouldNotCheck(AuditError):
    """Something needed for the check is missing or unreadable."""

    exit_code = 13
    code = "incomplete"


class LogBusy(AuditError):
    """Another process holds the log open for writing."""

    exit_code = 16
    code = "busy"


class LogUnavailable(AuditError):
    """The log cannot be written, so nothing that must be logged may happen."""

    exit_code = 17
    code = "log-unavailable"


class AlreadyExists(AuditError):
    """Refused to overwrite: a log, or a file that the auditor keeps."""

    exit_code = 21
    code = "exists"
