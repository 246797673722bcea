"""The errors of this package, each with the exit code of the one table in the command line's help.

    PolicyError                    1   anything that is our own fault
    ├── PolicyInvalid             12   rules or schema that cannot be judged by: nothing is loaded
    ├── Malformed                 12   a signature, request or signers file outside its format
    ├── SignatureInvalid           7   a signature that is wrong, or from nobody trusted
    │   └── NotEnrolled            7   a good one, by a key that belongs to no officer (any more)
    ├── ApprovalRefused            8   a good signature that may not count
    ├── ApprovalExpired           10   the request was signed for a time that has passed
    └── Refused                    8   facts that are not put to Cedar at all; the engine makes it a denial

A request that is denied is no error: `Engine.decide` returns a `Decision` whatever it is asked.
"""

from __future__ import annotations

from typing import ClassVar


class PolicyError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 1


class PolicyInvalid(PolicyError):
    """Rules or schema that cannot be judged by; nothing of them was loaded."""

    exit_code = 12


class Refused(PolicyError):
    """Facts that are not put to Cedar at all; carries the reason code of the denial."""

    exit_code = 8


class Malformed(PolicyError):
    """Bytes outside the one format that is read here."""

    exit_code = 12


class SignatureInvalid(PolicyError):
    """A signature that is wrong, or from nobody trusted."""

    exit_code = 7


class NotEnrolled(SignatureInvalid):
    """A signature that holds, by a key that belongs to no enrolled officer, or to none any more."""

    exit_code = 7


class ApprovalRefused(PolicyError):
    """A good signature by a known person that may not count as an approval."""

    exit_code = 8


class ApprovalExpired(PolicyError):
    """The time for which the request was signed has passed."""

    exit_code = 10
