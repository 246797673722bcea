"""Parity over sixteen parts: any one of them that is lost or damaged is computed from the others.

Guarantees to the writer's owner: parity is computed from what the medium gives back and not from what was
meant to be on it, in the one pass that reads every part again and hashes it. To whoever heals: what comes
out is compared with the signed hash before it counts, so a wrong parity file can do no more than fail.
Memory: one block per lane and one for the group. Source: docs/formats/transfer-bundle.md, section Parity.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from appliance.age.lanes import lane_count, numbers, side_by_side
from appliance.bundle.folder import BundleFolder, write_all
from appliance.bundle.groups import GROUP, group_count, members_of, parity_name
from appliance.bundle.manifest import PartFile, part_name
from appliance.bundle.medium import medium_error
from appliance.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Reread:
    """A file as its medium gave it back: `size` in bytes, `sha256` in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it was read back: its parts, and its parity file if one was made."""

    parts: tuple[PartFile, ...]
    parity: tuple[PartFile, ...]


@dataclass(slots=True)
class _Lane:
    """A block to read into, and what its thread has XORed so far."""

    block: npt.NDArray[np.uint8]
    sum: npt.NDArray[np.uint8]


class GroupReader:
    """Reads the files of one group in step, a block of each at a time, and XORs them.

    The descriptors stay the caller's. `reread` tells afterwards what every file was.
    """

    def __init__(self, fds: Sequence[int], names: Sequence[str]) -> None:
        self._fds = fds
        self._names = names
        self._digests: list[Any] = [hashlib.sha256() for _ in fds]  # hashlib names no type in public
        self._sizes = [0] * len(fds)
        lanes = min(lane_count(), len(fds))
        self._lanes = [_Lane(_zeros(), _zeros()) for _ in range(lanes)]
        self._at = 0

    def next_block(self) -> memoryview:
        """Return the XOR of the next block of every file, as long as the longest of them; empty at the end.

        Raises MediumMissing when a medium stops answering. The view is valid until the next call.
        """
        for lane in self._lanes:
            lane.sum[:] = 0
        longest = [0] * len(self._fds)

        def add(lane: _Lane, number: int) -> None:
            longest[number] = count = self._read(lane, number)
            np.bitwise_xor(lane.sum[:count], lane.block[:count], out=lane.sum[:count])

        side_by_side(self._lanes, numbers(len(self._fds)), add)
        total = self._lanes[0].sum
        for lane in self._lanes[1:]:
            np.bitwise_xor(total, lane.sum, out=total)
        self._at += BLOCK_BYTES
        return total.data[: max(longest)]

    def reread(self) -> tuple[Reread, ...]:
        """Return what each file was, in the order given; call it at the end."""
        found = zip(self._sizes, self._digests, strict=True)
        return tuple(Reread(size, digest.hexdigest()) for size, digest in found)

    def _read(self, lane: _Lane, number: int) -> int:
        view = lane.block.data
        done = 0
        try:
            while done < BLOCK_BYTES and (
                got := os.preadv(self._fds[number], [view[done:]], self._at + done)
            ):
                done += got
        except OSError as error:
            raise medium_error(error, self._names[number]) from error
        self._digests[number].update(view[:done])
        self._sizes[number] += done
        return done


def drop_cache(fd: int, name: str) -> None:
    """Make a file durable and have the kernel forget it, so that the next read asks the medium."""
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise medium_error(error, name) from error


def read_back(fds: Sequence[int], names: Sequence[str]) -> tuple[Reread, ...]:
    """Return what the medium gives back of written files; raises MediumMissing."""
    group = _group(fds, names)
    while group.next_block():
        pass
    return group.reread()


def write_parity(fds: Sequence[int], names: Sequence[str], parity_fd: int) -> tuple[Reread, ...]:
    """Write a group's parity and return what the medium gave back of its files, and then of the parity.

    Raises MediumMissing, SpaceExhausted, and IntegrityError where the parity itself comes back otherwise.
    """
    group = _group(fds, names)
    digest = hashlib.sha256()
    while block := group.next_block():
        digest.update(block)
        write_all(parity_fd, block, "the parity file")
    (found,) = read_back([parity_fd], ["the parity file"])
    if found.sha256 != digest.hexdigest():
        raise IntegrityError("the parity file: expected the bytes just written, found others")
    return (*group.reread(), found)


def read_group(folder: BundleFolder, group: int, fds: Sequence[int], *, parity: bool) -> Group:
    """Return the parts of a group as their medium gives them back; write their parity on the way, if asked.

    Raises MediumMissing, SpaceExhausted, IntegrityError for the parity file.
    """
    names = [part_name(group * GROUP + at) for at in range(len(fds))]
    if not parity:
        return Group(_files(names, read_back(fds, names)), ())
    out = folder.create_file(parity_name(group))
    try:
        found = write_parity(fds, names, out)
    finally:
        os.close(out)
    *parts, last = _files([*names, parity_name(group)], found)
    return Group(tuple(parts), (last,))


def read_back_parts(folder: BundleFolder, parts: Sequence[PartFile], *, parity: bool) -> tuple[PartFile, ...]:
    """Compare every part with what its medium gives back; return the parity files made on the way.

    Raises what `read_group` raises, and IntegrityError naming the part that came back otherwise.
    """
    made: list[PartFile] = []
    for group in range(group_count(len(parts))):
        expected = [parts[index] for index in members_of(group, len(parts))]
        with ExitStack() as files:
            fds = [_open(files, folder, part.name) for part in expected]
            found = read_group(folder, group, fds, parity=parity)
        made += found.parity
        for part, reread in zip(expected, found.parts, strict=True):
            if part != reread:
                raise IntegrityError(
                    f"{part.name}: expected the bytes just written, found others when they were read again;"
                    " the medium is broken, take another"
                )
    return tuple(made)


def _files(names: Sequence[str], found: Sequence[Reread]) -> tuple[PartFile, ...]:
    return tuple(PartFile(name, each.size, each.sha256) for name, each in zip(names, found, strict=True))


def _group(fds: Sequence[int], names: Sequence[str]) -> GroupReader:
    for fd, name in zip(fds, names, strict=True):
        drop_cache(fd, name)
    return GroupReader(fds, names)


def _open(files: ExitStack, folder: BundleFolder, name: str) -> int:
    fd = folder.open_file(name)
    files.callback(os.close, fd)
    return fd


def _zeros() -> npt.NDArray[np.uint8]:
    return np.zeros(BLOCK_BYTES, np.uint8)
