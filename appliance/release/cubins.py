"""The compiled kernels of an install bundle: those that `make cubins` left, when they are the commit's.

Guarantees to who installs: the bundle's cubins are those that the commit's `kernels/cubins.json` names, all
of them, and its signed list says the same. Whose signature that is, the appliance checks with the key it was
given; here only the text is compared. Format: docs/formats/cubins.md.
"""

from __future__ import annotations

from pathlib import Path

from appliance.cubins.build import NOTE
from appliance.errors import Incomplete, IntegrityError
from audit.errors import AuditError
from audit.note import parse_note
from kernels.cuda.cubins import parse_list, verify_cubin
from kernels.errors import KernelError

_FIRST = "first make cubins SIGN_KEY=… of this commit"


def carry_cubins(built: Path, listed: bytes, target: Path) -> None:
    """Copy note and cubins from the folder `built` to `target`.

    `listed` is the commit's list. Raises Incomplete where something was not built, IntegrityError where
    something was built from another commit or changed.
    """
    committed = parse_list(listed)
    note = _read(built / NOTE)
    try:
        text, _ = parse_note(note)
    except AuditError as error:
        raise IntegrityError(f"{NOTE}: expected a signed list of cubins, found {error}; {_FIRST}") from error
    if text.encode() != listed:
        raise IntegrityError(f"{NOTE}: expected the list of this commit, found another; {_FIRST}")
    for each in committed.cubins:
        name = Path(each.arch) / f"{each.source}.cubin"
        data = _read(built / name)
        try:
            verify_cubin(committed, each.arch, each.source, data)
        except KernelError as error:
            raise IntegrityError(f"{error}; {_FIRST}") from error
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    (target / NOTE).write_bytes(note)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Incomplete(f"expected {path}, found none; {_FIRST}") from error
