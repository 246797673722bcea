"""Turns the files and folders that a sender names into members, under the names that an importer expects.

Guarantees to the sender: nothing is packed that was not named, links are not followed, and a file whose
place or kind is unclear is refused here and not at the other end.

    FOLDER/corpus/<name>/<document>.txt   as it is, and so FOLDER/config/… and FOLDER/weights/…
    FOLDER/<document>.txt                 corpus/<FOLDER>/<document>.txt
    FILE.toml, FILE.safetensors           config/FILE.toml, weights/FILE.safetensors
    FILE.txt                              corpus/FILE/FILE.txt
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from appliance.bundle.names import SAFETENSORS, TEXT, TOML, media_type_of, object_of
from appliance.bundle.stream import Member
from appliance.errors import ContentRefused, UnknownObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PLACED = ("corpus", "config", "weights")


def gather(paths: Sequence[Path]) -> tuple[str, list[Member]]:
    """Return the bundle kind and the members for files and folders; raise UnknownObject, ContentRefused."""
    members = [member for path in paths for member in _members_at(path)]
    found = {member.media_type for member in members}
    kind = "weights" if SAFETENSORS in found else "corpus" if TEXT in found else "config"
    return kind, members


def _members_at(path: Path) -> Iterator[Member]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_symlink() or not file.is_dir():
                yield _member(file, _name_in_folder(path, file))
    else:
        yield _member(path, _name_alone(path))


def _name_in_folder(folder: Path, file: Path) -> str:
    parts = file.relative_to(folder).parts
    if parts[0] in _PLACED and len(parts) > 1:
        return "/".join(parts)
    if len(parts) == 1 and media_type_of(file.name) == TEXT:
        return f"corpus/{folder.resolve().name}/{file.name}"
    return _name_alone(file)


def _name_alone(file: Path) -> str:
    media_type = media_type_of(file.name)
    if media_type == TEXT:
        return f"corpus/{file.stem}/{file.name}"
    return f"config/{file.name}" if media_type == TOML else f"weights/{file.name}"


def _member(file: Path, name: str) -> Member:
    if file.is_symlink():
        raise ContentRefused(f"{file}: expected a regular file, found a link; name the file it leads to")
    if not file.is_file():
        raise UnknownObject(f"expected a file or folder at {file}, found none")
    media_type = media_type_of(name)
    object_of(name, media_type)

    def start() -> BinaryIO:
        return file.open("rb")

    return Member(name, media_type, file.stat().st_size, start)
