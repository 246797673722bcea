"""The log's signing keys at rest: one slot for each epoch, of which only the newest is kept.

    log, log-1, log-2, …    32 secret bytes (Ed25519), or 64 (ML-DSA-44 too) in a log with a post-quantum line

Guarantee: a key is on the disk before any entry names it, and is destroyed only once the log goes on under
the next. What lies between is settled at the next start, by what the log says. Unlinking keeps a key from
whoever reads the files later, not from who can read the disk's freed blocks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from appliance.custody.slot import LOG_SLOT, RECORD, create_slot, numbered, numbers_of, open_slot, remove_slot
from audit.signing import LogSigner

_SEED_BYTES = 32


def create_log_key(keys: Path, epoch: int, origin: str, uri: str, *, post_quantum: bool) -> LogSigner:
    """Make the keys of an epoch, durable when this returns; what a cut-off attempt left is replaced."""
    remove_slot(keys, slot_name(epoch))
    seeds = bytearray(os.urandom(2 * _SEED_BYTES if post_quantum else _SEED_BYTES))
    try:
        signer = LogSigner.of_seeds(origin, seeds)
        create_slot(keys, slot_name(epoch), uri, None, seeds)
    finally:
        seeds[:] = bytes(len(seeds))
    return signer


def open_log_keys(keys: Path, origin: str) -> Mapping[int, LogSigner]:
    """Open every epoch's slot that is whole: one, or two where a rotation was cut off.

    Raises what `open_slot` does; Incomplete where none is whole.
    """
    signers = {}
    for epoch in numbers_of(keys, LOG_SLOT, RECORD) or numbers_of(keys, LOG_SLOT) or [0]:
        seeds = open_slot(keys, slot_name(epoch), None)
        try:
            signers[epoch] = LogSigner.of_seeds(origin, seeds)
        finally:
            seeds[:] = bytes(len(seeds))
    return signers


def retire_log_keys(keys: Path, epoch: int) -> None:
    """Destroy every key of the log but the newest, whole or half written, before it or never named."""
    for other in numbers_of(keys, LOG_SLOT):
        if other != epoch:
            remove_slot(keys, slot_name(other))


def slot_name(epoch: int) -> str:
    """Name the slot of an epoch's keys."""
    return numbered(LOG_SLOT, epoch)
