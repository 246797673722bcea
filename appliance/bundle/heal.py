"""Mends a bundle in place: one lost or damaged part, or parity file, of each group, from the others.

What follows from the manifest, the readme and the sums, is written anew where it differs.

Guarantees to whoever carries it: which files are damaged is known by name before anything is changed; what
was computed is written beside, made durable, read again from the medium, and takes the damaged file's place
only if it has the hash that was signed. Nothing is decrypted, so no key of the recipient is needed.
Source: docs/formats/transfer-bundle.md, section Parity.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from appliance.bundle.folder import SUMS, BundleFolder, write_all
from appliance.bundle.groups import group_of, members_of
from appliance.bundle.manifest import README
from appliance.bundle.parity import GroupReader, read_back
from appliance.bundle.parts import hash_part
from appliance.bundle.readme import render_readme, render_sums
from appliance.bundle.verify import MAX_SUMS_BYTES
from appliance.errors import Incomplete, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bundle.manifest import Manifest, PartFile

_NEW = "healed.new"


def damaged_files(folder: BundleFolder, manifest: Manifest) -> tuple[str, ...]:
    """Return the names of parts and parity files that are missing or not as signed; reads each once."""
    present = set(folder.names())
    files = (*manifest.parts, *manifest.parity)
    return tuple(each.name for each in files if each.name not in present or not _is_whole(folder, each))


def heal_bundle(folder: BundleFolder, manifest: Manifest) -> tuple[str, ...]:
    """Mend what can be mended and return the names of the files that were.

    `manifest` was verified by its signatures. Raises IntegrityError, naming them, where more than one file of
    a group is damaged or where there is no parity: then nothing was changed.
    """
    damaged = damaged_files(folder, manifest)
    groups = [_group_with(manifest, name) for name in damaged]
    beyond = [name for name, group in zip(damaged, groups, strict=True) if groups.count(group) > 1]
    if damaged and (beyond or not manifest.parity):
        raise IntegrityError(
            f"bundle: expected at most one damaged file in sixteen parts and their parity, found"
            f" {', '.join(beyond or damaged)} damaged; copy these again from where they came"
        )
    for name, group in zip(damaged, groups, strict=True):
        _mend(folder, manifest, group, name)
    return (*damaged, *_mend_derived(folder, manifest))


def _mend_derived(folder: BundleFolder, manifest: Manifest) -> tuple[str, ...]:
    """Write readme and sums anew where they are not what follows from the manifest; return which were."""
    derived = {README: render_readme(manifest, len(manifest.parts)), SUMS: render_sums(manifest)}
    present = set(folder.names())
    wrong = [
        name
        for name, data in derived.items()
        if name not in present or folder.read_file(name, MAX_SUMS_BYTES) != data
    ]
    for name in wrong:
        folder.remove_file(name)
        folder.write_file(name, derived[name])
    return tuple(wrong)


def _group_with(manifest: Manifest, name: str) -> int:
    """Return the group of a file by its place in the manifest."""
    for group, parity in enumerate(manifest.parity):
        if parity.name == name:
            return group
    return group_of([part.name for part in manifest.parts].index(name))


def _mend(folder: BundleFolder, manifest: Manifest, group: int, name: str) -> None:
    parts = [manifest.parts[index] for index in members_of(group, len(manifest.parts))]
    files = (*parts, manifest.parity[group])
    wanted = next(each for each in files if each.name == name)
    folder.remove_file(_NEW)
    out = folder.create_file(_NEW)
    try:
        _write_sum(folder, [each.name for each in files if each.name != name], out, wanted.size)
        (found,) = read_back([out], [name])
    finally:
        os.close(out)
    if (found.size, found.sha256) != (wanted.size, wanted.sha256):
        folder.remove_file(_NEW)
        raise IntegrityError(
            f"{name}: expected to compute SHA-256 {wanted.sha256}, found {found.sha256}; the medium answers"
            " differently each time, take another"
        )
    os.rename(_NEW, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    os.fsync(folder.fd)


def _write_sum(folder: BundleFolder, names: Sequence[str], out: int, size: int) -> None:
    """Write the XOR of the named files, cut to `size` bytes: what is missing from their group."""
    with ExitStack() as files:
        fds: list[int] = []
        for name in names:
            fds.append(folder.open_file(name))
            files.callback(os.close, fds[-1])
        reader = GroupReader(fds, names)
        while size and (block := reader.next_block()):
            write_all(out, block[:size], _NEW)
            size -= min(size, len(block))


def _is_whole(folder: BundleFolder, file: PartFile) -> bool:
    try:
        return hash_part(folder, file) == (file.size, file.sha256)
    except Incomplete:
        return False
