"""The catalog's tables: strict types, foreign keys, and checks that hold whoever writes.

Lists that name objects are tables of their own, so that no row can name an object that is not there.
"""

from __future__ import annotations

from appliance.catalog.rows import (
    JOB_STATES,
    OBJECT_KINDS,
    OBJECT_STATES,
    REQUEST_STATES,
    VAULT_KEY_KINDS,
)

VERSION = 3
APPLICATION_ID = 0x61707631  # "apv1": another program's database is not mistaken for ours


# What the log does not tell, in an order in which each row names only earlier ones.
CARRIED_TABLES = ("jobs", "job_objects", "checkpoints", "requests", "approvals", "replay")


def _names(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    f"""CREATE TABLE objects (
        id TEXT PRIMARY KEY CHECK (length(id) = 64),
        kind TEXT NOT NULL CHECK (kind IN ({_names(OBJECT_KINDS)})),
        name TEXT NOT NULL CHECK (name <> ''),
        version INTEGER NOT NULL CHECK (version >= 1),
        size INTEGER NOT NULL CHECK (size >= 0),
        sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
        log_index INTEGER NOT NULL UNIQUE CHECK (log_index >= 0),
        created TEXT NOT NULL,
        compartments TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ({_names(OBJECT_STATES)})),
        job TEXT NOT NULL,
        meta TEXT NOT NULL,
        UNIQUE (kind, name, version)
    ) STRICT""",
    """CREATE TABLE parents (
        child TEXT NOT NULL REFERENCES objects (id),
        position INTEGER NOT NULL,
        parent TEXT NOT NULL REFERENCES objects (id),
        PRIMARY KEY (child, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE tombstones (
        object TEXT PRIMARY KEY REFERENCES objects (id),
        log_index INTEGER NOT NULL UNIQUE CHECK (log_index >= 0),
        time TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE vault_keys (
        log_index INTEGER PRIMARY KEY CHECK (log_index >= 0),
        kind TEXT NOT NULL CHECK (kind IN ({_names(VAULT_KEY_KINDS)})),
        recipient TEXT NOT NULL
    ) STRICT""",
    f"""CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE CHECK (id <> ''),
        name TEXT NOT NULL,
        owner TEXT NOT NULL,
        config TEXT NOT NULL REFERENCES objects (id),
        log_index INTEGER NOT NULL CHECK (log_index >= 0),
        created TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ({_names(JOB_STATES)})),
        step INTEGER NOT NULL CHECK (step >= 0),
        steps INTEGER NOT NULL CHECK (steps >= 0),
        reason TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE job_objects (
        job TEXT NOT NULL REFERENCES jobs (id),
        role TEXT NOT NULL CHECK (role IN ('corpus', 'result')),
        position INTEGER NOT NULL,
        object TEXT NOT NULL REFERENCES objects (id),
        PRIMARY KEY (job, role, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE checkpoints (
        job TEXT NOT NULL REFERENCES jobs (id),
        step INTEGER NOT NULL CHECK (step >= 0),
        weights TEXT NOT NULL REFERENCES objects (id),
        optimizer TEXT NOT NULL REFERENCES objects (id),
        PRIMARY KEY (job, step)
    ) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE requests (
        id TEXT PRIMARY KEY CHECK (length(id) = 64),
        document BLOB NOT NULL,
        requester TEXT NOT NULL CHECK (requester <> ''),
        created TEXT NOT NULL,
        log_index INTEGER NOT NULL CHECK (log_index >= 0),
        state TEXT NOT NULL CHECK (state IN ({_names(REQUEST_STATES)}))
    ) STRICT""",
    """CREATE TABLE approvals (
        request TEXT NOT NULL REFERENCES requests (id),
        person TEXT NOT NULL CHECK (person <> ''),
        role TEXT NOT NULL,
        signature TEXT NOT NULL,
        log_index INTEGER NOT NULL CHECK (log_index >= 0),
        PRIMARY KEY (request, person)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE egress (
        log_index INTEGER PRIMARY KEY CHECK (log_index >= 0),
        content TEXT NOT NULL,
        recipient TEXT NOT NULL,
        bytes INTEGER NOT NULL CHECK (bytes >= 0)
    ) STRICT""",
    """CREATE TABLE replay (
        channel TEXT NOT NULL,
        role TEXT NOT NULL,
        seq INTEGER NOT NULL CHECK (seq >= 0),
        digest TEXT NOT NULL CHECK (length(digest) = 64),
        published INTEGER NOT NULL CHECK (published IN (0, 1)),
        PRIMARY KEY (channel, role)
    ) STRICT, WITHOUT ROWID""",
)
