"""What a medium does on its own: it fills up, it vanishes, and other systems leave files of theirs on it.

Guarantees to scripts and people: a full medium and one that was pulled are two errors with two exit codes,
since the one asks for a larger medium and the other for the same one again. Files that file managers leave
behind are known by their names, never opened, and listed.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Final

from appliance.errors import MediumMissing, SpaceExhausted

if TYPE_CHECKING:
    from pathlib import Path

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# EROFS too: the kernel makes a file system read-only when its device fails beneath it.
_GONE: Final = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EROFS)

# macOS (._*, .DS_Store and the rest), Windows, Linux desktops, fsck.
_FOREIGN: Final = re.compile(
    r"\._.*|\.Trash.*|\.DS_Store|\.Spotlight-V100|\.fseventsd|\.TemporaryItems"
    r"|System Volume Information|\$RECYCLE\.BIN|lost\+found"
)


def medium_error(error: OSError, name: str) -> Exception:
    """Return what an error at the file `name` means: SpaceExhausted, MediumMissing, or the error itself."""
    if error.errno in _FULL:
        return SpaceExhausted(
            f"no room to write {name}: free some space or take a larger medium, then repeat"
        )
    if error.errno in _GONE:
        return MediumMissing(
            f"{name}: expected a medium that answers and can be written, found it gone, failing or read-only"
            f" ({os.strerror(error.errno or 0)}); insert the same one again and repeat"
        )
    return error


def is_foreign(name: str) -> bool:
    """Say whether another system leaves files of this name on a medium by itself."""
    return _FOREIGN.fullmatch(name) is not None


def demand_same_medium(path: Path, folder_fd: int) -> None:
    """Raise MediumMissing unless a path still leads to the folder that was opened by it.

    A medium that was pulled leaves its mount point behind, empty and on another device; a folder that was
    opened before may go on answering from the cache.
    """
    opened = os.fstat(folder_fd)
    try:
        found = path.stat()
    except OSError as error:
        raise MediumMissing(f"expected the medium still at {path}, found none; insert it again") from error
    if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino):
        raise MediumMissing(
            f"expected the medium still at {path}, found another folder in its place: the medium was pulled"
            " or changed; insert the same one again and repeat"
        )
