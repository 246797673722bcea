"""The errors of the appliance, each with the exit code that a script may rely on.

    ApplianceError                1   anything that is our own fault
    ├── UsageError                2   the command line or request is malformed
    ├── MediumMissing             4   the stick or folder named is not there
    ├── SpaceExhausted            5   no room; nothing half-written stays
    ├── IntegrityError            6   bytes differ from what was sealed, hashed or logged
    ├── SignatureError            7   a signature is missing, wrong or from nobody trusted
    ├── PolicyRefused             8   the rules, or a missing approval, say no
    ├── ReplayRefused             9   an older or already used bundle or request
    ├── Expired                  10   expired or revoked
    ├── OtherTarget              11   meant for another appliance
    ├── ContentRefused           12   content outside what the parsers allow (also: a bad config)
    ├── Incomplete               13   a part or file is missing
    ├── SealedError              14   the vault is sealed: unseal first
    ├── NotIsolated              15   the host is not isolated as the profile demands
    ├── Busy                     16   another daemon or job holds what is asked for
    ├── LogUnavailable           17   the log cannot be written: nothing is read
    ├── NotRunning               18   no daemon answers on the socket
    ├── WrongSecret              19   wrong passphrase, share or key file
    ├── UnknownObject            20   no object, job or request of that name
    ├── AlreadyExists            21   refused to overwrite
    ├── JailError                22   a restriction of the sandbox did not take
    ├── JobFailed                23   a worker died or gave up; its last checkpoint stands
    ├── ProtocolError            24   a message broke the framing, limits or schema
    ├── SetBack                  25   log, catalog, keys or vault are older than the others say
    ├── DeviceMissing            26   no TPM or token answers, or the extra that talks to it is not installed
    └── PlatformChanged          27   not the machine state, TPM or token that the key was sealed to

`code` is the stable name used over the socket; `exit_code` the process status.
"""

from __future__ import annotations

from typing import ClassVar


class ApplianceError(Exception):
    """Root of every error the appliance raises on purpose."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal"


class UsageError(ApplianceError):
    """The command line or request is malformed."""

    exit_code = 2
    code = "usage"


class MediumMissing(ApplianceError):
    """The stick or folder named is not there."""

    exit_code = 4
    code = "no-medium"


class SpaceExhausted(ApplianceError):
    """There is no room; nothing half-written stays."""

    exit_code = 5
    code = "no-space"


class IntegrityError(ApplianceError):
    """Bytes differ from what was sealed, hashed or logged; `chunk` of a payload, where it is known, or -1."""

    exit_code = 6
    code = "integrity"

    def __init__(self, message: str, *, chunk: int = -1) -> None:
        super().__init__(message)
        self.chunk = chunk


class SignatureError(ApplianceError):
    """A signature is missing, wrong, or from nobody trusted."""

    exit_code = 7
    code = "signature"


class PolicyRefused(ApplianceError):
    """The rules, or a missing approval, say no."""

    exit_code = 8
    code = "policy"


class ReplayRefused(ApplianceError):
    """An older or already used bundle or request."""

    exit_code = 9
    code = "replay"


class Expired(ApplianceError):
    """Expired or revoked."""

    exit_code = 10
    code = "expired"


class OtherTarget(ApplianceError):
    """Meant for another appliance."""

    exit_code = 11
    code = "other-target"


class ContentRefused(ApplianceError):
    """Content outside what the parsers allow, a malformed config included."""

    exit_code = 12
    code = "content"


class Incomplete(ApplianceError):
    """A part or file is missing."""

    exit_code = 13
    code = "incomplete"


class SealedError(ApplianceError):
    """The vault is sealed: unseal first."""

    exit_code = 14
    code = "sealed"


class NotIsolated(ApplianceError):
    """The host is not isolated as the profile demands."""

    exit_code = 15
    code = "not-isolated"


class Busy(ApplianceError):
    """Another daemon or job holds what is asked for."""

    exit_code = 16
    code = "busy"


class LogUnavailable(ApplianceError):
    """The log cannot be written, so nothing is read."""

    exit_code = 17
    code = "log-unavailable"


class NotRunning(ApplianceError):
    """No daemon answers on the socket."""

    exit_code = 18
    code = "not-running"


class WrongSecret(ApplianceError):
    """Wrong passphrase, share or key file."""

    exit_code = 19
    code = "wrong-secret"


class UnknownObject(ApplianceError):
    """No object, job or request of that name."""

    exit_code = 20
    code = "unknown"


class AlreadyExists(ApplianceError):
    """Refused to overwrite."""

    exit_code = 21
    code = "exists"


class JailError(ApplianceError):
    """A restriction of the sandbox did not take."""

    exit_code = 22
    code = "jail"


class JobFailed(ApplianceError):
    """A worker died or gave up; its last checkpoint stands."""

    exit_code = 23
    code = "job-failed"


class ProtocolError(ApplianceError):
    """A message broke the framing, limits or schema."""

    exit_code = 24
    code = "protocol"


class SetBack(ApplianceError):
    """Log, catalog, keys or vault are older than the others say: somebody put an old copy back."""

    exit_code = 25
    code = "set-back"


class DeviceMissing(ApplianceError):
    """No TPM or token answers, or the extra that talks to it is not installed."""

    exit_code = 26
    code = "device-missing"


class PlatformChanged(ApplianceError):
    """Not the machine state, TPM or token that the key was sealed to."""

    exit_code = 27
    code = "platform-changed"


def by_code() -> dict[str, type[ApplianceError]]:
    """Map each stable code to its class, so that a client can raise what the daemon reported."""
    classes: list[type[ApplianceError]] = [ApplianceError, *ApplianceError.__subclasses__()]
    return {cls.code: cls for cls in classes}
