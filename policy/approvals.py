"""The two-person rule: one canonical request, signed by officers in OpenSSH's way, counted by person.

Guarantees to the gate that an approval which exists was signed by an enrolled officer over exactly this
request, and that nobody counts twice or for their own request. A request binds the appliance (log origin), a
nonce, who asks, the action, the objects, the recipients' keys, the options and the rules in force, so a
signature over it counts for nothing else. That it is used once is the catalog's and the log's to remember.

An officer signs the file as it is:  ssh-keygen -Y sign -n approval@appliance -f KEY REQUEST

The form: one line of JSON in ASCII, keys sorted, no blanks, a newline at the end; bytes that do not encode to
themselves again are refused (a later copy with two `action` keys, say). Signatures: OpenSSH PROTOCOL.sshsig.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from policy.allowed_signers import PERSON, Signer
from policy.errors import ApprovalExpired, ApprovalRefused, Malformed, NotEnrolled
from policy.sshsig import verify_signature

NAMESPACE: Final = "approval@appliance"
VERSION: Final = 1

# Tuning: 64 post-quantum recipients of 2 kB each would be absurd; thirty fit.
MAX_REQUEST_BYTES: Final = 65536
MAX_ITEMS: Final = 64

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "log_origin": re.compile(r"[!-~]{1,256}"),
    "nonce": re.compile(r"[0-9a-f]{32}"),
    "requester": PERSON,
    "action": re.compile(r"[a-z][a-z-]{0,31}"),
    "policy_set": re.compile(r"[0-9a-f]{64}"),
    "expires": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"),
}
_OBJECT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,127}")
_RECIPIENT = re.compile(r"[!-~]{1,4096}")
_OPTION = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LONGEST = {"reason": 500, "purpose": 100}


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What officers are asked to sign. Every field is checked when one is made; raises Malformed.

    nonce: 32 hex digits. objects, recipients: sorted, each once. reason: not blank, 500 characters at most.
    policy_set: the engine's digest. expires: UTC, as 2031-05-04T09:00:00Z.
    """

    log_origin: str
    nonce: str
    requester: str
    action: str
    objects: tuple[str, ...]
    recipients: tuple[str, ...]
    options: Mapping[str, str]
    reason: str
    policy_set: str
    expires: str
    purpose: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        if type(self.version) is not int or self.version != VERSION:
            raise Malformed(f"approval request: expected version {VERSION}, found {self.version!r}")
        for name, pattern in _PATTERNS.items():
            _check(name, getattr(self, name), pattern)
        for name, longest in _LONGEST.items():
            _check_text(name, getattr(self, name), longest)
        if not self.reason.strip():
            raise Malformed("approval request: expected a reason, found none; say why with --reason")
        _check_items("objects", self.objects, _OBJECT)
        _check_items("recipients", self.recipients, _RECIPIENT)
        _check_items("options", tuple(sorted(self.options)), _OPTION)
        for name, value in self.options.items():
            _check_text(f"option {name}", value, 256)
        self.expires_at()

    def encode(self) -> bytes:
        """Return the canonical bytes: what is signed, stored and sent."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | {
            "options": dict(self.options)
        }
        text = json.dumps(values, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return text.encode("ascii") + b"\n"

    @property
    def id(self) -> str:
        """The SHA-256 of the canonical bytes, 64 hex digits."""
        return request_id(self.encode())

    def expires_at(self) -> datetime:
        """Return `expires` as a time in UTC; raises Malformed for a day that does not exist."""
        try:
            return datetime.strptime(self.expires, _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError as error:
            raise Malformed(
                f"approval request: expected a time in expires, found {self.expires!r}"
            ) from error


@dataclass(frozen=True, slots=True)
class Approval:
    """One officer's verified signature under one request."""

    request_id: str
    person: str
    key_fingerprint: str


def request_id(canonical: bytes) -> str:
    """Return the name of a request: the SHA-256 of its canonical bytes, 64 hex digits."""
    return sha256(canonical).hexdigest()


def parse_request(data: bytes) -> ApprovalRequest:
    """Read canonical bytes; raises Malformed for any other spelling, an unknown field or a missing one."""
    if len(data) > MAX_REQUEST_BYTES:
        raise Malformed(f"approval request: expected at most {MAX_REQUEST_BYTES} bytes, found {len(data)}")
    try:
        found = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"approval request: expected JSON in ASCII, found {data[:40]!r}") from error
    expected = {field.name for field in fields(ApprovalRequest)}
    if not isinstance(found, dict) or set(found) != expected:
        names = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise Malformed(f"approval request: expected the fields {sorted(expected)}, found {names}")
    for name, kind in (("objects", list), ("recipients", list), ("options", dict)):
        if not isinstance(found[name], kind):
            raise Malformed(f"approval request: expected a {kind.__name__} in {name}, found {found[name]!r}")
    found["objects"], found["recipients"] = tuple(found["objects"]), tuple(found["recipients"])
    request = ApprovalRequest(**found)
    if request.encode() != data:
        raise Malformed(
            "approval request: expected the canonical form, found another spelling; sign the file as it is"
        )
    return request


def check_current(request: ApprovalRequest, *, log_origin: str, policy_set: str, now: datetime) -> None:
    """Check that the request is for this appliance, these rules and this time (`now` is in UTC).

    Raises ApprovalRefused or ApprovalExpired; checked when approvals are added and again when they are used.
    """
    for what, bound, current in (
        ("appliance", request.log_origin, log_origin),
        ("rules", request.policy_set, policy_set),
    ):
        if bound != current:
            raise ApprovalRefused(
                f"request {request.id[:8]} is for the {what} {bound}, here is {current}; ask anew"
            )
    if now >= request.expires_at():
        raise ApprovalExpired(f"request {request.id[:8]} expired at {request.expires}; ask anew")


def verify_approval(sig_text: str, request_bytes: bytes, signers: Sequence[Signer]) -> Approval:
    """Check one officer's signature over one request, in this order; each step raises.

    1. the request is canonical (Malformed); 2. the signature is over these bytes and made for approvals
    (SignatureInvalid); 3. the key belongs to an enrolled person (NotEnrolled); 4. it may sign approvals
    (ApprovalRefused); 5. that person is not the requester (ApprovalRefused). Owed by the caller:
    `check_current`, the person's role, and that the request is used once.
    """
    request = parse_request(request_bytes)
    key = verify_signature(sig_text, NAMESPACE, request_bytes)
    signer = next((signer for signer in signers if signer.key.blob == key.blob), None)
    if signer is None:
        raise NotEnrolled(f"{key.fingerprint} belongs to no enrolled officer; see the officers file")
    if signer.namespaces and NAMESPACE not in signer.namespaces:
        allowed = ", ".join(signer.namespaces)
        raise ApprovalRefused(f"the key of {signer.person} may sign for {allowed} only, not for {NAMESPACE}")
    if signer.person == request.requester:
        raise ApprovalRefused(f"{signer.person} asked for this and cannot approve it; a second person must")
    return Approval(request.id, signer.person, key.fingerprint)


def count_distinct(approvals: Iterable[Approval], requester: str) -> int:
    """Return how many people approved, the requester left out and each counted once whatever keys they used.

    Raises ApprovalRefused when the approvals are not all under one request.
    """
    given = list(approvals)
    if len({approval.request_id for approval in given}) > 1:
        raise ApprovalRefused(
            "expected approvals of one request, found them of several; count each by itself"
        )
    return len({approval.person for approval in given} - {requester})


def _check(name: str, value: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        shown = repr(value)[:80]
        raise Malformed(f"approval request: expected {name} to match {pattern.pattern}, found {shown}")


def _check_text(name: str, value: object, longest: int) -> None:
    """Refuse what an officer could not see on their screen: control and direction characters."""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise Malformed(
            f"approval request: expected {name} in {longest} printable characters, found {value!r:.60}"
        )


def _check_items(name: str, items: tuple[str, ...], pattern: re.Pattern[str]) -> None:
    if len(items) > MAX_ITEMS:
        raise Malformed(f"approval request: expected at most {MAX_ITEMS} {name}, found {len(items)}")
    for item in items:
        _check(name, item, pattern)
    if list(items) != sorted(set(items)):
        raise Malformed(f"approval request: expected {name} sorted and each once, found {items!r:.80}")
