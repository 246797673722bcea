"""What somebody with the disk, or a bug, can do to an appliance: one method per attack.

The methods change files below the home and nothing else; whether the appliance runs meanwhile is the test's
choice. Tree heads are never signed here: an attacker does not have the log key, unless a method says so.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import audit.wal
from appliance.custody.slot import LOG_SLOT, open_slot
from appliance.isolation import checks, isolated
from audit.entry import Record
from audit.log import Log
from audit.note import NoteSigner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.catalog import Object
    from appliance.grants import Grant
    from appliance.home import Home


# The write-ahead file by its format document: kind, length, payload, digest; a group begins with an index.
GROUP = b"\xf5\xf5group\n"
HEAD = b"\xf5\xf5heads\n"
KIND_BYTES = len(GROUP)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a write-ahead file, at these bytes."""

    begin: int
    end: int
    kind: bytes
    payload: bytes

    def holding(self, other: Frame) -> bytes:
        """A group in this one's place with the entries of another."""
        payload = self.payload[:8] + other.payload[8:]
        frame = GROUP + len(payload).to_bytes(4, "big") + payload
        return frame + hashlib.sha256(frame).digest()


class Tampering:
    """The attacks, on the files of `home` and on values that the gate gave out."""

    home: Home
    host: Path

    # ---- any file --------------------------------------------------------------------------------

    @staticmethod
    def flip_byte(path: Path, offset: int = -1) -> None:
        """Flip the lowest bit of one byte; the offset counts from the end where it is negative."""
        mode = path.stat().st_mode
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)
        path.chmod(mode)

    # ---- the log ---------------------------------------------------------------------------------

    @property
    def wal(self) -> Path:
        return self.home.log / "wal"

    @property
    def checkpoint(self) -> Path:
        return self.home.log / "checkpoint"

    def newest(self, level: str) -> Path:
        """The partial tile with the most entries: of `entries`, or of hashes (`0`)."""
        found = (self.home.log / "tile" / level).glob("*.p/*")
        return max(found, key=lambda path: int(path.name))

    def flip_byte_of_an_entry(self, text: str) -> None:
        """Flip a byte of the entry in the write-ahead file that holds a text."""
        self.flip_byte(self.wal, self.wal.read_bytes().index(text.encode("ascii")))

    def remove_tail(self) -> None:
        """Cut the last group and its head off the write-ahead file; the rest of the folder stays."""
        begin = self._frames()[-2].begin
        self.wal.write_bytes(self.wal.read_bytes()[:begin])

    def swap_entries(self) -> None:
        """Exchange the entries of the last two groups, with every digest of the file made right again."""
        data = self.wal.read_bytes()
        one, other = [frame for frame in self._frames() if frame.kind == GROUP][-2:]
        swapped = [data[: one.begin], one.holding(other), data[one.end : other.begin], other.holding(one)]
        self.wal.write_bytes(b"".join([*swapped, data[other.end :]]))

    def _frames(self) -> list[Frame]:
        """The frames of the write-ahead file; what follows them, if anything, was never written to."""
        data, begin, found = self.wal.read_bytes(), 0, []
        while data[begin : begin + KIND_BYTES] in {GROUP, HEAD}:
            body = begin + KIND_BYTES + 4
            end = body + int.from_bytes(data[body - 4 : body], "big")
            found.append(
                Frame(begin, end + 32, data[begin : begin + KIND_BYTES], data[body:end]),
            )
            begin = end + 32
        return found

    def begin_another_log(self, seed: bytes) -> None:
        """Begin the log anew under a key of the attacker's, with the first entry as it was."""
        origin = json.loads(self.home.facts.read_bytes())["origin"]
        genesis = json.loads(self._first_entry())
        self._discard_log()
        log = Log.create(self.home.log, NoteSigner(origin, seed))
        head = [genesis[name] for name in ("kind", "principal", "action", "resource", "context")]
        log.append([Record(*head)])
        log.close()

    def rewrite_genesis(self, **changed: Any) -> None:
        """Begin the log anew with the stolen log key (which is in a file) and another first entry."""
        origin = json.loads(self.home.facts.read_bytes())["origin"]
        genesis = json.loads(self._first_entry())
        self._discard_log()
        log = Log.create(self.home.log, NoteSigner(origin, open_slot(self.home.keys, LOG_SLOT, None)))
        head = {name: genesis[name] for name in ("kind", "principal", "action", "resource", "context")}
        log.append([Record(**{**head, **changed})])
        log.close()

    def empty_log(self) -> None:
        """Begin the log anew with the stolen log key and no entry at all."""
        origin = json.loads(self.home.facts.read_bytes())["origin"]
        self._discard_log()
        Log.create(self.home.log, NoteSigner(origin, open_slot(self.home.keys, LOG_SLOT, None))).close()

    def _first_entry(self) -> bytes:
        data = self.newest("entries").read_bytes()
        return data[2 : 2 + int.from_bytes(data[:2], "big")]

    def _discard_log(self) -> None:
        self.home.log.rename(self.home.root.with_name("old-log"))

    # ---- a log that cannot be written --------------------------------------------------------------

    def replace_log_file(self) -> None:
        """Put a copy in the write-ahead file's place: the open one is written on, and nobody sees it."""
        copy = self.wal.with_name("incoming")
        copy.write_bytes(self.wal.read_bytes())
        copy.rename(self.wal)

    def link_log_file(self) -> None:
        """Give the write-ahead file a second name outside the log."""
        (self.home.root / "second").hardlink_to(self.wal)

    def move_log_folder(self) -> None:
        self.home.log.rename(self.home.root / "elsewhere")

    def clear_write_bits_of_the_file(self) -> None:
        self.wal.chmod(0o440)

    def clear_write_bits_of_the_folder(self) -> None:
        self.home.log.chmod(0o550)

    def append_rubbish_to_log(self) -> None:
        with self.wal.open("ab") as out:
            out.write(b"rubbish")

    @contextmanager
    def full_disk(self, *, reserve_helps: bool = False) -> Iterator[None]:
        """Have the log's writes fail with ENOSPC: the first one, or all of them."""
        failed, real = [], audit.wal.write_at

        def write(fd: int, data: bytes, offset: int) -> None:
            if failed and reserve_helps:
                return real(fd, data, offset)
            failed.append(offset)
            real(fd, data[: len(data) // 2], offset)  # a torn write, as a full disk leaves it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with patch.object(audit.wal, "write_at", write):
            yield

    @contextmanager
    def failing_disk(self) -> Iterator[None]:
        """Have fdatasync fail with EIO: the bytes may be on the disk, or not."""

        def sync(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with patch.object(audit.wal.os, "fdatasync", sync):
            yield

    # ---- catalog, vault, rules, facts ----------------------------------------------------------------

    def edit_catalog(self, statement: str, *values: Any) -> int:
        """Run SQL on the catalog's file, past every check; returns how many rows changed."""
        with sqlite3.connect(self.home.catalog) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            changed = connection.execute(statement, values).rowcount
        connection.close()
        return changed

    @contextmanager
    def locked_catalog(self) -> Iterator[None]:
        """Hold the catalog's write lock, as a backup program or a forgotten shell would."""
        connection = sqlite3.connect(self.home.catalog, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    def swap_headers(self, one: Object, other: Object) -> None:
        _swap(self.folder_of(one) / "header", self.folder_of(other) / "header")

    def swap_payloads(self, one: Object, other: Object) -> None:
        _swap(self.folder_of(one) / "payload", self.folder_of(other) / "payload")

    def swap_objects(self, one: Object, other: Object) -> None:
        """Exchange two whole folders: header and payload fit each other, but not the name."""
        _swap(self.folder_of(one), self.folder_of(other))

    def folder_of(self, what: Object) -> Path:
        return self.home.vault / what.id

    def replace_rules(self, text: str) -> None:
        (self.home.policy / "default.cedar").write_text(text)

    def add_rules(self, text: str) -> None:
        (self.home.policy / "zz.cedar").write_text(text)

    def replace_schema(self, text: str) -> None:
        (self.home.policy / "schema.cedarschema").write_text(text)

    def replace_officers(self, text: str) -> None:
        self.home.officers.write_text(text)

    def edit_home(self, **changed: Any) -> None:
        """Change fields of home.json, in its canonical form."""
        value = json.loads(self.home.facts.read_bytes()) | changed
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        self.home.facts.write_text(f"{text}\n")

    # ---- values and the host ---------------------------------------------------------------------------

    @staticmethod
    def forge(grant: Grant, **changed: Any) -> Grant:
        """A grant that the gate did not make; without changes it equals the one it was made from."""
        return replace(grant, **changed)

    def plug_in_a_cable(self) -> None:
        """Give the host a network interface."""
        adapter = self.host / "sys/class/net/eth0/ifindex"
        adapter.parent.mkdir()
        adapter.write_text("2\n")
        assert not isolated(checks(self.host))


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
