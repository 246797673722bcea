"""The catalog: which sealed object is which, what jobs did, what was asked and approved, what came last.

    rows      the values, frozen and checked; no SQL
    database  one SQLite file, its settings, and its errors in our words
    schema    the tables
    catalog   `Catalog`, the queries
    entries   from log entries to rows

Every row is a cache of log entries: the gate compares it with the entry that created it, at each use.
"""

from appliance.catalog.catalog import Catalog
from appliance.catalog.rows import (
    JOB_STATES,
    OBJECT_KINDS,
    Approval,
    ApprovalRequest,
    Checkpoint,
    Job,
    LastBundle,
    Object,
    Tombstone,
    VaultKey,
)

__all__ = [
    "JOB_STATES",
    "OBJECT_KINDS",
    "Approval",
    "ApprovalRequest",
    "Catalog",
    "Checkpoint",
    "Job",
    "LastBundle",
    "Object",
    "Tombstone",
    "VaultKey",
]
