"""One SQLite file for one custodian: durable transactions, and SQLite's errors in the appliance's words.

    locked by another process    Busy             disk full                    SpaceExhausted
    damaged, or not a catalog    IntegrityError   row exists already           AlreadyExists
    names what is not there      UnknownObject    a value breaks a check       IntegrityError

Source: sqlite.org: WAL, STRICT tables, foreign keys, "Defense Against The Dark Arts" for hostile files.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from appliance.catalog.schema import APPLICATION_ID, TABLES, VERSION
from appliance.errors import AlreadyExists, Busy, IntegrityError, SpaceExhausted, UnknownObject

REBUILD = "rebuild it from the log with `appliance catalog rebuild`"

_BUSY_TIMEOUT_S = 1.0  # refusals come within a second

_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit that was answered survives a power cut
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",  # a dying disk shows as an error and not as SIGBUS
)

Row = Sequence[Any]


class Database:
    """The open file; not for use by two threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._depth = 0
        with self._speaking():
            self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            with self._speaking():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; the write-ahead log is folded in."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the writes inside or none of them; may be nested, the outermost one commits."""
        with self._speaking():
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def write(self, sql: str, *values: object) -> int:
        """Run one statement inside a transaction; returns the rows it changed."""
        with self.transaction():
            return self._connection.execute(sql, values).rowcount

    def rows(self, sql: str, *values: object) -> Sequence[Row]:
        """Return all rows of a query."""
        with self._speaking():
            return self._connection.execute(sql, values).fetchall()

    def backup(self, path: Path) -> None:
        """Copy the database as it is now into a new file, by SQLite's own means; readers go on meanwhile."""
        with self._speaking(), contextlib.closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it

    def _prepare(self) -> None:
        new = self._identify()
        for setting in _SETTINGS:
            self._connection.execute(setting)
        if new:
            self._create()
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        dangling = self._connection.execute("PRAGMA foreign_key_check").fetchone()
        if verdict != "ok" or dangling is not None:
            self._refuse_damaged(verdict if dangling is None else f"a row of {dangling[0]} names nothing")

    def _identify(self) -> bool:
        """Say whether the file is empty; raises IntegrityError for another program's."""
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application, version, tables) == (0, 0, 0):
            return True
        if application == APPLICATION_ID and version < VERSION:
            raise IntegrityError(
                f"catalog {self._path}: expected version {VERSION}, found {version}, an earlier program's; "
                f"{REBUILD}"
            )
        if (application, version) != (APPLICATION_ID, VERSION):
            raise IntegrityError(
                f"catalog {self._path}: expected application {APPLICATION_ID:#x} version {VERSION}, found "
                f"{application:#x} version {version}; it is another program's file"
            )
        return False

    def _create(self) -> None:
        with self.transaction():
            for table in TABLES:
                self._connection.execute(table)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _refuse_damaged(self, found: object) -> NoReturn:
        raise IntegrityError(
            f"catalog {self._path} is damaged: expected a sound database, found: {found}; {REBUILD}"
        )

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn what SQLite raises into the appliance's errors."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise _constraint(error) from error
        except UnicodeDecodeError as error:  # the driver raises it for damaged names
            self._refuse_damaged(error.reason)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise Busy(
                    f"catalog {self._path}: expected it free, found it locked by another process; "
                    "end that one"
                ) from error
            if code == sqlite3.SQLITE_FULL:
                raise SpaceExhausted(
                    f"catalog {self._path}: no space; nothing was changed; free some and repeat"
                ) from error
            if isinstance(error, sqlite3.ProgrammingError):
                raise  # a fault of this program, not of the file
            raise IntegrityError(
                f"catalog {self._path} cannot be used: expected a sound database, found: {error}; {REBUILD}"
            ) from error


def _constraint(error: sqlite3.IntegrityError) -> Exception:
    found = error.sqlite_errorcode
    if found in {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}:
        return AlreadyExists(f"catalog: expected a new row, found one that is there: {error}")
    if found == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return UnknownObject(
            "catalog: expected every object, job and request named to exist, found one missing"
        )
    return IntegrityError(f"catalog: expected a value that the table allows, found: {error}")
