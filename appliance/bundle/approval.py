"""A request and its approvals on a stick: plain small files, for officers whose machine is never connected.

    <8 hex>.approval/
      request.json    the canonical request, one line: what officers sign, byte for byte
      readme.txt      the same in words, and the commands; it follows from the request
      NAME.sig        signatures as `ssh-keygen -Y sign` writes them, one officer each, on the way back

Guarantees to whoever reads such a folder that nothing else is in it, that no file is larger than it may be or
leads elsewhere, and that the words are those of the request. Neither signature nor encryption is needed
around it: a request that the appliance did not make is refused there, and a signature counts by its key.
Source: docs/formats/approval-stick.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.bundle.folder import BundleFolder
from appliance.errors import ContentRefused, Incomplete
from policy.approvals import MAX_REQUEST_BYTES, NAMESPACE, ApprovalRequest, parse_request
from policy.sshsig import MAX_ARMOR_CHARS

REQUEST: Final = "request.json"
README: Final = "readme.txt"
SUFFIX: Final = ".approval"
MAX_SIGNATURES: Final = 16

_SIGNATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.sig")
_TEMPLATE = """\
Request {id}
{words}

To approve it, on any machine, with your officer's key in a file or on a token:

  ssh-keygen -Y sign -n {namespace} -f KEY {request}
  mv {request}.sig YOUR-NAME.sig

Read {request} itself before you sign: it is what you sign, and this text only repeats it.
Then carry the folder back. To refuse, do nothing: the request expires.
"""


@dataclass(frozen=True, slots=True)
class Carried:
    """What came back: the request's bytes, the request, and the signatures by their files' names."""

    document: bytes
    request: ApprovalRequest
    signatures: Mapping[str, str]


def folder_name(request: ApprovalRequest) -> str:
    """Return the name of a request's folder, valid on any file system."""
    return f"{request.id[:8]}{SUFFIX}"


def in_words(request: ApprovalRequest) -> str:
    """Return all that a request binds as lines of ASCII, a name and a value each."""
    facts = [
        ("asked by", request.requester),
        ("to", f"{request.action} ({request.purpose})"),
        *((name, value) for name, value in sorted(request.options.items())),
        *(("object", each) for each in request.objects),
        *(("recipient", each) for each in request.recipients),
        ("because", request.reason),
        ("appliance", request.log_origin),
        ("rules", request.policy_set),
        ("expires", request.expires),
    ]
    # A request may hold any printable character; on this page each is a letter that everybody can tell apart.
    told = [f"  {name:<10} {value}" for name, value in facts]
    return "\n".join(line.encode("ascii", "backslashreplace").decode("ascii") for line in told)


def render_readme(request: ApprovalRequest) -> bytes:
    """Return the bytes of `readme.txt`."""
    text = _TEMPLATE.format(id=request.id, words=in_words(request), namespace=NAMESPACE, request=REQUEST)
    return text.encode("ascii")


def write_request(parent_fd: int, document: bytes) -> str:
    """Write a request's folder beneath an open one and return its name; raises what BundleFolder raises."""
    request = parse_request(document)
    name = folder_name(request)
    with BundleFolder.create(parent_fd, name) as folder:
        folder.write_file(README, render_readme(request))
        folder.write_file(REQUEST, document)
    return name


def read_approvals(folder: BundleFolder) -> Carried:
    """Read a request's folder; raises ContentRefused, Incomplete, or Malformed for the request itself."""
    names = folder.names()
    signatures = [name for name in names if _SIGNATURE.fullmatch(name)]
    if surplus := sorted(set(names) - {REQUEST, README, *signatures}):
        raise ContentRefused(
            f"approvals: expected {REQUEST}, {README} and NAME.sig, found {', '.join(surplus[:8])!r:.200}; "
            "remove what does not belong there"
        )
    if len(signatures) > MAX_SIGNATURES:
        raise ContentRefused(
            f"approvals: expected at most {MAX_SIGNATURES} signatures, found {len(signatures)}"
        )
    if REQUEST not in names:
        raise Incomplete(f"approvals: expected {REQUEST} in the folder, found none; copy the folder again")
    document = folder.read_file(REQUEST, MAX_REQUEST_BYTES)
    request = parse_request(document)
    if README in names:
        readme = render_readme(request)
        if folder.read_file(README, len(readme)) != readme:
            raise ContentRefused(
                f"{README}: expected what follows from {REQUEST}, found another text: somebody changed it; "
                "trust neither, and ask who made the request"
            )
    return Carried(document, request, {name: _read_signature(folder, name) for name in signatures})


def _read_signature(folder: BundleFolder, name: str) -> str:
    try:
        return folder.read_file(name, MAX_ARMOR_CHARS).decode("ascii")
    except UnicodeDecodeError as error:
        raise ContentRefused(f"{name}: expected a signature in ASCII, found another text") from error
