"""What a member of a bundle may be called, and which object it becomes.

Guarantees to importer and recipient: a name is a short relative path of plain ASCII words that means the
same on every file system (no dots that climb, no case twins, no device names, no name that is also a
folder), so extracting can only create new files below one folder.

    corpus/<name>/<document>.txt    text documents; those of one <name> are one corpus object
    config/<name>.toml              one training configuration
    weights/<name>.safetensors      one set of weights
    metrics.json                    the figures of a run, on their way out
    approval/request.json           a request of the appliance, and NAME.sshsig: officers' signatures of it
    receipt/import.*                the log entry of an import and its proof, on their way back to a sender
    notice.txt                      why something is revoked; the root that travels along says what
    model/…                         an exported model folder (docs/formats/model-signature.md)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.errors import ContentRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME = 100
INNER = "inner.json"

TEXT = "text/plain"
TOML = "application/toml"
SAFETENSORS = "application/vnd.safetensors"
JSON_TEXT = "application/json"
MEDIA_TYPES = (TEXT, TOML, SAFETENSORS, JSON_TEXT)

APPROVAL = "approval"
APPROVED_REQUEST = "approval/request.json"
MAX_APPROVALS = 16

REVOCATION = "revocation"
NOTICE = "notice.txt"

RECEIPT = "receipt"
RECEIPT_ENTRY = "receipt/import.entry"
RECEIPT_PROOF = "receipt/import.tlog-proof"

# What may travel in a bundle of each kind; a kind that is not here carries nothing yet.
_MEDIA_BY_KIND = {
    "corpus": {TEXT, TOML},
    "config": {TOML},
    "weights": {SAFETENSORS, JSON_TEXT, TEXT},
    "metrics": {JSON_TEXT},
    APPROVAL: {JSON_TEXT, TEXT},
    RECEIPT: {JSON_TEXT, TEXT},
    REVOCATION: {TEXT},
}

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_MEMBER = re.compile(rf"{_WORD}(?:/{_WORD}){{0,3}}")
# Windows opens these as devices, with any extension, wherever the stick is read next.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)

_MEDIA_BY_SUFFIX = {
    ".txt": TEXT,
    ".tlog-proof": TEXT,
    ".note": TEXT,
    ".toml": TOML,
    ".safetensors": SAFETENSORS,
    ".json": JSON_TEXT,
    ".entry": JSON_TEXT,
    ".sig": JSON_TEXT,
    ".sshsig": TEXT,
}
_SIGNATURE = re.compile(rf"approval/{_WORD}\.sshsig")
_OBJECTS = (
    ("corpus", TEXT, re.compile(rf"corpus/({_WORD})/{_WORD}\.txt")),
    ("config", TOML, re.compile(rf"config/({_WORD})\.toml")),
    ("weights", SAFETENSORS, re.compile(rf"weights/({_WORD})\.safetensors")),
)


def check_member_name(name: str) -> None:
    """Raise ContentRefused unless the name is one that is safe to create anywhere."""
    if len(name) > MAX_NAME or not _MEMBER.fullmatch(name):
        raise ContentRefused(
            f"member name {name!r:.120}: expected up to four words of letters, digits, '_', '-' and single"
            " dots,"
            f" joined by '/', at most {MAX_NAME} characters; rename the file"
        )
    for word in name.split("/"):
        if _DEVICE.fullmatch(word):
            raise ContentRefused(
                f"member name {name!r}: expected no device name, found {word!r}; rename the file"
            )


def check_member_names(names: Sequence[str]) -> None:
    """Raise ContentRefused unless names are sorted, safe, and can exist side by side on any file system."""
    if list(names) != sorted(set(names)):
        raise ContentRefused("members: expected names sorted and unique, found them out of order or repeated")
    taken: set[str] = {INNER}
    folders: set[str] = set()
    for name in names:
        check_member_name(name)
        folded = name.lower()
        parents = {folded[:at] for at, char in enumerate(folded) if char == "/"}
        if folded in taken or folded in folders or parents & taken:
            raise ContentRefused(
                f"member {name!r}: expected a name free of twins, found another that differs only by case,"
                " or a file and a folder of one name; rename one"
            )
        taken.add(folded)
        folders |= parents


def check_media_types(kind: str, media_types: set[str]) -> None:
    """Raise ContentRefused unless a bundle of this kind may hold members of these types, and holds one."""
    allowed = _MEDIA_BY_KIND.get(kind, set())
    if not media_types or not media_types <= allowed:
        raise ContentRefused(
            f"bundle of kind {kind}: expected members of type {', '.join(sorted(allowed)) or '(none yet)'},"
            f" found {', '.join(sorted(media_types - allowed)) or 'no member'}; make one bundle per kind"
        )


def check_approval_names(names: Sequence[str]) -> None:
    """Raise ContentRefused unless these are one request and the signatures of it."""
    signatures = [name for name in names if _SIGNATURE.fullmatch(name)]
    if APPROVED_REQUEST not in names or not 0 < len(signatures) == len(names) - 1 <= MAX_APPROVALS:
        raise ContentRefused(
            f"bundle of kind {APPROVAL}: expected {APPROVED_REQUEST} and 1 to {MAX_APPROVALS} of"
            f" approval/NAME.sshsig, found {', '.join(names)!r:.200}; pack the request's folder"
        )


def media_type_of(name: str) -> str:
    """Return the media type that a name's suffix stands for; raise ContentRefused for any other."""
    for suffix, media_type in _MEDIA_BY_SUFFIX.items():
        if name.endswith(suffix):
            return media_type
    raise ContentRefused(
        f"{name}: expected a file named {', '.join('*' + suffix for suffix in _MEDIA_BY_SUFFIX)}, found"
        " another"
        " kind; pickles, archives and programs never cross"
    )


def object_of(name: str, media_type: str) -> tuple[str, str]:
    """Return (kind, name) of the object that an imported member belongs to; raise ContentRefused if none."""
    for kind, expected, pattern in _OBJECTS:
        found = pattern.fullmatch(name)
        if found and media_type == expected:
            return kind, found[1]
    raise ContentRefused(
        f"member {name!r} ({media_type}): expected corpus/<name>/<document>.txt, config/<name>.toml or"
        " weights/<name>.safetensors, found neither; nothing was imported"
    )
