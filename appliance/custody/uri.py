"""Custody URIs: how a vault is unsealed, in one line that holds nothing secret.

    passphrase:                                       what somebody types
    shamir:2-of-3                                     any 2 of 3 shares, each with another person
    tpm:                                              this machine's TPM, while it boots what it booted then
    tpm:pcrs=0,2,7?tcti=swtpm:path=/run/tpm.sock      the same, other registers and another way to the TPM
    pkcs11:token=vault?module-path=/usr/lib/x.so      a key that never leaves a token (RFC 7512)
    file:                                             a key beside the lock: for demonstrations only

Guarantees whoever compares two of them that one meaning has one text: `canonical`. Nothing is imported here
that costs time, so that the command line can ask what a kind of custody needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from appliance.errors import UsageError

PASSPHRASE, SHAMIR, TPM, PKCS11, FILE = "passphrase:", "shamir:", "tpm:", "pkcs11:", "file:"
SCHEMES = (PASSPHRASE, SHAMIR, TPM, PKCS11, FILE)

# What a person gives when the vault is opened, by the kind of custody; nothing where a device answers alone.
ASKED: Mapping[str, str] = {PASSPHRASE: "passphrase", SHAMIR: "shares", PKCS11: "PIN"}

MAX_SHARES = 16  # SLIP-39 counts members in four bits
PCRS = range(24)
DEFAULT_PCRS = (0, 2, 4, 7)  # firmware, its extensions, boot loader, secure boot's keys and state
DEFAULT_TCTI = "device:/dev/tpmrm0"  # the kernel's resource manager
DEFAULT_OBJECT = "appliance-vault"
_MAX_URI = 512
_SHAMIR = re.compile(r"([1-9][0-9]?)-of-([1-9][0-9]?)")
_PCR_LIST = re.compile(r"[0-9]{1,2}(?:,[0-9]{1,2})*")


@dataclass(frozen=True, slots=True)
class ShamirURI:
    """Any `threshold` of `shares`."""

    threshold: int
    shares: int

    @property
    def text(self) -> str:
        """The canonical URI."""
        return f"{SHAMIR}{self.threshold}-of-{self.shares}"


@dataclass(frozen=True, slots=True)
class TpmURI:
    """The SHA-256 bank's registers that must hold what they held, and the way to the TPM (a TCTI string)."""

    pcrs: tuple[int, ...]
    tcti: str

    @property
    def text(self) -> str:
        """The canonical URI."""
        path = "" if self.pcrs == DEFAULT_PCRS else f"pcrs={','.join(map(str, self.pcrs))}"
        return f"{TPM}{path}" + ("" if self.tcti == DEFAULT_TCTI else f"?tcti={quote(self.tcti, ':/=,.')}")


@dataclass(frozen=True, slots=True)
class Pkcs11URI:
    """A token by its label, the label of the wrapping key on it, and the library that talks to it."""

    token: str
    object: str
    module_path: str

    @property
    def text(self) -> str:
        """The canonical URI."""
        key = "" if self.object == DEFAULT_OBJECT else f";object={quote(self.object, '')}"
        return f"{PKCS11}token={quote(self.token, '')}{key}?module-path={quote(self.module_path)}"


def scheme_of(uri: str) -> str:
    """Return the scheme with its colon; raises UsageError for one that is no kind of custody."""
    scheme = uri.partition(":")[0] + ":"
    if scheme not in SCHEMES or len(uri) > _MAX_URI:
        raise UsageError(f"custody: expected one of {', '.join(SCHEMES)}, found {uri[:80]!r}")
    return scheme


def canonical(uri: str) -> str:
    """Return the URI's one canonical text; raises UsageError that says what was expected."""
    scheme = scheme_of(uri)
    if scheme == SHAMIR:
        return parse_shamir(uri).text
    if scheme == TPM:
        return parse_tpm(uri).text
    if scheme == PKCS11:
        return parse_pkcs11(uri).text
    if uri != scheme:
        raise UsageError(f"custody: expected {scheme} with nothing behind it, found {uri[:80]!r}")
    return uri


def what_is_asked(uri: str) -> str:
    """Return what a person gives to open this custody: `passphrase`, `shares`, `PIN`, or "" for nothing."""
    return ASKED.get(scheme_of(uri), "")


def shares_needed(uri: str) -> int:
    """Return how many shares open this custody, 0 where none do; raises UsageError."""
    return parse_shamir(uri).threshold if scheme_of(uri) == SHAMIR else 0


def parse_shamir(uri: str) -> ShamirURI:
    """Parse `shamir:K-of-N`; raises UsageError unless 2 <= K <= N <= 16."""
    found = _SHAMIR.fullmatch(uri.removeprefix(SHAMIR))
    threshold, shares = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 2 <= threshold <= shares <= MAX_SHARES:
        raise UsageError(
            f"custody: expected shamir:K-of-N with 2 <= K <= N <= {MAX_SHARES}, such as shamir:2-of-3, "
            f"found {uri[:80]!r}"
        )
    return ShamirURI(threshold, shares)


def parse_tpm(uri: str) -> TpmURI:
    """Parse `tpm:[pcrs=A,B][?tcti=T]`; raises UsageError."""
    given = _attributes(uri, TPM, path={"pcrs"}, query={"tcti"})
    listed = given.get("pcrs", ",".join(map(str, DEFAULT_PCRS)))
    pcrs = [int(number) for number in listed.split(",")] if _PCR_LIST.fullmatch(listed) else []
    if not pcrs or len(set(pcrs)) != len(pcrs) or not set(pcrs) <= set(PCRS):
        raise UsageError(
            f"custody: expected pcrs of 0 to 23, each once, such as 0,2,7, found {listed[:80]!r}"
        )
    tcti = given.get("tcti", DEFAULT_TCTI)
    if not tcti or not tcti.isprintable():
        raise UsageError(
            "custody: expected a way to the TPM behind tcti=, such as device:/dev/tpmrm0, found none"
        )
    return TpmURI(tuple(sorted(pcrs)), tcti)


def parse_pkcs11(uri: str) -> Pkcs11URI:
    """Parse `pkcs11:token=LABEL[;object=LABEL]?module-path=FILE`; raises UsageError."""
    given = _attributes(uri, PKCS11, path={"token", "object"}, query={"module-path"})
    lacking = [name for name in ("token", "module-path") if not given.get(name)]
    if lacking:
        raise UsageError(
            "custody: expected pkcs11:token=LABEL?module-path=FILE (percent-encoded), found no "
            f"{' and no '.join(lacking)}"
        )
    if not given["module-path"].startswith("/"):
        raise UsageError("custody: expected module-path to be an absolute path, found a relative one")
    return Pkcs11URI(given["token"], given.get("object") or DEFAULT_OBJECT, given["module-path"])


def _attributes(uri: str, scheme: str, *, path: set[str], query: set[str]) -> dict[str, str]:
    """Split RFC 7512's form into attributes: `a=b;c=d?e=f&g=h`, each name known and once."""
    before, mark, behind = uri.removeprefix(scheme).partition("?")
    found: dict[str, str] = {}
    for names, text, separator in ((path, before, ";"), (query, behind, "&")):
        for pair in text.split(separator) if text else []:
            name, equals, value = pair.partition("=")
            if name in ("pin-value", "pin-source"):
                raise UsageError(
                    "custody: expected no PIN in a URI, which everybody may read; it is asked for"
                )
            if not equals or name not in names or name in found:
                raise UsageError(
                    f"custody: expected {scheme} and behind it {', '.join(sorted(path | query))}, each once, "
                    f"found {name[:40]!r}"
                )
            found[name] = _unquoted(value)
    if mark and not behind:
        raise UsageError(f"custody: expected something behind the ? of {uri[:80]!r}, found nothing")
    return found


def _unquoted(value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise UsageError("custody: expected percent-encoded UTF-8 in the URI, found other bytes") from error
