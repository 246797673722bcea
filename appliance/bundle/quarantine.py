"""Where parts lie between their medium and their decryption: each copied once, hashed as it was copied.

Guarantees to whoever opens a bundle: what is decrypted is what was hashed, whatever the medium answers to a
second read, and a medium that was pulled is not read again for the parts that were copied whole. These are
named by the manifest that was signed, and hashed once more before they count.
Source: docs/formats/transfer-bundle.md, sections Order of an import, Resume.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.bundle.folder import BundleFolder
from appliance.bundle.parts import copy_part, hash_part
from appliance.bundle.verify import verify_part
from appliance.errors import AlreadyExists, MediumMissing, SpaceExhausted

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from appliance.bundle.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A folder of one bundle's parts; gone at the end of its `with` block, unless a medium was pulled."""

    path: Path
    folder: BundleFolder
    manifest: Manifest

    @classmethod
    def below(cls, parent: Path, manifest: Manifest) -> Self:
        """Make, or find again, the folder for a verified manifest; raises AlreadyExists for another's."""
        path = parent / f".quarantine-{manifest.digest[:16]}"
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or path.is_symlink():
            raise AlreadyExists(f"expected {path} to be a folder of ours alone, found another; remove it")
        return cls(path, BundleFolder.open(path), manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.folder.fd)
        if not isinstance(error, (MediumMissing, KeyboardInterrupt)):
            shutil.rmtree(self.path)

    def demand_room(self) -> None:
        """Raise SpaceExhausted unless the parts still missing, and the contents of all, fit."""
        held = sum(path.stat().st_size for path in self.path.iterdir())
        wanted = 2 * self.manifest.total_bytes - held
        free = shutil.disk_usage(self.path).free
        if free < wanted:
            raise SpaceExhausted(
                f"expected room for {wanted} bytes in {self.path.parent}, found {free}; free some space"
            )

    def fetch(self, medium: BundleFolder, index: int) -> int:
        """Return a descriptor of a part that was copied, now or before, and is as it was signed.

        Raises IntegrityError naming the part, Incomplete, MediumMissing, SpaceExhausted.
        """
        part = self.manifest.parts[index]
        if part.name not in self.folder.names() or hash_part(self.folder, part) != (part.size, part.sha256):
            self._copy(medium, index)
        return self.folder.open_file(part.name)

    def _copy(self, medium: BundleFolder, index: int) -> None:
        part = self.manifest.parts[index]
        self.folder.remove_file("part.new")
        source = medium.open_file(part.name)
        try:
            target = self.folder.create_file("part.new")
            try:
                verify_part(self.manifest, index, *copy_part(source, target, part.size))
            finally:
                os.close(target)
        finally:
            os.close(source)
        os.rename("part.new", part.name, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
